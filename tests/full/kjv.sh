#!/bin/bash
# examples/kjv-gpt.yaml in FP32 and BF16: the same bits per byte, and no more than PyTorch's
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "$BUILD_PACKAGES"
build
scripts/kjv
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
build/mezzo compare examples/kjv-gpt.yaml --json --run-dir "$run/compare" >"$run/json"
python3 - "$run/json" tests/parity/kjv_torch.json <<'CHECK' | tee tests/full/results/kjv.md
import json, sys

result, torch = (json.load(open(path)) for path in sys.argv[1:3])
print("# The King James Bible, examples/kjv-gpt.yaml, 600 steps\n")
print("PyTorch trains the same network from the same weights on the same batches "
      "(tests/parity/kjv_torch.py).\n")
print("| | precision | bits per byte | loss | training s | step ms | tokens/s | planned MiB | peak MiB |")
print("|---|---|---|---|---|---|---|---|---|")
runs = {"fp32": result["fp32"][0], "bf16": result["candidate"][0]}
for r in runs.values():
    print(f'| mezzo | {r["precision"]} | {r["eval_value"]:.4f} | {r["eval_loss"]:.4f} '
          f'| {r["train_s"]:.0f} | {r["step_ms_median"]:.0f} | {r["tokens_per_s"]:.0f} '
          f'| {r["planned_bytes"] / 2**20:.0f} | {r["peak_rss_bytes"] / 2**20:.0f} |')
steps = str(torch["recipe"]["steps"])
peers = {name: torch[name] for name in runs if name in torch}
for name, r in peers.items():
    step = 1000 * r["step_seconds"]["median"]
    print(f'| PyTorch {torch["torch"]} | {name} | {r["bits_per_byte"][steps]:.4f} | | '
          f'| {step:.0f} (when its figures were made) | | | |')
relative = result["eval_relative"]
print(f'\nBF16 differs from FP32 by {100 * relative:+.3f} %, and trains '
      f'{result["speedup"]:.2f} times as fast.')
for name, r in runs.items():
    for peer, figure in peers.items():
        ratio = r["eval_value"] / figure["bits_per_byte"][steps]
        print(f'mezzo {name} over PyTorch {peer}: {ratio:.4f}')
assert abs(relative) <= 0.005, "BF16 is not within 0.5 % of FP32"
assert {r["steps"] for r in runs.values()} == {int(steps)} and peers
CHECK
{
    echo
    echo 'What mezzo sample makes of the BF16 weights with --prompt "And God said" --temperature 0.7:'
    echo
    echo '```'
    printf 'And God said'
    build/mezzo sample "$run/compare/bf16" --prompt "And God said" --tokens 400 --temperature 0.7 --quiet
    echo '```'
} | tee -a tests/full/results/kjv.md

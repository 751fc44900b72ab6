#!/bin/bash
# examples/gpt2-124m.yaml in BF16 and FP32: step time, and memory as planned
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "$BUILD_PACKAGES"
build
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
for precision in bf16 f32; do
    build/mezzo train examples/gpt2-124m.yaml --precision "$precision" --json \
        --run-dir "$run/$precision" | tail -1 >"$run/$precision.json"
done
python3 - "$run" <<'CHECK' | tee tests/full/results/gpt2_124m.md
import json, sys

print("# GPT-2 124M, examples/gpt2-124m.yaml: B = 4, T = 256, 10 steps\n")
print("| precision | step ms | tokens/s | loss, first and last | planned MiB | peak MiB | peak / planned |")
print("|---|---|---|---|---|---|---|")
for precision in ("bf16", "f32"):
    r = json.load(open(f"{sys.argv[1]}/{precision}.json"))
    ratio = r["peak_rss_bytes"] / r["planned_bytes"]
    print(f'| {precision} | {r["step_ms_median"]:.0f} | {r["tokens_per_s"]:.0f} '
          f'| {r["loss_first"]:.4f} {r["loss_last"]:.4f} | {r["planned_bytes"] / 2**20:.0f} '
          f'| {r["peak_rss_bytes"] / 2**20:.0f} | {ratio:.3f} |')
    assert abs(ratio - 1) <= 0.03, f"{precision}: {ratio:.3f} of the planned memory"
CHECK

#!/bin/bash
# how far equal runs of examples/kjv-gpt.yaml come apart: the window cut into 2 and 4 micro-batches
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "$BUILD_PACKAGES"
build
scripts/kjv
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
for parts in 2 4; do
    build/mezzo train examples/kjv-gpt.yaml --json --run-dir "$run/$parts" \
        --set train.accumulate=$parts --set data.batch=$((16 / parts)) | tail -1 >"$run/$parts.json"
done
python3 - "$run" tests/parity/kjv_torch.json <<'CHECK' | tee tests/full/results/kjv_spread.md
import json, sys

torch = json.load(open(sys.argv[2]))
steps = str(torch["recipe"]["steps"])
print("# Equal runs of examples/kjv-gpt.yaml, in BF16\n")
print("One network, one start, one order of the data, 600 steps; only the cut of a step into micro-batches "
      "differs, and with it the order of sums.  With one micro-batch: kjv.md.\n")
print("| micro-batches | bits per byte | loss of the last step |")
print("|---|---|---|")
values = []
for parts in (2, 4):
    r = json.load(open(f"{sys.argv[1]}/{parts}.json"))
    values.append(r["eval_value"])
    print(f'| {parts} of {16 // parts} | {r["eval_value"]:.4f} | {r["loss_last"]:.4f} |')
low, high = min(values), max(values)
print(f'\nMean {sum(values) / len(values):.4f}; from {low:.4f} to {high:.4f}, {100 * (high - low) / low:.2f} % apart.')
for name in ("fp32", "bf16"):
    if name in torch:
        print(f'PyTorch {name}: {torch[name]["bits_per_byte"][steps]:.4f}')
assert (high - low) / low <= 0.01
CHECK

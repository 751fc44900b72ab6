#!/bin/bash
# the quickstart's network with five seeds in each precision: no loss of accuracy, faster, smaller
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "$BUILD_PACKAGES$DATA_PACKAGES"
build
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
build/mezzo compare examples/fashion-cnn.yaml --seeds 5 --json --run-dir "$run/compare" >"$run/json"
python3 - "$run/json" <<'CHECK' | tee tests/full/results/compare.md
import json, statistics, sys

result = json.load(open(sys.argv[1]))
print("# FP32 against BF16, examples/fashion-cnn.yaml, five seeds each\n")
print("| seed | precision | accuracy | loss | training s | step ms | planned MiB | peak MiB |")
print("|---|---|---|---|---|---|---|---|")
for runs in (result["fp32"], result["candidate"]):
    for r in runs:
        print(f'| {r["seed"]} | {r["precision"]} | {r["eval_value"]:.4f} | {r["eval_loss"]:.4f} '
              f'| {r["train_s"]:.1f} | {r["step_ms_median"]:.1f} | {r["planned_bytes"] / 2**20:.0f} '
              f'| {r["peak_rss_bytes"] / 2**20:.0f} |')
mean = {k: statistics.mean(r["eval_value"] for r in result[k]) for k in ("fp32", "candidate")}
print(f'\nMean accuracy {mean["fp32"]:.4f} and {mean["candidate"]:.4f}: difference '
      f'{result["eval_difference"]:+.4f}, FP32\'s own spread {result["fp32_spread"]:.4f}.')
print(f'BF16 trains {result["speedup"]:.2f} times as fast with '
      f'{result["planned_memory_ratio"]:.2f} of the memory.')
assert len(result["fp32"]) == len(result["candidate"]) == 5
assert result["inside_spread"], "the difference is outside FP32's own spread"
assert min(r["eval_value"] for k in ("fp32", "candidate") for r in result[k]) >= 0.915
assert result["speedup"] > 1 and result["planned_memory_ratio"] < 1
CHECK

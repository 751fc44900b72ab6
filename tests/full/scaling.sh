#!/bin/bash
# the headroom rule beside PyTorch's, in FP16, on the same runs of both small examples
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "$BUILD_PACKAGES"
build
scripts/kjv
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
for example in fashion-small kjv-small; do
    for mode in headroom pytorch; do
        for seed in 1 2 3; do
            build/mezzo train examples/$example.yaml --precision f16 --seed $seed --steps 6000 --json \
                --run-dir "$run/$example.$mode.$seed" --set precision.loss_scale.mode=$mode |
                tail -1 >"$run/$example.$mode.$seed.json"
        done
    done
done
python3 - "$run" <<'CHECK' | tee tests/full/results/scaling.md
import json, math, sys

SEEDS = 1, 2, 3
print("# Loss scaling by headroom and by PyTorch's rule, FP16\n")
print("6,000 steps, three seeds; PyTorch's rule doubles the scale after 2,000 clean steps, and skips where that was too much.\n")
print("| run | rule | skipped steps, by seed | scale, log2: least, last, most | metric, mean |")
print("|---|---|---|---|---|")
for example in ("fashion-small", "kjv-small"):
    skips = {}
    for mode in ("headroom", "pytorch"):
        name = [f"{sys.argv[1]}/{example}.{mode}.{seed}" for seed in SEEDS]
        runs = [json.load(open(f"{n}.json")) for n in name]
        scales = [json.loads(line)["loss_scale"] for n in name for line in open(f"{n}/metrics.jsonl")]
        skips[mode] = [r["skipped_steps"] for r in runs]
        low, last, high = (int(math.log2(s)) for s in (min(scales), scales[-1], max(scales)))
        mean = sum(r["eval_value"] for r in runs) / len(runs)
        print(f'| {example} | {mode} | {", ".join(map(str, skips[mode]))} | {low}, {last}, {high} | {runs[0]["eval_metric"]} {mean:.4f} |')
    assert all(ours <= theirs for ours, theirs in zip(skips["headroom"], skips["pytorch"])), skips
CHECK

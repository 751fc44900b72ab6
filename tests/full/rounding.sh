#!/bin/bash
# BF16 weights without masters: as good as FP32 by stochastic rounding, and stalled by nearest
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "$BUILD_PACKAGES"
build
scripts/kjv
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
declare -A rule=(
    [fp32]="--precision f32"
    [stochastic]="--precision bf16 --set precision.master=bf16"
    [nearest]="--precision bf16 --set precision.master=bf16 --set precision.rounding=nearest"
)
train() { # NAME EXAMPLE RULE SEED OPTIONS...
    # shellcheck disable=SC2086
    build/mezzo train "examples/$2.yaml" ${rule[$3]} --seed "$4" --run-dir "$run/$1" --json -q "${@:5}" |
        tail -1 >"$run/$1.json"
}
for example in fashion-small kjv-small; do
    for kind in fp32 stochastic; do
        for seed in 1 2 3 4 5; do
            train "$example.$kind.$seed" $example $kind $seed
        done
    done
    # A rate at which most updates are below half an ulp of BF16, and FP32 learns at leisure.
    for kind in fp32 stochastic nearest; do
        train "$example.$kind.slow" $example $kind 1 --steps 3000 --set optimizer.lr=3e-5 \
            --set schedule.kind=constant
    done
done
python3 - "$run" <<'CHECK' | tee tests/full/results/rounding.md
import json, sys

SEEDS = 1, 2, 3, 4, 5

def read(name):
    return json.load(open(f"{sys.argv[1]}/{name}.json"))

def stalled(name):
    shares = [json.loads(line).get("stalled_updates") for line in open(f"{sys.argv[1]}/{name}/metrics.jsonl")]
    return next((s for s in reversed(shares) if s is not None), 0.0)

def events(name, kind):
    return [e for e in map(json.loads, open(f"{sys.argv[1]}/{name}/events.jsonl")) if e["kind"] == kind]

print("# Weights of BF16, without masters\n")
print("Five seeds of each; the metric of the validation.\n")
print("| run | metric | fp32, by seed | bf16 and stochastic rounding | means | fp32's own spread |")
print("|---|---|---|---|---|---|")
for example in ("fashion-small", "kjv-small"):
    fp32, low = ([read(f"{example}.{kind}.{seed}")["eval_value"] for seed in SEEDS] for kind in ("fp32", "stochastic"))
    means = [sum(v) / len(v) for v in (fp32, low)]
    spread = max(fp32) - min(fp32)
    metric = read(f"{example}.fp32.1")["eval_metric"]
    print(f'| {example} | {metric} | {", ".join(f"{v:.4f}" for v in fp32)} | {", ".join(f"{v:.4f}" for v in low)} '
          f"| {means[0]:.4f}, {means[1]:.4f} | {min(fp32):.4f} to {max(fp32):.4f} |")
    assert min(fp32) <= means[1] <= max(fp32), (example, means, spread)
print("\n3,000 steps of AdamW at the constant rate 3e-5:\n")
print("| run | weights | evaluation loss | last training loss | stalled updates | events |")
print("|---|---|---|---|---|---|")
for example in ("fashion-small", "kjv-small"):
    loss = {}
    for kind in ("fp32", "stochastic", "nearest"):
        name = f"{example}.{kind}.slow"
        r = read(name)
        loss[kind] = r["eval_loss"]
        causes = sorted({e["cause"] for e in events(name, "plateau")})
        said = f'{len(events(name, "stall"))} stall' + (f', plateau: {", ".join(causes)}' if causes else "")
        print(f'| {example} | {kind} | {r["eval_loss"]:.4f} | {r["loss_last"]:.4f} | {stalled(name):.1%} | {said} |')
    assert events(f"{example}.nearest.slow", "stall"), "the stall meter is silent"
    assert not events(f"{example}.stochastic.slow", "stall") and not events(f"{example}.fp32.slow", "stall")
    gap = loss["nearest"] - loss["fp32"]
    assert gap > 5 * abs(loss["stochastic"] - loss["fp32"]), (example, loss)
CHECK

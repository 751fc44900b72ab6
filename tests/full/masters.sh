#!/bin/bash
# masters in every form: split equals FP32 bit for bit over 500 steps; BF16 with its roundings
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "$BUILD_PACKAGES$DATA_PACKAGES"
build
scripts/kjv
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT

# train EXAMPLE NAME KEY=VALUE...: 500 steps
train() {
    local example=$1 name=$2 keys=()
    shift 2
    for key in "$@"; do keys+=(--set "$key"); done
    build/mezzo train "examples/$example-small.yaml" --steps 500 "${keys[@]}" --json --quiet \
        --run-dir "$run/$example/$name" | tail -1 >"$run/$example-$name.json"
}

for example in fashion kjv; do
    train $example f32 precision.master=f32
    train $example split precision.master=split
    train $example bf16 precision.master=bf16
    train $example bf16-bf16 precision.master=bf16 optimizer.state=bf16
    train $example f32-bf16 precision.master=f32 optimizer.state=bf16
    train $example split-bf16 precision.master=split optimizer.state=bf16
    train $example nearest precision.master=bf16 precision.rounding=nearest
done
python3 - "$run" <<'CHECK' | tee tests/full/results/masters.md
import json, pathlib, struct, sys

run = pathlib.Path(sys.argv[1])


def tensors(path):
    """The header without what names the run's form, and the bytes of all tensors."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    del header["__metadata__"]["mezzo.plan_hash"]
    return header, data[8 + length:]


print("# Forms of masters and moments, 500 steps of both small examples in BF16\n")
print("State: masters, moments, statistics. Copies: BF16 and packed weights.\n")
print("| example | masters | moments | state bytes | copies | metric | value | loss |")
print("|---|---|---|---|---|---|---|---|")
forms = {"f32": ("f32", "f32"), "split": ("split", "f32"), "bf16": ("bf16", "f32"),
         "f32-bf16": ("f32", "bf16"), "split-bf16": ("split", "bf16"),
         "bf16-bf16": ("bf16", "bf16"), "nearest": ("bf16, to nearest", "f32")}
for example in ("fashion", "kjv"):
    for name, (master, state) in forms.items():
        s = json.loads((run / f"{example}-{name}.json").read_text())
        memory = json.loads((run / example / name / "plan.json").read_text())["memory"]
        assert s["steps"] == 500 and s["skipped_steps"] == 0, s
        print(f'| {example}-small | {master} | {state} | {memory["state_bytes"]} '
              f'| {memory["weight_bytes"]} | {s["eval_metric"]} | {s["eval_value"]:.4f} '
              f'| {s["eval_loss"]:.4f} |')
print()
for example in ("fashion", "kjv"):
    for plain, split in (("f32", "split"), ("f32-bf16", "split-bf16")):
        for file in ("masters", "model"):
            path = f"checkpoints/final/{file}.safetensors"
            a, b = (tensors(run / example / name / path) for name in (plain, split))
            assert a == b, f"{example}: {file} of {plain} and {split} differ"
        print(f"{example}-small, {plain} and {split}: both files of weights are equal in every "
              "byte but the hash of the plan.")
CHECK

#!/usr/bin/env bats
# What precision.compute: bf16 means where no instructions multiply BF16.

load common

setup_examples() {
    examples="$MEZZO_SOURCE_DIR/examples"
    need_data
}

# A text for kjv-small, which wants one of some length.
write_text() {
    mkdir -p data
    for ((k = 0; k < 800; k++)); do
        echo "and verse $k said, let there be $((k * 7919 % 1000)) lights in the firmament"
    done >data/kjv.txt
}

# The number that a Python expression over the plan `p` in plan.json gives.
of_plan() {
    python3 -c "import json; p = json.load(open('plan.json')); print(int($1))"
}

# How many operations with products compute in $1.
products() {
    of_plan "sum(o['type'] == '$1' for o in p['operations'] if o['op'].startswith(('linear', 'conv2d')))"
}

@test "small examples train masked to AVX2 and to the reference, without BF16 products" {
    setup_examples
    write_text
    for isa in avx2 ref; do
        for example in fashion-small kjv-small; do
            run -0 --separate-stderr "$MEZZO" train "$examples/$example.yaml" --isa "$isa" \
                --steps 2 --set data.limit=256 --set data.test_limit=64 --set run.overwrite=true \
                --set run.dir="run-$isa-$example" --precision bf16
            # shellcheck disable=SC2154 # set by run
            [[ "$stderr" == *"no BF16 instructions in $isa: computing in f32"* ]]
            cp "run-$isa-$example/plan.json" .
            [ "$(products bf16)" -eq 0 ]
            [ "$(products f32)" -gt 0 ]
            [ "$(of_plan "p['fallbacks']")" -eq 0 ]
            [ "$(of_plan "sum(o['rule'] == 'speed' for o in p['operations'])")" -gt 0 ]
            [ "$(of_plan "sum('speed_gate' in r['source'] for r in p['rules'])")" -eq 1 ]
        done
    done
}

@test "speed_gate off keeps BF16 products, and an override asks for them" {
    setup_examples
    "$MEZZO" plan "$examples/fashion-small.yaml" --isa avx2 --json \
        --set precision.speed_gate=off >plan.json
    [ "$(products f32)" -eq 0 ]
    [ "$(of_plan "p['fallbacks']")" -gt 0 ]
    "$MEZZO" plan "$examples/fashion-small.yaml" --isa avx2 --json \
        --set 'precision.overrides=[{match: "conv1", compute: bf16}]' >plan.json
    [ "$(products bf16)" -gt 0 ]
    [ "$(products f32)" -gt 0 ]
}

@test "FP16 is what it was without instructions for it" {
    setup_examples
    "$MEZZO" plan "$examples/fashion-small.yaml" --isa avx2 --json --precision f16 >plan.json
    [ "$(products f32)" -eq 0 ]
    [ "$(products f16)" -gt 0 ]
}

@test "precision.strict forbids the change to FP32" {
    setup_examples
    run -7 "$MEZZO" plan "$examples/fashion-small.yaml" --isa avx2 --set precision.strict=true
    [[ "$output" == *"precision.speed_gate: off"* ]]
}

@test "what the speed gate pinned holds in the run that goes on, bit for bit" {
    setup_examples
    run=("$MEZZO" train "$examples/fashion-small.yaml" --set data.limit=512 -q
        --set data.test_limit=64 --set schedule.kind=constant)
    "${run[@]}" --steps 6 --set 'precision.speed_pins=[{layer: conv2}]' --run-dir whole
    "${run[@]}" --steps 3 --set 'precision.speed_pins=[{layer: conv2}]' --run-dir first
    "${run[@]}" --steps 6 --set train.continue=first --run-dir second
    for dir in whole second; do
        cp "$dir/plan.json" .
        "$MEZZO" doctor --json >doctor.json
        if grep -q '"bf16_native": *true' doctor.json; then
            [ "$(of_plan "[p['layer'] for p in p['speed_pins']] == ['conv2']")" -eq 1 ]
        fi
        [ "$(of_plan "all(o['type'] == 'f32' for o in p['operations'] if o['op'].startswith('conv2d') and o['name'].startswith('conv2'))")" -eq 1 ]
    done
    cmp whole/checkpoints/final/masters.safetensors second/checkpoints/final/masters.safetensors
    # Whoever evaluates that run finds what it found itself.
    "$MEZZO" eval "$examples/fashion-small.yaml" --weights whole --json --set data.limit=512 \
        --set data.test_limit=64 >found.json
    python3 -c "import json; a, b = json.load(open('found.json')), json.load(open('whole/summary.json')); assert (a['eval_loss'], a['eval_value']) == (b['eval_loss'], b['eval_value']), (a, b)"
    run -3 "$MEZZO" plan "$examples/fashion-small.yaml" \
        --set 'precision.speed_pins=[{layer: nothing}]'
    [[ "$output" == *"no operation \`nothing\`"* ]]
}

@test "eval and sample compute as the weights were trained" {
    setup_examples
    "$MEZZO" doctor --json >doctor.json
    grep -q '"bf16_native": *true' doctor.json || skip "no BF16 products here"
    write_text
    local pins small=("$examples/kjv-small.yaml" --set data.test_limit=4)
    "$MEZZO" plan "${small[@]}" --json >plan.json
    pins="precision.speed_pins=[{layer: $(python3 -c "
import json
print(next(o['name'] for o in json.load(open('plan.json'))['operations'] if o['op'] == 'linear'))")}]"
    "$MEZZO" train "${small[@]}" --set "$pins" --steps 2 --run-dir pinned -q
    for weights in pinned pinned/checkpoints/final/model.safetensors; do
        run -0 --separate-stderr "$MEZZO" eval "${small[@]}" --weights $weights -v --json
        [[ "$stderr" == *"1 layers stay in f32"* ]]
        "$MEZZO" eval "${small[@]}" --weights $weights --set "$pins" --json >given.json
        python3 -c '
import json, sys
found, given = json.loads(sys.argv[1]), json.load(open("given.json"))
assert found["plan_hash"] == given["plan_hash"]
assert found["eval_loss"] == given["eval_loss"]' "$output"
        run -0 --separate-stderr "$MEZZO" sample "${small[@]}" --weights $weights --prompt a \
            --tokens 2 -v
        [[ "$stderr" == *"1 layers stay in f32"* ]]
    done
    run -0 --separate-stderr "$MEZZO" sample "${small[@]}" --weights pinned --prompt a --tokens 2 \
        -v --set precision.speed_gate=off
    [[ "$stderr" != *"stay in f32"* ]]
}

@test "where the CPU multiplies BF16, so do products, with oneDNN and without" {
    "$MEZZO" doctor --json >doctor.json
    grep -q '"isa": *"avx512_bf16"' doctor.json || skip "no BF16 instructions"
    grep -q '"bf16_native": *true' doctor.json
    "$MEZZO" plan --json --precision bf16 --set data.kind=random --set data.vocab=64 \
        --set 'model={kind: gpt2, layers: 1, heads: 2, channels: 64, context: 32}' >plan.json
    [ "$(products f32)" -eq 0 ]
    [ "$(products bf16)" -gt 0 ]
}

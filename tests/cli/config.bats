# What a configuration may say, where values come from, and what a wrong one is answered with.
# shellcheck disable=SC2154 # stderr is set by run
load common

# refused TEXT MESSAGE: TEXT as a file gives MESSAGE and exit 3.
refused() {
    printf '%b' "$1" >bad.yaml
    run -3 --separate-stderr "$MEZZO" config show bad.yaml
    [ -z "$output" ]
    [[ "$stderr" == *"bad.yaml:$2"* ]] || {
        echo "got: $stderr"
        return 1
    }
}

@test "an unknown key: file, line, column, and the nearest key" {
    refused 'train:\n  step: 5\n' '2:3: unknown key "train.step"; did you mean "train.steps"?'
    refused 'modle: {}\n' '1:1: unknown key "modle"; did you mean "model"?'
    refused 'schedule: {zzzz: 1}\n' '1:12: unknown key "schedule.zzzz"; the keys of "schedule" are:'
    refused 'lr: 1\n' '1:1: unknown key "lr"; did you mean optimizer: {lr: ...}?'
}

@test "a wrong value: what was expected, and what was found" {
    refused 'train: {steps: many}\n' '1:16: train.steps: expected an integer from 0 to 1000000000, got "many"'
    refused 'data: {batch: 0}\n' '1:15: data.batch: expected an integer from 1 to'
    refused 'optimizer: {kind: adam}\n' '1:19: optimizer.kind: expected one of adamw|lion|muon|sgd, got "adam"; did you mean "adamw"?'
    refused 'precision: {strict: yes}\n' '1:21: precision.strict: expected true or false'
    refused 'model: {hidden: {a: 5}}\n' '1:17: model.hidden: expected a list'
}

@test "what is no YAML for us" {
    refused 'train: {steps: 1\n' '2:1: not valid YAML'
    refused 'train: {seed: 1, seed: 2}\n' '1:18: duplicate key "seed"'
    refused 'run: {name: *a}\n' '1:13: an alias'
    refused 'run: {name: &a b}\n' '1:13: an anchor'
    refused 'train: {steps: !!int 5}\n' '1:16: a tag'
    refused 'run: {}\n---\nrun: {}\n' '2:1: a second document'
}

@test "keys that do not fit each other" {
    refused 'model: {channels: [8], pool_after: [2]}\n' '1: model.pool_after: convolution 2, of the 1 in model.channels'
    refused 'precision: {loss_scale: {init: 1000}}\n' '1: precision.loss_scale.init: 1000 is no power of two'
}

@test "wrong assignments on the line and in the environment" {
    run -3 "$MEZZO" config show --set train.step=5
    [[ "$output" == *'--set: unknown key "train.step"; did you mean "train.steps"?'* ]]
    run -3 "$MEZZO" config show --set train.steps
    [[ "$output" == *'--set: expected KEY=VALUE'* ]]
    run -3 "$MEZZO" config show --precision fp8
    [[ "$output" == *'--precision: precision.compute: expected one of f32|bf16|f16, got "fp8"'* ]]
    MEZZO_TRAIN__STEP=5 run -3 "$MEZZO" config show
    [[ "$output" == *'MEZZO_TRAIN__STEP: unknown key "train.step"; did you mean "train.steps"?'* ]]
}

@test "precedence and origins: default, user file, CONFIG, environment, line" {
    mkdir -p "$XDG_CONFIG_HOME/mezzo"
    printf 'train: {steps: 1, seed: 1, clip: 1, threads: 1}\n' >"$XDG_CONFIG_HOME/mezzo/config.yaml"
    printf 'train:\n  steps: 2\n  seed: 2\n  clip: 2\n' >a.yaml
    MEZZO_TRAIN__STEPS=3 MEZZO_TRAIN__SEED=3 run -0 "$MEZZO" config show a.yaml --resolved --steps 4
    [[ "$output" =~ steps:\ 4\ +#\ --steps ]]
    [[ "$output" =~ seed:\ 3\ +#\ MEZZO_TRAIN__SEED ]]
    [[ "$output" =~ clip:\ 2\ +#\ a.yaml:4 ]]
    [[ "$output" =~ threads:\ 1\ +#\ .*/settings/mezzo/config.yaml:1 ]]
    [[ "$output" =~ isa:\ auto\ +#\ default ]]
}

@test "the user's file is found below HOME too, and a bad one is refused" {
    unset XDG_CONFIG_HOME
    export HOME=$PWD
    mkdir -p .config/mezzo
    echo 'train: {seed: 77}' >.config/mezzo/config.yaml
    run -0 "$MEZZO" config show
    [[ "$output" == *"seed: 77"* ]]
    echo 'train: {sede: 77}' >.config/mezzo/config.yaml
    run -3 "$MEZZO" config show
    [[ "$output" == *'.config/mezzo/config.yaml:1:9: unknown key "train.sede"'* ]]
}

@test "what config show prints loads back to the same" {
    run -0 --separate-stderr "$MEZZO" config show --steps 9 --run-dir 'a b: #c' \
        --set 'precision.overrides=[{match: "head*", compute: fp32}]' --set optimizer.lr=3e-4
    echo "$output" >again.yaml
    first=$output
    run -0 "$MEZZO" config show again.yaml
    [ "$output" = "$first" ]
    [[ "$output" == *'dir: "a b: #c"'* ]]
    [[ "$output" == *'overrides: [{match: "head*", compute: f32}]'* ]]
}

@test "--epochs counts although CONFIG gives steps" {
    echo 'train: {steps: 50}' >a.yaml
    run -0 "$MEZZO" config show a.yaml --epochs 3
    [[ "$output" == *"steps: 0"* ]]
    [[ "$output" == *"epochs: 3"* ]]
}

@test "a run is named after its CONFIG" {
    echo 'train: {steps: 50}' >"my model.v2.yaml"
    run -0 "$MEZZO" config show "my model.v2.yaml"
    [[ "$output" == *"name: my-model.v2"* ]]
}

@test "config keys knows every key that config show prints" {
    run -0 "$MEZZO" config keys
    keys=$output
    run -0 "$MEZZO" config show
    while IFS= read -r line; do
        [[ "$line" =~ ^\ +([a-z0-9_]+):\ . ]] || continue
        [[ "$keys" == *".${BASH_REMATCH[1]} "* ]]
    done <<<"$output"
    [[ "$keys" =~ train.steps\ +0\ +0\.\.1000000000 ]]
}

@test "a CONFIG that is not there" {
    run -1 "$MEZZO" train nowhere.yaml
    [[ "$output" == *"nowhere.yaml"* ]]
}

# The emulated CPU is of 2013: AVX2 and no more.
@test "a forced instruction set that the CPU lacks" {
    command -v qemu-x86_64 >/dev/null || skip "no qemu-x86_64 (qemu-user)"
    run -3 qemu-x86_64 -cpu Haswell "$MEZZO" train --isa avx512
    [[ "$output" == *"cannot run avx512; the most it can is avx2"* ]]
}

@test "a CPU without AVX-512 trains in FP32, and says so" {
    command -v qemu-x86_64 >/dev/null || skip "no qemu-x86_64 (qemu-user)"
    need_data
    run -0 qemu-x86_64 -cpu Haswell "$MEZZO" train "${small[@]}" --steps 2 --threads 1
    [[ "$output" == *"no BF16 instructions in avx2: computing in f32"* ]]
    [[ "$output" != *"kernels do not compute"* ]]
}

@test "a CPU without AVX-512 trains in BF16 if it must, and says that it converts" {
    command -v qemu-x86_64 >/dev/null || skip "no qemu-x86_64 (qemu-user)"
    need_data
    run -0 qemu-x86_64 -cpu Haswell "$MEZZO" train "${small[@]}" --steps 2 --threads 1 \
        --set precision.speed_gate=off
    [[ "$output" == *"kernels do not compute in BF16"* ]]
}

#!/usr/bin/env bats
# train.memory_mib: a bound of all that the plans of a run hold.

load common

setup_net() {
    cat >net.yaml <<END
model: {kind: gpt2, layers: 4, heads: 4, channels: 256, context: 64}
data: {kind: random, vocab: 1000, batch: 16, test_limit: 4}
precision: {compute: bf16}
END
}

# MiB that the plan of net.yaml takes, with options.
planned() {
    "$MEZZO" plan net.yaml "$@" | sed -n 's/^memory *\([0-9.]*\) MiB$/\1/p'
}

@test "a plan keeps to the budget, whatever the weights, their average and fusion take" {
    setup_net
    for choice in precision.master=split precision.master=bf16 precision.master=f32 \
        train.fuse=off train.ema=0.9; do
        budget=$(($(planned --set "$choice" | cut -d. -f1) - 3))
        took=$(planned --set "$choice" --set "train.memory_mib=$budget")
        echo "$choice: $took of $budget MiB"
        python3 -c "assert $took <= $budget"
    done
}

@test "a budget that is too small says what training and evaluation take" {
    setup_net
    run -1 "$MEZZO" plan net.yaml --set train.memory_mib=20
    [[ "$output" == *"train.memory_mib is 20, and evaluation takes "* ]]
    [[ "$output" == *"with all of forward recomputed"* ]]
}

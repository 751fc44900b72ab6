# Going on with a run, and averages of weights.
# shellcheck disable=SC2154 # stderr is set by run
load common

# A text of 2,000 bytes and a model of a few hundred weights.
prepare() {
    for _ in $(seq 50); do echo 'Rose, oh reiner Widerspruch, Lust, jetzt'; done | head -c 2000 >text
    cat >tiny.yaml <<'END'
model: {kind: gpt2, channels: 16, layers: 1, heads: 2, context: 16, dropout: 0.1}
data: {kind: text, path: text, batch: 8}
optimizer: {lr: 0.01}
train: {steps: 20, ema: 0.9}
END
    final=checkpoints/final
}

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1" <<<"$output"; }

@test "--continue: 12 steps and 8 more are 20" {
    prepare
    run -0 "$MEZZO" train tiny.yaml --run-dir straight -q
    run -0 "$MEZZO" train tiny.yaml --run-dir first -q --steps 12
    run -0 --separate-stderr "$MEZZO" train first/config.yaml --continue first --run-dir second \
        --steps 20
    [[ "$stderr" == *"continues 'first' behind step 12 of 20"* ]]
    for file in masters model ema; do
        cmp "straight/$final/$file.safetensors" "second/$final/$file.safetensors"
    done
    grep -q '"kind":"continue","run":"first"' second/events.jsonl
}

@test "--continue: a run that SIGINT stopped" {
    prepare
    "$MEZZO" train tiny.yaml --steps 1000000 --set train.eval_every=5 --run-dir first -q --json \
        --set schedule.kind=cosine >first.json 2>first.txt &
    pid=$!
    for _ in $(seq 200); do
        grep -qs '"kind":"eval"' first/events.jsonl && break
        sleep 0.05
    done
    kill -s INT "$pid"
    code=0
    wait "$pid" || code=$?
    [ "$code" -eq 75 ]
    output=$(cat first.json)
    at=$(field steps)
    run -0 --separate-stderr "$MEZZO" train first/config.yaml --continue first --run-dir second \
        --steps $((at + 3)) --json
    [ "$(field steps)" -eq $((at + 3)) ]
    [ "$(head -n 1 second/metrics.jsonl | grep -c "\"step\":$((at + 1)),")" -eq 1 ]
}

@test "--continue: in another precision, and with another optimizer" {
    prepare
    run -0 "$MEZZO" train tiny.yaml --run-dir f32 -q --precision f32 --steps 8
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --continue f32 --run-dir bf16 --steps 16
    [[ "$stderr" == *"continues in bf16 what was trained in f32; FP32 state unchanged"* ]]
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --continue bf16 --run-dir f16 --steps 20 \
        --precision f16 -q --set optimizer.kind=lion --set train.ema=0
    [[ "$stderr" != *"FP32 state unchanged"* ]] # -q leaves the warnings
    [[ "$stderr" == *"warning: train.continue: the loss scale starts at 65536 (headroom)"* ]]
    [[ "$stderr" == *"warning: train.continue: the moments of lion start at zero"* ]]
    [[ "$stderr" == *"warning: train.continue: train.ema is 0: "*" averages of "* ]]
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --continue "bf16/$final/model.safetensors" \
        --run-dir half -q --steps 2
    [[ "$stderr" == *"are in half precision"* ]]
    [[ "$stderr" == *"start afresh"* ]]
}

# refused CODE WORDS OPTIONS...: exit CODE, and WORDS on stderr.
refused() {
    local code=$1 words=$2
    shift 2
    run -"$code" --separate-stderr "$MEZZO" train tiny.yaml --run-dir out "$@"
    # shellcheck disable=SC2053 # a pattern
    [[ "$stderr" == *$words* ]] || {
        echo "got: $stderr"
        return 1
    }
    [ ! -e out ]
}

@test "--continue: what does not fit is refused, and nothing is written" {
    prepare
    run -0 "$MEZZO" train tiny.yaml --run-dir first -q --steps 2
    refused 4 "'nowhere'" --continue nowhere
    refused 4 "'first/config.yaml'" --continue first/config.yaml
    refused 4 'tensor "wte.weight" has shape ?256,16?, and the model?s is ?256,32?' \
        --continue first --set model.channels=32
    refused 4 'has no tensor "h.1.' --continue first --set model.layers=2
    run -0 "$MEZZO" export tiny.yaml --weights first --out hf --dtype bf16
    refused 4 "or by another program; "*"mezzo import" --continue hf/model.safetensors
    refused 3 "both set" --continue first --weights first
    refused 2 "--continue needs a value" --continue
    sum=$(cksum <"first/$final/masters.safetensors")
    run -3 --separate-stderr "$MEZZO" train tiny.yaml --continue first --run-dir first --overwrite
    [[ "$stderr" == *"'first' is the run to continue"* ]]
    run -3 "$MEZZO" train tiny.yaml --continue "first/$final/ema.safetensors" --run-dir first --overwrite
    [ "$(cksum <"first/$final/masters.safetensors")" = "$sum" ]
    head -c 5000 "first/$final/masters.safetensors" >cut.safetensors
    refused 4 "'cut.safetensors'" --continue cut.safetensors
}

@test "train.ema: the average is evaluated, saved, and can be used" {
    prepare
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --run-dir out --json
    [[ "$stderr" == *"of the average: test bits per byte "* ]]
    loss=$(field ema_eval_loss)
    [ "$loss" != "$(field eval_loss)" ]
    run -0 --separate-stderr "$MEZZO" eval tiny.yaml --weights "out/$final/ema.safetensors" --json
    [ "$(field eval_loss)" = "$loss" ]
    run -0 "$MEZZO" sample tiny.yaml --weights "out/$final/ema.safetensors" --tokens 4
    run -0 "$MEZZO" export tiny.yaml --weights "out/$final/ema.safetensors" --out hf
    run -0 "$MEZZO" export tiny.yaml --weights out --out hf-masters
    run -1 cmp -s hf/model.safetensors hf-masters/model.safetensors
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --run-dir out --json --overwrite --set train.ema=0
    [[ "$output$stderr" != *average* && "$output" != *ema_* ]]
    [ ! -e "out/$final/ema.safetensors" ]
    run -3 "$MEZZO" train tiny.yaml --run-dir new --set train.ema=1
    [[ "$output" == *"train.ema"*"0 to 0.9999999"* ]]
}

@test "--continue: segments are measured with the weights of the run" {
    prepare
    run -0 "$MEZZO" train tiny.yaml --run-dir first -q --steps 4 --precision f16
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --continue first --run-dir second --steps 6 \
        --precision f16 --set precision.loss_scale.segments=auto
    [[ "$stderr" == *"continues 'first' behind step 4 of 6"* ]]
}

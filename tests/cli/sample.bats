# mezzo sample: from a run directory, with its settings, and what it refuses.
# shellcheck disable=SC2154 # stderr is set by run
load common

# A run of a tiny model, in `out`.  What it learns is not looked at.
train() {
    for _ in $(seq 40); do echo 'Wer reitet so spät durch Nacht und Wind?'; done >text
    cat >tiny.yaml <<'END'
model: {kind: gpt2, channels: [16], layers: 1, heads: 2, context: 32}
data: {kind: text, path: text, batch: 4}
train: {steps: 4}
END
    "$MEZZO" train tiny.yaml --run-dir out -q >/dev/null
    rm text # sampling opens no data
}

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1" <<<"$output"; }

@test "a run directory, in three spellings, gives one text" {
    train
    run -0 --separate-stderr "$MEZZO" sample out --prompt Wer --tokens 9
    text=$output
    [ -n "$text" ]
    [[ "$stderr" == *"9 tokens in "*"tokens/s"* ]]
    run -0 --separate-stderr "$MEZZO" sample --weights out --prompt Wer --tokens 9 -q
    [ "$output" = "$text" ]
    [ -z "$stderr" ]
    run -0 --separate-stderr "$MEZZO" sample tiny.yaml --prompt Wer --tokens 9 \
        --weights out/checkpoints/final/masters.safetensors --threads 1
    [ "$output" = "$text" ]
    printf Wer >prompt
    run -0 --separate-stderr "$MEZZO" sample out --prompt-file prompt --tokens 9
    [ "$output" = "$text" ]
    run -0 --separate-stderr "$MEZZO" sample out --prompt Wer --tokens 9 --seed 2
    [ "$output" != "$text" ]
}

@test "--json: text and figures" {
    train
    run -0 --separate-stderr "$MEZZO" sample out --prompt Wer --tokens 9 --json
    [ -z "$stderr" ]
    [ "${#lines[@]}" -eq 1 ]
    [ "$(field tokens)" = 9 ]
    [ "$(field prompt_tokens)" = 3 ]
    [ "$(field ended_by)" = tokens ]
}

@test "filters: one token left is the most probable one" {
    train
    run -0 "$MEZZO" sample out --prompt Wer --tokens 9 --temperature 0 --json
    text=$(field text)
    run -0 "$MEZZO" sample out --prompt Wer --tokens 9 --top-k 1 --json
    [ "$(field text)" = "$text" ]
    run -0 "$MEZZO" sample out --prompt Wer --tokens 9 --top-p 1e-9 --json
    [ "$(field text)" = "$text" ]
}

@test "the end of the context: a warning; a prompt beyond it: exit 3" {
    train
    run -0 --separate-stderr "$MEZZO" sample out --prompt Wer --tokens 99 --json
    [ "$(field tokens)" = 30 ]
    [ "$(field ended_by)" = context ]
    [[ "$stderr" == *"warning: the sample ends after 30 of 99 tokens"* ]]
    run -3 "$MEZZO" sample out --prompt "$(printf '%33s' x)"
    [[ "$output" == *"the prompt has 33 tokens, and model.context is 32"* ]]
}

@test "models and files that cannot be sampled from" {
    run -4 "$MEZZO" sample --weights nowhere
    [[ "$output" == *"there is no 'nowhere'"* ]]
    touch file
    run -3 "$MEZZO" sample --weights file
    [[ "$output" == *"model.kind cnn takes images"* ]]
    printf 'model: {kind: gpt2, channels: [16], layers: 1, heads: 2}\ndata: {kind: text}\n' >c.yaml
    run -4 "$MEZZO" sample c.yaml --weights nowhere
    [[ "$output" == *"nowhere"* ]]
    run -4 "$MEZZO" sample c.yaml --weights nowhere --prompt-file nothing
    [[ "$output" == *"nothing"* ]]
}

@test "lines that make no sense: exit 2, with the value" {
    run -2 "$MEZZO" sample
    [[ "$output" == *"--weights PATH"* ]]
    run -2 "$MEZZO" sample --weights w --prompt a --prompt-file b
    for bad in "--temperature -1" "--temperature nan" "--temperature inf" "--temperature 1x" \
        "--top-p 0" "--top-p 1.5" "--top-p nan" "--top-k -1" "--top-k 1.5" "--tokens 0" \
        "--tokens 99999999999999999999"; do
        # shellcheck disable=SC2086 # option and value
        run -2 "$MEZZO" sample --weights w $bad
        [[ "$output" == *"${bad% *}: expected "*"got \"${bad#* }\""* ]]
    done
    run -2 "$MEZZO" eval --weights w --top-k 3
}

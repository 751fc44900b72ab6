# Training on text and tokens: a whole run, windows, and what is refused.
# shellcheck disable=SC2154 # stderr is set by run
load common

# A text of 2,000 bytes and a model of a few hundred weights.
prepare() {
    for _ in $(seq 50); do echo 'Rose, oh reiner Widerspruch, Lust, jetzt'; done | head -c 2000 >text
    cat >tiny.yaml <<'END'
model: {kind: gpt2, channels: 16, layers: 1, heads: 2, context: 16}
data: {kind: text, path: text, batch: 8}
optimizer: {lr: 0.01}
train: {steps: 40, clip: 1}
END
}

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1" <<<"$output"; }

@test "a run learns, and eval finds what it found" {
    prepare
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --run-dir out --json -q
    [ "$(field eval_metric)" = bits_per_byte ]
    value=$(field eval_value)
    python3 -c 'import sys; sys.exit(not 0 < float(sys.argv[1]) < 6)' "$value"
    python3 -c 'import sys; sys.exit(not float(sys.argv[1]) > 0)' "$(field tokens_per_s)"
    run -0 --separate-stderr "$MEZZO" eval tiny.yaml --weights out --json
    [ "$(field eval_value)" = "$value" ]
    run -0 --separate-stderr "$MEZZO" eval tiny.yaml --weights out
    [[ "$output" == *"bits per byte "*"perplexity "* ]]
}

@test "four micro-batches of two, and recomputation, learn as one of eight" {
    prepare
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --run-dir one --json -q
    whole=$(field eval_loss)
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --run-dir four --json -q \
        --set data.batch=2 --set train.accumulate=4 --set 'train.recompute=[{match: "h.*"}]'
    python3 -c 'import sys; a, b = map(float, sys.argv[1:]); sys.exit(abs(a - b) > 0.02 * a)' \
        "$whole" "$(field eval_loss)"
}

@test "token files train too: their bits are a token's or a byte's" {
    prepare
    run -0 "$MEZZO" tokenize text --out text.bin
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --run-dir out --json -q \
        --set data.kind=tokens --set data.path=text.bin
    [ "$(field eval_metric)" = bits_per_byte ]
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --run-dir random --json -q --steps 2 \
        --set data.kind=random --set data.vocab=50 --set data.test_limit=8
    [ "$(field eval_metric)" = bits_per_token ]
}

# refused CODE WORDS OPTIONS...: exit CODE, and WORDS on stderr.
refused() {
    local code=$1 words=$2
    shift 2
    run -"$code" --separate-stderr "$MEZZO" train tiny.yaml --run-dir out "$@"
    [[ "$stderr" == *"$words"* ]] || {
        echo "got: $stderr"
        return 1
    }
    [ ! -e out ]
}

@test "what cannot be read is named" {
    prepare
    printf 'ab\xffc' >broken
    refused 4 "'broken' at offset 2: byte 0xff" --set data.path=broken
    refused 4 "cannot open 'none'" --set data.path=none
    refused 3 "data.path is empty; data.kind text needs a text file" --set 'data.path=""'
    refused 4 "each side needs at least 5001" --set model.context=5000
    refused 4 "there is no 'none.json'" --set data.tokenizer=none.json
    printf '#version: 0.2\nab c\na b\n' >merges
    refused 4 "'merges': line 2" --set data.tokenizer=merges
    refused 3 "model.vocab is 100, and the data has 256 tokens" --set model.vocab=100
    refused 3 "data.kind is text, and the model mlp takes images" --set model.kind=mlp
    refused 3 "data.vocab is 0" --set data.kind=random
    printf 'abc' >odd
    refused 4 "odd" --set data.kind=tokens --set data.path=odd
    python3 -c 'import struct; print(end="", file=open("ids", "w")); open("ids", "wb").write(struct.pack("<900H", *range(900)))'
    refused 4 "'ids'" --set data.kind=tokens --set data.path=ids --set data.vocab=500
    [[ "$stderr" == *500* ]]
}

@test "a pattern that matches nothing is said" {
    prepare
    run -0 --separate-stderr "$MEZZO" train tiny.yaml --run-dir out --steps 1 \
        --set 'train.recompute=[{match: "g.*"}]' --set 'optimizer.groups=[{match: "nothing", lr_scale: 0.5}]'
    [[ "$stderr" == *'train.recompute[0]: "g.*" matches no operation'* ]]
    [[ "$stderr" == *'optimizer.groups[0]: "nothing" matches no parameter'* ]]
}

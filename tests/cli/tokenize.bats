# mezzo tokenize: counts, training, files, and what it refuses.
# shellcheck disable=SC2154 # stderr is set by run
load common

field() { python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1" <<<"$output"; }

@test "bytes: a token each, from a file and from the standard input" {
    printf 'Hi\377\n' >text
    run -0 --separate-stderr "$MEZZO" tokenize text --json
    [ "$(field bytes)" = 4 ]
    [ "$(field tokens)" = 4 ]
    [ "$(field vocab)" = 256 ]
    [ "$(field end_of_text)" = -1 ]
    [ "$(field first)" = "[72, 105, 255, 10]" ]
    [ -z "$stderr" ]
    run -0 "$MEZZO" tokenize - --tokenizer bytes <text
    [[ "$output" == *"4 bytes are 4 tokens of 256: 1.000 bytes a token"* ]]
    [[ "$output" == *"first: 72 105 255 10" ]]
    : >empty
    run -0 "$MEZZO" tokenize empty --json
    [ "$(field tokens)" = 0 ]
    [ "$(field first)" = "[]" ]
}

@test "learn, save, use again" {
    for _ in 1 2 3; do echo 'low lower lowest, new newer newest'; done >text
    for pattern in gpt2 gpt4; do
        run -0 "$MEZZO" tokenize text --train 264 --pattern "$pattern" --save t.json --json
        [ "$(field vocab)" = 264 ]
        [ "$(field end_of_text)" = 263 ]
        first=$(field first)
        run -0 "$MEZZO" tokenize text --tokenizer t.json --json
        [ "$(field vocab)" = 264 ]
        [ "$(field first)" = "$first" ]
        run -0 "$MEZZO" tokenize text --tokenizer t.json --save again.json
        cmp t.json again.json
    done
    run -0 "$MEZZO" tokenize text --train 264
    [[ "$output" == *"learned in"* ]]
}

@test "a vocab.bpe; a special token's name is text" {
    printf '#version: 0.2\na b\nab c\n' >vocab.bpe
    printf 'abc abd' | "$MEZZO" tokenize - --tokenizer vocab.bpe --json >out
    output=$(cat out)
    [ "$(field first)" = "[257, 220, 256, 67]" ]
    [ "$(field end_of_text)" = 258 ]
    run -0 "$MEZZO" tokenize - --tokenizer vocab.bpe --json <<<'<|endoftext|>'
    [ "$(field tokens)" = 14 ]
}

@test "--out: a file of tokens" {
    printf 'hello hello' >text
    run -0 "$MEZZO" tokenize text --out tokens.bin
    [ "$(od -An -tx4 -N4 tokens.bin | tr -d ' ')" = 5a5aee4d ]
    : >empty
    run -1 "$MEZZO" tokenize empty --out nothing.bin
    [ ! -e nothing.bin ]
}

@test "data that is wrong: exit 4, and where" {
    printf 'ab\377c' >broken
    printf '#version: 0.2\nab c\na b\n' >vocab.bpe
    echo text >text
    run -4 "$MEZZO" tokenize text --tokenizer vocab.bpe
    [[ "$output" == *"'vocab.bpe': line 2: the left part is no token yet"* ]]
    printf '#version: 0.2\na b\n' >vocab.bpe
    run -4 "$MEZZO" tokenize broken --tokenizer vocab.bpe --out tokens.bin --save t.json
    [[ "$output" == *"not UTF-8 at offset 2"* ]]
    [ ! -e tokens.bin ]
    [ ! -e t.json ]
    run -4 "$MEZZO" tokenize text --tokenizer text
    [[ "$output" == *"neither a tokenizer.json"* ]]
    run -4 "$MEZZO" tokenize text --train 1000
    [[ "$output" == *"ask for a vocabulary of at most 257"* ]]
    run -1 "$MEZZO" tokenize nowhere
    run -4 "$MEZZO" tokenize text --tokenizer nowhere
    run -1 "$MEZZO" tokenize .
    run -1 "$MEZZO" tokenize text --save t.json
    [[ "$output" == *"no vocabulary to save"* ]]
}

@test "lines that make no sense: exit 2" {
    echo text >text
    run -2 "$MEZZO" tokenize
    run -2 "$MEZZO" tokenize text --train 256
    run -2 "$MEZZO" tokenize text --train 300x
    run -2 "$MEZZO" tokenize text --train 300 --pattern gpt3
    run -2 "$MEZZO" tokenize text --train 300 --tokenizer bytes
    run -2 "$MEZZO" tokenize text --pattern gpt2
    run -2 "$MEZZO" tokenize text --steps 3
}

# Hugging Face's format in and out, and training that starts from given weights.  Models are small and
# their tokens random: no data is needed.
# shellcheck disable=SC2154 # stderr is set by run
load common

model=(--set 'model={kind: gpt2, layers: 1, heads: 2, channels: [16], context: 8, vocab: 32}')
tokens=(--set 'data={kind: random, vocab: 32, batch: 4, validation: 0.0001}' --set data.test_limit=4
    --precision f32 --set train.eval_every=100)

# A run of two steps in `trained`, and its weights in Hugging Face's format in `model`.
make_model() {
    "$MEZZO" train "${model[@]}" "${tokens[@]}" --steps 2 --run-dir trained -q >/dev/null
    "$MEZZO" export trained/config.yaml --weights trained --out model >/dev/null
}

# change FILE: the header of FILE/model.safetensors, `h`, by Python from stdin; the values stay.
change() {
    python3 - "$1" <<END
import json, struct, sys
path = sys.argv[1] + "/model.safetensors"
data = open(path, "rb").read()
n = struct.unpack("<Q", data[:8])[0]
h = json.loads(data[8 : 8 + n])
$(cat)
text = json.dumps(h).encode()
open(path, "wb").write(struct.pack("<Q", len(text)) + text + data[8 + n :])
END
}

@test "export, import: the same tensors, and a run directory that eval takes" {
    make_model
    [ -s model/model.safetensors ] && grep -q '"n_positions": 8' model/config.json
    run -0 --separate-stderr "$MEZZO" import model --out back
    [[ "$output" == *"mezzo train back/config.yaml --weights back"* ]]
    grep -q 'context: 8' back/config.yaml
    run -0 "$MEZZO" export back/config.yaml --weights back --out again --dtype f32
    cmp model/model.safetensors again/model.safetensors
    a=$("$MEZZO" eval trained/config.yaml --weights trained --json -q)
    b=$("$MEZZO" eval back/config.yaml "${tokens[@]}" --weights back --json -q)
    python3 -c 'import json, sys; a, b = map(json.loads, sys.argv[1:]); assert a["eval_loss"] == b["eval_loss"]' \
        "$a" "$b"
}

@test "export: what it needs, and what it refuses" {
    make_model
    run -2 "$MEZZO" export trained/config.yaml --out other
    [[ "$output" == *"--weights"* ]]
    run -2 "$MEZZO" export trained/config.yaml --weights trained
    [[ "$output" == *"--out"* ]]
    run -2 "$MEZZO" export trained/config.yaml --weights trained --out other --dtype i32
    [[ "$output" == *"f32, bf16 or f16"* ]]
    run -1 "$MEZZO" export trained/config.yaml --weights trained --out model
    [[ "$output" == *"model/model.safetensors"*"already"* ]]
    run -3 "$MEZZO" export --weights trained --out other
    [[ "$output" == *"cnn"* ]]
    run -4 "$MEZZO" export trained/config.yaml --weights nowhere --out other
    run -4 "$MEZZO" export trained/config.yaml --weights trained --out other --set model.layers=2
    [[ "$output" == *"h.1."* ]]
    [ ! -e other ]
}

@test "import: a tensor that is missing, unexpected, or of another shape is named: exit 4" {
    make_model
    cp -r model bad
    change bad <<<'h["transformer.h.0.mlp.c_fc.bios"] = h.pop("transformer.h.0.mlp.c_fc.bias")'
    run -4 "$MEZZO" import bad --out run
    [[ "$output" == *"transformer.h.0.mlp.c_fc.bias"* ]]
    cp model/model.safetensors bad
    change bad <<<'h["transformer.h.0.attn.c_attn.weight"]["shape"].reverse()'
    run -4 "$MEZZO" import bad --out run
    [[ "$output" == *"c_attn.weight"*"[48,16]"*"[16,48]"* ]]
    [ ! -e run ]
}

@test "import: a pickle, another activation, no config.json: exit 4" {
    make_model
    mkdir pickle
    cp model/config.json pickle
    printf 'PK\3\4' >pickle/pytorch_model.bin
    run -4 "$MEZZO" import pickle --out run
    [[ "$output" == *"pickle"*"save_pretrained"* ]]
    sed -i 's/gelu_new/swish/' model/config.json
    run -4 "$MEZZO" import model --out run
    [[ "$output" == *"activation_function"*"swish"*"gelu_new"* ]]
    rm model/config.json
    run -4 "$MEZZO" import model --out run
    [[ "$output" == *"model/config.json"* ]]
    run -2 "$MEZZO" import --out run
    run -2 "$MEZZO" import model
    [ ! -e run ]
}

@test "train --weights: starts where the other run ended" {
    make_model
    run -0 --separate-stderr "$MEZZO" train trained/config.yaml --weights trained --steps 1 \
        --set optimizer.lr=0 --run-dir on --json
    [[ "$stderr" != *"half precision"* ]]
    a=$(cat trained/summary.json)
    python3 -c 'import json, sys; a, b = map(json.loads, sys.argv[1:]); assert a["eval_loss"] == b["eval_loss"]' \
        "$a" "${lines[-1]}"
    grep -q 'weights: trained' on/config.yaml
}

@test "train --weights: half precision is told, another model refused" {
    make_model
    "$MEZZO" train "${model[@]}" "${tokens[@]}" --precision bf16 --steps 1 --run-dir low -q >/dev/null
    run -0 --separate-stderr "$MEZZO" train trained/config.yaml --steps 1 --run-dir on \
        --weights low/checkpoints/final/model.safetensors
    [[ "$stderr" == *"half precision"*"rounded"* ]]
    run -4 "$MEZZO" train trained/config.yaml --set model.layers=2 --weights trained --run-dir other
    [[ "$output" == *"h.1."* ]]
    [ ! -e other ]
    run -4 "$MEZZO" train trained/config.yaml --weights nowhere --run-dir other
    [ ! -e other ]
}

# Hugging Face's format in and out, and training that starts from given weights.  Models are small and
# their tokens random: no data is needed.
# shellcheck disable=SC2154 # stderr is set by run
load common

model=(--set 'model={kind: gpt2, layers: 1, heads: 2, channels: [16], context: 8, vocab: 32}')
llama=(--set 'model={kind: llama, layers: 1, heads: 4, kv_heads: 2, channels: [16], mlp_channels: 64, context: 8,
    vocab: 32, rope_theta: 500, norm_eps: 1e-4, tied: false}')
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

# The same of a Llama with grouped heads, in `llama`.
make_llama() {
    "$MEZZO" train "${llama[@]}" "${tokens[@]}" --steps 2 --run-dir trained -q >/dev/null
    "$MEZZO" export trained/config.yaml --weights trained --out llama >/dev/null
}

@test "llama: export cuts what is one matrix here, import joins it" {
    make_llama
    python3 - <<END
import json, struct
data = open("llama/model.safetensors", "rb").read()
h = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
c = json.load(open("llama/config.json"))
block = {n.removeprefix("model.layers.0."): t["shape"] for n, t in h.items() if "layers.0" in n}
assert block["self_attn.q_proj.weight"] == [16, 16] and block["self_attn.v_proj.weight"] == [8, 16], block
assert block["mlp.gate_proj.weight"] == block["mlp.up_proj.weight"] == [64, 16], block
assert h["lm_head.weight"]["shape"] == h["model.embed_tokens.weight"]["shape"] == [32, 16]
assert (c["num_key_value_heads"], c["intermediate_size"], c["head_dim"]) == (2, 64, 4), c
assert c["tie_word_embeddings"] is False and c["rope_theta"] == 500 and c["rms_norm_eps"] == 1e-4, c
END
    run -0 "$MEZZO" import llama --out back
    grep -q 'kv_heads: 2' back/config.yaml && grep -q 'tied: false' back/config.yaml
    grep -q 'rope_theta: 500' back/config.yaml
    run -0 "$MEZZO" export back/config.yaml --weights back --out again
    cmp llama/model.safetensors again/model.safetensors
    cmp llama/config.json again/config.json
    a=$("$MEZZO" eval trained/config.yaml --weights trained --json -q)
    b=$("$MEZZO" eval back/config.yaml "${tokens[@]}" --weights back --json -q)
    python3 -c 'import json, sys; a, b = map(json.loads, sys.argv[1:]); assert a["eval_loss"] == b["eval_loss"]' \
        "$a" "$b"
}

@test "llama: sizes that the configuration leaves open are written" {
    "$MEZZO" train "${llama[@]}" "${tokens[@]}" --set model.kv_heads=0 --set model.mlp_channels=0 \
        --set model.tied=true --set model.vocab=0 --steps 1 --run-dir open -q >/dev/null
    run -0 "$MEZZO" export open/config.yaml --weights open --out llama
    grep -q '"num_key_value_heads": 4' llama/config.json
    grep -q '"intermediate_size": 64' llama/config.json
    grep -q '"vocab_size": 64' llama/config.json
    run -0 "$MEZZO" import llama --out back
    grep -q 'tied: true' back/config.yaml
}

@test "llama: what config.json may say, and what is refused: exit 4" {
    make_llama
    edit() { # KEY VALUE: one that is not there yet is added
        python3 - "$@" <<END
import json, sys
c = json.load(open("llama/config.json"))
c[sys.argv[1]] = json.loads(sys.argv[2])
json.dump({k: v for k, v in c.items() if v != "left out"}, open("edited/config.json", "w"))
END
    }
    cp -r llama edited
    while read -r key value part; do
        edit "$key" "$value"
        run -4 "$MEZZO" import edited --out run
        [[ "$output" == *"$key"*"$part"* ]] || { echo "$key $value: $output"; false; }
    done <<END
rope_scaling {"rope_type":"llama3"} llama3
rope_parameters {"rope_theta":500.0,"rope_type":"yarn"} yarn
rope_theta "big" expected a number
head_dim 8 model.channels over model.heads
head_dim 8 import a model that was trained so
rope_scaling {"factor":8.0,"high_freq_factor":4.0,"low_freq_factor":1.0,"original_max_position_embeddings":8192} ..., and mezzo
tie_word_embeddings 1 expected true or false
hidden_act "gelu" silu
attention_bias true false
num_hidden_layers null expected a number above 0
END
    edit head_dim null
    run -0 "$MEZZO" import edited --out run-head
    edit num_key_value_heads 3
    run -3 "$MEZZO" import edited --out run
    [[ "$output" == *"kv_heads"* ]]
    edit num_key_value_heads '"left out"' # as many as heads: the tensors are of another shape then
    run -4 "$MEZZO" import edited --out run
    [[ "$output" == *"k_proj"*"[8,16]"*"[16,16]"* ]]
    edit tie_word_embeddings true
    run -4 "$MEZZO" import edited --out run
    [[ "$output" == *"lm_head.weight"*"embed_tokens.weight"* ]]
    edit rope_parameters '{"rope_theta": 123.0, "rope_type": "default"}'
    run -0 "$MEZZO" import edited --out run
    grep -q 'rope_theta: 123' run/config.yaml
    edit rope_theta '"left out"'
    run -0 "$MEZZO" import edited --out defaults
    grep -q 'rope_theta: 10000' defaults/config.yaml
    change edited <<<'h["model.layers.0.self_attn.k_proj.bad"] = h.pop("model.layers.0.self_attn.k_proj.weight")'
    run -4 "$MEZZO" import edited --out other
    [[ "$output" == *"model.layers.0.self_attn.k_proj.weight"* ]]
    [ ! -e other ]
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

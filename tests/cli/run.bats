# Whole runs, short ones: what they print, leave behind, and answer to trouble with.
# shellcheck disable=SC2154 # stderr is set by run, small by common.bash
load common

is_json() { python3 -c 'import json, sys; json.loads(sys.argv[1])' "$1"; }

@test "train: a summary on stdout, progress on stderr, a run directory" {
    need_data
    run -0 --separate-stderr "$MEZZO" train "${small[@]}" --steps 8 --run-dir out
    [[ "$output" == *"BF16: accuracy 0."* ]]
    [[ "$output" == *"completed after 8 steps"* ]]
    [[ "$stderr" == *"test accuracy 0."* ]]
    for file in config.yaml plan.json metrics.jsonl summary.json; do
        [ -s "out/$file" ]
    done
    grep -q 'steps: 8' out/config.yaml
}

@test "train --json -q: one line of JSON and nothing else" {
    need_data
    run -0 --separate-stderr "$MEZZO" train "${small[@]}" --steps 8 --run-dir out --json -q
    [ "${#lines[@]}" -eq 1 ]
    is_json "$output"
    for key in run_id precision status steps skipped_steps loss_first loss_last eval_metric \
        eval_value start_ms step_ms_median samples_per_s peak_rss_bytes planned_bytes loss_scale_last \
        overflow_events fallback_kernels wall_s plan_hash seed; do
        [[ "$output" == *"\"$key\""* ]]
    done
    [ -z "$stderr" ]
}

@test "train: a used run directory is refused, and --overwrite takes it" {
    need_data
    run -0 "$MEZZO" train "${small[@]}" --steps 4 --run-dir out -q
    sum=$(cat out/summary.json)
    run -1 --separate-stderr "$MEZZO" train "${small[@]}" --steps 4 --run-dir out -q
    [[ "$stderr" == *"out"*"overwrite"* ]]
    [ "$(cat out/summary.json)" = "$sum" ]
    run -0 "$MEZZO" train "${small[@]}" --steps 5 --run-dir out -q --overwrite
    grep -q '"steps": *5' out/summary.json
}

@test "train: missing data is exit 4, and names the path" {
    run -4 --separate-stderr "$MEZZO" train --set data.path="$PWD/nowhere" --run-dir out
    [ -z "$output" ]
    [[ "$stderr" == *"$PWD/nowhere"* ]]
}

@test "train: where DeepSpeed's rule ends is exit 5, and names the scale" {
    need_data
    scale='precision.loss_scale={mode: deepspeed, init: 1099511627776, min: 1099511627776, hysteresis: 1}'
    run -5 "$MEZZO" train "${small[@]}" --steps 4 --run-dir out --precision f16 --set "$scale"
    [[ "$output" == *"loss scale 1.09951e+12 is the smallest that its rule allows"* ]]
    run -0 "$MEZZO" train "${small[@]}" --steps 4 --run-dir out --overwrite --precision f16 \
        --set 'precision.loss_scale={mode: deepspeed, init: 1099511627776, hysteresis: 1}'
    grep -q '"kind":"skip"' out/events.jsonl
}

@test "train: what forward makes, and gradients that overflow, are two events" {
    need_data
    run -5 "$MEZZO" train "${small[@]}" --steps 4 --run-dir forward --precision f16 --set data.std=1e-6
    [[ "$output" == *"64 steps in a row were skipped (last: forward of "* ]]
    grep -q '"kind":"skip","reason":"forward","where":"[a-z_0-9]*:f16"' forward/events.jsonl
    [ "$(grep -c '"kind":"scale"' forward/events.jsonl)" -eq 0 ]
    run -5 "$MEZZO" train "${small[@]}" --steps 4 --run-dir gradient --precision f16 \
        --set 'precision.loss_scale={mode: static, init: 1152921504606846976}'
    grep -q '"kind":"skip","reason":"gradient","where":"[a-z_0-9]*/' gradient/events.jsonl
}

@test "train: an unwritable run directory is exit 1" {
    need_data
    touch file
    run -1 "$MEZZO" train "${small[@]}" --steps 4 --run-dir file/below
    [[ "$output" == *"'file"*"Not a directory"* ]]
    [ -f file ]
}

@test "SIGINT, SIGTERM and SIGUSR1 save and stop: exit 75" {
    need_data
    for signal in INT TERM USR1; do
        "$MEZZO" train "${small[@]}" --steps 1000000 --set train.eval_every=5 \
            --run-dir "out-$signal" --json >"$signal.json" 2>"$signal.txt" &
        pid=$!
        for _ in $(seq 200); do
            grep -qs "test accuracy" "$signal.txt" && break
            sleep 0.1
        done
        kill -s "$signal" "$pid"
        code=0
        wait "$pid" || code=$?
        [ "$code" -eq 75 ]
        is_json "$(tail -n 1 "$signal.json")"
        grep -q '"status": *"stopped"' "$signal.json"
        [ -s "out-$signal/summary.json" ]
    done
}

@test "compare: a table, and one object as JSON" {
    need_data
    run -0 --separate-stderr "$MEZZO" compare "${small[@]}" --steps 8 --run-dir out
    [[ "$output" =~ FP32\ +BF16\ +ratio ]]
    [[ "$output" =~ test\ accuracy\ +0\.[0-9]+\ +0\.[0-9]+\ +[-+] ]]
    [[ "$output" == *"memory, planned"* ]]
    [ -d out/fp32 ] && [ -d out/bf16 ]
    run -0 --separate-stderr "$MEZZO" compare "${small[@]}" --steps 4 --seeds 2 --run-dir two --json -q
    is_json "$output"
    python3 - "$output" <<'END'
import json, sys
r = json.loads(sys.argv[1])
assert r["seeds"] == len(r["fp32"]) == len(r["candidate"]) == 2, r
assert r["speedup"] > 0 and r["planned_memory_ratio"] > 0, r
assert [s["seed"] for s in r["fp32"]] == [1, 2], r
assert r["inside_spread"] in (True, False), r
END
}

@test "eval: the weights of a run give its accuracy again" {
    need_data
    run -0 --separate-stderr "$MEZZO" train "${small[@]}" --steps 20 --run-dir out --json -q
    trained=$output
    run -0 --separate-stderr "$MEZZO" eval "${small[@]}" --weights out --json
    python3 - "$trained" "$output" <<'END'
import json, sys
a, b = (json.loads(s) for s in sys.argv[1:])
assert a["eval_value"] == b["eval_value"], (a, b)
END
    run -4 "$MEZZO" eval "${small[@]}" --weights nowhere
    [[ "$output" == *"nowhere"* ]]
}

@test "plan: as text, as JSON, and as a difference" {
    need_data
    run -0 "$MEZZO" plan "${small[@]}"
    [[ "$output" == *"fc1"* ]]
    run -0 --separate-stderr "$MEZZO" plan "${small[@]}" --json
    is_json "$output"
    run -0 --separate-stderr "$MEZZO" plan "${small[@]}" --set precision.master=split
    [[ "$output" == *"masters     split"*"its upper half is the weight"*"linear reads it in f32"* ]]
    run -0 --separate-stderr "$MEZZO" plan "${small[@]}" --set precision.master=bf16 \
        --set optimizer.state=bf16 --json
    python3 - "$output" <<'END'
import json, sys
plan = json.loads(sys.argv[1])
masters = plan["masters"]
assert plan["loss_scale"] == {"mode": "none", "init": 1.0}, plan["loss_scale"]
forms = {(m["kind"], m["form"]) for m in masters}
assert forms == {("masters", "bf16"), ("masters", "f32"), ("moments", "bf16")}, masters
END
    # Bytes of a parameter: matrices by form, and biases, which are FP32 in all.
    local matrices=$((784 * 32 + 32 * 10)) biases=$((32 + 10))
    bytes_are() {
        run -0 --separate-stderr "$MEZZO" plan "${small[@]}" "${@:3}" --json
        python3 - "$output" $((matrices * $1 + biases * $2)) $((matrices + biases)) <<'END'
import json, sys
cost, total, count = json.loads(sys.argv[1])["bytes"], int(sys.argv[2]), int(sys.argv[3])
parts = ("masters", "moments", "gradients", "averages")
assert cost["parameters"] == count, cost
assert sum(cost[part] for part in parts) == total, cost
assert abs(cost["each"] - (total + cost["copies"]) / count) < 1e-9, cost
END
    }
    bytes_are 14 16
    bytes_are 16 16 --set train.accumulate=2
    bytes_are 16 16 --precision f32
    bytes_are 18 20 --set train.ema=0.9
    bytes_are 8 12 --set precision.master=bf16 --set optimizer.state=bf16
    run -0 --separate-stderr "$MEZZO" plan "${small[@]}"
    [[ "$output" == *"a parameter 14.00 bytes: masters 4.00, copies 0.00, moments 8.00,"* ]]
    run -3 "$MEZZO" plan "${small[@]}" --set train.accumulate=2 --set precision.gradients=bf16
    [[ "$output" == *"precision.gradients"*"train.accumulate is 2"* ]]
    printf 'data: {limit: 512, test_limit: 256}\nmodel: {kind: mlp, hidden: [32]}\n' >a.yaml
    run -0 "$MEZZO" plan a.yaml --precision f32 --diff a.yaml
    [[ "$output" == *"fc1"* ]]
    [[ "$output" == *"f32"* ]]
    [[ "$output" == *"bf16"* ]]
}

@test "doctor: as text and as JSON" {
    run -0 "$MEZZO" doctor
    [[ "$output" == *"bf16"* || "$output" == *"BF16"* ]]
    run -0 --separate-stderr "$MEZZO" doctor --json
    is_json "$output"
}

@test "plan: gradient segments, where f16 asks for them" {
    f16=(--set 'data={kind: random, vocab: 64, batch: 4}' --precision f16 --set
        'model={kind: gpt2, layers: 1, heads: 2, channels: [32], context: 16}')
    run -0 --separate-stderr "$MEZZO" plan "${f16[@]}" --set precision.loss_scale.segments=auto
    [[ "$output" == *"loss scale  headroom, 2^16 at first"*"segments    0, one scale for all"* ]]
    pinned='precision.loss_scale.pinned_segments=[{from: ln_f/dx, exponent: 6}]'
    run -0 --separate-stderr "$MEZZO" plan "${f16[@]}" --set "$pinned"
    [[ "$output" == *"segments    1"*"from ln_f/dx"*"x 2^6"* ]]
    [[ "$output" == *"segment  segment from "*"held 2^6 times larger"* ]]
    run -3 --separate-stderr "$MEZZO" plan "${f16[@]}" --set precision.loss_scale.max=1024
    [[ "$stderr" == *"precision.loss_scale: "*"max 1024"*"at least init, which is 65536"* ]]
    run -3 --separate-stderr "$MEZZO" plan "${f16[@]}" --set "${pinned/ln_f/nothing}"
    [[ "$stderr" == *"nothing/dx"*"no backward operation of that name"*"pinned_segments"* ]]
}

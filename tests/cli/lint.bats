# Mistakes that can be told before the run: findings, exit codes, and what they do to training.
# shellcheck disable=SC2154 # stderr is set by run
load common

# No files of data: a transformer of one layer on random ids.
tiny=(--set 'model={kind: gpt2, layers: 1, heads: 1, channels: 8, context: 8}'
    --set 'data={kind: random, vocab: 16, batch: 2, test_limit: 2}' --steps 2)

@test "lint: nothing to find is exit 0" {
    for type in f32 f16; do
        run -0 --separate-stderr "$MEZZO" lint "${tiny[@]}" --precision "$type"
        [ "$output" = "0 errors, 0 warnings" ]
        [ -z "$stderr" ]
    done
}

@test "lint: warnings with rule, place and way out, exit 0" {
    cat >a.yaml <<'END'
precision:
  compute: f16
  loss_scale: {mode: none}
  overrides: [{match: head, compute: f32}, {match: misspelt, compute: f32}]
END
    run -0 --separate-stderr "$MEZZO" lint a.yaml "${tiny[@]}" --set schedule.warmup=2
    [[ "$output" == *"C001 warning  a.yaml:3: precision.loss_scale.mode"* ]]
    [[ "$output" == *"C002 warning  a.yaml:4: precision.overrides[1]"*'"misspelt" matches no operation'* ]]
    [[ "$output" == *"C003 warning  --set: schedule.warmup"*"fix: a schedule.warmup below"* ]]
    [[ "$output" == *"0 errors, 3 warnings"* ]]
    [ -z "$stderr" ]
}

@test "lint --json" {
    run -0 --separate-stderr "$MEZZO" lint "${tiny[@]}" --precision bf16 --isa ref --json \
        --set precision.speed_gate=off
    python3 - "$output" <<'END'
import json, sys
r = json.loads(sys.argv[1])
assert (r["errors"], r["warnings"]) == (0, 1), r
f, = r["findings"]
assert (f["rule"], f["severity"], f["type"]) == ("C004", "warning", "bf16"), f
assert f["where"] and f["text"] and f["fix"], f
END
}

@test "lint: an error is exit 3, with the finding on stdout" {
    scale='precision.loss_scale={mode: static, init: 4294967296}'
    run -3 --separate-stderr "$MEZZO" lint "${tiny[@]}" --precision f16 --set "$scale"
    [[ "$output" == *"C005 error"*"precision.loss_scale.init"*"f16 ends at 65504"* ]]
    [[ "$output" == *"1 error, 0 warnings"* ]]
    [ -z "$stderr" ]
    run -3 --separate-stderr "$MEZZO" lint "${tiny[@]}" --precision f16 --set "$scale" --json
    python3 -c 'import json, sys; assert json.loads(sys.argv[1])["errors"] == 1' "$output"
    run -3 "$MEZZO" lint "${tiny[@]}" --set precision.lint=maybe
}

@test "lint --rules lists every rule, as text and as JSON" {
    run -0 --separate-stderr "$MEZZO" lint --rules
    for rule in L001 L002 L003 L004 L005 L006 L007 C001 C002 C003 C004 C005 C006 C007 C008; do
        [[ "$output" == *"$rule "* ]]
    done
    [[ "$output" == *"L003 error"*"C001 warning"* ]]
    run -0 --separate-stderr "$MEZZO" lint --rules --json
    python3 -c 'import json, sys
for r in json.loads(sys.argv[1]):
    assert set(r) == {"rule", "severity", "title", "why", "fix"}, r' "$output"
}

@test "plan: every rule with the place where it is written" {
    cat >a.yaml <<'END'
precision:
  compute: bf16
  overrides: [{match: "*fc", compute: f32}, {match: head, compute: f32}]
END
    run -0 "$MEZZO" plan a.yaml "${tiny[@]}"
    [[ "$output" =~ override\ +[0-9]+\ +\"head\"\ computes\ in\ f32\ +precision\.overrides\[1\],\ a\.yaml:3 ]]
    [[ "$output" =~ low\ +[0-9]+\ +.*docs/numerics\.md.*precision\.compute,\ a\.yaml:2 ]]
    [[ "$output" == *"check     wte.weight/norm"* ]]
    [[ "$output" == *"update    wte.weight/adamw"* ]]
    run -0 --separate-stderr "$MEZZO" plan a.yaml "${tiny[@]}" --json
    python3 - "$output" <<'END'
import collections, json, sys
p = json.loads(sys.argv[1])
counted = collections.Counter(o["rule"] for o in p["operations"])
listed = collections.Counter()
for r in p["rules"]:
    assert r["meaning"] and r["source"], r
    listed[r["rule"]] += r["operations"]
assert counted == listed, (counted, listed)
for o in p["operations"]:
    assert o["source"], o
    if o["name"] == "head":
        assert o["source"] == "precision.overrides[1], a.yaml:3", o
    if o["rule"] == "low":
        assert o["source"] == "class low of the operation; precision.compute, a.yaml:2", o
assert {"check", "update"} <= {o["phase"] for o in p["operations"]}
END
}

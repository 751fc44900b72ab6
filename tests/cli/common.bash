# What every file of these tests starts with: a folder of its own, and none of the caller's settings.
bats_require_minimum_version 1.5.0

setup() {
    export XDG_CONFIG_HOME="$BATS_TEST_TMPDIR/settings"
    unset NO_COLOR
    cd "$BATS_TEST_TMPDIR" || return 1
}

# A short run on few samples.
# shellcheck disable=SC2034 # for the files that load this one
small=(--set data.limit=512 --set data.test_limit=256 --set 'model={kind: mlp, hidden: [32]}')

need_data() {
    [ -d /usr/share/datasets/fashion-mnist ] || skip "no Fashion-MNIST (dataset-fashion-mnist)"
}

# Commands, options, help, and the exit code of a line that makes no sense.
# shellcheck disable=SC2154 # stderr is set by run
load common

@test "help lists every command" {
    run -0 --separate-stderr "$MEZZO" help
    for command in train compare eval sample plan lint doctor config tokenize; do
        [[ "$output" == *"  $command "* ]]
    done
    [ -z "$stderr" ]
    help=$output
    run -0 "$MEZZO" --help
    [ "$output" = "$help" ]
}

@test "without a command: the help on stderr, and exit 2" {
    run -2 --separate-stderr "$MEZZO"
    [ -z "$output" ]
    [[ "$stderr" == *"usage: mezzo COMMAND"* ]]
}

@test "help of a command, in three spellings" {
    run -0 "$MEZZO" help compare
    [[ "$output" == *"--seeds N"* ]]
    help=$output
    run -0 "$MEZZO" compare --help
    [ "$output" = "$help" ]
    run -0 "$MEZZO" compare -h
    [ "$output" = "$help" ]
}

@test "help shows only the options that a command takes" {
    run -0 "$MEZZO" help doctor
    [[ "$output" == *"--json"* ]]
    [[ "$output" != *"--steps"* ]]
}

@test "version" {
    run -0 "$MEZZO" --version
    [[ "$output" =~ ^mezzo\ [0-9]+\.[0-9]+\.[0-9]+$ ]]
}

@test "an unknown command names the nearest" {
    run -2 --separate-stderr "$MEZZO" trian
    [ -z "$output" ]
    [[ "$stderr" == *"unknown command trian; did you mean train?"* ]]
    run -2 "$MEZZO" zzzzzzzz
    [[ "$output" != *"did you mean"* ]]
    run -2 "$MEZZO" help zzzzzzzz
}

@test "an unknown option names the nearest" {
    run -2 --separate-stderr "$MEZZO" train --step 3
    [[ "$stderr" == *"unknown option --step; did you mean --steps?"* ]]
    run -2 "$MEZZO" train -x
    [[ "$output" == *"unknown option -x"* ]]
}

@test "options that are wrong for a command, or incomplete" {
    run -2 "$MEZZO" doctor --steps 3
    [[ "$output" == *"--steps is no option of doctor"* ]]
    run -2 "$MEZZO" train --steps
    [[ "$output" == *"--steps needs a value"* ]]
    run -2 "$MEZZO" doctor --json=yes
    [[ "$output" == *"--json takes no value"* ]]
    run -2 "$MEZZO" compare --seeds 0
    [[ "$output" == *"expected an integer from 1 to 1000"* ]]
    run -2 "$MEZZO" compare --seeds 2x
    run -2 "$MEZZO" train a.yaml b.yaml
    [[ "$output" == *"one word too many: b.yaml"* ]]
    run -2 "$MEZZO" eval
    [[ "$output" == *"--weights"* ]]
    run -2 "$MEZZO" config
    run -2 "$MEZZO" config sho
}

@test "options stand before or behind CONFIG, with = or a blank" {
    echo 'train: {seed: 5}' >a.yaml
    for line in "--steps 7 a.yaml" "--steps=7 a.yaml" "a.yaml --steps 7" "--steps=7 -- a.yaml"; do
        # shellcheck disable=SC2086 # a line is several words
        run -0 "$MEZZO" config show $line
        [[ "$output" == *"steps: 7"* ]]
        [[ "$output" == *"seed: 5"* ]]
    done
}

@test "--device: cpu is there, cuda is not in this build" {
    run -0 "$MEZZO" config show --device cpu
    run -0 "$MEZZO" config show --device auto
    run -3 "$MEZZO" config show --device cuda
    [[ "$output" == *"no CUDA backend"* ]]
    run -2 "$MEZZO" config show --device abacus
}

@test "colours on a terminal only, and not with NO_COLOR" {
    script -qec true /dev/null >/dev/null || skip "no terminal to be had (script, /dev/pts)"
    escape=$'\033'
    TERM=xterm run -2 script -qec "$MEZZO trian" /dev/null
    [[ "$output" == *"${escape}["* ]]
    NO_COLOR=1 TERM=xterm run -2 script -qec "$MEZZO trian" /dev/null
    [[ "$output" == *"unknown command"* ]]
    [[ "$output" != *"${escape}["* ]]
    TERM=dumb run -2 script -qec "$MEZZO trian" /dev/null
    [[ "$output" != *"${escape}["* ]]
    run -2 "$MEZZO" trian
    [[ "$output" != *"${escape}["* ]]
}

@test "output that cannot be written is a failure" {
    [ -w /dev/full ] || skip "no /dev/full"
    # shellcheck disable=SC2016 # the inner shell expands it
    run -1 bash -c '"$MEZZO" help >/dev/full'
    [[ "$output" == *"could not be written"* ]]
}

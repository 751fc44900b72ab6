#!/bin/sh
# tests/sanitize.sh PRESET FOLDER: build with a sanitizer (asan, ubsan or tsan) and run the tests
# that reach our own code quickly.  Any report fails the test that caused it.
set -eu
preset=$1
folder=$2
cd "$(dirname "$0")/.."
jobs=$(nproc)

cmake --preset "$preset" -B "$folder" --log-level=NOTICE
cmake --build "$folder" --parallel "$jobs"

export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
# ThreadSanitizer of GCC 12 dies at start where the kernel spreads addresses over more than 28 bits.
run=
if [ "$preset" = tsan ] && setarch -R true 2>/dev/null; then
    run="setarch -R"
fi
$run ctest --test-dir "$folder" --output-on-failure --parallel "$jobs" \
    --label-regex '^(unit|kernel|grad|train)$' --label-exclude '^slow$'

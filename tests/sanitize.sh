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

# Not detect_stack_use_after_return: the frames it makes are aligned to 32 bytes, and 64-byte vectors
# in them fault (GCC 12).
export ASAN_OPTIONS=strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
labels='unit|kernel|grad|train'
skip='^$'
run=
# ThreadSanitizer of GCC 12 dies at start where the kernel spreads addresses over more than 28 bits.
if [ "$preset" = tsan ]; then
    labels='unit|grad|train' # a kernel shares nothing: minutes of its tests would find nothing
    skip='train\.(devices|parity)' # nor would the same loops over many shapes
    if setarch -R true 2>/dev/null; then
        run="setarch -R"
    fi
fi
$run ctest --test-dir "$folder" --output-on-failure --parallel "$jobs" \
    --label-regex "^($labels)\$" --label-exclude '^slow$' --exclude-regex "$skip"

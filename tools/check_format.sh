#!/bin/sh
# tools/check_format.sh: every C file as clang-format would write it (`make fmt` does).
# tools/check_format.sh --self-test: a wrong indent must be found.
set -eu
cd "$(dirname "$0")/.."
if [ "${1:-}" = --self-test ]; then
    printf 'int a(void) {\n  return 1;\n}\n' |
        clang-format --dry-run -Werror --assume-filename=src/a.c 2>&1 | grep -q clang-format-violations
    exit
fi
find include src models cli examples tests bench -name '*.[ch]' -exec clang-format --dry-run -Werror {} +

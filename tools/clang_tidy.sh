#!/bin/sh
# tools/clang_tidy.sh FOLDER: clang-tidy, as .clang-tidy says, on every C file that FOLDER compiles.
# tools/clang_tidy.sh --self-test: a comparison with itself must be found.
set -eu
cd "$(dirname "$0")/.."
if [ "${1:-}" = --self-test ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    printf 'int a(int b);\nint a(int b) { return b == b; }\n' >"$folder/a.c"
    clang-tidy --quiet --config-file=.clang-tidy "$folder/a.c" -- -std=c11 2>/dev/null |
        grep -q misc-redundant-expression
    exit
fi
# The flags that only GCC has are no concern of the checks.
python3 - "$1/compile_commands.json" <<'FILES' |
import json, sys
print("\n".join(sorted({c["file"] for c in json.load(open(sys.argv[1])) if c["file"].endswith(".c")})))
FILES
    xargs -P "$(nproc)" -n 4 clang-tidy --quiet -p "$1" --extra-arg=-Wno-unknown-warning-option

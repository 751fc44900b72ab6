#!/bin/sh
# tools/lint.sh FOLDER: every static check, the slow ones too; FOLDER is a release build.
set -u
folder=$1
cd "$(dirname "$0")/.." || exit
failed=
run() { # NAME COMMAND...
    name=$1
    shift
    echo "== $name"
    "$@" || failed="$failed $name"
}

run layers tools/check_layers.py
run tidy tools/tidy.py
run symbols tools/check_symbols.sh "$folder"
run scripts tools/check_scripts.sh
run format tools/check_format.sh
run clang-tidy tools/clang_tidy.sh "$folder"
for check in tools/check_layers.py tools/tidy.py tools/check_symbols.sh tools/check_scripts.sh \
    tools/check_format.sh tools/clang_tidy.sh; do
    run "$check" "$check" --self-test
done
if [ -n "$failed" ]; then
    echo "lint: failed:$failed" >&2
    exit 1
fi
echo "lint: clean"

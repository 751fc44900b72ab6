#!/bin/sh
# tools/check_docs.sh PROGRAM: the tables in docs/ are those that PROGRAM (gen_docs) prints.
# tools/check_docs.sh PROGRAM --write: write them.
# tools/check_docs.sh PROGRAM --self-test: a changed table and a missing one must be found.
#
# A table stands between the lines <!-- generated: NAME --> and <!-- end: NAME -->.
set -eu
program=$1
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# splice FILE: FILE with its tables as they should be.
splice() {
    awk -v program="$program" '
        /^<!-- end: / { inside = 0 }
        !inside { print }
        /^<!-- generated: / {
            inside = 1
            found = 1
            command = "\"" program "\" " $3
            while ((command | getline line) > 0)
                print line
            if (close(command) != 0)
                exit 1
        }
        END { if (inside || !found) exit 1 }' "$1"
}

check() { # FILE...
    for file in "$@"; do
        splice "$file" >"$folder/want" || {
            echo "$file: a table is missing, has no end, or has an unknown name" >&2
            return 1
        }
        diff -u "$file" "$folder/want" >&2 || {
            echo "$file: not what the inventories say: run tools/check_docs.sh PROGRAM --write" >&2
            return 1
        }
    done
}

self_test() {
    sed '/^| low |/d' docs/numerics.md >"$folder/changed.md"
    sed '/generated:/d' docs/numerics.md >"$folder/missing.md"
    sed 's/^<!-- generated: ops/<!-- generated: oops/' docs/numerics.md >"$folder/unknown.md"
    for planted in changed missing unknown; do
        if check "$folder/$planted.md" 2>/dev/null; then
            echo "check_docs: a $planted table was not found" >&2
            return 1
        fi
    done
}

documents="docs/numerics.md docs/metrics.md docs/cli.md docs/lint.md"
case "${2:-}" in
'')
    # shellcheck disable=SC2086 # a list
    check $documents
    ;;
--write)
    for file in $documents; do
        splice "$file" >"$folder/want"
        cat "$folder/want" >"$file"
    done
    ;;
--self-test) self_test ;;
*)
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
    ;;
esac

#!/bin/sh
# tools/check_symbols.sh FOLDER: what the built libraries in FOLDER define.
#   libmezzo.so         exports mezzo_* and nothing else
#   libmezzo_static.a   its global symbols start with mezzo_, mzi_ or mzk_
#   libmezzo_models.a   the same
# Neither archive holds a variable that can change after loading: the library keeps no state outside
# a context.  (Tables of pointers that only the loader writes are in .data.rel.ro, and may.)
# Every kernel in it has a line in kernels.def.  (A line without its kernel does not link.)
# tools/check_symbols.sh --self-test plants one violation of each.
set -eu

exports() { # LIBRARY PATTERN
    nm -D --defined-only "$1" | awk -v allowed="$2" -v file="$(basename "$1")" \
        '$3 !~ allowed { print file ": exports " $3 ", expected " allowed }'
}
globals() { # ARCHIVE PATTERN
    nm -g --defined-only "$1" | awk -v allowed="$2" -v file="$(basename "$1")" \
        'NF == 3 && $3 !~ allowed { print file ": global symbol " $3 ", expected " allowed }'
}
variables() { # ARCHIVE
    objdump -t "$1" | awk -v file="$(basename "$1")" '
        /file format/ { member = $1 }
        !/ d / && $(NF > 4 ? NF - 2 : 1) ~ /^(\.data|\.bss|\.tdata|\.tbss|\*COM\*)$|^\.data\.rel(\.local)?$/ {
            print file "(" member " " $NF " can change: make it const, or part of a struct"
        }'
}
kernels() { # ARCHIVE LIST
    sed -n 's/^KERNEL(\([a-z0-9_]*\), \([a-z0-9_]*\),.*/mzk_\1_\2/p' "$2" >"$work/listed"
    nm -g --defined-only "$1" | awk '$3 ~ /^mzk_.*_(ref|avx2|avx512|avx512_bf16)$/ && $2 == "T" { print $3 }' |
        grep -vxFf "$work/listed" | sed 's/$/: a kernel without a line in kernels.def/'
}
check() { # FOLDER
    exports "$1/libmezzo.so" '^mezzo_'
    for archive in "$1/libmezzo_static.a" "$1/libmezzo_models.a"; do
        globals "$archive" '^(mezzo|mzi|mzk)_'
        variables "$archive"
    done
    kernels "$1/libmezzo_static.a" "$list" || true # grep found none
}

self_test() {
    folder=$work
    list=$work/kernels.def
    echo 'KERNEL(add, ref, EXACT)' >"$list"
    failures=0
    while IFS='|' read -r name code expected; do
        printf '%s\n' "$code" >"$folder/a.c"
        "${CC:-cc}" -fPIC -c "$folder/a.c" -o "$folder/a.o"
        "${CC:-cc}" -shared "$folder/a.o" -o "$folder/libmezzo.so"
        rm -f "$folder"/*.a
        ar rc "$folder/libmezzo_static.a" "$folder/a.o"
        ar rc "$folder/libmezzo_models.a" "$folder/a.o"
        found=$(check "$folder")
        case "$found" in
        '') [ -z "$expected" ] && continue ;;
        *"$expected"*) [ -n "$expected" ] && continue ;;
        esac
        echo "self-test, $name: expected '$expected', got '$found'" >&2
        failures=$((failures + 1))
    done <<'CASES'
clean|static const char *const t[] = {"a"}; const char *mezzo_a(int i); const char *mezzo_a(int i) { return t[i]; }|
export|int mzi_a(void) { return 1; }|libmezzo.so: exports mzi_a
global|int helper(void) { return 1; }|libmezzo_static.a: global symbol helper
zeroed|static int n; int mezzo_a(void) { return n++; }|n can change
listed|void mzk_add_ref(void); __attribute__((visibility("hidden"))) void mzk_add_ref(void) {}|
kernel|void mzk_add_avx2(void); __attribute__((visibility("hidden"))) void mzk_add_avx2(void) {}|mzk_add_avx2: a kernel without
set|static int n = 1; int mezzo_a(void) { return n++; }|n can change
table|static const char *t[] = {"a"}; const char **mezzo_a(void) { return t; }|t can change
thread|static _Thread_local int n; int mezzo_a(void) { return n++; }|n can change
CASES
    echo "check_symbols: self-test, $failures errors"
    [ "$failures" -eq 0 ]
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
list=$(dirname "$0")/../src/kernel/kernels.def
if [ "${1:-}" = --self-test ]; then
    self_test
    exit
fi
for library in libmezzo.so libmezzo_static.a libmezzo_models.a; do
    [ -f "$1/$library" ] || { echo "check_symbols: no $1/$library" >&2 && exit 1; }
done
found=$(check "$1")
if [ -n "$found" ]; then
    printf '%s\n' "$found" >&2
    echo "check_symbols: $(printf '%s\n' "$found" | wc -l) errors"
    exit 1
fi
echo "check_symbols: 0 errors"

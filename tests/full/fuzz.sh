#!/bin/bash
# libFuzzer on each reader of foreign bytes, ten minutes a target ($FUZZ_SECONDS changes that)
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "
clang                libFuzzer's compiler
libclang-rt-14-dev   libFuzzer itself
"
cmake --preset fuzz --log-level=NOTICE
targets=$(basename --suffix=.c tests/fuzz/fuzz_*.c)
# shellcheck disable=SC2086 # a list of names
cmake --build build/fuzz --parallel "$(nproc)" --target $targets

found=""
for target in $targets; do
    mkdir -p "build/fuzz/corpus/$target"
    seeds=tests/fuzz/seeds_${target#fuzz_}.py
    [ ! -f "$seeds" ] || python3 "$seeds" "build/fuzz/corpus/$target"
    say "$target"
    "build/fuzz/tests/$target" -max_total_time="${FUZZ_SECONDS:-600}" -max_len=4096 -timeout=1 \
        -rss_limit_mb=2048 -print_final_stats=1 "build/fuzz/corpus/$target" tests/data 2>&1 |
        tee "build/fuzz/$target.log" | grep --line-buffered -E 'ERROR|SUMMARY|stat::|^Done'
    found+=$(printf '\n## %s\n\n' "$target" && grep -E '^(Done|stat::)' "build/fuzz/$target.log")
done
printf '# Fuzzing\n\n%s\n%s\n' "$(clang --version | head -1)" "$found" >tests/full/results/fuzz.md

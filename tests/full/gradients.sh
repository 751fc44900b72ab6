#!/bin/bash
# gradients of BF16: losses of both small examples beside those with gradients of FP32, by seed
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "$BUILD_PACKAGES$DATA_PACKAGES"
build
scripts/kjv
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
for seed in $(seq 20); do
    for type in f32 bf16; do
        for example in fashion-small kjv-small; do
            [[ $example == fashion-small && $seed -gt 5 ]] && continue
            build/mezzo train "examples/$example.yaml" --seed "$seed" --quiet \
                --set "precision.gradients=$type" --run-dir "$run/$example-$type-$seed"
        done
    done
done
python3 tests/full/gradients_table.py "$run" | tee tests/full/results/gradients.md

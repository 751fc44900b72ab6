#!/bin/bash
# memory does not grow over 10,000 steps, and peaks where the plan says
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "$BUILD_PACKAGES"
build
scripts/kjv
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
python3 tests/full/memory.py build/mezzo "$run" | tee tests/full/results/memory.md

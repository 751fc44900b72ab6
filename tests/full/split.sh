#!/bin/bash
# Split masters: all 2^32 FP32 patterns come back from their halves
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "$BUILD_PACKAGES libcmocka-dev"
build
said=$(build/tests/unit_masters --all)
printf '# Split masters\n\n%s\n' "$said" | tee tests/full/results/split.md

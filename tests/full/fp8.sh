#!/bin/bash
# 8-bit formats against ml_dtypes: all 16-bit patterns and 10 million FP32 values, both ways
# shellcheck source=scripts/lib/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/venv.sh"

version=0.5.4
venv fp8 "ml_dtypes==$version" numpy==2.2.6
build
said=$("$PYTHON" tests/full/fp8_peer.py build/libmezzo.so)
printf '# 8-bit formats against ml_dtypes %s\n\n%s\n' "$version" "$said" | tee tests/full/results/fp8.md

#!/bin/bash
# tensor files against the reference implementation: both ways, and 10,000 damaged ones
# shellcheck source=scripts/lib/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/venv.sh"

venv safetensors safetensors==0.4.5
build
{
    printf '# Tensor files against safetensors 0.4.5\n\n'
    "$PYTHON" tests/full/safetensors_peer.py build/libmezzo.so
} | tee tests/full/results/safetensors.md

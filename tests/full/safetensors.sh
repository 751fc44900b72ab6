#!/bin/bash
# tensor files against the reference implementation: both ways, and 10,000 damaged ones
# shellcheck source=scripts/lib/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/venv.sh"

version=0.8.0
venv safetensors "safetensors==$version"
build
said=$("$PYTHON" tests/full/safetensors_peer.py build/libmezzo.so)
printf '# Tensor files against safetensors %s\n\n%s\n' "$version" "$said" |
    tee tests/full/results/safetensors.md

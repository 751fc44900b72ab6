#!/bin/bash
# Llama in and out of Hugging Face's format, with transformers on the other side (downloads 3 GB)
# shellcheck source=scripts/lib/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/venv.sh"

install_packages "
libcmocka-dev   unit tests
"
venv hf torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
build
{
    printf '# Llama in and out of Hugging Face'"'"'s format\n'
    printf '\n## transformers, now and as kept in tests/parity/llama_hf.json\n\n'
    "$PYTHON" tests/parity/llama_hf.py --compare tests/parity/llama_hf.json
    printf '\n## Models through the program\n\n'
    "$PYTHON" tests/parity/llama_hf.py --program build/mezzo
    printf '\n## mezzo beside the kept figures\n\n'
    MEZZO_SOURCE_DIR=$PWD build/tests/train_llama_hf 2>&1
} | tee tests/full/results/hf_llama.md

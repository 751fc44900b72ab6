#!/bin/bash
# the quickstart's network, a small GPT-2 and the loss scaler in PyTorch again: do its figures hold, and mezzo's beside them?
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "
python3-torch   PyTorch 1.13, the peer
libblas3        the reference BLAS, in whose order the kept figures were summed
libcmocka-dev   unit tests
"
build
reference_blas=/usr/lib/$(gcc -print-multiarch)/blas # whichever one the system has chosen

# compare TITLE FIGURES TEST
compare() {
    printf '\n## %s: PyTorch, now and as kept in tests/parity/%s.json\n\n' "$1" "$2"
    LD_LIBRARY_PATH=$reference_blas /usr/bin/python3 "tests/parity/$2.py" --compare "tests/parity/$2.json"
    printf '\n## %s: mezzo\n\n' "$1"
    MEZZO_SOURCE_DIR=$PWD "build/tests/$3" 2>&1
}

{
    printf '# Networks against PyTorch: same weights, same data\n'
    compare 'The network of examples/fashion-cnn.yaml' cnn_torch train_parity
    compare 'A small GPT-2' gpt2_torch train_parity_gpt2
    compare 'Loss scalers' scaler_peers unit_scaler
} | tee tests/full/results/parity_torch.md

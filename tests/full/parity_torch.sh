#!/bin/bash
# the quickstart's network in PyTorch again: do its figures still hold, and mezzo's beside them?
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "
python3-torch   PyTorch 1.13, the peer
libcmocka-dev   unit tests
"
build
{
    printf '# The network of examples/fashion-cnn.yaml against PyTorch\n'
    printf '\n## PyTorch, now and as kept in tests/parity/cnn_torch.json\n\n'
    /usr/bin/python3 tests/parity/cnn_torch.py --compare tests/parity/cnn_torch.json
    printf '\n## mezzo\n\n'
    MEZZO_SOURCE_DIR=$PWD build/tests/train_parity 2>&1
} | tee tests/full/results/parity_torch.md

#!/bin/bash
# every static check, clang-tidy and clang-format included, and a build with Clang
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/../../scripts/lib/setup.sh"

install_packages "
clang          a second compiler's warnings
clang-tidy     finds mistakes that compilers do not
clang-format   the layout of the code
shellcheck     checks the scripts
libcmocka-dev  unit tests
"
build
result=tests/full/results/lint.md
{
    echo "# Static checks"
    echo
    clang --version | head -1
    gcc --version | head -1
    echo
} >"$result"
tools/lint.sh build 2>&1 | sed "s|$PWD/||g" | tee -a "$result"
cmake --preset clang --log-level=NOTICE
cmake --build build/clang --parallel "$(nproc)"
echo "clang: no warnings" | tee -a "$result"

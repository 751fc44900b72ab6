#!/bin/sh
# tools/check_scripts.sh: shellcheck on every shell script of the repository.
# tools/check_scripts.sh --self-test: an unquoted variable must be found.
set -eu
cd "$(dirname "$0")/.."
if [ "${1:-}" = --self-test ]; then
    # shellcheck disable=SC2016 # the variable is for the planted script
    printf '#!/bin/sh\nrm $1\n' | shellcheck - | grep -q SC2086
    exit
fi
find .ci bench scripts tools tests -type f \
    \( -name '*.sh' -o -name '*.bash' -o -name '*.bats' -o -path '.ci/*' -o -path 'scripts/*' \) \
    ! -path '*/results/*' -exec shellcheck --external-sources {} +

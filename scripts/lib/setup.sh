# shellcheck shell=bash
# Shared by the scripts beside it; source it.  Leaves the caller in the root of the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# What building takes, and why.
# shellcheck disable=SC2034 # used by those who source this
BUILD_PACKAGES="
build-essential   the C compiler and make
cmake             configures the build
ninja-build       builds, and notices new files
pkg-config        finds the libraries
libdnnl-dev       oneDNN: matrix products and convolutions on the CPU
libyaml-dev       reads configurations
libjansson-dev    JSON: summaries, metrics, tensor files
libsodium-dev     digests
libpcre2-dev      cuts text into words for tokenizers
zlib1g-dev        compressed data sets
"
# shellcheck disable=SC2034
DATA_PACKAGES="
dataset-fashion-mnist   60,000 training and 10,000 test images, 30 MB
"

say() { printf '\n== %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

is_installed() {
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# install_packages LIST: a package and its reason a line, as above.  Says what it will do before it
# does it; touches nothing when all are there.
install_packages() {
    local package reason missing=() as_root=()
    command -v dpkg-query >/dev/null ||
        die "this installs Debian packages, and there is no dpkg here; build by hand as docs/HACKING.md says"
    while read -r package reason; do
        [ -z "$package" ] || is_installed "$package" || {
            [ ${#missing[@]} -gt 0 ] || say "Debian packages to install (with what they depend on):"
            printf '   %-22s %s\n' "$package" "$reason"
            missing+=("$package")
        }
    done <<<"$1"
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            die "that needs root, and there is no sudo: run as root: apt-get install ${missing[*]}"
        as_root=(sudo)
        echo "   (as root, through sudo)"
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq -o Acquire::Retries=3 </dev/null
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes -qq --no-install-recommends -o Acquire::Retries=3 "${missing[@]}" </dev/null >/dev/null
}

# build: an optimized build in build/.
build() {
    say "Building in build/"
    command -v ninja >/dev/null && export CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"
    cmake --preset release --log-level=NOTICE
    cmake --build build --parallel "$(nproc)"
}

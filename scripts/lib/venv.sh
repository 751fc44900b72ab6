# shellcheck shell=bash
# venv NAME PACKAGE...: a Python environment in .venv/NAME with exactly these packages (give versions:
# torch==2.4.0), made once; its interpreter is left in $PYTHON.
# shellcheck source=scripts/lib/setup.sh
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

venv() {
    local folder=.venv/$1
    shift
    install_packages "python3-venv   an environment for Python packages that Debian has not"
    if [ "$(cat "$folder/packages" 2>/dev/null)" != "$*" ]; then
        say "Python packages to install in $folder: $*"
        rm -rf "$folder"
        python3 -m venv "$folder"
        "$folder/bin/pip" install --quiet --disable-pip-version-check "$@"
        echo "$*" >"$folder/packages"
    fi
    export PYTHON=$PWD/$folder/bin/python
}

#!/bin/sh
# tests/install.sh FOLDER: install the build in FOLDER below a temporary prefix, and use it as a
# stranger would: by pkg-config, by find_package, and the program by its own path.
set -eu
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
cmake --install "$1" --prefix "$prefix" >/dev/null
cat >"$prefix/a.c" <<'CODE'
#include <mezzo/base.h>
#include <stdio.h>
int main(void) {
    return puts(mezzo_version()) < 0;
}
CODE
cat >"$prefix/CMakeLists.txt" <<'CODE'
cmake_minimum_required(VERSION 3.25)
project(stranger C)
find_package(mezzo 0.1 REQUIRED)
add_executable(a a.c)
target_link_libraries(a PRIVATE mezzo::models)
CODE
library=$(dirname "$(find "$prefix" -name libmezzo.so)")
pc=$(find "$prefix" -name mezzo.pc)

# mezzo.pc names the prefix that the build was configured for.
flags=$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --define-variable=prefix="$prefix" --cflags --libs mezzo)
# shellcheck disable=SC2086 # a list of flags
cc "$prefix/a.c" -o "$prefix/a" $flags -Wl,-rpath,"$library"
version=$("$prefix/a")
[ "$version" = "$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --modversion mezzo)" ]

cmake -S "$prefix" -B "$prefix/b" -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$prefix/b" >/dev/null
[ "$("$prefix/b/a")" = "$version" ]
"$prefix/bin/mezzo" --version | grep -qF "$version"

#!/bin/sh
# tests/cover.sh FOLDER: run the tests in a build that counts lines and branches, and print the table.
set -eu
folder=$1
cd "$(dirname "$0")/.."
cmake --preset cover -B "$folder" --log-level=NOTICE
cmake --build "$folder" --parallel "$(nproc)"
ctest --test-dir "$folder" --output-on-failure --label-exclude 'lint|sanitize'
gcovr --root . --object-directory "$folder" --filter src/ --filter models/ --filter cli/ --branches

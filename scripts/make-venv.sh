#!/usr/bin/env bash
# Makes .venv (or brings it up to date) with exactly what requirements-dev.txt locks, and uproxy itself as it
# stands in this folder. Every archive is checked against its hash.
set -euo pipefail
cd "$(dirname "$0")/.."

pip=(.venv/bin/python -m pip --quiet --disable-pip-version-check)
if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    rm -rf .venv
    "$(scripts/find-python.sh)" -m venv .venv
fi
"${pip[@]}" install --require-hashes --requirement requirements-dev.txt
# Its only warning: that an editable installation sees the working folder, which is what it is for.
PYTHONWARNINGS=ignore "${pip[@]}" install --no-deps --no-build-isolation --editable .

#!/usr/bin/env bash
# Prints the path of a Python 3.11 or later that can make virtual environments. A name in PATH is not enough: a
# version manager's shim exists for versions that are not switched on, and Debian ships venv as a package of its own.
set -euo pipefail

usable() { "$1" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# The distribution's first: it is what the image holds, and built with profile guided optimization, which version managers
# leave out by default: without it the interpreter takes 1.6 times as long for what a relayed event costs in Python.
for name in ${PYTHON:-/usr/bin/python3 python3 python3.13 python3.12 python3.11}; do
    for path in $(type -ap "$name"); do
        if usable "$path"; then
            "$path" -c 'import sys; print(sys.executable)'
            exit
        fi
    done
done
echo "no Python 3.11 or later with the modules venv and ensurepip (Debian 12: apt-get install python3-venv)" >&2
exit 1

#!/usr/bin/env bash
# Writes requirements.txt and requirements-dev.txt from pyproject.toml, and requirements-fuzz.txt: exact versions, with the hashes of all
# their wheels, so that the same files serve x86_64 and aarch64. Run it with the lowest Python that is supported:
# what later ones need is a subset. Versions already locked stay; `make lock UPGRADE=1` takes the newest.
set -euo pipefail
cd "$(dirname "$0")/.."

compile=(.venv/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate
         --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options
         --resolver=backtracking ${UPGRADE:+--upgrade})
export CUSTOM_COMPILE_COMMAND="make lock"
unset PIP_FIND_LINKS # local wheels have no place in a lock

"${compile[@]}" --output-file requirements.txt pyproject.toml
"${compile[@]}" --extra dev --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml
echo "atheris>=3" | "${compile[@]}" --output-file requirements-fuzz.txt - # for `make fuzz`: not every Python has it

#!/usr/bin/env bash
# Makes bench/venv with the pinned numpy; does nothing where it is there already.
set -euo pipefail
cd "$(dirname "$0")"
[ -x venv/bin/python ] || python3 -m venv venv
venv/bin/pip install --quiet --requirement requirements.txt
venv/bin/python -c 'import numpy; print("numpy", numpy.__version__)'

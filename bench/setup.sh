#!/usr/bin/env bash
# Makes bench/venv with the pinned numpy; with --peers also the other contenders and what draws the plots.
# Does nothing where all is there already.
set -euo pipefail
cd "$(dirname "$0")"

case "${1-}" in
"") requirements=requirements.txt ;;
--peers) requirements=requirements-peers.txt ;;
*) echo "usage: bench/setup.sh [--peers]" >&2 && exit 2 ;;
esac

[ -x venv/bin/python ] || python3 -m venv venv
venv/bin/pip install --quiet --requirement "$requirements"
names=$(grep -ohE '^[a-z0-9]+' requirements.txt "$requirements" | paste -sd '|')
venv/bin/pip list --format freeze | grep -E "^($names)=="
[ "${1-}" = --peers ] || exit 0

# ScaLAPACK comes from Debian's packages, and OpenBLAS with it: the reference BLAS they would take is no contender.
scalapack=(libscalapack-openmpi-dev openmpi-bin libopenblas0-pthread)
if ! dpkg --status "${scalapack[@]}" >/dev/null 2>&1; then
    if ! command -v apt-get >/dev/null; then
        echo "skipped: ScaLAPACK (its packages are Debian's: ${scalapack[*]})" && exit 0
    elif [ "$(id -u)" != 0 ]; then
        echo "skipped: ScaLAPACK (as root: apt-get install ${scalapack[*]})" && exit 0
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${scalapack[@]}" >/dev/null
fi
mkdir -p peers/build
cc -O2 -Wall -o peers/build/pdgemm peers/pdgemm.c -lscalapack-openmpi
dpkg-query --show "${scalapack[@]}"

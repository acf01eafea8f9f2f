#!/usr/bin/env bash
# Makes the virtual environment and installs what is pinned; does nothing when that is already done.
#
#   ./setup.sh          what runs Inferlane
#   ./setup.sh --dev    and what tests and checks it
#
# PYTHON  the interpreter to build with, of Python 3.11 to 3.14 (default: the oldest of these that is here)
# VENV    where the environment goes (default: .venv)
# PIP_EXTRA_INDEX_URL and pip's other variables apply as ever; a CPU-only torch comes from an index that has one.
set -euo pipefail
cd "$(dirname "$0")"

VENV=${VENV:-.venv}
case ${1-} in
"") wanted=requirements.txt lock=locks/all.txt ;;
--dev) wanted=requirements-dev.txt lock=locks/dev.txt ;;
*) echo "usage: ./setup.sh [--dev]" >&2 && exit 2 ;;
esac

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; }

find_python() {
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
    if fits "$candidate"; then echo "$candidate" && return; fi
  done
  echo "setup.sh: Inferlane needs Python 3.11, 3.12, 3.13 or 3.14; install one, or name it: PYTHON=/path/to/python3 ./setup.sh" >&2
  return 1
}

# The stamp holds what was installed: another hash of the same files means there is something to do.
fingerprint() { cat constraints.txt requirements*.txt locks/*.txt | sha256sum | cut -d' ' -f1; }

installed() { [ -f "$VENV/.$1.stamp" ] && [ "$(cat "$VENV/.$1.stamp")" = "$(fingerprint)" ]; }

if ! fits "$VENV/bin/python"; then
  python=$(find_python)
  echo "Creating $VENV with $($python --version)"
  "$python" -m venv --clear "$VENV"
fi
if ! installed "$wanted"; then
  echo "Installing $wanted (a few minutes the first time)"
  # First what is locked, file by file; then torch and its kin, whose files differ by platform and index: by version.
  pip_install() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
  pip_install --require-hashes --no-deps -r "$lock"
  pip_install -r "$wanted"
  fingerprint >"$VENV/.$wanted.stamp"
fi

#!/usr/bin/env bash
# Creates the virtual environment and installs a dependency group of pyproject.toml; does nothing if it is up to date.
#
#   scripts/setup.sh          what runs Inferlane on one host
#   scripts/setup.sh GROUP    another group: api, worker, fast, torch, otel, s3, or dev, which has all of them
#
# PYTHON  the interpreter, Python 3.11 to 3.14 (default: the oldest installed)
# VENV    the virtual environment (default: .venv)
# pip's configuration applies: PIP_EXTRA_INDEX_URL may name an index of CPU-only builds of torch.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
group=${1:-host}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; }

find_python() {
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
    if fits "$candidate"; then echo "$candidate" && return; fi
  done
  echo "setup.sh: Inferlane needs Python 3.11, 3.12, 3.13 or 3.14; install one, or name it: PYTHON=/path/to/python3 make setup" >&2
  return 1
}

locked=$(awk -v group="$group" '/^# groups:/ { on = index($0 " ", " " group " ") } on' scripts/requirements.lock)
[ -n "$locked" ] || { echo "setup.sh: pyproject.toml has no dependency group $group" >&2 && exit 2; }

if ! fits "$VENV/bin/python"; then
  python=$(find_python)
  echo "Creating $VENV with $($python --version)"
  "$python" -m venv --clear "$VENV"
fi
# The part of the lock that was installed last.
installed=$VENV/.$group.lock
if [ "$locked" != "$(cat "$installed" 2>/dev/null)" ]; then
  total=$(printf '%s\n' "$locked" | grep -c '^[a-z0-9]')
  echo "Installing the group $group: $total packages"
  printf '%s\n' "$locked" >"$installed.new"
  # One line that moves, on a terminal. Modules are compiled when they are first imported: half the time.
  show() { if [ -t 1 ]; then awk -v total="$total" '
    /^(Collecting|Processing|Ignoring)/ { sub(/.*\//, "", $2); printf "\r\033[K%3d of %d  %s", ++n, total, $2; fflush() }
    /^Installing/ { printf "\r\033[Kinstalling"; fflush() }
    END { printf "\r\033[K" }'; else cat >/dev/null; fi; }
  pip_install() {
    "$VENV/bin/python" -m pip install --no-compile --progress-bar off --disable-pip-version-check "$@" \
      2> >(awk '!/^WARNING: / || /Retrying/ { print; fflush() }' >&2) | show
  }
  pip_install --require-hashes --no-deps -r "$installed.new"
  # torch and torchvision, whose files differ by platform and index.
  by_version=$(sed -n 's/^# by version: //p' "$installed.new")
  if [ -n "$by_version" ]; then pip_install $by_version; fi
  mv "$installed.new" "$installed"
fi
# The command line of this checkout, for any shell.
if grep -q '^httpx==' <<<"$locked"; then
  command="PYTHONPATH=$(printf %q "$PWD")\${PYTHONPATH:+:\$PYTHONPATH} exec $(printf %q "$(cd "$VENV/bin" && pwd)/python") -P -m inferlane"
  command="#!/usr/bin/env bash
$command \"\$@\""
  if [ "$command" != "$(cat "$VENV/bin/inferlane" 2>/dev/null)" ]; then
    printf '%s\n' "$command" >"$VENV/bin/inferlane"
    chmod +x "$VENV/bin/inferlane"
  fi
fi

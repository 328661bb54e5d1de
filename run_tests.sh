#!/usr/bin/env bash
# Run the tests:  bash run_tests.sh [pytest arguments]
# Makes .venv and installs requirements-dev.txt into it if the active Python lacks any of it. Nothing is downloaded beyond that.
set -euo pipefail
unset CDPATH
ROOT=$(cd "$(dirname "$0")" && pwd)
cd "$ROOT"
. scripts/environment.sh
ensure_python "$ROOT/requirements-dev.txt"
exec "$PYTHON" -m pytest "$@"

#!/usr/bin/env bash
# Run the tests:  bash run_tests.sh [pytest arguments]
# Makes .venv and installs requirements-dev.txt into it if the active Python lacks any of it. Nothing is downloaded beyond that.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/environment.sh
ensure_python requirements-dev.txt
exec "$PYTHON" -m pytest "$@"

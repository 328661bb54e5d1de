#!/usr/bin/env bash
# Run the tests, one process for each core up to four:  bash run_tests.sh [pytest arguments]
# If this Python lacks packages, .venv is made, and pytest called in it. Nothing is downloaded beyond that.
unset CDPATH
. "$(dirname "$0")/scripts/python.sh" || exit
cd "$ROOT" || exit
exec "$PYTHON" scripts/install.py --run dev -m pytest -n logical --maxprocesses 4 --dist worksteal "$@"

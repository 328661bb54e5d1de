#!/usr/bin/env bash
# All steps from photos to submission.csv:  bash run_all.sh --help
# If this Python lacks packages, .venv is made, and run_all.py called in it.
unset CDPATH
. "$(dirname "$0")/scripts/python.sh" || exit
exec "$PYTHON" "$ROOT/scripts/install.py" --run train "$ROOT/run_all.py" "$@"

#!/usr/bin/env bash
# Everything that only a GPU can show, in nine minutes:  bash scripts/gpu_check.sh --help
# If this Python lacks packages, .venv is made, and dev.gpu_check called in it.
unset CDPATH
. "$(dirname "$0")/python.sh" || exit
cd "$ROOT" || exit
exec "$PYTHON" scripts/install.py --run dev -m dev.gpu_check "$@"

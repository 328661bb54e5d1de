#!/usr/bin/env bash
# All steps from photos to submission.csv:  bash run_all.sh --help
# Makes the environment, if the active Python lacks packages of requirements.txt, and calls run_all.py in it.
set -uo pipefail
unset CDPATH
ROOT=$(cd "$(dirname "$0")" && pwd) || exit
. "$ROOT/scripts/environment.sh"
case " $* " in
*" -h "* | *" --help "*) find_python ;;
*) ensure_python "$ROOT/requirements.txt" ;;
esac || exit
exec "$PYTHON" "$ROOT/run_all.py" "$@"

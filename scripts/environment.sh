# Sourced by run_all.sh and run_tests.sh: sets PYTHON to an interpreter that has the packages of a requirements file.
# Takes the active Python if it has them all, else makes .venv beside this project and installs into it.
# TORCH_INDEX_URL, if set, is asked for torch and torchvision as well (see README.md, "A small torch for CPUs").

ensure_python() {
    local requirements=$1
    PYTHON=${PYTHON:-$(command -v python3 || command -v python || true)}
    [ -n "$PYTHON" ] || { echo "error: no python3 on the PATH; install Python 3.11 or newer" >&2; return 2; }
    if "$PYTHON" scripts/check_environment.py "$requirements" >/dev/null 2>&1; then
        return 0
    fi
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "error: $PYTHON is $("$PYTHON" -V 2>&1); needed is Python 3.11 or newer (set PYTHON=...)" >&2
        return 2
    }
    if [ ! -x .venv/bin/python ]; then
        echo "making .venv"
        "$PYTHON" -m venv .venv || return
    fi
    PYTHON=$PWD/.venv/bin/python
    if ! "$PYTHON" scripts/check_environment.py "$requirements" >/dev/null 2>&1; then
        echo "installing $requirements into .venv (torch alone is large: this takes minutes)"
        "$PYTHON" -m pip install --quiet --disable-pip-version-check -r "$requirements" \
            ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} || return
        "$PYTHON" -c 'import torch, torchvision' || return
    fi
}

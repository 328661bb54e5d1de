# Sourced by run_all.sh and run_tests.sh, which set ROOT to the folder of the project.
# `ensure_python FILE` sets PYTHON to an interpreter that has the packages of a requirements file: the active one if it has
# them all, else that of .venv in the project, which is made if need be and installed into.
# TORCH_INDEX_URL, if set, is asked for torch and torchvision as well (see README.md, "Smaller torch for CPUs").

find_python() {
    PYTHON=${PYTHON:-$(command -v python3 || command -v python || true)}
    [ -n "$PYTHON" ] || { echo "error: no python3 on the PATH; install Python 3.11 or newer" >&2; return 2; }
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "error: $PYTHON is $("$PYTHON" -V 2>&1); needed is Python 3.11 or newer (set PYTHON=...)" >&2
        return 2
    }
}

has_packages() { "$PYTHON" "$ROOT/scripts/check_environment.py" "$1" >/dev/null 2>&1; }

ensure_python() {
    local requirements=$1
    find_python || return
    has_packages "$requirements" && return
    if [ ! -x "$ROOT/.venv/bin/python" ]; then
        echo "making $ROOT/.venv"
        "$PYTHON" -m venv "$ROOT/.venv" || return
    fi
    PYTHON=$ROOT/.venv/bin/python
    has_packages "$requirements" && return
    local size="about 6 GB with the torch for NVIDIA GPUs, under 2 GB with the one for CPUs (TORCH_INDEX_URL, see README.md)"
    [ "$(uname -s)" = Linux ] || size="under 2 GB"
    echo "installing $(basename "$requirements") into .venv: $size"
    install_into_venv "$requirements" || return
    "$PYTHON" -c 'import torch, torchvision'
}

install_into_venv() {
    # An environment that uv made has no pip.
    if "$PYTHON" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m ensurepip --default-pip >/dev/null 2>&1; then
        "$PYTHON" -m pip install --disable-pip-version-check -r "$1" \
            ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"}
    else
        uv pip install --python "$PYTHON" -r "$1" \
            ${TORCH_INDEX_URL:+--index "$TORCH_INDEX_URL" --index-strategy unsafe-best-match}
    fi
}

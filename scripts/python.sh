# Sourced by the shell scripts: sets ROOT to the folder of the project and PYTHON to the Python to start from.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || return
PYTHON=${PYTHON:-$(command -v python3 || command -v python)} || {
    echo "error: no python3 on the PATH; install Python 3.11 or newer" >&2
    return 2
}

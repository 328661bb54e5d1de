"""Say which packages of a requirements file this Python lacks; exit code 1 if it lacks any.

python scripts/check_environment.py requirements.txt

Uses the standard library and `packaging`, or pip's own copy of it, since nothing may be installed yet.
"""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    from packaging.requirements import Requirement
except ModuleNotFoundError:
    # An environment that uv made has no pip either: it lacks everything, and the exit code is 1.
    from pip._vendor.packaging.requirements import Requirement


def main() -> None:
    lacking = [problem for requirement in read_requirements(Path(sys.argv[1])) for problem in problems(requirement)]
    for problem in lacking:
        print(problem)
    sys.exit(1 if lacking else 0)


def read_requirements(path: Path) -> list[Requirement]:
    """The requirements of a file and of the files it includes with -r."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.split("#")[0].strip()
        if text.startswith("-r "):
            found += read_requirements(path.parent / text[3:].strip())
        elif text:
            found.append(Requirement(text))
    return found


def problems(requirement: Requirement) -> list[str]:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return [f"{requirement.name} is not installed"]
    fits = requirement.specifier.contains(installed, prereleases=True)
    return [] if fits else [f"{requirement.name} {installed} is installed, needed is {requirement.specifier}"]


if __name__ == "__main__":
    main()

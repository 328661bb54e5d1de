"""What the documents tell people to type exists: commands, flags, environment variables, linked files."""

import ast
import importlib
import re
import shlex
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = ("check_data", "preprocessing", "reporting", "serving", "synthesis", "tools", "dev")
SOURCES = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
COMMANDS = sorted(path for path in SOURCES if "run_cli(main)" in path.read_text(encoding="utf-8"))
SHELL_SCRIPTS = [*ROOT.glob("*.sh"), *(ROOT / "scripts").glob("*.sh")]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
OTHERS_FLAGS = {"--extra-index-url", "--index-url", "--target", "--torch-backend", "--upgrade"}
"""Flags of pip, uv, docker and scripts.lock, which a sentence may name."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def code_lines(text: str) -> list[str]:
    """Lines of fenced blocks, continued lines joined, comments cut off."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.split(" #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def inline_code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def docstring_lines(path: Path) -> list[str]:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return [line.strip() for line in text.splitlines() if line.startswith("    ")]


def typed_commands(lines: list[str]) -> list[str]:
    return [line for line in lines if re.match(r"(\w+=\S+ +)*(python|bash) ", line)]


def shown_lines(path: Path) -> list[str]:
    """All code that a document, or a command's docstring, shows."""
    if path.suffix == ".py":
        return docstring_lines(path)
    text = path.read_text(encoding="utf-8")
    return [*code_lines(text), *inline_code(text)]


CASES = {(name_of(path), line) for path in (*DOCUMENTS, *COMMANDS) for line in typed_commands(shown_lines(path))}


@cache
def help_of(path: Path) -> str:
    """What --help prints."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit) as caught:
        patched.setattr("argparse.ArgumentParser._print_message", lambda self, text, file=None: printed.append(text))
        module.main(["--help"])
    assert caught.value.code == 0
    return "".join(printed)


def flags_of(path: Path) -> set[str]:
    """Flags that --help lists, `--no-` forms included."""
    listed = [line for line in help_of(path).splitlines() if line.lstrip().startswith("-")]
    return {flag for line in listed for flag in FLAG.findall(line)}


def is_read(variable: str) -> bool:
    """Whether run_all.py, core/environment.py or a shell script reads the variable of the environment."""
    shell = "".join(script.read_text(encoding="utf-8") for script in SHELL_SCRIPTS)
    python = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("run_all.py", "core/environment.py"))
    return bool(f'"{variable}"' in python or re.search(rf"\$\{{?{variable}\b", shell))


def target_of(line: str) -> Path:
    """The file that a typed command runs."""
    words = shlex.split(re.split(r"\b(?:python|bash) ", line, maxsplit=1)[1].replace("<", "").replace(">", ""))
    if words[0] != "-m":
        return ROOT / words[0]
    module = ROOT / words[1].replace(".", "/")
    return module / "__main__.py" if module.is_dir() else module.with_suffix(".py")


@pytest.mark.parametrize(("document", "line"), sorted(CASES))
def test_a_command_to_type_exists_with_its_flags_and_variables(document: str, line: str) -> None:
    target = target_of(line)
    assert target.is_file(), f"{document}: {line}"
    for variable in re.findall(r"(?:^| )([A-Z_]+)=", line.split("bash ")[0].split("python ")[0]):
        assert is_read(variable), f"{document}: {variable}"
    is_run_all = target.name in ("run_all.sh", "run_all.py")
    runs = ROOT / "run_all.py" if is_run_all else target
    if runs in COMMANDS:
        known = flags_of(runs) | (flags_of(ROOT / "train.py") if is_run_all else set())
        unknown = set(FLAG.findall(line.split("  ")[0])) - known - {"--help"}
        assert not unknown, f"{document}: {line}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_flags_named_in_the_text_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = {flag for code in inline_code(text) if code.startswith("--") for flag in FLAG.findall(code)}
    known = set().union(*(flags_of(command) for command in COMMANDS)) | OTHERS_FLAGS | {"--help"}
    assert not named - known


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_variables_in_tables_exist(path: Path) -> None:
    for variable in re.findall(r"^\| `([A-Z][A-Z_]+)` \|", path.read_text(encoding="utf-8"), re.MULTILINE):
        assert is_read(variable), variable


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_linked_files_exist(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


def test_both_readmes_show_the_same_commands() -> None:
    shown = [typed_commands(code_lines(path.read_text(encoding="utf-8"))) for path in sorted(ROOT.glob("README*.md"))]
    assert len(shown) == 2
    assert sorted(shown[0]) == sorted(shown[1])


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_help_opens_with_a_command_to_paste(path: Path) -> None:
    module = name_of(path).removesuffix(".py").removesuffix("/__main__").replace("/", ".")
    opening = [line.strip() for line in help_of(path).splitlines()[:6]]
    assert any(line.startswith((f"python {name_of(path)}", f"python -m {module}")) for line in opening), opening


def test_the_commands_of_the_contract_are_there() -> None:
    contract = {
        *("preprocessing/detect_faces.py", "preprocessing/crop_faces.py"),
        *("train.py", "inference.py", "ensemble.py", "submission.py"),
    }
    assert contract <= {name_of(path) for path in COMMANDS}

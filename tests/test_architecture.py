"""The arrows between modules and the measures of the code, read from its syntax trees."""

import ast
import statistics
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("core",),
    ("backbones", "storage"),
    ("dataset", "model", "loss"),
    ("evaluation",),
    ("training",),
    ("preprocessing",),
    ("synthesis",),
    ("check_data", "serving"),
    ("reporting",),
    ("train", "inference", "ensemble", "submission", "predict", "run_all", "tools"),
    ("dev",),
)
"""The rooms from the ground up. A file imports from its own room and from lower floors, never from beside or above."""
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PACKAGES = tuple(room for room in FLOOR_OF if (ROOT / room).is_dir())
SOURCES = sorted([*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))])
TESTS = sorted((ROOT / "tests").glob("*.py"))
ROOT_MODULES = {path.stem for path in ROOT.glob("*.py")}
PURE = ("dataset", "model", "loss")
LONGEST_FUNCTION, LONGEST_FILE, MEDIAN_FUNCTION, MOST_POSITIONAL, DEEPEST = 60, 300, 15, 5, 3

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")


def room_of(name: str) -> str:
    return name.split(".")[0]


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


def imports_of(path: Path) -> set[str]:
    """Dotted names of what a file imports anywhere in it; of `from a import b` both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def functions_of(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(parsed(path)) if isinstance(node, Function))


def length_of(function: Function) -> int:
    return function.end_lineno - function.lineno + 1


def is_entry_point(path: Path) -> bool:
    calls = (node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == "run_cli" for call in calls)


ENTRY_POINTS = [path for path in SOURCES if is_entry_point(path)]
each_source = pytest.mark.parametrize("path", SOURCES, ids=name_of)
each_file = pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name_of)


def test_the_entry_points_are_found() -> None:
    assert {"train", "inference", "ensemble", "submission", "preprocessing.detect_faces"} <= set(
        map(name_of, ENTRY_POINTS)
    )


def test_every_file_has_a_floor() -> None:
    assert {room_of(name_of(path)) for path in SOURCES} == set(FLOOR_OF)


@each_source
def test_no_import_runs_up_a_floor(path: Path) -> None:
    own = room_of(name_of(path))
    rooms = {room_of(name) for name in imports_of(path)} & set(FLOOR_OF) - {own}
    assert not {room for room in rooms if FLOOR_OF[room] >= FLOOR_OF[own]}


def test_no_circle_of_files() -> None:
    names = {name_of(path) for path in SOURCES}
    graph = {name_of(path): imports_of(path) & names - {name_of(path)} for path in SOURCES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", PURE)
def test_pure_parts_never_see_the_settings(module: str) -> None:
    forbidden = {"training.config", "storage.layouts", "storage.crops", "storage.run_dir", "core.tasks", "argparse"}
    assert not imports_of(ROOT / f"{module}.py") & (forbidden | ROOT_MODULES)


@each_source
def test_nothing_imports_an_entry_point(path: Path) -> None:
    commands = {name_of(command) for command in ENTRY_POINTS} - {name_of(path)}
    assert not imports_of(path) & commands


@pytest.mark.parametrize("path", ENTRY_POINTS, ids=name_of)
def test_an_entry_point_opens_with_a_command_to_paste(path: Path) -> None:
    commands = f"python {path.relative_to(ROOT).as_posix()}", f"python -m {name_of(path).removesuffix('.__main__')}"
    assert any(command in ast.get_docstring(parsed(path)) for command in commands)


@each_file
def test_a_file_opens_with_its_purpose_and_is_short(path: Path) -> None:
    assert ast.get_docstring(parsed(path))
    assert len(path.read_text(encoding="utf-8").splitlines()) <= (LONGEST_FILE if path in SOURCES else 2 * LONGEST_FILE)


@each_file
def test_functions_are_short(path: Path) -> None:
    assert {node.name: length_of(node) for node in functions_of(path) if length_of(node) > LONGEST_FUNCTION} == {}


def test_the_median_function_is_short() -> None:
    assert statistics.median(length_of(node) for path in SOURCES for node in functions_of(path)) <= MEDIAN_FUNCTION


def unhinted(function: Function) -> list[str]:
    """Arguments of a function that have no type, and "return" if the result has none."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    names = [argument.arg for argument in arguments if argument.annotation is None]
    return [name for name in names if name not in ("self", "cls")] + ["return"] * (function.returns is None)


@each_file
def test_every_signature_has_type_hints(path: Path) -> None:
    assert {node.name: unhinted(node) for node in functions_of(path) if unhinted(node)} == {}


def positional_arguments(function: Function) -> list[str]:
    return [argument.arg for argument in function.args.args if argument.arg not in ("self", "cls")]


@each_source
def test_many_arguments_go_by_name(path: Path) -> None:
    lengths = {node.name: len(positional_arguments(node)) for node in functions_of(path)}
    assert {name: length for name, length in lengths.items() if length > MOST_POSITIONAL} == {}


def depth_of(node: ast.AST, depth: int = 0) -> int:
    """How many loops, branches and trys lie in one another; `elif` adds none."""
    nests = isinstance(node, ast.For | ast.While | ast.If | ast.Try)
    deepest = depth + nests
    for child in ast.iter_child_nodes(node):
        chained = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        deepest = max(deepest, depth_of(child, depth if chained else depth + nests))
    return deepest


@each_source
def test_code_is_not_nested_deeply(path: Path) -> None:
    assert {node.name: depth_of(node) for node in functions_of(path) if depth_of(node) > DEEPEST} == {}


@each_file
def test_no_error_is_swallowed(path: Path) -> None:
    """No bare except, none of everything, and no handler that does nothing."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}"
            caught = ast.unparse(node.type)
            assert caught not in ("Exception", "BaseException"), f"line {node.lineno}"
            assert not all(isinstance(statement, ast.Pass) for statement in node.body), f"line {node.lineno}"


@each_source
def test_nothing_is_pickled(path: Path) -> None:
    assert not imports_of(path) & {"pickle", "cPickle", "dill", "joblib", "shelve"}
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in ("torch.save", "np.save", "pd.read_pickle"), f"line {node.lineno}"
        if called == "torch.load":
            assert "weights_only=True" in ast.unparse(node), f"line {node.lineno}"


@each_source
def test_no_path_of_one_machine_and_no_device_by_decree(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not node.value.startswith(("/opt/", "/home/", "/mnt/", "/data/", "C:\\")), node.value
        assert not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".cuda")), f"line {node.lineno}"


def test_no_module_is_named_for_nothing() -> None:
    assert not {"utils", "util", "helpers", "common", "misc"} & {path.stem for path in SOURCES}


def test_no_module_hides_one_of_the_standard_library() -> None:
    assert not ROOT_MODULES & sys.stdlib_module_names

"""The arrows between modules and the measures of the code, read from its syntax trees."""

import ast
import statistics
import sys
from collections.abc import Callable, Iterable
from functools import cache
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


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), path.name)


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(parsed(path)))


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Dotted names of what a file imports anywhere in it; of `from a import b` both a and a.b."""
    found: set[str] = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def functions_of(path: Path) -> list[Function]:
    return [node for node in nodes_of(path) if isinstance(node, Function)]


def length_of(function: Function) -> int:
    return function.end_lineno - function.lineno + 1


def is_entry_point(path: Path) -> bool:
    calls = (node for node in nodes_of(path) if isinstance(node, ast.Call))
    return any(isinstance(call.func, ast.Name) and call.func.id == "run_cli" for call in calls)


ENTRY_POINTS = [path for path in SOURCES if is_entry_point(path)]
EVERY_FILE = [*SOURCES, *TESTS]


def faults(paths: Iterable[Path], find: Callable[[Path], object]) -> dict[str, object]:
    """What `find` finds wrong with each file, by the names of those where it finds anything."""
    return {name_of(path): found for path in paths if (found := find(path))}


def test_the_entry_points_are_found() -> None:
    assert {"train", "inference", "ensemble", "submission", "preprocessing.detect_faces"} <= set(
        map(name_of, ENTRY_POINTS)
    )


def test_every_file_has_a_floor() -> None:
    assert {room_of(name_of(path)) for path in SOURCES} == set(FLOOR_OF)


def test_no_import_runs_up_a_floor() -> None:
    def rooms_above(path: Path) -> set[str]:
        own = room_of(name_of(path))
        rooms = {room_of(name) for name in imports_of(path)} & set(FLOOR_OF) - {own}
        return {room for room in rooms if FLOOR_OF[room] >= FLOOR_OF[own]}

    assert faults(SOURCES, rooms_above) == {}


def test_no_circle_of_files() -> None:
    names = {name_of(path) for path in SOURCES}
    graph = {name_of(path): imports_of(path) & names - {name_of(path)} for path in SOURCES}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", PURE)
def test_pure_parts_never_see_the_settings(module: str) -> None:
    forbidden = {"training.config", "storage.layouts", "storage.crops", "storage.run_dir", "core.tasks", "argparse"}
    assert not imports_of(ROOT / f"{module}.py") & (forbidden | ROOT_MODULES)


def test_nothing_imports_an_entry_point() -> None:
    commands = set(map(name_of, ENTRY_POINTS))
    assert faults(SOURCES, lambda path: imports_of(path) & (commands - {name_of(path)})) == {}


def test_an_entry_point_opens_with_a_command_to_paste() -> None:
    def lacks_command(path: Path) -> bool:
        file, module = path.relative_to(ROOT).as_posix(), name_of(path).removesuffix(".__main__")
        text = ast.get_docstring(parsed(path)) or ""
        return f"python {file}" not in text and f"python -m {module}" not in text

    assert faults(ENTRY_POINTS, lacks_command) == {}


def test_a_file_opens_with_its_purpose() -> None:
    assert faults(EVERY_FILE, lambda path: not ast.get_docstring(parsed(path))) == {}


def test_files_are_short() -> None:
    def lines_too_many(path: Path) -> int:
        longest = LONGEST_FILE if path in SOURCES else 2 * LONGEST_FILE
        return max(0, len(path.read_text(encoding="utf-8").splitlines()) - longest)

    assert faults(EVERY_FILE, lines_too_many) == {}


def test_functions_are_short() -> None:
    def long_ones(path: Path) -> dict[str, int]:
        return {node.name: length_of(node) for node in functions_of(path) if length_of(node) > LONGEST_FUNCTION}

    assert faults(EVERY_FILE, long_ones) == {}


def test_the_median_function_is_short() -> None:
    assert statistics.median(length_of(node) for path in SOURCES for node in functions_of(path)) <= MEDIAN_FUNCTION


def unhinted(function: Function) -> list[str]:
    """Arguments of a function that have no type, and "return" if the result has none."""
    given = function.args
    arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    names = [argument.arg for argument in arguments if argument.annotation is None]
    return [name for name in names if name not in ("self", "cls")] + ["return"] * (function.returns is None)


def test_every_signature_has_type_hints() -> None:
    def lacking(path: Path) -> dict[str, list[str]]:
        return {node.name: unhinted(node) for node in functions_of(path) if unhinted(node)}

    assert faults(EVERY_FILE, lacking) == {}


def positional_arguments(function: Function) -> list[str]:
    return [argument.arg for argument in function.args.args if argument.arg not in ("self", "cls")]


def test_many_arguments_go_by_name() -> None:
    def too_many(path: Path) -> dict[str, int]:
        lengths = {node.name: len(positional_arguments(node)) for node in functions_of(path)}
        return {name: length for name, length in lengths.items() if length > MOST_POSITIONAL}

    assert faults(SOURCES, too_many) == {}


def depth_of(node: ast.AST, depth: int = 0) -> int:
    """How many loops, branches and trys lie in one another; `elif` adds none."""
    nests = isinstance(node, ast.For | ast.While | ast.If | ast.Try)
    deepest = depth + nests
    for child in ast.iter_child_nodes(node):
        chained = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        deepest = max(deepest, depth_of(child, depth if chained else depth + nests))
    return deepest


def test_code_is_not_nested_deeply() -> None:
    def deep_ones(path: Path) -> dict[str, int]:
        return {node.name: depth_of(node) for node in functions_of(path) if depth_of(node) > DEEPEST}

    assert faults(SOURCES, deep_ones) == {}


def test_no_error_is_swallowed() -> None:
    """No bare except, none of everything, and no handler that does nothing."""

    def swallows(node: ast.AST) -> bool:
        if not isinstance(node, ast.ExceptHandler):
            return False
        broad = node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")
        return broad or all(isinstance(statement, ast.Pass) for statement in node.body)

    assert faults(EVERY_FILE, lambda path: [node.lineno for node in nodes_of(path) if swallows(node)]) == {}


def test_nothing_is_pickled() -> None:
    def is_pickling(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call):
            return False
        called = ast.unparse(node.func)
        unsafe = called == "torch.load" and "weights_only=True" not in ast.unparse(node)
        return unsafe or called in ("torch.save", "np.save", "pd.read_pickle")

    modules = {"pickle", "cPickle", "dill", "joblib", "shelve"}
    assert faults(SOURCES, lambda path: imports_of(path) & modules) == {}
    assert faults(SOURCES, lambda path: [node.lineno for node in nodes_of(path) if is_pickling(node)]) == {}


def test_no_path_of_one_machine_and_no_device_by_decree() -> None:
    def is_fixed(node: ast.AST) -> bool:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value.startswith(("/opt/", "/home/", "/mnt/", "/data/", "C:\\"))
        return isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".cuda")

    assert faults(SOURCES, lambda path: [node.lineno for node in nodes_of(path) if is_fixed(node)]) == {}


def test_no_module_is_named_for_nothing() -> None:
    assert not {"utils", "util", "helpers", "common", "misc"} & {path.stem for path in SOURCES}


def test_no_module_hides_one_of_the_standard_library() -> None:
    assert not ROOT_MODULES & sys.stdlib_module_names

"""SIGKILL at random moments of every step, then the same commands again: the results are those of a run never killed.

    python -m pytest tests/test_kill.py                            one kill of each kind in each step
    KILLS=10 KILL_SEED=7 KILL_PROCESSES=2 python -m pytest tests/test_kill.py -s       ten of each, over two processes

A kill is either at a random moment, or at a random write: in the middle of it or just after its rename. Of a step over
several processes only the first one's writes are known, so that the others are killed at random moments alone.
"""

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch
from toy_data import FAST

import ensemble
import inference
import train
from core.locks import GIT_IGNORE
from preprocessing import crop_faces, detect_faces
from synthesis.drawn import sample

ROOT = Path(__file__).resolve().parents[1]
KILLS = int(os.environ.get("KILLS", "1"))
SEED = int(os.environ.get("KILL_SEED", "0"))
PROCESSES = os.environ.get("KILL_PROCESSES", "1")
STEPS = ("detect", "crop", "train", "inference", "ensemble")
KINDS = ("moment", "write", "rename")
LONGEST = 300
ORPHAN_SECONDS = 30
"""Time in which the processes of a killed step end: a worker that still starts up sees it only then."""


@dataclass
class Pipeline:
    """The commands over one data root into folders of its own; `seconds` and `writes` are those of whole steps."""

    root: Path
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    writes: dict[str, int] = field(default_factory=dict)

    def argv(self, step: str) -> list[str]:
        crops, run = ("--crop-dir", str(self.folder / "crops")), ("--run-dir", str(self.folder / "run"))
        return {
            "detect": ["--data-dir", str(self.root), *crops, "--workers", PROCESSES],
            "crop": [*crops, "--size", "32", "--aspect", "1", "--workers", PROCESSES],
            "train": ["--task", "mask", *crops, *run, *FAST, "--device", "cpu", "--jobs", PROCESSES],
            "inference": [*run, "--device", "cpu", "--workers", "0"],
            "ensemble": [*run],
        }[step]

    def start(self, step: str, kill: tuple[str, int] | None = None) -> multiprocessing.Process:
        """A process that runs the step; it imports nothing anew, as it is forked from one that has it all."""
        counter = self.folder / f"{step}.writes"
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=run_step, args=(step, self.argv(step), kill, counter))
        process.start()
        return process

    def run(self, step: str) -> None:
        began = time.monotonic()
        process = self.start(step)
        process.join(LONGEST)
        assert process.exitcode == 0, f"{step} ended with {process.exitcode}"
        self.seconds[step] = time.monotonic() - began
        self.writes[step] = int((self.folder / f"{step}.writes").read_text())


def run_step(step: str, argv: Sequence[str], kill: tuple[str, int] | None, counter: Path) -> None:
    """In the process of a step: run it, count its writes, and perhaps die at one of them."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    # As in a command that was typed: this process would else hand its own way of starting down to the loaders.
    multiprocessing.set_start_method("fork", force=True)
    mains = {"detect": detect_faces, "crop": crop_faces, "train": train, "inference": inference, "ensemble": ensemble}
    writes: list[int] = []
    os.fsync = dying(os.fsync, writes, kill)
    os.replace = dying_after(os.replace, writes, kill)
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        mains[step].main(argv)
    counter.write_text(str(len(writes)))


def dying(fsync: Callable, writes: list[int], kill: tuple[str, int] | None) -> Callable[[int], None]:
    """fsync that counts, and at the chosen write leaves half of the file and kills its process."""

    def call(number: int) -> None:
        writes.append(number)
        if kill == ("write", len(writes)):
            os.ftruncate(number, os.fstat(number).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(number)

    return call


def dying_after(replace: Callable, writes: list[int], kill: tuple[str, int] | None) -> Callable[..., None]:
    """replace that kills its process after the chosen write."""

    def call(*paths: object) -> None:
        replace(*paths)
        if kill == ("rename", len(writes)):
            os.kill(os.getpid(), signal.SIGKILL)

    return call


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """The process from which all steps are forked, with everything imported."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    multiprocessing.get_context("forkserver").set_forkserver_preload(["test_kill"])
    # The first process waits for the server's imports; the times of the steps shall not.
    warm_up = multiprocessing.get_context("forkserver").Process(target=cv2.setNumThreads, args=(1,))
    warm_up.start()
    warm_up.join()
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def never_killed(server: None, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    folder = tmp_path_factory.mktemp("never_killed")
    sample.main(["--out", str(folder / "data"), "--train-people", "8", "--eval-photos", "6", "--workers", "1"])
    pipeline = Pipeline(folder / "data", folder)
    for step in STEPS:
        pipeline.run(step)
    return pipeline


def kill_in_turn(pipeline: Pipeline, step: str, whole: Pipeline, rng: random.Random) -> None:
    """Kill a step again and again. Where it ended before its kill, it is taken back to its beginning."""
    beginning = shutil.copytree(pipeline.folder, pipeline.folder.with_name(f"before_{step}"))
    left = list(KINDS * KILLS)
    for _ in range(20 * len(left)):
        if is_killed(pipeline, step, left[-1], whole=whole, rng=rng):
            left.pop()
        else:
            shutil.rmtree(pipeline.folder)
            shutil.copytree(beginning, pipeline.folder)
        if not left:
            return
    pytest.fail(f"{step} ended before it could be killed, {len(left)} times")


def is_killed(pipeline: Pipeline, step: str, kind: str, *, whole: Pipeline, rng: random.Random) -> bool:
    """Start a step and kill it at random; False if it ended before that."""
    process = pipeline.start(step, None if kind == "moment" else (kind, rng.randint(1, whole.writes[step])))
    if kind == "moment":
        time.sleep(rng.random() * whole.seconds[step])
        process.kill()
    process.join(LONGEST)
    assert process.exitcode in (0, -signal.SIGKILL), f"{step} ended with {process.exitcode}"
    assert_no_process_left(pipeline.folder)
    return process.exitcode != 0


def assert_no_process_left(folder: Path) -> None:
    """Wait until no process of the killed step lives: its children hold their parent's lock or write on."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while left := processes_of(folder):
        assert time.monotonic() < deadline, f"processes {left} outlived their parent"
        time.sleep(0.05)


def processes_of(folder: Path) -> list[str]:
    """Return the numbers of the processes that have a file of the folder open, or its name on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with suppress(OSError):
            names = [process.joinpath("cmdline").read_text()]
            names += [str(path.readlink()) for path in process.joinpath("fd").iterdir()]
            if any(str(folder) in name for name in names):
                found.append(process.name)
    return found


def test_killed_again_and_again_the_results_are_the_same(never_killed: Pipeline, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    pipeline = Pipeline(never_killed.root, tmp_path / "killed")
    pipeline.folder.mkdir()
    for step in STEPS:
        kill_in_turn(pipeline, step, never_killed, rng)
        pipeline.run(step)
    print(f"\n{KILLS * len(KINDS)} kills in each of {', '.join(STEPS)}; writes of whole steps: {never_killed.writes}")
    assert_same_results(pipeline.folder, never_killed.folder)
    left = {path.name for path in pipeline.folder.rglob(".*") if path.is_file()}
    assert left <= {GIT_IGNORE}


def assert_same_results(folder: Path, expected: Path) -> None:
    """The same crops, weights and logits, byte by byte."""
    assert files_of(folder / "crops") == files_of(expected / "crops")
    for table in ("faces.csv", "crops.csv"):
        assert rows_of(folder / "crops" / table) == rows_of(expected / "crops" / table)
    compared = 0
    for path in (expected / "run").rglob("*"):
        if (path.suffix in (".csv", ".safetensors") and path.name != "history.csv") or path.name == "DONE":
            assert (folder / "run" / path.relative_to(expected / "run")).read_bytes() == path.read_bytes(), path.name
            compared += 1
    # Folds: weights, out-of-fold and eval logits, DONE; of the run: folds, both averages.
    assert compared == 2 * 4 + 3


def files_of(folder: Path) -> dict[str, bytes]:
    """Content by path of all files but tables and stores of pixels, whose names hold the times of the crops."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".csv", ".npy"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def rows_of(path: Path) -> list[tuple]:
    return sorted(pd.read_csv(path, dtype=str, keep_default_na=False).itertuples(index=False, name=None))

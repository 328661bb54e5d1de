"""One process at a time writes to a folder: the second is refused by name, and a dead one's lock holds nobody back."""

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from toy_data import FAST, Toy, ToyRun, refusal

import ensemble
import inference
import train
from core import files
from core.cli import UserError
from core.locks import GIT_IGNORE, LOCK_NAME, holding
from preprocessing import crop_faces, detect_faces

pytest_plugins = ("toy_fixtures",)

ROOT = Path(__file__).resolve().parents[1]
HOLD = """
import os, sys
from pathlib import Path
from core.locks import holding
with holding(Path(sys.argv[1]), "--run-dir"):
    if "fork" in sys.argv and os.fork() == 0:
        sys.stdin.read()
        os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """A maker of processes that hold a folder until their standard input is closed."""
    processes: list[subprocess.Popen] = []

    def hold(folder: Path, *words: str, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), *words],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **environment},
        )  # fmt: skip
        processes.append(process)
        assert process.stdout.readline() == "held\n", process.stderr.read()
        return process

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


def test_a_second_process_is_refused_with_the_pid_and_host_of_the_first(
    start: Callable[..., subprocess.Popen], tmp_path: Path
) -> None:
    process = start(tmp_path, "--task", "age")
    with pytest.raises(UserError) as caught, holding(tmp_path, "--run-dir"):
        pytest.fail("the folder is held")
    message = str(caught.value)
    assert f"{tmp_path} is in use by process {process.pid} on {socket.gethostname()}" in message
    assert "--task age" in message
    assert message.endswith("wait until it ends, stop it, or give another --run-dir")
    assert "\n" not in message
    process.communicate("")
    with holding(tmp_path, "--run-dir"):
        assert (tmp_path / LOCK_NAME).read_text().strip().startswith(f"process {os.getpid()} on ")


@pytest.mark.parametrize("words", [(), ("fork",)], ids=["alone", "with a child that lives on"])
def test_the_lock_of_a_killed_process_holds_nobody_back(
    start: Callable[..., subprocess.Popen], tmp_path: Path, words: Sequence[str]
) -> None:
    process = start(tmp_path, *words)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / LOCK_NAME).exists()
    with holding(tmp_path, "--run-dir"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [GIT_IGNORE]


def test_a_lock_file_that_its_holder_removes_meanwhile_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that opened the file before the last holder removed it has locked a file that nobody else sees."""
    flock, removals = fcntl.flock, []

    def lock_late(descriptor: int, operation: int) -> None:
        if not removals:
            removals.append(descriptor)
            (tmp_path / LOCK_NAME).unlink()
        flock(descriptor, operation)

    monkeypatch.setattr("fcntl.flock", lock_late)
    with holding(tmp_path, "--run-dir"):
        assert removals
        assert (tmp_path / LOCK_NAME).read_text().strip().startswith("process")


def test_nothing_is_left_of_a_lock_nor_of_the_folders_made_for_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), holding(tmp_path / "a" / "b", "--run-dir"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with holding(tmp_path / "a" / "b", "--run-dir"):
        (tmp_path / "a" / "b" / "result").touch()
    assert {path.name for path in (tmp_path / "a" / "b").iterdir()} == {"result", GIT_IGNORE}
    assert (tmp_path / "a" / "b" / GIT_IGNORE).read_text() == "*\n"


def test_a_folder_with_something_in_it_gets_no_gitignore(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with holding(tmp_path, "--run-dir"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_system_without_locks_gets_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with holding(tmp_path, "--run-dir"):
        assert "keeps no locks" in capsys.readouterr().err


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host, other = files._HOST, "0" * 6
    stale = [tmp_path / f".{host}-{dead.pid}-0123abcd.tmp.csv", tmp_path / "a" / f".{other}-1-0123abcd.tmp"]
    kept = [
        tmp_path / "a" / f".{host}-{os.getppid()}-0123abcd.tmp.csv",
        tmp_path / f".{other}-1-0123abce.tmp",
        *(tmp_path / name for name in (".tmp", ".notes.tmp", "x.tmp.csv", f"{host}-{dead.pid}-0123abcd.tmp")),
    ]
    (tmp_path / "a").mkdir()
    for path in (*stale, *kept):
        path.touch()
    os.utime(stale[1], (0, 0))
    with holding(tmp_path, "--run-dir"):
        assert sorted(path for path in tmp_path.rglob("*.tmp*") if path.is_file()) == sorted(kept)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_process_that_ended_without_being_asked_for_is_not_alive(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    left = tmp_path / f".{files._HOST}-{ended.pid}-0123abcd.tmp.csv"
    left.touch()
    files.remove_stale(tmp_path)
    assert not left.exists()
    ended.wait()


class TestCommands:
    """Every command that writes is refused while another process holds its folder, and writes nothing."""

    def test_on_the_crop_folder(self, toy: Toy, start: Callable[..., subprocess.Popen]) -> None:
        words = "is in use by process", f"{start(toy.crop_dir).pid} on", "another --crop-dir"
        refusal(crop_faces.main, ["--crop-dir", toy.crop_dir], *words, untouched=[toy.crop_dir])
        refusal(detect_faces.main, ["--crop-dir", toy.crop_dir], *words, untouched=[toy.crop_dir])

    def test_on_the_run_folder(self, run_copy: ToyRun, start: Callable[..., subprocess.Popen]) -> None:
        run_dir = run_copy.run_dir
        words = "is in use by process", f"{start(run_dir).pid} on", "another --run-dir"
        training = ["--task", "age", "--crop-dir", run_copy.crop_dir, "--run-dir", run_dir, *FAST]
        refusal(train.main, training, *words, untouched=[run_dir])
        refusal(inference.main, ["--run-dir", run_dir], *words, untouched=[run_dir])
        refusal(ensemble.main, ["--run-dir", run_dir], *words, untouched=[run_dir])

    def test_on_the_folder_of_predictions(
        self, run_copy: ToyRun, tmp_path: Path, start: Callable[..., subprocess.Popen]
    ) -> None:
        start(tmp_path / "other")
        argv = ["--run-dir", run_copy.run_dir, "--output-dir", tmp_path / "other"]
        refusal(inference.main, argv, "is in use by process", "another --output-dir", untouched=[run_copy.run_dir])

"""Windows, macOS and other consoles, simulated: what they lack, how they start processes, and what they print."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toy_data import make_competition

import run_all
from core import environment, files
from core.cli import EXIT_BAD_INPUT, UserError
from training import device

ROOT = Path(__file__).resolve().parents[1]
AS_ON_WINDOWS = ROOT / "tests" / "as_on_windows"
STEPS = """
import sys
from pathlib import Path
import ensemble, inference, submission, train
from preprocessing import crop_faces, detect_faces
from reporting import __main__ as reporting
from toy_data import FAST, crop, detect_by_hand

if __name__ == "__main__":
    home = Path(sys.argv[1])
    crops, run = ["--crop-dir", str(home / "얼굴")], ["--run-dir", str(home / "결과")]
    detect_by_hand(home / "사진", home / "얼굴")
    crop(home / "얼굴")
    train.main([*crops, *run, "--task", "mask", *FAST, "--epochs", "1", "--jobs", "2"])
    inference.main([*run])
    (home / "결과" / "mask" / "fold1" / "eval.csv").unlink()
    inference.main([*run, "--workers", "1"])
    ensemble.main(run)
    submission.main(run)
    reporting.main([*run, "--no-heat"])
"""
HELP_AND_ERRORS = f"""
import runpy, sys

name = sys.argv[1]
for command in ("run_all", "train", "predict"):
    for flag, code in ((name, {EXIT_BAD_INPUT}), ("--help", 0)):
        sys.argv = [command, flag]
        try:
            runpy.run_module(command, run_name="__main__", alter_sys=True)
        except SystemExit as ended:
            assert ended.code == code, (command, flag, ended.code)
"""
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="simulates other systems on Linux")


def run_python(*words: object, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment_of_it = {**os.environ, "PYTHONUTF8": "0", **variables}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment_of_it, capture_output=True, timeout=900, check=False)


@needs_linux
def test_every_step_runs_as_on_windows_with_korean_names_on_a_korean_console(tmp_path: Path) -> None:
    make_competition(tmp_path / "사진")
    script = tmp_path / "steps.py"
    script.write_text(STEPS, encoding="utf-8")
    path = os.pathsep.join(map(str, (AS_ON_WINDOWS, ROOT, ROOT / "tests")))
    console = {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "cp949"}
    done = run_python("-X", "warn_default_encoding", script, tmp_path, PYTHONPATH=path, **console)
    assert done.returncode == 0, done.stderr.decode("cp949")
    assert "결과" in done.stdout.decode("cp949")
    names = {entry.name for entry in (tmp_path / "결과").iterdir()}
    assert {"mask.csv", "mask_oof.csv", "predictions.csv", "scores.json", "report"} <= names


@needs_linux
def test_the_simulation_takes_away_what_windows_lacks(tmp_path: Path) -> None:
    script = "import core.files as f, os; assert f.WINDOWS and not hasattr(os, 'fork'); f._is_alive(0); os.kill(1, 0)"
    done = run_python("-c", script, PYTHONPATH=str(AS_ON_WINDOWS))
    assert b"os.kill(pid, 0) is Ctrl-C" in done.stderr


@pytest.mark.parametrize(
    "console",
    [{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "cp949"}],
    ids=["C", "cp949"],
)
def test_help_and_errors_fit_every_console(console: dict[str, str]) -> None:
    """The names have letters that neither console has."""
    done = run_python("-c", HELP_AND_ERRORS, "--이름—ñ", **console)
    assert done.returncode == 0, done.stderr
    assert (done.stdout.count(b"--help"), done.stderr.count(b"error: ")) == (3, 3)


@needs_linux
def test_photos_whose_names_the_locale_cannot_read_are_refused_in_one_line(tmp_path: Path) -> None:
    make_competition(tmp_path / "data", people_count=2, eval_photos=1)
    (tmp_path / "data" / "train" / "images" / "사람").mkdir()
    words = ("preprocessing/detect_faces.py", "--data-dir", tmp_path / "data", "--crop-dir", tmp_path / "crops")
    done = run_python(*words, LC_ALL="C", PYTHONCOERCECLOCALE="0")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: ") and done.returncode == EXIT_BAD_INPUT


class TestFilesOfOthers:
    """Windows refuses to rename a file that another process has open."""

    def test_a_rename_is_tried_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        refusals = [PermissionError(13, "Access is denied")] * 2
        self._patch(monkeypatch, refusals)
        files.write_text(tmp_path / "table.csv", "new")
        assert (tmp_path / "table.csv").read_text(encoding="utf-8") == "new" and not refusals

    def test_a_file_that_stays_open_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch(monkeypatch, [PermissionError(13, "Access is denied")] * 9)
        with pytest.raises(UserError, match=r"cannot write .*table\.csv: Access is denied"):
            files.write_text(tmp_path / "table.csv", "new")
        assert list(tmp_path.iterdir()) == []

    @staticmethod
    def _patch(monkeypatch: pytest.MonkeyPatch, refusals: list[PermissionError]) -> None:
        rename = Path.replace

        def refuse(path: Path, target: Path) -> Path:
            if refusals:
                raise refusals.pop()
            return rename(path, target)

        monkeypatch.setattr(files, "WINDOWS", True)
        monkeypatch.setattr(files, "WINDOWS_WAITS", (0, 0, 0))
        monkeypatch.setattr(Path, "replace", refuse)


class TestMac:
    """--device auto on a Mac."""

    @pytest.fixture(autouse=True)
    def mac(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        tried = device._mps_works
        tried.cache_clear()
        yield
        tried.cache_clear()

    def test_a_gpu_that_takes_no_training_step_is_named_and_left(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert device.pick_device("auto") == torch.device("cpu") == device.pick_device("auto")
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith("--device auto: the CPU is used, since the Mac's GPU (mps) takes no training step (")

    def test_a_gpu_that_works_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(device, "_mps_works", lambda: True)
        assert device.pick_device("auto") == torch.device("mps")


def test_what_to_do_next_is_said_in_the_words_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (run_all, environment):
        monkeypatch.setattr(module, "WINDOWS", True)
    monkeypatch.setattr(run_all, "ROOT", tmp_path)
    monkeypatch.delenv("DATA_DIR", raising=False)
    lines = list(run_all.result_lines(run_all.make_plan([], {})))
    assert lines[-1].startswith("next      run_all.bat --data-dir C:\\my\\photos")
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert environment._way_to_packages().endswith("or: run_all.bat")


def test_the_batch_file_calls_what_the_shell_script_calls() -> None:
    batch, shell = ((ROOT / name).read_text(encoding="utf-8") for name in ("run_all.bat", "run_all.sh"))
    assert "scripts\\install.py" in batch and "scripts/install.py" in shell
    assert "--run train" in batch and "--run train" in shell

"""Full and read-only disks, files that are gone or rotten: one line and exit code 2, and what was good stays good."""

import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_data import FAST, Toy, ToyRun, crop, detect_by_hand, edit_csv, infer, refusal, snapshot, train_toy

import ensemble
import inference
import train
from core import files
from core.cli import EXIT_BAD_INPUT, UserError, run_cli
from core.files import RESERVE, in_words, require_room
from preprocessing import crop_faces, detect_faces
from storage.run_dir import is_done
from training import checkpoints

pytest_plugins = ("toy_fixtures",)

FLAGS = ("--fold", "0", "--epochs", "2", "--patience", "2")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB in memory; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all that is free on the disk."""
    ballast = folder / "ballast"
    with ballast.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(folder).free)
    return ballast


def fail_from(monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Every flush of a file finds the disk full, from the given one (from 1) on."""
    fsync, calls = os.fsync, []

    def full(number: int) -> None:
        calls.append(number)
        if len(calls) >= call:
            raise FULL
        fsync(number)

    monkeypatch.setattr("os.fsync", full)


def without_room_check(monkeypatch: pytest.MonkeyPatch, *modules: object) -> None:
    for module in modules:
        monkeypatch.setattr(module, "require_room", lambda *_: None)


def exit_code_of(main: Callable, argv: list[object], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["command", *map(str, argv)])
    with pytest.raises(SystemExit) as caught:
        run_cli(main)
    return caught.value.code


class TestWriting:
    """One file, whole or not at all."""

    def test_a_full_disk_leaves_the_old_file_and_is_named(self, small_disk: Path) -> None:
        path = small_disk / "table.csv"
        files.write_text(path, "old")
        fill(small_disk)
        with pytest.raises(UserError, match=r"cannot write .*table\.csv: No space left on device; make room") as caught:
            files.write_text(path, "new" * 10_000)
        assert "\n" not in str(caught.value)
        assert path.read_text() == "old"
        assert sorted(entry.name for entry in small_disk.iterdir()) == ["ballast", "table.csv"]

    def test_weights_on_a_full_disk(self, small_disk: Path) -> None:
        path = small_disk / "model.safetensors"
        old, new = nn.Linear(2, 2), nn.Linear(2000, 20)
        checkpoints.save_weights(path, old)
        fill(small_disk)
        with pytest.raises(UserError, match=r"cannot write .*model\.safetensors: No space left"):
            checkpoints.save_weights(path, new)
        back = nn.Linear(2, 2)
        checkpoints.load_weights(path, back)
        assert torch.equal(back.weight, old.weight)

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
    def test_a_flush_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
        path = tmp_path / "table.csv"
        files.write_text(path, "old")

        def fail(_: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(UserError, match=rf"cannot write {path}: {os.strerror(number)}"):
            files.write_text(path, "new")
        assert path.read_text() == "old"
        assert len(list(tmp_path.iterdir())) == 1

    def test_a_file_where_a_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "outputs").write_text("")
        with pytest.raises(UserError, match=r"cannot write .*run\.json: "):
            files.write_json(tmp_path / "outputs" / "run.json", {})

    def test_files_have_the_mode_that_the_umask_says(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            checkpoints.save_weights(tmp_path / "model.safetensors", nn.Linear(2, 2))
            files.write_json(tmp_path / "run.json", {})
        finally:
            os.umask(before)
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


class TestRoom:
    """Looked at before a long step begins."""

    def test_too_little_is_refused_with_figures(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 1_400_000_000))
        require_room(tmp_path / "not" / "there", 1_300_000_000, "training")
        with pytest.raises(UserError, match=r"run: 1\.4 GB free on its disk, training needs about 5\.0 GB; make room"):
            require_room(tmp_path / "run", 5_000_000_000 - RESERVE, "training")
        assert list(tmp_path.iterdir()) == []

    def test_a_disk_that_does_not_say_its_size_is_let_through(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 0))
        require_room(tmp_path, 10**12, "training")

    def test_sizes_in_words(self) -> None:
        assert [in_words(size) for size in (7, 1500, 2_500_000, 3 * 10**12)] == [
            "7 bytes",
            "1.5 kB",
            "2.5 MB",
            "3000.0 GB",
        ]

    def test_every_long_step_looks(self, run_copy: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        crop_dir = shutil.copytree(run_copy.crop_dir, tmp_path / "crops")
        monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12, 1000))
        run_dir, both = run_copy.run_dir, [run_copy.run_dir, crop_dir]
        training = ["--task", "age", "--crop-dir", crop_dir, "--run-dir", tmp_path / "new", *FAST]
        refusal(train.main, training, "new: 1.0 kB free", "training needs", untouched=both)
        assert not (tmp_path / "new").exists()
        for command, argv in ((inference, ["--run-dir", run_dir]), (detect_faces, ["--crop-dir", crop_dir])):
            command.main(list(map(str, argv)))  # everything is done: nothing is needed
        (run_dir / "age" / "fold0" / "eval.csv").unlink()
        refusal(inference.main, ["--run-dir", run_dir], "1.0 kB free", "inference needs", untouched=both)
        detecting = ["--crop-dir", crop_dir, "--threshold", "0.8"]
        edit_csv(crop_dir / "faces.csv", lambda faces: faces.iloc[1:])
        refusal(detect_faces.main, detecting, "1.0 kB free", "detection needs", untouched=both)
        cropping = ["--crop-dir", crop_dir, "--size", "32", "--aspect", "1", "--workers", "1"]
        crop_faces.main(list(map(str, cropping)))
        refusal(crop_faces.main, [*cropping, "--margin", "0.5"], "1.0 kB free", "cropping needs")

    def test_training_stays_within_its_estimate(
        self, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fsync, sizes, asked = os.fsync, [], []

        def measure(number: int) -> None:
            sizes.append(sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")))
            fsync(number)

        monkeypatch.setattr("os.fsync", measure)
        monkeypatch.setattr("training.jobs.require_room", lambda _, needed, what: asked.append(needed))
        for _ in range(2):
            train_toy(toy.crop_dir, tmp_path, flags=("--jobs", "1"))
        assert asked[0] / 2 < max(sizes) <= asked[0]
        assert asked[1:] == [0]
        assert checkpoints.training_bytes(10, 5, at_once=2) == 50 + 2 * 7 * 10
        assert checkpoints.training_bytes(10, 1, at_once=8) == checkpoints.training_bytes(10, 1, at_once=1)


class TestFullDisk:
    """A disk that is full in the middle of a step: what is done is kept, and with room it ends the same."""

    def test_training(self, toy: Toy, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        train_toy(toy.crop_dir, tmp_path / "expected", flags=FLAGS)
        save_state, calls = checkpoints.save_state, []

        def fill_before_the_second(*arguments: object, **options: object) -> None:
            calls.append(arguments)
            if len(calls) == 2:
                fill(small_disk)
            save_state(*arguments, **options)

        with monkeypatch.context() as patched:
            patched.setattr(checkpoints, "save_state", fill_before_the_second)
            with pytest.raises(UserError, match=r"cannot write .*state\.safetensors: No space left"):
                train_toy(toy.crop_dir, small_disk / "run", flags=FLAGS)
        fold_dir = small_disk / "run" / "mask" / "fold0"
        assert not list(small_disk.rglob("*.tmp*"))
        assert not is_done(fold_dir)
        (small_disk / "ballast").unlink()
        train_toy(toy.crop_dir, small_disk / "run", flags=FLAGS)
        for name in ("model.safetensors", "oof.csv", "DONE"):
            assert (fold_dir / name).read_bytes() == (tmp_path / "expected/mask/fold0" / name).read_bytes(), name

    @pytest.mark.parametrize("call", [1, 2, 3, 4])
    def test_any_write_of_a_training(
        self, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
    ) -> None:
        with monkeypatch.context() as patched:
            fail_from(patched, call)
            with pytest.raises(UserError, match=r"cannot write .*No space left"):
                train_toy(toy.crop_dir, tmp_path, flags=("--fold", "0", "--epochs", "1"))
        assert not list(tmp_path.rglob("*.tmp*"))
        train_toy(toy.crop_dir, tmp_path, flags=("--fold", "0", "--epochs", "1"))

    def test_cropping(self, toy: Toy, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        crop_dir = small_disk / "crops"
        detect_by_hand(toy.root, crop_dir)
        ballast = fill(small_disk)
        cropping = ["--crop-dir", crop_dir, "--size", "32", "--aspect", "1", "--workers", "1"]
        refusal(crop_faces.main, cropping, "No space left on device")
        ballast.unlink()
        with ballast.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(small_disk).free - 40_000)
        without_room_check(monkeypatch, crop_faces)
        assert exit_code_of(crop_faces.main, cropping, monkeypatch) == EXIT_BAD_INPUT
        ballast.unlink()
        crop(crop_dir)
        for path in toy.crop_dir.rglob("*.jpg"):
            assert (crop_dir / path.relative_to(toy.crop_dir)).read_bytes() == path.read_bytes()
        assert not list(small_disk.rglob("*.tmp*"))

    def test_inference_and_ensemble(self, run_copy: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
        run_dir = run_copy.run_dir
        wanted = (run_dir / "age" / "fold0" / "eval.csv").read_bytes(), (run_dir / "age.csv").read_bytes()
        (run_dir / "age" / "fold0" / "eval.json").unlink()
        with monkeypatch.context() as patched:
            fail_from(patched, 1)
            with pytest.raises(UserError, match=r"cannot write .*eval.*\.csv: No space left"):
                infer(run_dir, "--task", "age")
        infer(run_dir, "--task", "age")
        (run_dir / "age.json").unlink()
        with monkeypatch.context() as patched:
            fail_from(patched, 2)
            with pytest.raises(UserError, match=r"cannot write .*: No space left"):
                ensemble.main(["--run-dir", str(run_dir)])
        ensemble.main(["--run-dir", str(run_dir)])
        assert wanted == ((run_dir / "age" / "fold0" / "eval.csv").read_bytes(), (run_dir / "age.csv").read_bytes())


def test_a_disk_that_is_read_only(toy: Toy, toy_run: ToyRun, small_disk: Path) -> None:
    run_dir = shutil.copytree(toy_run.run_dir, small_disk / "run")
    crop_dir = shutil.copytree(toy.crop_dir, small_disk / "crops")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    words = "cannot write", "Read-only file system; give a folder that can be written to"
    refusal(detect_faces.main, ["--crop-dir", crop_dir], *words)
    refusal(crop_faces.main, ["--crop-dir", crop_dir], *words)
    refusal(train.main, ["--crop-dir", crop_dir, "--run-dir", run_dir, *FAST], *words)
    refusal(inference.main, ["--run-dir", run_dir], *words)
    refusal(ensemble.main, ["--run-dir", run_dir], *words)


class TestDamage:
    """Files that are gone, cut short or rotten are named, never used."""

    @pytest.mark.parametrize("position", [0.3, 0.6, 0.95])
    def test_a_bit_that_has_flipped(self, run_copy: ToyRun, position: float) -> None:
        path = run_copy.run_dir / "age" / "fold0" / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[int(position * len(content))] ^= 1
        path.write_bytes(content)
        argv = ["--run-dir", run_copy.run_dir, "--task", "age", "--device", "cpu", "--workers", "0"]
        refusal(inference.main, argv, str(path), "damaged", "train it anew", untouched=[run_copy.run_dir])

    def test_a_state_that_is_rotten(self, toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            fail_from(patched, 8)
            with pytest.raises(UserError):
                train_toy(toy.crop_dir, tmp_path, flags=FLAGS)
        path = tmp_path / "mask" / "fold0" / "state.safetensors"
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
        argv = ["--task", "mask", "--crop-dir", toy.crop_dir, "--run-dir", tmp_path, *FAST, *FLAGS]
        refusal(train.main, argv, str(path), "damaged", "train that fold anew", untouched=[tmp_path])

    @pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
    def test_a_file_of_a_finished_fold_that_is_gone(self, run_copy: ToyRun, name: str) -> None:
        fold_dir = run_copy.run_dir / "age" / "fold0"
        (fold_dir / name).unlink()
        argv = ["--run-dir", run_copy.run_dir, "--task", "age", "--device", "cpu", "--workers", "0"]
        refusal(inference.main, argv, str(fold_dir / name), "no such file", untouched=[run_copy.run_dir])

    @pytest.mark.parametrize("name", ["source.json", "faces.csv", "crops.csv"])
    def test_a_table_of_the_crop_folder_that_is_gone(self, data_copy: Toy, tmp_path: Path, name: str) -> None:
        (data_copy.crop_dir / name).unlink()
        argv = ["--task", "mask", "--crop-dir", data_copy.crop_dir, "--run-dir", tmp_path / "run", *FAST]
        refusal(train.main, argv, "preprocessing/", untouched=[data_copy.crop_dir])

    def test_a_crop_that_is_gone_is_named_and_made_anew(self, data_copy: Toy, tmp_path: Path) -> None:
        crop_path = next((data_copy.crop_dir / "train").rglob("normal.*"))
        content = crop_path.read_bytes()
        shutil.rmtree(data_copy.crop_dir / "pixels", ignore_errors=True)
        crop_path.unlink()
        argv = ["--task", "mask", "--crop-dir", data_copy.crop_dir, "--run-dir", tmp_path / "run", *FAST]
        refusal(train.main, argv, crop_path.name, "run preprocessing/crop_faces.py again")
        crop(data_copy.crop_dir)
        assert crop_path.read_bytes() == content


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FULL, "error: No space left on device; make room and give the same command again, finished work is kept\n"),
        (PermissionError(errno.EACCES, "Permission denied", "a.csv"),
         "error: a.csv: Permission denied; ask for the right to it, or give another folder\n"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.csv"),
         "error: a.csv: No such file or directory\n"),
        (OSError("1000 requested and\n20 written"), "error: 1000 requested and 20 written\n"),
    ],
)  # fmt: skip
def test_an_error_of_the_system_is_one_line(error: OSError, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: object) -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        run_cli(fail)
    assert caught.value.code == EXIT_BAD_INPUT
    assert capsys.readouterr().err == line


def test_an_unfinished_fold_keeps_one_state_and_a_finished_one_none(toy: Toy, tmp_path: Path) -> None:
    train_toy(toy.crop_dir, tmp_path, flags=FLAGS)
    state_path = tmp_path / "mask" / "fold0" / "state.safetensors"
    assert not state_path.exists()
    state_path.write_bytes(b"of a training killed after DONE")
    before = snapshot(tmp_path)
    train_toy(toy.crop_dir, tmp_path, flags=FLAGS)
    before.pop(str(state_path))
    assert snapshot(tmp_path) == before

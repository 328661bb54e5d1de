"""Stopped anywhere, the same command again ends with the very bytes of a training that was never stopped."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from torch.utils.data import DataLoader
from toy_data import FAST, Toy, ToyRun, crop, detect_by_hand, infer, snapshot, train_toy

from core import files
from core.cli import UserError
from core.images import read_photo, write_photo
from preprocessing import crop_faces
from storage.run_dir import is_done
from training import checkpoints, predictor
from training import fold as fold_training
from training.engine import Trainer

pytest_plugins = ("toy_fixtures",)

ROOT = Path(__file__).resolve().parents[1]
FLAGS = ("--fold", "1", "--epochs", "3", "--patience", "3", "--drop-rate", "0.4", "--augment", "strong")
TIMES = ["seconds", "images_per_second"]


@pytest.fixture(scope="module")
def uninterrupted(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fold that was trained in one go."""
    run_dir = tmp_path_factory.mktemp("uninterrupted")
    train_toy(toy.crop_dir, run_dir, flags=FLAGS)
    return run_dir / "mask" / "fold1"


def stop_at(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, *, call: int, matches: Callable[..., bool] | None = None
) -> None:
    """Ctrl-C instead of the given call (from 1) of owner.name, counting the calls that match."""
    original, calls = getattr(owner, name), []

    def stop(*args: object, **options: object) -> object:
        if matches is None or matches(*args):
            calls.append(args)
            if len(calls) == call:
                raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(owner, name, stop)


def writes(name: str) -> Callable[..., bool]:
    return lambda path, *_: path.name == name


STEPS_PER_EPOCH = 2  # 42 photos in whole batches of 16
STOPS = {
    "before anything is learned": (Trainer, "_step", 1, None),
    "in the middle of epoch 2": (Trainer, "_step", STEPS_PER_EPOCH + 2, None),
    "before the weights of epoch 1": (checkpoints, "save_weights", 1, None),
    "between weights and history of epoch 1": (files, "write_csv", 1, writes("history.csv")),
    "between history and state of epoch 1": (checkpoints, "save_state", 1, None),
    "before the history of the last epoch": (files, "write_csv", 3, writes("history.csv")),
    "before the state of the last epoch": (checkpoints, "save_state", 3, None),
    "before the out-of-fold table": (fold_training, "write_prediction", 1, None),
    "before DONE": (files, "write_json", 1, writes("DONE")),
}


@pytest.mark.parametrize("stop", STOPS)
def test_training_goes_on_to_the_same_bytes(
    stop: str, toy: Toy, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, call, matches = STOPS[stop]
    with monkeypatch.context() as patched:
        stop_at(patched, owner, name, call=call, matches=matches)
        with pytest.raises(KeyboardInterrupt):
            train_toy(toy.crop_dir, tmp_path, flags=FLAGS)
    fold_dir = tmp_path / "mask" / "fold1"
    assert not is_done(fold_dir)
    train_toy(toy.crop_dir, tmp_path, flags=FLAGS)
    assert_same_fold(fold_dir, uninterrupted)


def test_a_loader_process_that_stays_for_all_epochs_changes_nothing(
    toy: Toy, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = (*FLAGS, "--workers", "1")
    with monkeypatch.context() as patched:
        stop_at(patched, checkpoints, "save_state", call=2)
        with pytest.raises(KeyboardInterrupt):
            train_toy(toy.crop_dir, tmp_path, flags=flags)
    train_toy(toy.crop_dir, tmp_path, flags=flags)
    assert_same_fold(tmp_path / "mask" / "fold1", uninterrupted)


def test_stopped_twice(toy: Toy, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in (STEPS_PER_EPOCH + 1, STEPS_PER_EPOCH + 2):
        with monkeypatch.context() as patched:
            stop_at(patched, Trainer, "_step", call=call)
            with pytest.raises(KeyboardInterrupt):
                train_toy(toy.crop_dir, tmp_path, flags=FLAGS)
    train_toy(toy.crop_dir, tmp_path, flags=FLAGS)
    assert_same_fold(tmp_path / "mask" / "fold1", uninterrupted)


def assert_same_fold(fold_dir: Path, expected: Path) -> None:
    """The same files with the same bytes, but for how long the epochs took."""
    assert {path.name for path in fold_dir.iterdir()} == {path.name for path in expected.iterdir()}
    for name in ("model.safetensors", "oof.csv", "DONE", "config.json"):
        assert (fold_dir / name).read_bytes() == (expected / name).read_bytes(), name
    found, wanted = (pd.read_csv(folder / "history.csv").drop(columns=TIMES) for folder in (fold_dir, expected))
    pd.testing.assert_frame_equal(found, wanted)


def test_every_epoch_has_an_order_of_its_own(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders, train_one_epoch = [], Trainer.train_one_epoch

    def record(self: Trainer, batches: DataLoader, **options: object) -> object:
        orders.append([draw.index for draw in batches.sampler])
        return train_one_epoch(self, batches, **options)

    monkeypatch.setattr(Trainer, "train_one_epoch", record)
    train_toy(toy.crop_dir, tmp_path, flags=("--fold", "0"))
    first, second = orders
    assert first != second
    assert sorted(first) == sorted(second) == list(range(42))


def test_inference_stopped_between_folds_keeps_the_first(
    run_copy: ToyRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [(run_copy.run_dir / "age" / f"fold{fold}" / "eval.csv").read_bytes() for fold in (0, 1)]
    for path in (run_copy.run_dir / "age").glob("fold*/eval.*"):
        path.unlink()
    with monkeypatch.context() as patched:
        stop_at(patched, predictor, "write_prediction", call=2)
        with pytest.raises(KeyboardInterrupt):
            infer(run_copy.run_dir, "--task", "age")
    assert not (run_copy.run_dir / "age" / "fold1" / "eval.csv").exists()
    capsys.readouterr()
    infer(run_copy.run_dir, "--task", "age")
    assert "age fold0: eval logits are up to date" in capsys.readouterr().out
    assert [(run_copy.run_dir / "age" / f"fold{fold}" / "eval.csv").read_bytes() for fold in (0, 1)] == expected


def test_kept_weights_that_were_removed_name_the_way_out(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--fold", "1", "--epochs", "1")
    with monkeypatch.context() as patched:
        stop_at(patched, fold_training, "write_prediction", call=1)
        with pytest.raises(KeyboardInterrupt):
            train_toy(toy.crop_dir, tmp_path / "run", flags=flags)
    (tmp_path / "run" / "mask" / "fold1" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"no such file, though epoch 1 was kept; train with --overwrite$"):
        train_toy(toy.crop_dir, tmp_path / "run", flags=flags)
    train_toy(toy.crop_dir, tmp_path / "run", flags=(*flags, "--overwrite"))
    assert is_done(tmp_path / "run" / "mask" / "fold1")


def test_cropping_stopped_in_the_middle_goes_on(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crop_dir = tmp_path / "crops"
    detect_by_hand(toy.root, crop_dir)
    with monkeypatch.context() as patched:
        stop_at(patched, crop_faces, "write_photo", call=10)
        with pytest.raises(KeyboardInterrupt):
            crop(crop_dir)
    capsys.readouterr()
    crop(crop_dir)
    assert "9 already cropped, 82 to crop" in capsys.readouterr().out
    pictures = [path for path in toy.crop_dir.rglob("*") if path.suffix.lower() in (".jpg", ".png")]
    files = [path.relative_to(toy.crop_dir) for path in pictures]
    assert len(files) == 91
    for file in files:
        assert (crop_dir / file).read_bytes() == (toy.crop_dir / file).read_bytes()


def test_changed_photos_are_never_mixed_into_a_run(data_copy: Toy, tmp_path: Path) -> None:
    flags = ("--epochs", "1")
    train_toy(data_copy.crop_dir, tmp_path / "run", flags=(*flags, "--fold", "0"))
    photo_path = next((data_copy.root / "train" / "images").rglob("normal.*"))
    write_photo(photo_path, 255 - read_photo(photo_path))
    detect_by_hand(data_copy.root, data_copy.crop_dir)
    before = snapshot(tmp_path / "run")
    with pytest.raises(UserError, match=r"normal\.jpg not cropped; run preprocessing/crop_faces\.py"):
        train_toy(data_copy.crop_dir, tmp_path / "run", flags=(*flags, "--fold", "1"))
    crop(data_copy.crop_dir)
    with pytest.raises(UserError, match="was begun with training crops of hash"):
        train_toy(data_copy.crop_dir, tmp_path / "run", flags=(*flags, "--fold", "1"))
    assert snapshot(tmp_path / "run") == before


def test_ctrl_c_exits_130_and_says_how_to_go_on(toy: Toy, tmp_path: Path) -> None:
    argv = ["--task", "mask", "--crop-dir", str(toy.crop_dir), "--run-dir", str(tmp_path / "run"), *FAST]
    flags = ["--epochs", "5000", "--patience", "5000", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "train.py", *argv, *flags],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        # A test run that was itself started in the background has Ctrl-C ignored, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    wait_for(tmp_path / "run" / "mask" / "fold0" / "history.csv", process)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == (
        "interrupted: finished work is kept, the same command goes on from there"
    )
    assert "Traceback" not in errors
    assert not list((tmp_path / "run").rglob("*.tmp*"))


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.05)

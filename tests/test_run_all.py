"""run_all.py: flags and variables reach every step, and what cannot be done is left out and named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import run_all
from core.cli import UserError

VARIABLES = ("DATA_DIR", "FACES", "PROFILE", "RUN", "CROP_DIR", "REFIT", "CHECK", "REPORT", "VIRTUAL_ENV")
Commands = list[list[str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the project, from which the command is typed."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(run_all, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def record(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Commands]:
    """A run of run_all whose steps are recorded, and leave just what the next ones look for."""

    def run(*argv: str, splits: tuple[str, ...] = ("train", "eval"), failing: str = "", code: int = 0) -> Commands:
        commands: Commands = []

        def step(command: list[str], progress: dict, stdout: int | None) -> int:
            assert 0 <= progress["done"] <= progress["done"] + progress["part"] <= 1
            commands.append(list(command))
            if command[0].endswith("detect_faces.py"):
                table = home / value_of(command, "--crop-dir") / "faces.csv"
                table.parent.mkdir(parents=True, exist_ok=True)
                table.write_text("image_id,split\n" + "".join(f"{split},{split}\n" for split in splits))
            if command[0] == "train.py" and "--show-settings" not in command:
                leave_trained(home / value_of(command, "--run-dir"), command)
            return code if command[0] == failing else 0

        monkeypatch.setattr(run_all, "run_command", step)
        run_all.main(argv)
        return commands

    return run


def value_of(command: list[str], flag: str) -> str:
    return command[command.index(flag) + 1]


def leave_trained(run_dir: Path, command: list[str], folds: int = 2) -> None:
    tasks = [command[command.index("--task") + 1]] if "--task" in command else ["mask", "gender", "age"]
    trained = [int(value_of(command, "--fold"))] if "--fold" in command else range(folds)
    for task in tasks:
        for fold in trained:
            (run_dir / task / f"fold{fold}").mkdir(parents=True, exist_ok=True)
            (run_dir / task / f"fold{fold}" / "DONE").touch()
    (run_dir / "run.json").write_text(json.dumps({"folds": folds}))


def names(commands: Commands) -> list[str]:
    return [Path(command[0] if command[0] != "-m" else command[1]).stem for command in commands]


def test_all_steps_in_order(record: Callable[..., Commands]) -> None:
    assert names(record()) == [
        *("train", "synthesis.drawn", "detect_faces", "crop_faces", "train"),
        *("train", "inference", "ensemble", "submission", "reporting"),
    ]
    assert names(record("--data-dir", "photos", "--crop-dir", "new"))[1] == "check_data"


@pytest.mark.parametrize("typed", ["flags", "variables"])
def test_folders_reach_every_step(
    record: Callable[..., Commands], home: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    flags = ["--data-dir", "photos", "--run-dir", "outputs/zzz", "--crop-dir", "crops", "--profile", "smoke"]
    if typed == "variables":
        for name, value in {"DATA_DIR": "photos", "RUN": "zzz", "CROP_DIR": "crops", "PROFILE": "smoke"}.items():
            monkeypatch.setenv(name, value)
        flags = []
    commands = record(*flags)
    assert len(commands) == 10
    allowed = {"--data-dir": str(home / "photos"), "--run-dir": "outputs/zzz", "--crop-dir": "crops"}
    for command in commands:
        found = {flag: value_of(command, flag) for flag in allowed if flag in command}
        assert found
        assert found == {flag: allowed[flag] for flag in found}
    assert [value_of(command, "--profile") for command in commands if command[0] == "train.py"] == ["smoke"] * 3


@pytest.mark.parametrize("layout", ["beside", "photos"])
def test_bare_faces_are_built_and_joined_with_the_photos_given(
    record: Callable[..., Commands], home: Path, layout: str
) -> None:
    folder = home / "faces" / "photos" if layout == "photos" else home / "faces"
    folder.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (folder / name).touch()
    (home / "faces" / "labels.csv").touch()
    commands = record("--faces", "faces", "--data-dir", "mine", "--run-dir", "outputs/more")
    assert names(commands)[1:6] == ["synthesis.builder", "tools", "check_data", "detect_faces", "crop_faces"]
    build, join, check = commands[1:4]
    assert value_of(build, "--faces") == str(folder)
    assert value_of(build, "--labels") == str(home / "faces" / "labels.csv")
    assert value_of(build, "--out") == "datasets/more/built"
    assert (value_of(build, "--train-people"), value_of(build, "--eval-people")) == (str(2 + (layout != "photos")), "0")
    assert join[2:] == [
        *(str(home / "mine"), "datasets/more/built", "--names", "given", "built", "--out", "datasets/more/joined"),
    ]
    assert value_of(check, "--data-dir") == "datasets/more/joined"


def test_bare_faces_alone_are_built(
    record: Callable[..., Commands], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "faces").mkdir()
    (home / "faces" / "a.jpg").touch()
    monkeypatch.setenv("FACES", "faces")
    commands = record(splits=("train",))
    assert names(commands)[1:3] == ["synthesis.builder", "check_data"]
    assert "--labels" not in commands[1]
    assert value_of(commands[2], "--data-dir") == "datasets/default/built"


def test_flags_reach_the_steps_that_have_them(record: Callable[..., Commands]) -> None:
    typed = record("--workers", "2", "--jobs", "3", "--device", "cpu", "--lr", "0.1")
    commands = dict(zip(names(typed), typed, strict=True))
    with_workers = {name for name, command in commands.items() if "--workers" in command}
    assert with_workers == {"synthesis.drawn", "detect_faces", "crop_faces", "train"}
    assert {name for name, command in commands.items() if "--jobs" in command} == {"train", "inference"}
    assert {name for name, command in commands.items() if "--device" in command} == {"train", "inference"}
    assert {name for name, command in commands.items() if "--lr" in command} == {"train"}


def test_no_worker_is_meant_for_training_alone(record: Callable[..., Commands]) -> None:
    commands = record("--workers", "0")
    assert {command[0] for command in commands if "--workers" in command} == {"train.py"}


def test_one_task_goes_through(record: Callable[..., Commands]) -> None:
    commands = record("--task", "mask")
    assert names(commands)[-3:] == ["ensemble", "submission", "reporting"]
    assert commands[-3] == ["ensemble.py", "--run-dir", "outputs/sample"]


def test_one_fold_gets_as_far_as_it_can(record: Callable[..., Commands], capsys: pytest.CaptureFixture[str]) -> None:
    commands = record("--task", "age", "--fold", "0")
    assert commands[-3] == ["ensemble.py", "--run-dir", "outputs/sample", "--folds", "trained"]
    said = capsys.readouterr().out
    assert "age: fold 1 not trained, scores and predictions are of the others" in said
    assert "the same command without --fold" in said


def test_without_eval_photos(record: Callable[..., Commands], capsys: pytest.CaptureFixture[str]) -> None:
    assert names(record(splits=("train",)))[-4:] == ["train", "ensemble", "submission", "reporting"]
    assert "no eval photos: inference is left out" in capsys.readouterr().out


def test_the_model_of_all_people_comes_after_all_folds(
    record: Callable[..., Commands], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refits(*argv: str) -> list[list[str]]:
        return [command for command in record(*argv) if "--refit" in command]

    (command,) = refits("--run-dir", "outputs/a", "--lr", "0.1")
    assert command[0] == "train.py"
    assert (value_of(command, "--run-dir"), value_of(command, "--lr")) == ("outputs/a", "0.1")
    assert refits("--run-dir", "outputs/b", "--fold", "0") == []
    monkeypatch.setenv("REFIT", "0")
    assert refits("--run-dir", "outputs/c") == []


def test_report_and_check_can_be_left_out(record: Callable[..., Commands], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPORT", "0")
    monkeypatch.setenv("CHECK", "0")
    assert {"reporting", "check_data"}.isdisjoint(names(record("--data-dir", "photos")))


def test_data_that_cannot_be_trained_on_ends_it(
    record: Callable[..., Commands], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        record("--data-dir", "photos", failing="-m", code=1)
    assert stopped.value.code == 1
    assert "CHECK=0" in capsys.readouterr().err


def test_a_mistyped_flag_is_not_to_be_run_again(
    record: Callable[..., Commands], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        record("--colour", "red", failing="train.py", code=2)
    assert capsys.readouterr().err == "run_all stopped at step 'settings' (exit code 2); nothing has been done yet\n"


def test_settings_alone_are_refused_by_name(record: Callable[..., Commands]) -> None:
    with pytest.raises(UserError, match="--show-settings"):
        record("--show-settings")


def test_the_last_lines_are_the_result(
    record: Callable[..., Commands], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estimate = {"macro_f1": {"value": 0.3524, "low": 0.2324, "high": 0.4524}}
    model = {"model": {"combined": estimate, "tasks": dict.fromkeys(("mask", "gender", "age"), estimate)}}
    run_dir = home / "outputs" / "first"
    (run_dir / "report").mkdir(parents=True)
    (run_dir / "scores.json").write_text(json.dumps({"oof": model, "eval": model}))
    for name in ("submission.csv", "report/index.html"):
        (run_dir / name).touch()
    record("--data-dir", "photos", "--run-dir", "outputs/first")
    # In an environment that run_all.sh made, a line tells how to activate it; these tests may run in one.
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("activate  ")][-5:]
    assert [line.split()[0] for line in lines] == ["score", "tasks", "files", "report", "next"]
    assert lines[0] == "score     macro-F1 out of fold 0.352 (0.232-0.452), eval 0.352 (0.232-0.452)"
    assert lines[1] == "tasks     macro-F1 out of fold: mask 0.352, gender 0.352, age 0.352"
    assert lines[4] == "next      python predict.py PHOTO --run-dir outputs/first"
    assert max(map(len, lines)) <= 80

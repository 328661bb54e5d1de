"""The commands to look with: contact sheets of persons, classes, mistakes and batches, and the table of runs."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from toy_data import FAST_SETTINGS, ToyRun, facts_of, person_names, sign, table

from core.cli import UserError
from core.contact_sheet import CELL_HEIGHT, CELL_WIDTH, LETTERS, LINE_HEIGHT, MARGIN, Cell, contact_sheet, fitted
from core.files import read_json, write_json
from core.images import read_photo
from core.tasks import age_group, task_named
from evaluation.logits import make_table, write_table
from storage.crops import load_crops
from tools import look, runs, show_batch
from training import feature_cache

pytest_plugins = ("toy_fixtures",)
PERSON = person_names(12)[1]
EDGES = (25, 40)


def cells_of(path: Path) -> tuple[float, float]:
    """How many cells wide and high a sheet of three lines is."""
    height, width = read_photo(path).shape[:2]
    return width / CELL_WIDTH, height / (CELL_HEIGHT + 3 * LINE_HEIGHT + 2 * MARGIN)


def is_written(part: np.ndarray) -> bool:
    return bool(part.min() < 150)


def is_red(part: np.ndarray) -> bool:
    """Whether letters in it are red; their smoothed edges mix with the ground."""
    return bool((part[..., 0].astype(int) - part[..., 1] > 60).any())


def printed(capsys: pytest.CaptureFixture) -> list[list[str]]:
    """The lines a command printed, each by its parts."""
    return [line.split("  ") for line in capsys.readouterr().out.splitlines()]


# The sheet


def test_a_sheet_has_the_pictures_in_their_places_and_proportions() -> None:
    blue, red = np.zeros((80, 40, 3), np.uint8), np.zeros((10, 30, 3), np.uint8)
    blue[..., 2], red[..., 0] = 255, 255
    sheet = contact_sheet([Cell(blue, ("one",)), Cell(red, ()), Cell(blue, ("x",))], across=2)
    assert sheet.shape == (2 * (CELL_HEIGHT + LINE_HEIGHT + 2 * MARGIN), 2 * CELL_WIDTH, 3)
    columns = np.flatnonzero((sheet[CELL_HEIGHT // 2, :CELL_WIDTH] == (0, 0, 255)).all(axis=1))
    assert len(columns) == (CELL_HEIGHT - 4) // 2
    rows = np.flatnonzero((sheet[:CELL_HEIGHT, CELL_WIDTH + CELL_WIDTH // 2] == (255, 0, 0)).all(axis=1))
    assert len(rows) == round((CELL_WIDTH - 4) / 3)
    assert (sheet[sheet.shape[0] // 2 :, CELL_WIDTH:] == sheet[-1, -1]).all()


def test_lines_are_red_where_they_should_be() -> None:
    sheet = contact_sheet([Cell(np.full((8, 8, 3), 255, np.uint8), ("black", "red"), in_red=(1,))])
    lines = np.split(sheet[CELL_HEIGHT + MARGIN :], [LINE_HEIGHT])
    assert [is_written(part) for part in lines] == [True, True]
    assert [is_red(part) for part in lines] == [False, True]


def test_a_long_name_loses_its_middle_and_other_letters_are_marked() -> None:
    assert fitted("short") == "short"
    assert len(fitted("a" * 20 + "b" * 20)) <= LETTERS
    assert fitted("a" * 20 + "b" * 20).replace("a", "").replace("b", "") == ".."
    assert fitted("김_31.jpg") == "?_31.jpg"


def test_a_sheet_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([])


# look


def test_a_person_is_shown_with_all_photos_and_answers(
    toy_run: ToyRun, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    look.main(["--person", PERSON, "--run-dir", str(toy_run.run_dir), "--out", str(tmp_path / "p.png")])
    *rows, last = printed(capsys)
    assert [row[1].split(".")[0] for row in rows] == [
        *("incorrect_mask", "mask1", "mask2", "mask3", "mask4", "mask5", "normal"),
    ]
    assert {(row[0], len(row)) for row in rows} == {(PERSON, 5)}
    gender = facts_of(PERSON)[0]
    assert all(row[3].startswith(gender) for row in rows)
    assert last == [f"{tmp_path / 'p.png'}: 7 crops"]
    assert read_photo(tmp_path / "p.png").shape[1] == 7 * CELL_WIDTH


def test_a_person_can_be_named_by_id_unless_two_have_it(toy_run: ToyRun, tmp_path: Path) -> None:
    flags = ["--run-dir", str(toy_run.run_dir), "--out", str(tmp_path / "p.jpg"), "--count", "2"]
    with pytest.raises(UserError, match=rf"--person '000000-1': stands for .*{person_names(12)[0]}.*{PERSON}"):
        look.main(["--person", "000000-1", *flags])
    with pytest.raises(UserError, match=r"--person 'nobody': is none of 000000-1_.* and 7 more"):
        look.main(["--person", "nobody", *flags])
    look.main(["--person", "000002-1_female", *flags])
    assert read_photo(tmp_path / "p.jpg").shape[1] == 2 * CELL_WIDTH


def test_a_class_is_shown_without_any_run(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    wish = "mask=incorrect, gender=female"
    look.main(["--class", wish, "--crop-dir", str(toy_run.crop_dir)])
    *rows, last = printed(capsys)
    women = [name for name in person_names(12) if facts_of(name)[0] == "female"]
    groups = [task_named("age").classes[age_group(facts_of(name)[1], EDGES)] for name in women]
    assert [(row[0], row[2:]) for row in rows] == [
        (name, ["incorrect", "female", group]) for name, group in sorted(zip(women, groups, strict=True))
    ]
    assert last == ["look.jpg: 6 crops"]
    look.main(["--class", wish, "--crop-dir", str(toy_run.crop_dir), "--count", "3"])
    assert [row[0] for row in printed(capsys)[:-1]] == [sorted(women)[place] for place in (0, 2, 5)]


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ("mask=sometimes", r"--class 'mask=sometimes': the classes of mask are wear, incorrect, not_wear"),
        ("mask", r"--class 'mask': the classes of mask are"),
        ("glasses=on", r"task 'glasses' is unknown; the tasks are mask, gender, age"),
    ],
)
def test_a_class_that_is_none_is_named(toy_run: ToyRun, wish: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        look.main(["--class", wish, "--crop-dir", str(toy_run.crop_dir)])


def write_mask_answers(run_dir: Path, crop_dir: Path, wrong: dict[str, float]) -> None:
    """Out-of-fold logits that are right, but for some photos, by how sure the wrong answer `not_wear` is."""
    train = load_crops(crop_dir, "train")
    logits = np.full((len(train.image_ids), 3), -9.0)
    for row, (image_id, label) in enumerate(zip(train.image_ids, train.labels(task_named("mask"), EDGES), strict=True)):
        logits[row, label] = 0
        if image_id in wrong:
            share = wrong[image_id]
            logits[row] = np.log([1 - share - 1e-6, 1e-6, share])
    write_table(run_dir / "mask_oof.csv", make_table(train.image_ids, task_named("mask").classes, logits))
    sign(run_dir / "mask_oof.csv")


def test_mistakes_come_surest_first_and_one_a_person(
    run_copy: ToyRun, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first, second = sorted(person_names(12))[:2]
    wrong = {f"{first}/mask1.jpg": 0.75, f"{first}/mask2.png": 0.7, f"{second}/mask1.jpg": 0.99}
    write_mask_answers(run_copy.run_dir, run_copy.crop_dir, wrong)
    out = tmp_path / "m.png"
    look.main(["--mistakes", "mask", "--run-dir", str(run_copy.run_dir), "--out", str(out)])
    assert printed(capsys) == [
        [second, "mask1.jpg", "wear -> not_wear 0.99"],
        [first, "mask1.jpg", "wear -> not_wear 0.75"],
        [f"{out}: 2 crops"],
    ]
    assert cells_of(out) == (2, 1)
    assert is_red(read_photo(out)[CELL_HEIGHT + 2 * LINE_HEIGHT :])


def test_without_a_mistake_or_answers_it_says_so(run_copy: ToyRun, tmp_path: Path) -> None:
    write_mask_answers(run_copy.run_dir, run_copy.crop_dir, {})
    with pytest.raises(UserError, match="--mistakes mask: no prediction is wrong"):
        look.main(["--mistakes", "mask", "--run-dir", str(run_copy.run_dir), "--out", str(tmp_path / "m.png")])
    with pytest.raises(UserError, match=r"--mistakes age: there are no predictions .*; see --run-dir"):
        look.main(["--mistakes", "age", "--crop-dir", str(run_copy.crop_dir)])
    assert not (tmp_path / "m.png").exists()


def test_eval_photos_are_shown_with_the_truth_where_it_is_known(
    toy_run: ToyRun, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = ["--split", "eval", "--out", str(tmp_path / "e.jpg")]
    look.main(["--class", "mask=wear", "--run-dir", str(toy_run.run_dir), *flags])
    truth = table(toy_run.root / "truth.csv").set_index("ImageID")["ans"]
    assert {row[0] for row in printed(capsys)[:-1]} == set(truth.index[truth // 6 == 0])
    with pytest.raises(UserError, match=r"--class 'mask=wear': no photo has these labels"):
        look.main(["--class", "mask=wear", "--crop-dir", str(toy_run.crop_dir), *flags])


@pytest.mark.parametrize("out", ["look.gif", "look"])
def test_a_picture_of_another_kind_is_refused(toy_run: ToyRun, out: str) -> None:
    with pytest.raises(UserError, match=rf"--out: {out}: allowed endings are .jpg, .jpeg, .png"):
        look.main(["--person", PERSON, "--out", out])


# show_batch


def batch(run: ToyRun, out: Path, *flags: str) -> None:
    show_batch.main(["--task", "mask", "--crop-dir", str(run.crop_dir), "--out", str(out), *FAST_SETTINGS, *flags])


def test_a_batch_without_augmentation_is_the_crops_themselves(
    toy_run: ToyRun, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "b.png"
    batch(toy_run, out, "--augment", "none", "--count", "10", "--window", "face")
    assert cells_of(out) == (8, 2)
    assert printed(capsys) == [[f"{out}: 10 photos of mask fold 0 epoch 1, augment none"]]
    shown = read_photo(out)[CELL_HEIGHT // 2, CELL_WIDTH // 2]
    crops = load_crops(toy_run.crop_dir, "train")
    faces = (crops.settings.cut(read_photo(path), "face") for path in crops.paths)
    centres = [face[15:17, 15:17].mean(axis=(0, 1)) for face in faces]
    assert min(np.abs(np.array(centres) - shown).max(axis=1)) < 8


def test_a_batch_is_the_same_each_time_and_another_in_another_epoch(toy_run: ToyRun, tmp_path: Path) -> None:
    for name, flags in (("a", ()), ("b", ()), ("c", ("--epoch", "2")), ("d", ("--augment", "strong"))):
        batch(toy_run, tmp_path / f"{name}.png", "--count", "6", *flags)
    a, b, c, d = ((tmp_path / f"{name}.png").read_bytes() for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_a_batch_of_a_run_uses_its_settings_and_writes_nothing_into_it(
    run_copy: ToyRun, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    before = sorted(run_copy.run_dir.rglob("*"))
    flags = ["--run-dir", str(run_copy.run_dir), "--count", "4", "--out", str(tmp_path / "b.jpg")]
    show_batch.main(["--task", "mask", "--fold", "1", *flags])
    assert "4 photos of mask fold 1 epoch 1, augment standard" in capsys.readouterr().out
    assert sorted(run_copy.run_dir.rglob("*")) == before


def test_a_batch_of_a_frozen_backbone_shows_the_views_it_learns_from(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = ("--backbone-lr", "0", "--count", "40")
    batch(toy_run, tmp_path / "plain.png", "--augment", "none", "--count", "40")
    batch(toy_run, tmp_path / "frozen.png", "--augment", "none", *frozen)
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "frozen.png").read_bytes()
    asked = []
    of = feature_cache.Views.of
    monkeypatch.setattr(feature_cache.Views, "of", lambda views, *photo: asked.append(views) or of(views, *photo))
    batch(toy_run, tmp_path / "views.png", "--augment", "standard", "--views", "3", *frozen)
    assert set(asked) == {feature_cache.Views(3, "standard")}
    assert not (toy_run.run_dir / "backbones").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--augment", "wild"), r"--augment 'wild' is unknown; the augmentations are none, flip"),
        (("--fold", "2"), r"--fold 2: allowed is 0 to 1"),
        (("--epoch", "0"), r"--epoch 0: allowed is 1 or more"),
        (("--count", "0"), r"--count: 0 is not a whole number of at least 1"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(toy_run: ToyRun, tmp_path: Path, flags: Sequence[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        batch(toy_run, tmp_path / "b.png", *flags)
    assert not (tmp_path / "b.png").exists()


# runs


@pytest.fixture
def outputs(toy_run: ToyRun, tmp_path: Path) -> Path:
    """Two finished runs: `second` is newer and has another learning rate and backbone by its config.json."""
    folder = tmp_path / "outputs"
    for age, name in enumerate(("second", "first")):
        run_dir = shutil.copytree(toy_run.run_dir, folder / name)
        for path in run_dir.rglob("*"):
            os.utime(path, (1_700_000_000 - 86_400 * age,) * 2)
    for path in (folder / "second").glob("*/fold*/config.json"):
        config = read_json(path)
        config["settings"] |= {"backbone": "other"} | ({"lr": 0.25} if config["task"] == "age" else {})
        write_json(path, config)
        os.utime(path, (1_700_000_000,) * 2)
    return folder


def test_runs_are_listed_with_folds_scores_and_differences(outputs: Path, capsys: pytest.CaptureFixture) -> None:
    runs.main(["list", "--outputs", str(outputs)])
    blocks = [block.splitlines() for block in capsys.readouterr().out.split("\n\n")]
    assert [block[0] for block in blocks] == [
        *("folds trained", "macro-F1 out of fold", "macro-F1 eval", "settings that differ"),
    ]
    assert [line.split()[0] for line in blocks[0][2:]] == ["second", "first"]
    assert all(line.split()[3:6] == ["2/2"] * 3 for line in blocks[0][2:])
    scores = read_json(outputs / "first" / "scores.json")["oof"]["model"]
    for entry in (scores["combined"], *scores["tasks"].values()):
        found = entry["macro_f1"]
        assert f"{found['value']:.4f} ({found['low']:.4f}-{found['high']:.4f})" in blocks[1][3]
    assert [line.split(maxsplit=1) for line in blocks[3][2:]] == [
        ["second", "backbone other, age.lr 0.25"],
        ["first", "backbone test_efficientnet, age.lr 0.001"],
    ]


def test_runs_as_json_hold_everything(outputs: Path, capsys: pytest.CaptureFixture) -> None:
    runs.main(["list", "--outputs", str(outputs), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["damaged"] == []
    first = found["runs"][1]
    assert (first["name"], first["folds"], first["folds_done"]) == ("first", 2, {"mask": 2, "gender": 2, "age": 2})
    assert first["scores"] == read_json(outputs / "first" / "scores.json")
    assert first["settings"]["age"] == read_json(outputs / "first" / "age" / "fold0" / "config.json")["settings"]
    assert first["differs"] == {"backbone": "test_efficientnet", "age.lr": 0.001}


def test_an_unfinished_run_is_listed_as_far_as_it_has_come(outputs: Path, capsys: pytest.CaptureFixture) -> None:
    (outputs / "first" / "scores.json").unlink()
    shutil.rmtree(outputs / "first" / "age")
    (outputs / "first" / "gender" / "fold1" / "DONE").unlink()
    runs.main(["list", "--outputs", str(outputs)])
    blocks = [block.splitlines() for block in capsys.readouterr().out.split("\n\n")]
    assert blocks[0][3].split()[3:6] == ["2/2", "1/2", "-"]
    assert [line.split()[0] for line in blocks[1][2:]] == ["second"]
    assert blocks[3][3].split(maxsplit=1) == ["first", "backbone test_efficientnet"]


def test_a_run_that_averages_others_differs_in_its_average_alone(outputs: Path, capsys: pytest.CaptureFixture) -> None:
    for task in ("mask", "gender", "age"):
        shutil.rmtree(outputs / "first" / task)
        noted = read_json(outputs / "first" / f"{task}.json")
        write_json(outputs / "first" / f"{task}.json", noted | {"average": "logit"})
    runs.main(["list", "--outputs", str(outputs)])
    last = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert {line.strip() for line in last[2:]} == {"second  average log_prob", "first   average logit"}


def test_a_damaged_run_is_named_and_hides_no_other(outputs: Path, capsys: pytest.CaptureFixture) -> None:
    (outputs / "first" / "run.json").write_text("{", encoding="utf-8")
    runs.main(["list", "--outputs", str(outputs)])
    out = capsys.readouterr().out
    assert f"cannot be read: {outputs / 'first' / 'run.json'}: not valid JSON" in out
    assert "  second  " in out


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"--outputs {tmp_path}: no run in it; run train.py first"):
        runs.main(["list", "--outputs", str(tmp_path)])

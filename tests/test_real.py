"""Scores on photos of real people: exact figures on toys, tables that are refused, a run from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
from drawn_faces import blank, drawn_photo
from serving_toys import make_run
from test_export import write_crops

from core.cli import UserError
from core.images import read_photo, write_photo
from dev.benchmarks import real
from dev.benchmarks.real import CLASSES, RealPhoto, RealPrediction
from serving import export

LABELS = (
    *[("w0", "wear", ""), ("w1", "wear", ""), ("n0", "incorrect", "nose"), ("c0", "incorrect", "chin")],
    *[("b0", "not_wear", ""), ("b1", "not_wear", "")],
)
PROBS = {
    "w0": (0.9, 0.1, 0.0),
    "w1": (0.3, 0.3, 0.4),
    "n0": (0.2, 0.8, 0.0),
    "c0": (0.0, 0.03, 0.97),
    "b0": (0.0, 0.0, 1.0),
}


def make_photos(folder: Path, below: str = "photos", labels: str = "labels.csv", column: str = "file") -> Path:
    photo, _ = drawn_photo()
    rows = [f"{column},mask,kind,source"]
    for name, mask, kind in LABELS:
        write_photo(folder / below / f"{name}.png", photo)
        rows.append(f"{name}.png,{mask},{kind},toy")
    (folder / labels).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def write_predictions(path: Path, probs: dict[str, tuple[float, ...]] = PROBS) -> Path:
    rows = [f"file,{','.join(CLASSES)}", *(f"{name}.png,{','.join(map(str, row))}" for name, row in probs.items())]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def run(tmp_path: Path, *flags: object) -> dict:
    out = tmp_path / "out"
    real.main(["--photos", str(tmp_path / "data"), "--out", str(out), *map(str, flags)])
    return json.loads((out / "scores.json").read_text(encoding="utf-8"))


def test_scores_of_somebody_elses_probabilities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_photos(tmp_path / "data")
    scores = run(tmp_path, "--predictions", write_predictions(tmp_path / "theirs.csv"))
    assert scores["count"] == 6 and scores["status"] == {"given": 5, "missing": 1}
    assert scores["of_all"]["accuracy"]["value"] == pytest.approx(3 / 6)
    assert scores["of_found"]["accuracy"]["value"] == pytest.approx(3 / 5)
    # F1 over all: worn 2/3, wrong 2/3; of two bare ones one is found, and two others are taken for bare: 2/5.
    assert scores["of_all"]["macro_f1"]["value"] == pytest.approx((2 / 3 + 2 / 3 + 2 / 5) / 3)
    low, high = (scores["of_all"]["accuracy"][end] for end in ("low", "high"))
    assert 0 <= low < 0.5 < high <= 1
    assert scores["recall"] == {
        "wear": {"right": 1, "count": 2, "value": 0.5},
        "incorrect": {"right": 1, "count": 2, "value": 0.5},
        "not_wear": {"right": 1, "count": 2, "value": 0.5},
    }
    assert scores["recall_of_kind"] == {
        "chin": {"right": 0, "count": 1, "value": 0.0},
        "nose": {"right": 1, "count": 1, "value": 1.0},
    }
    # w1 is masked with .6, though likeliest bare; b1 has no prediction.
    assert scores["worn_or_bare"]["of_found"] == {"right": 3, "count": 3, "value": 1.0}
    assert scores["worn_or_bare"]["of_all"] == {"right": 3, "count": 4, "value": 0.75}
    assert scores["sure_mistakes"] == pytest.approx(1 / 6)
    # Each of five photos in a bin of its own, except .97 and 1.0 together.
    expected = (abs(1 - 0.9) + abs(0 - 0.4) + abs(1 - 0.8) + 2 * abs(0.5 - 0.985)) / 5
    assert scores["ece"] == pytest.approx(expected)
    said = capsys.readouterr().out
    assert "chin        0/1 = 0.000" in said and "2 mistakes" in said


def test_mistakes_are_shown_surest_first(tmp_path: Path) -> None:
    make_photos(tmp_path / "data")
    photos = real.read_labels(tmp_path / "data")
    wrong = real.mistakes(photos, real.read_predictions(write_predictions(tmp_path / "p.csv"), [*map(name_of, photos)]))
    assert [photo.file for photo, _ in wrong] == ["c0.png", "w1.png"]
    run(tmp_path, "--predictions", tmp_path / "p.csv")
    assert read_photo(tmp_path / "out" / "mistakes.jpg").shape[1] == 2 * 192


def name_of(photo: RealPhoto) -> str:
    return photo.file


def test_all_right_needs_no_sheet(tmp_path: Path) -> None:
    make_photos(tmp_path / "data")
    probs = {name: tuple(np.eye(3)[CLASSES.index(mask)]) for name, mask, _ in LABELS}
    scores = run(tmp_path, "--predictions", write_predictions(tmp_path / "p.csv", probs))
    assert scores["of_all"]["macro_f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert not (tmp_path / "out" / "mistakes.jpg").exists()


def test_a_run_predicts_the_main_face_and_its_table_can_be_read_again(tmp_path: Path) -> None:
    data = make_photos(tmp_path / "data", below=".", labels="photos.csv", column="path")
    write_photo(data / "b1.png", blank(96, 128))
    scores = run(tmp_path, "--run-dir", make_run(tmp_path / "run", ("mask", "age")), "--device", "cpu")
    assert scores["status"] == {"detected": 5, "missing": 1}
    kept = (tmp_path / "out" / "predictions.csv").rename(tmp_path / "kept.csv")
    again = run(tmp_path, "--predictions", kept)
    assert again["status"] == scores["status"]
    assert again["of_all"] == scores["of_all"] and again["ece"] == pytest.approx(scores["ece"], abs=1e-4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("x.png,1,0,0", "1 files are not in the labels: x.png"),
        ("w0.png,0.5,0,0", "not probabilities with a sum of 1"),
        ("w0.png,-1,1,1", "not probabilities with a sum of 1"),
        ("w0.png,nan,0,1", "not probabilities with a sum of 1"),
        ("w0.png,a,0,1", "line 2"),
    ],
)
def test_a_bad_table_of_probabilities_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f"file,{','.join(CLASSES)}\n{rows}\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        real.read_predictions(path, ["w0.png"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,mask\na.png,wear\n", "line 2: path 'a.png': no such file"),
        ("file,mask\nw0.png,half\n", "line 2: mask 'half'; allowed are"),
        ("file,mask\nw0.png,\n", "no photo with a label"),
        ("file,kind\nw0.png,\n", "columns file and mask are needed"),
    ],
)
def test_bad_labels_are_refused(tmp_path: Path, table: str, message: str) -> None:
    data = make_photos(tmp_path / "data")
    (data / "labels.csv").write_text(table, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        real.read_labels(data)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither labels\.csv nor photos\.csv"):
        real.read_labels(tmp_path)


def test_no_prediction_at_all_is_refused() -> None:
    with pytest.raises(UserError, match="no photo has a prediction"):
        real.score([RealPhoto("a", Path("a"), 0)], {})


def test_a_class_that_is_nowhere_does_not_count() -> None:
    photos = [RealPhoto("a", Path("a"), 0), RealPhoto("b", Path("b"), 0)]
    scores = real.score(photos, {name: RealPrediction(np.array([1.0, 0, 0])) for name in "ab"})
    assert scores["of_all"]["macro_f1"]["value"] == 1
    assert scores["recall"]["not_wear"] == {"right": 0, "count": 0, "value": None}
    assert "not_wear    0/0\n" in real.format_scores(scores)


def test_an_export_scores_as_its_run(tmp_path: Path) -> None:
    make_photos(tmp_path / "data")
    run_dir = make_run(tmp_path / "run", ("mask",))
    write_crops(run_dir / "crops")
    export.main(["--run-dir", str(run_dir), "--task", "mask", "--crops", "6"])
    trained, exported = (
        run(tmp_path, "--run-dir", run_dir, "--device", "cpu"),
        run(tmp_path, "--onnx", run_dir / "onnx"),
    )
    assert exported["of_all"] == trained["of_all"] and exported["recall"] == trained["recall"]

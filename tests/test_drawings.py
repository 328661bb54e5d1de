"""Drawings on training crops: made once, of all classes, learned from and never scored."""

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_faces import drawn_photo
from toy_data import FAST, ToyRun, edit_csv, refusal, table, train_toy

import train
from core.alignment import typical_landmarks
from core.cli import UserError
from core.cropping import GREY, CropSettings, crop_face
from core.files import read_json
from core.images import read_photo, write_photo
from core.locks import LOCK_NAME, locked
from core.tasks import task_named
from dataset import Draw, JoinedDataset
from storage.crops import Crops, content_of, load_crops
from storage.drawings import drawings_path, load_drawings, read_drawings
from synthesis import draw_crops
from synthesis.draw_crops import draw_missing, drawings_of, drawn, plan
from training.config import Config
from training.fold_setup import FoldData

pytest_plugins = ("toy_fixtures",)
MASK = task_named("mask")
SETTINGS = CropSettings()


@pytest.fixture
def crops(toy_crops: Callable[[Sequence[dict[str, str]]], Crops]) -> Crops:
    """A bare face whose photo ends at the chin, and one with a mask, of another person."""
    rgb, box = drawn_photo(240, 320)
    landmarks, rows = typical_landmarks(box), []
    rgb = rgb[: round(box.y2)]
    for name, mask in (("a", "not_wear"), ("b", "wear")):
        facts = dict(zip(("x1", "y1", "x2", "y2"), map(str, box), strict=True))
        facts |= {"image_id": name, "person": name, "path": f"{name}.png", "split": "train", "mask": mask}
        facts |= {"width": str(rgb.shape[1]), "height": str(rgb.shape[0]), "gender": "female", "age": "30"}
        rows.append(facts | {"landmarks": " ".join(map(str, landmarks.ravel()))})
    made = toy_crops(rows)
    made.source["crop"] = asdict(SETTINGS)
    for path in made.paths:
        write_photo(path, crop_face(rgb, box, SETTINGS, landmarks))
    made.frame["content"] = [content_of(path) for path in made.paths]
    return made


def files_of(crops: Crops) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((crops.crop_dir / "drawings").glob("*.jpg"))}


def no_work(*_: object) -> None:
    raise AssertionError("nothing should be drawn")


def test_a_bare_face_gets_all_classes_and_a_mask_stays(crops: Crops) -> None:
    draw_missing(crops, 6)
    made = load_drawings(crops, 6)
    of_bare = made.frame[made.frame["of"] == "a"]
    assert sorted(of_bare["mask"]) == sorted(2 * MASK.classes)
    assert list(made.frame["mask"][made.frame["of"] == "b"]) == ["wear"]
    assert set(made.frame["person"]) == {"a", "b"} and set(made.frame["split"]) == {"drawn"}
    assert len({read_photo(path).tobytes() for path in made.paths}) == 7
    assert {read_photo(path).shape for path in made.paths} == {(320, 320, 3)}


def test_what_is_there_is_not_drawn_again(crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_missing(crops, 3)
    first = files_of(crops)
    draw_missing(crops, 4)
    assert files_of(crops).items() >= first.items() and len(files_of(crops)) == 5
    (crops.crop_dir / "drawings" / "a.png-1.jpg").write_bytes(b"rotten")
    draw_missing(crops, 4)
    assert files_of(crops)["a.png-1.jpg"] == first["a.png-1.jpg"]
    monkeypatch.setattr(draw_crops, "run_parallel", no_work)
    draw_missing(crops, 4)
    assert load_drawings(crops, 2).frame["number"].tolist() == ["0", "1", "0"]


def test_facts_called_as_columns_of_the_table_stay(crops: Crops) -> None:
    draw_missing(crops, 3)
    crops.frame["of"], crops.frame["number"] = ["x", "y"], ["7", "8"]
    made = load_drawings(crops, 3)
    assert made.image_ids == ["a drawn 0", "a drawn 1", "a drawn 2", "b drawn 0"]
    assert (made.frame["of"].tolist(), made.frame["number"].tolist()) == (["x", "x", "x", "y"], ["7", "7", "7", "8"])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("path", "../precious.jpg"),
        ("path", "drawings/../../precious.jpg"),
        ("path", "/precious.jpg"),
        ("number", "many"),
        ("mask", "hat"),
    ],
)
def test_a_row_that_is_no_drawing_is_refused_and_nothing_removed(crops: Crops, column: str, value: str) -> None:
    draw_missing(crops, 1)
    precious = crops.crop_dir.parent / "precious.jpg"
    precious.write_bytes(b"precious")
    edit_csv(drawings_path(crops.crop_dir), lambda frame: frame.assign(**{column: value, "key": "other"}))
    with pytest.raises(UserError, match=r"not the path, the number and the mask of a drawing; remove .*drawings, and"):
        draw_missing(crops, 1)
    assert precious.exists()


def test_a_training_waits_for_the_drawings_of_another(crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    began = threading.Event()
    monkeypatch.setattr(draw_crops, "draw_missing", lambda *_: began.set())
    folder = crops.crop_dir / "drawings"
    folder.mkdir()
    with locked(folder / LOCK_NAME, "--crop-dir"):
        thread = threading.Thread(target=drawings_of, args=(crops, 1))
        thread.start()
        assert not began.wait(0.2)
    thread.join(30)
    assert began.is_set() and not thread.is_alive()


def test_another_crop_has_other_drawings(crops: Crops) -> None:
    draw_missing(crops, 3)
    first = files_of(crops)
    write_photo(crops.paths[0], read_photo(crops.paths[0])[:, ::-1])
    crops.frame.loc[0, "content"] = content_of(crops.paths[0])
    draw_missing(crops, 3)
    assert [name for name, content in files_of(crops).items() if content == first[name]] == ["b.png-0.jpg"]


def test_a_label_that_was_corrected_since_is_not_learned_from_drawings(crops: Crops) -> None:
    draw_missing(crops, 3)
    crops.frame["mask"] = ["wear", "incorrect"]
    assert list(load_drawings(crops, 3).frame["mask"]) == ["wear"]


def test_photos_without_landmarks_are_counted(crops: Crops, capsys: pytest.CaptureFixture) -> None:
    crops.frame["landmarks"] = ""
    assert drawings_of(crops, 3) is None
    assert "drawings: nothing is drawn on 2 photos, whose landmarks are not known" in capsys.readouterr().out
    assert drawings_of(crops, 0) is None


@pytest.mark.parametrize("continued", [0.0, 1.0])
def test_where_the_photo_has_ended_it_goes_on_or_is_grey(
    crops: Crops, continued: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draw_crops, "CONTINUED", continued)
    for job in plan(crops, 6)[0]:
        image = drawn(read_photo(job.crop_path), job)
        assert (image[-20:] == GREY).all() == (not continued)


def test_a_mask_is_drawn_on_the_mouth_and_things_leave_a_mask_alone(crops: Crops) -> None:
    jobs, _ = plan(crops, 30)
    plain = read_photo(crops.paths[0]).astype(int)
    for job in jobs:
        x, y = np.rint(job.landmarks[3:].mean(axis=0)).astype(int)
        changed = np.abs(drawn(read_photo(job.crop_path), job) - plain)[y - 2 : y + 3, x - 2 : x + 3].max()
        if job.row["mask"] == "wear" and not job.keeps_mask:
            assert changed > 20
        if job.keeps_mask:
            assert changed < 20


def test_drawings_of_a_fold_s_own_people_are_not_learned_from(crops: Crops) -> None:
    data = FoldData(MASK, 0, crops, [2, 0], {"a": 0, "b": 1}, drawings_of(crops, 3))
    (photos, _), (pictures, labels) = data.learned(Config())
    assert photos.image_ids == ["b"]
    assert (pictures.image_ids, labels) == (["b drawn 0"], [0])
    assert data.part(out_of_fold=True)[0].image_ids == ["a"]


def test_training_learns_from_drawings_and_scores_photos_alone(drawn_run: ToyRun, tmp_path: Path) -> None:
    crop_dir, run_dir = shutil.copytree(drawn_run.crop_dir, tmp_path / "crops"), tmp_path / "run"
    train_toy(crop_dir, run_dir, ("mask",), ("--fold", "0", "--epochs", "1", "--drawn", "3"))
    photos = load_crops(crop_dir, "train").image_ids
    assert set(table(run_dir / "mask" / "fold0" / "oof.csv")["image_id"]) < set(photos)
    config = read_json(run_dir / "mask" / "fold0" / "config.json")
    assert config["settings"]["drawn"] == 3 and config["drawings_hash"]
    assert set(read_drawings(crop_dir)["of"]) <= set(photos)


def test_settings_that_cannot_be_trained_are_refused_before_anything_is_drawn(
    drawn_run: ToyRun, tmp_path: Path
) -> None:
    crop_dir = shutil.copytree(drawn_run.crop_dir, tmp_path / "crops")
    shutil.rmtree(crop_dir / "drawings", ignore_errors=True)
    argv = ["--task", "mask", "--crop-dir", crop_dir, "--run-dir", tmp_path / "run", *FAST, "--drawn", "3"]
    flags = ["--backbone", "dla34", "--image-size", "100"]
    refusal(train.main, [*argv, *flags], "dla34", "--image-size 128", untouched=[crop_dir])


def test_joined_datasets_number_their_items_through() -> None:
    class Numbers(torch.utils.data.Dataset):
        def __init__(self, first: int, count: int) -> None:
            self.first, self.count = first, count

        def __len__(self) -> int:
            return self.count

        def __getitem__(self, item: int | Draw) -> tuple[int, int, int]:
            index, seed = (item.index, item.seed) if isinstance(item, Draw) else (item, 0)
            return self.first + index, seed, index

    joined = JoinedDataset([Numbers(10, 2), Numbers(20, 3)])
    assert len(joined) == 5
    assert [joined[index] for index in range(5)] == [(10, 0, 0), (11, 0, 1), (20, 0, 2), (21, 0, 3), (22, 0, 4)]
    assert joined[Draw(3, 7)] == (21, 7, 3)

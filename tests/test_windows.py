"""Windows of a crop: what a network is shown of it, and crops of earlier versions, which hold the face alone."""

import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from toy_data import FAST, Toy, infer, sign, table, train_toy

import train
from core.alignment import typical_landmarks
from core.boxes import Box, carry_points
from core.cli import UserError
from core.cropping import GREY, CropSettings, crop_face, shared_settings, to_crop
from core.files import read_json, write_json
from core.images import write_photo
from preprocessing import crop_faces
from storage.crop_cache import Shown, open_crop_cache
from storage.crops import Crops, content_of, load_crops, source_path
from training.config import Config, resolve
from training.inputs import shown_of

pytest_plugins = ("toy_fixtures",)
BOX = Box(20, 30, 60, 90)
MakeCrops = Callable[[Sequence[dict[str, str]]], Crops]


def noise(height: int = 120, width: int = 100) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 120, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "align", "aspect"), list(itertools.product((16, 64, 300), (True, False), (0.75, 1.0, 2.0)))
)
def test_the_window_of_the_face_is_the_crop_of_earlier_versions(size: int, align: bool, aspect: float) -> None:
    settings = CropSettings(size=size, align=align, aspect=aspect)
    crop = crop_face(noise(), BOX, settings)
    assert crop.shape[:2] == settings.shape == settings.shape_of("wide")
    earlier = crop_face(noise(), BOX, replace(settings, surroundings=False))
    assert np.array_equal(settings.cut(crop, "face"), earlier)
    assert settings.cut(crop, "wide") is crop


def test_room_is_in_whole_blocks_of_a_jpeg() -> None:
    assert CropSettings().room == (16, 80, 48)
    assert CropSettings().shape == (320, 320)
    assert CropSettings().face_window == (slice(16, 240), slice(48, 272))


@pytest.mark.parametrize("align", [True, False])
def test_surroundings_are_those_of_the_photo_and_grey_beyond_it(align: bool) -> None:
    settings = CropSettings(size=56, align=align)
    crop = crop_face(np.full((120, 400, 3), 10, np.uint8), Box(180, 80, 220, 130), settings)
    assert (crop[:40] == 10).all()
    assert (crop[-18:] == GREY).all()
    # Mirrored within the face's window, which ends below the photo.
    assert (settings.cut(crop, "face") == 10).all()


@pytest.mark.parametrize("align", [True, False])
def test_points_of_the_photo_are_found_in_the_crop(align: bool) -> None:
    photo, settings = np.zeros((300, 300, 3), np.uint8), CropSettings(size=224, align=align)
    box = Box(120, 120, 160, 180)
    photo[160, 140] = 255
    (place,) = carry_points(to_crop(box, settings, typical_landmarks(box)), np.array([(140.5, 160.5)]))
    crop = crop_face(photo, box, settings, typical_landmarks(box))
    brightest = np.argwhere(crop[..., 0] > 128).mean(axis=0)[::-1] + 0.5
    assert np.abs(brightest - place).max() < 0.6


def test_crops_of_earlier_versions_have_no_surroundings() -> None:
    settings = CropSettings.read("source.json", {"margin": 0.1, "aspect": 1.0, "size": 224, "align": True})
    assert settings == CropSettings(surroundings=False)
    assert settings.shape_of("face") == settings.shape == (224, 224)
    crop = np.zeros((224, 224, 3), np.uint8)
    assert settings.cut(crop, "face") is crop
    for ask in (settings.refuse_absent, settings.shape_of, lambda window: settings.cut(crop, window)):
        with pytest.raises(UserError, match=r"--window wide: .*crop_faces\.py again, or give --window face"):
            ask("wide")


def test_settings_that_serve_several_models() -> None:
    new, old = CropSettings(), CropSettings(surroundings=False)
    assert shared_settings([new, old], ["face"]) == old
    assert shared_settings([new, new], ["face", "wide"]) == new
    assert shared_settings([new, CropSettings(margin=0.2)], ["face"]) is None


def test_the_caches_of_windows_lie_beside_one_another(toy_crops: MakeCrops) -> None:
    settings = CropSettings(size=28)
    crops = toy_crops([{"image_id": "a", "path": "a.png", "split": "train"}])
    crops.source["crop"] = asdict(settings)
    picture = np.full((*settings.shape, 3), 200, np.uint8)
    picture[settings.face_window] = 50
    write_photo(crops.crop_dir / "a.png", picture)
    crops.frame["content"] = [content_of(path) for path in crops.paths]
    face, wide = (open_crop_cache(crops, Shown(window, (14, 14))) for window in ("face", "wide"))
    assert (face.image(0) == 50).all()
    assert wide.image(0).max() == 200
    assert face.path.exists() and wide.path.name.endswith("-wide14x14.npy")


def test_the_mask_is_shown_the_surroundings_and_other_tasks_the_face() -> None:
    source = {"crop": asdict(CropSettings(aspect=0.8))}
    assert {task: resolve(task, "quick", {}).window for task in ("mask", "gender", "age")} == {
        **{"mask": "wide", "gender": "face", "age": "face"}
    }
    assert shown_of(Config(window="wide"), source) == Shown("wide", (112, 112))
    assert shown_of(Config(), source) == Shown("face", (112, 90))


@pytest.fixture
def earlier_crops(toy: Toy, tmp_path: Path) -> Path:
    """The toy's crop folder as an earlier version made it."""
    crop_dir = shutil.copytree(toy.crop_dir, tmp_path / "earlier")
    args = crop_faces.parse_args(["--crop-dir", str(crop_dir), "--workers", "1"])
    settings = replace(load_crops(crop_dir, "train").settings, surroundings=False)
    crop_faces.crop(args, settings)
    source = read_json(source_path(crop_dir))
    del source["crop"]["surroundings"]
    write_json(source_path(crop_dir), source)
    return crop_dir


def test_surroundings_that_are_not_there_are_refused_before_anything_is_written(
    earlier_crops: Path, tmp_path: Path
) -> None:
    flags = ("--crop-dir", str(earlier_crops), "--run-dir", str(tmp_path / "run"), *FAST)
    with pytest.raises(UserError, match=r"--window wide: .*crop_faces\.py again, or give --window face"):
        train.main(["--task", "mask", *flags])
    assert not (tmp_path / "run").exists()


def test_a_run_of_an_earlier_version_works_on_new_crops(earlier_crops: Path, toy: Toy, tmp_path: Path) -> None:
    run_dir, config = tmp_path / "run", tmp_path / "run" / "gender" / "fold0" / "config.json"
    train_toy(earlier_crops, run_dir, ("gender",), ("--fold", "0"))
    stored = read_json(config)
    del stored["settings"]["window"]
    write_json(config, stored)
    sign(config)
    infer(run_dir)
    infer(run_dir, "--crop-dir", str(toy.crop_dir), "--output-dir", str(tmp_path / "new"))
    old, new = (table(folder / "gender" / "fold0" / "eval.csv") for folder in (run_dir, tmp_path / "new"))
    assert list(old["image_id"]) == list(new["image_id"])
    # Crops of this size are no whole blocks of a JPEG, and differ by its noise.
    np.testing.assert_allclose(old.iloc[:, 1:], new.iloc[:, 1:], atol=0.3)

"""Several frozen backbones side by side: features in order, each computed and kept once, exported, refused unfrozen."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_data import FAST, Toy, refusal, train_toy

import train
from backbones.face_resnet import MEAN, STD
from backbones.side_by_side import SideBySide, parts_of
from core.cli import UserError
from core.cropping import CropImages
from core.files import read_json
from core.images import read_photo
from model import OnPixels, build_model, normalisation, pretrained_config
from serving import export
from storage.crop_cache import Shown
from storage.crops import load_crops
from training import feature_cache
from training.config import resolve
from training.frozen_backbone import FrozenBackbone
from training.inputs import PredictOptions
from training.predictor import load_predictor, predict_crops, predict_images

pytest_plugins = ("toy_fixtures",)

A, B, C = "test_efficientnet_ln", "test_vit", "test_resnet"
FLAGS = ("--backbone-lr", "0", "--tta", "flip", "--fold", "0", "--epochs", "1")


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference.cpu_count", lambda: 1)


@pytest.fixture(scope="module")
def crop_dir(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(toy.crop_dir, tmp_path_factory.mktemp("side") / "crops")


@pytest.fixture(scope="module")
def run_dir(crop_dir: Path) -> Path:
    train_toy(crop_dir, crop_dir.parent / "run", ("gender",), ("--backbone", f"{A}+{B}", *FLAGS))
    return crop_dir.parent / "run"


def folders(crop_dir: Path) -> set[str]:
    return {path.name for path in (crop_dir / "features").iterdir()}


def test_features_are_those_of_each_alone_in_order() -> None:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    both = build_model(f"{A}+{B}", 3, image_size=(64, 64)).eval()
    expected = []
    for part, name in zip(both.parts, (A, B), strict=True):
        own = pretrained_config(name).input_size[1]
        scaled = torch.nn.functional.interpolate(pixels, (own, own), mode="bilinear", antialias=True)
        alone = build_model(name, 3, image_size=(own, own)).eval()
        state = part.network.state_dict()
        alone.load_state_dict({**alone.state_dict(), **state})
        expected.append(OnPixels(alone, *normalisation(name)).features(scaled))
    with torch.inference_mode():
        found = OnPixels(both, *normalisation(f"{A}+{B}")).features(pixels)
    torch.testing.assert_close(found, torch.cat(expected, dim=1), atol=2e-2, rtol=2e-2)


def test_names_of_parts() -> None:
    assert [parts_of(name) for name in ("a+b", "+a", "a")] == [["a", "b"], ["a"], ["a"]]
    assert isinstance(build_model(f"{A}+{B}", 2, image_size=(48, 40)), SideBySide)


def test_each_backbone_has_a_file_of_weights(run_dir: Path) -> None:
    files = sorted(path.name for path in (run_dir / "backbones").iterdir())
    assert [name.rpartition("-")[0] for name in files] == sorted((A, B))
    stored = read_json(run_dir / "gender" / "fold0" / "config.json")["backbone_file"]
    assert sorted(stored.split("+")) == files
    assert not [name for name in load_file(run_dir / "backbones" / files[0]) if name.startswith("classifier")]


def test_another_beside_them_recomputes_nothing(
    run_dir: Path, crop_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, asked, features_of = folders(crop_dir), [], feature_cache.features_of

    def record(model: OnPixels, images: np.ndarray, backbone: FrozenBackbone, *rest: object) -> object:
        asked.append(backbone.name)
        return features_of(model, images, backbone, *rest)

    monkeypatch.setattr(feature_cache, "features_of", record)
    train_toy(crop_dir, tmp_path, ("gender",), ("--backbone", f"{B}+{C}+{A}", *FLAGS))
    assert set(asked) == {f"+{C}"}
    assert len(folders(crop_dir) - before) == 1
    predictor = load_predictor(tmp_path / "gender" / "fold0", "gender")
    crops = load_crops(crop_dir, "eval")
    found = predict_crops(predictor, crops, PredictOptions("cpu", 0, "flip"))
    images = CropImages([read_photo(path) for path in crops.paths], crops.settings)
    pictures = predict_images(predictor, images, PredictOptions("cpu", 0, "flip"))
    np.testing.assert_allclose(found.logits, pictures.logits, atol=0.05)


def test_a_part_that_is_shown_the_same_as_alone_is_cached_as_alone() -> None:
    """So that features of a network are not computed again for a task that has it beside others."""
    alone = FrozenBackbone("face_gender", Path("g.safetensors"), Shown("face", (150, 150)), MEAN, STD, True, True)
    both = replace(alone, name="face_gender+test_vit", weights=Path("g.safetensors+v.safetensors"), mean=(0.0,) * 3)
    same, other = both.parts
    assert same == alone
    assert (other.name, other.weights.name, other.mean) == ("+test_vit", "+v.safetensors", (0.0,) * 3)
    assert replace(both, shown=Shown("face", (48, 48))).parts[0].name == "+face_gender"


def test_the_export_agrees(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export.main(["--run-dir", str(run_dir), "--folds", "0", "--crops", "8"])
    assert "torch and ONNX on" in capsys.readouterr().out
    assert (run_dir / "onnx" / "all.onnx").exists()


def test_unfrozen_is_refused(crop_dir: Path, tmp_path: Path) -> None:
    flags = ["--task", "gender", "--crop-dir", str(crop_dir), "--run-dir", str(tmp_path), *FAST]
    assert "networks side by side are frozen; give --backbone-lr 0" in refusal(
        train.main, [*flags, "--backbone", f"{A}+{B}", "--backbone-lr", "1"]
    )


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(UserError, match="'resnet18s' is not a timm model; did you mean resnet18"):
        normalisation(f"{A}+resnet18s")


def test_they_are_frozen_by_default() -> None:
    found = resolve("age", "quick", {"backbone": f"{A}+{B}"})
    assert (found.backbone_lr, found.image_size, found.ridge_share) == (0, 150, 0.5)

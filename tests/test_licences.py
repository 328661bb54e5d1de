"""--weights-licence open: which weights it refuses, and what it says they were learned from."""

import pytest

from backbones.licences import ALLOWED_TAGS
from core.cli import UserError
from core.tasks import task_named
from model import refuse_weights
from training.config import resolve
from training.fold_setup import refuse_unusable


@pytest.mark.parametrize(
    ("backbone", "photos"),
    [
        ("face_pair", "photos of faces for research"),
        ("face_resnet29", "FaceScrub and VGG Face"),
        ("face_gender", "faces that Cydral Technology did not publish"),
        ("tf_efficientnet_lite0", "ImageNet"),
        ("resnet18.a1_in1k", "ImageNet"),
        ("vit_base_patch16_clip_224.laion2b_ft_in1k", "ImageNet"),
        ("vit_base_patch16_clip_224.metaclip_400m", "photos that nobody has named"),
        ("resnet50_clip.yfcc15m", "non-commercial"),
    ],
)
def test_photos_for_research_are_refused_by_name(backbone: str, photos: str) -> None:
    with pytest.raises(UserError, match=f"--weights-licence open: the weights of {backbone} .*{photos}"):
        refuse_weights(backbone)


def test_the_message_says_what_is_allowed() -> None:
    with pytest.raises(UserError, match=r"allowed are --no-pretrained and .*\.openai$"):
        refuse_weights("face_pair")
    refuse_weights("vit_base_patch16_clip_224.openai")


@pytest.mark.parametrize("tag", ALLOWED_TAGS)
def test_each_allowed_tag_has_weights(tag: str) -> None:
    import timm

    names = [name for name in timm.list_pretrained() if tag in name.partition(".")[2]]
    assert any(not _is_refused(name) for name in names)


def _is_refused(backbone: str) -> bool:
    try:
        refuse_weights(backbone)
    except UserError:
        return True
    return False


def test_training_asks_only_for_pretrained_weights() -> None:
    age = task_named("age")
    refuse_unusable(age, resolve("age", "quick", {}))
    refuse_unusable(age, resolve("age", "quick", {"weights_licence": "open", "pretrained": False}))
    with pytest.raises(UserError, match="--weights-licence open"):
        refuse_unusable(age, resolve("age", "quick", {"weights_licence": "open"}))


def test_it_is_no_part_of_what_is_learned() -> None:
    assert "weights_licence" not in resolve("age", "quick", {"weights_licence": "open"}).learned()

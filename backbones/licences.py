"""What pretrained weights were learned from, and whether that was offered for research alone.

Licences of weights and terms of photos are two things: weights may be free while the photos they were learned from
are offered for non-commercial research. Whether such terms bind the weights is a legal question.
"""

import re
from dataclasses import dataclass

from core.cli import UserError

ANY, OPEN = "any", "open"
FREE_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0")
"""Licences of weights that allow commercial use, as timm names them."""


@dataclass(frozen=True)
class Photos:
    """Photos that weights were learned from. `open` is False where they, or a part of them, are for research alone."""

    named: str
    open: bool


IMAGENET = Photos("ImageNet, which is for non-commercial research", open=False)
FACES = Photos("photos of faces for research, such as VGG Face", open=False)
UNKNOWN = Photos("photos that nobody has named", open=False)
BY_BACKBONE = {
    "face_resnet29": Photos("FaceScrub and VGG Face, which are for research, and the web", open=False),
    "sface_alone": Photos("faces by identity; OpenCV Zoo does not say which", open=False),
    "face_pair": FACES,
    "face_gender": Photos("200,000 faces that Cydral Technology did not publish", open=False),
}
"""Of the networks in packages, by name."""
BY_TAG = (
    # The first that fits: a network fine-tuned on ImageNet was learned from it, too.
    (r"in(1|12|21|22)k|inw21k|lvd|mae|fcmae|dino|seer", IMAGENET),
    (r"openai", Photos("400 million photos of the web that OpenAI did not publish", open=True)),
    (r"laion", Photos("LAION: links to photos of the web", open=True)),
    (r"datacomp", Photos("DataComp: links to photos of the web", open=True)),
    (r"webli", Photos("WebLI: photos of the web that Google did not publish", open=True)),
    (r"yfcc15m|cc12m", Photos("photos of Flickr or the web, part of them under non-commercial licences", open=False)),
)
"""Of timm's weights, by a part of the tag (NAME.TAG)."""
ALLOWED_TAGS = ("openai", "laion", "datacomp", "webli")


def photos_of(backbone: str, tag: str) -> Photos:
    """Return what the weights of a backbone were learned from. `tag` is timm's, '' for none."""
    if backbone in BY_BACKBONE:
        return BY_BACKBONE[backbone]
    if ":" in backbone or not tag:
        return IMAGENET if backbone.startswith("tf_efficientnet_lite") else UNKNOWN
    return next((photos for pattern, photos in BY_TAG if re.search(pattern, tag)), UNKNOWN)


def refuse_licence(backbone: str, *, tag: str, licence: str | None) -> None:
    """UserError unless licence and photos of the weights are free for any use, as far as this project knows."""
    photos = photos_of(backbone, tag)
    allowed = (
        f"allowed are --no-pretrained and weights of timm whose tag names {', '.join(ALLOWED_TAGS)} alone, such as "
        f"vit_base_patch16_clip_224.openai"
    )
    if not photos.open:
        raise UserError(
            f"--weights-licence open: the weights of {backbone} were learned from {photos.named}; {allowed}"
        )
    if licence not in FREE_LICENCES:
        raise UserError(f"--weights-licence open: the licence of the weights of {backbone} is {licence}; {allowed}")

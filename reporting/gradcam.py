"""Grad-CAM heat maps over crops (doi:10.1109/ICCV.2017.74), with the optional package grad-cam."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from torch import Tensor, nn

from backbones.side_by_side import SideBySide
from core.cropping import CropImages
from training.predictor import Predictor, load_predictor


@dataclass(frozen=True)
class MapLayer:
    """Module whose output is the last feature map: (N, C, H, W), or (N, H, W, C) if `channels_last`."""

    module: nn.Module
    channels_last: bool


class HeatMaps:
    """Heat maps of fold models on the CPU. Each model is loaded once."""

    def __init__(self) -> None:
        self._predictors: dict[Path, Predictor] = {}

    def heat(self, fold_dir: Path, task: str, images: CropImages, classes: Sequence[int]) -> np.ndarray | None:
        """Return (N, H, W) float32 from 0 to 1: the regions of crop i, as shown, that speak for class `classes[i]`.

        None for a network without feature maps, such as a vision transformer.
        """
        predictor = self._predictor(fold_dir, task)
        shown = np.stack([predictor.input.shown.of(crop, images.settings) for crop in images.crops])
        pixels = torch.from_numpy(shown).permute(0, 3, 1, 2).float()
        layer = find_map_layer(predictor.model.network, pixels[:1])
        return None if layer is None else _grad_cam(predictor, layer, pixels, classes)

    def window(self, fold_dir: Path, task: str) -> str:
        """Return the window of crops that a fold's model is shown."""
        return self._predictor(fold_dir, task).config.window

    def _predictor(self, fold_dir: Path, task: str) -> Predictor:
        if fold_dir not in self._predictors:
            self._predictors[fold_dir] = load_predictor(fold_dir, task)
            self._predictors[fold_dir].model.cpu().eval().requires_grad_(False)
        return self._predictors[fold_dir]

    @staticmethod
    def overlay(rgb: np.ndarray, heat: np.ndarray) -> np.ndarray:
        """Return the image (h, w, 3) uint8 with the heat (H, W) laid over it."""
        resized = cv2.resize(heat, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR)
        return show_cam_on_image(rgb.astype(np.float32) / 255, resized.clip(0, 1), use_rgb=True, image_weight=0.6)


def find_map_layer(network: nn.Module, image: Tensor) -> MapLayer | None:
    """Find the last module that outputs the feature map of one image (1, 3, H, W); None if the network has none.

    Networks side by side have one each: that of the first is found.

    timm networks state their features: `forward_features` gives a map, or tokens (N, L, C) in a vision transformer,
    whose attention matrices look like maps but are none. `output_fmt` is "NHWC" for maps with the channels last.
    """
    if isinstance(network, SideBySide):
        return find_map_layer(network.parts[0].network, network.parts[0].shown(image))
    outputs: list[tuple[nn.Module, torch.Size]] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            outputs.append((module, output.shape))

    leaves = [module for module in network.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    with torch.inference_mode():
        features = network.forward_features(image) if hasattr(network, "forward_features") else network(image)
    for hook in hooks:
        hook.remove()
    if not isinstance(features, Tensor) or features.ndim == 3:
        return None
    channels_last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def has_places(shape: torch.Size) -> bool:
        return len(shape) == 4 and min(shape[1:3] if channels_last else shape[2:]) > 1

    # Pooled features (face_pair) and maps of a single place come after a larger map; take that one.
    found = [module for module, shape in outputs if has_places(shape)
             if not has_places(features.shape) or shape == features.shape]  # fmt: skip
    return MapLayer(found[-1], channels_last) if found else None


def _grad_cam(predictor: Predictor, layer: MapLayer, images: Tensor, classes: Sequence[int]) -> np.ndarray:
    # Gradients start at the maps: those of earlier layers and of the weights would take most of the time.
    hook = layer.module.register_forward_hook(lambda _module, _inputs, maps: maps.detach().requires_grad_().clone())
    to_channels_first = (lambda maps: maps.permute(0, 3, 1, 2)) if layer.channels_last else None
    with GradCAM(predictor.model, target_layers=[layer.module], reshape_transform=to_channels_first) as cam:
        heat = cam(input_tensor=images, targets=[_logit_of(predictor, label) for label in classes])
    hook.remove()
    return heat


def _logit_of(predictor: Predictor, label: int) -> Callable[[Tensor], Tensor]:
    """Return the function from the network's outputs (K,) for a photo to the logit of a class."""
    return lambda outputs: predictor.head.class_logits(outputs[None])[0, label]

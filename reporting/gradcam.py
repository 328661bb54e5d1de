"""Where a model looked: Grad-CAM heat over a crop, through the optional package grad-cam."""

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from core.images import read_photo
from storage.crop_cache import shrink
from training.predictor import Predictor, load_predictor

INSTALL = "pip install -r requirements-report.txt"


def is_installed() -> bool:
    return importlib.util.find_spec("pytorch_grad_cam") is not None


class Looks:
    """Heat maps of folds' models, each model loaded once. All on the CPU: there are only a few photos."""

    def __init__(self) -> None:
        self._predictors: dict[Path, Predictor] = {}

    def heat(self, fold_dir: Path, task: str, paths: Sequence[Path], classes: Sequence[int]) -> np.ndarray | None:
        """(N, H, W) float32 from 0 to 1: what spoke for the class `classes[i]` in the crop `paths[i]`.

        None for a network without feature maps.
        """
        if fold_dir not in self._predictors:
            self._predictors[fold_dir] = load_predictor(fold_dir, task)
            self._predictors[fold_dir].model.cpu().eval().requires_grad_(False)
        predictor = self._predictors[fold_dir]
        pictures = np.stack([shrink(read_photo(path), predictor.input.size) for path in paths])
        images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
        layer = _last_feature_map(predictor.model, images[:1])
        return None if layer is None else _grad_cam(predictor, layer, images, classes)


def overlay(path: Path, heat: np.ndarray) -> np.ndarray:
    """The crop with the heat (H, W) laid over it, (h, w, 3) uint8."""
    from pytorch_grad_cam.utils.image import show_cam_on_image

    rgb = read_photo(path)
    spread = cv2.resize(heat, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_LINEAR)
    return show_cam_on_image(rgb.astype(np.float32) / 255, spread.clip(0, 1), use_rgb=True, image_weight=0.6)


def _last_feature_map(model: nn.Module, image: Tensor) -> nn.Module | None:
    """The last module that gives maps (1, C, H, W) of more than one place."""
    found: list[nn.Module] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            found.append(module)

    leaves = [module for module in model.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    with torch.inference_mode():
        model(image)
    for hook in hooks:
        hook.remove()
    return found[-1] if found else None


def _grad_cam(predictor: Predictor, layer: nn.Module, images: Tensor, classes: Sequence[int]) -> np.ndarray:
    from pytorch_grad_cam import GradCAM

    # Gradients begin at the maps: those of the layers before and of the weights would cost most of the time.
    hook = layer.register_forward_hook(lambda _module, _inputs, maps: maps.detach().requires_grad_().clone())
    with GradCAM(model=predictor.model, target_layers=[layer]) as cam:
        heat = cam(input_tensor=images, targets=[_logit_of(predictor, label) for label in classes])
    hook.remove()
    return heat


def _logit_of(predictor: Predictor, label: int) -> Callable[[Tensor], Tensor]:
    """From a network's outputs (K,) for a photo to the logit of a class, whatever the outputs stand for."""
    return lambda outputs: predictor.head.class_logits(outputs[None])[0, label]

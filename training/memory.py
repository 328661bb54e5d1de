"""Estimate of the memory of a training step, so that a step that cannot fit is refused before it begins."""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from core.cli import UserError
from core.files import in_words
from model import build_model
from training.config import Config
from training.device import pick_device
from training.feature_cache import BATCH
from training.inputs import shown_of, training_input

CHECKED_PIXELS = 4_000_000
"""Pixels of a batch below which nothing is estimated: such a step takes a few GB at most."""
_IMAGES = 2
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def refuse_beyond_memory(config: Config, source: dict) -> None:
    """UserError if a step of this batch and image size takes more memory than the device has."""
    shown = shown_of(config, source)
    size, frozen = shown.size, training_input(config, shown).is_frozen
    images = BATCH if frozen else config.batch_size
    if images * size[0] * size[1] < CHECKED_PIXELS:
        return
    needed, there = images * image_bytes(config.backbone, size, learns=not frozen), _memory(config.device)
    if there and needed > there:
        raise UserError(
            f"--image-size {config.image_size}: a step of {images} images takes about {in_words(needed)} of memory, "
            f"and {in_words(there)} are there; give a smaller --image-size{'' if frozen else ' or --batch-size'}"
        )


def image_bytes(backbone: str, size: tuple[int, int], *, learns: bool) -> int:
    """Return the bytes of an image's activations: all that a backward pass needs, or the largest layer's.

    The network is on the meta device, where tensors have shapes and no memory. 0 for one that cannot be built there.
    """
    sizes = [0]

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    def keep_output(_: nn.Module, inputs: tuple, output: object) -> None:
        sizes.append(4 * sum(one.numel() for one in (*inputs, output) if isinstance(one, Tensor)))

    try:
        with torch.device("meta"):
            network = build_model(backbone, 1, image_size=size).train(learns)
            pixels = torch.empty(_IMAGES, 3, *size)
            if learns:
                with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                    network(pixels)
            else:
                for module in network.modules():
                    module.register_forward_hook(keep_output)
                with torch.inference_mode():
                    network(pixels)
    except (RuntimeError, NotImplementedError, ValueError, AssertionError):
        return 0
    return (sum(sizes) if learns else max(sizes)) // _IMAGES


def _memory(device_name: str) -> int:
    """Return the bytes of memory of the device, as far as this process may use them; 0 if unknown."""
    device = pick_device(device_name)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    if device.type != "cpu" or not hasattr(os, "sysconf"):
        return 0
    limits = [path.read_text().strip() for path in _LIMITS if path.exists()]
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([there, *map(int, filter(str.isdecimal, limits))])

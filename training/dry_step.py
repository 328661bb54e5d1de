"""One step of a training on two random images, before anything is written.

timm has a thousand architectures, and each may fail at a size, a device or a memory format in its own way.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn
from torch.optim import AdamW

from backbones.side_by_side import parts_of
from core.cli import UserError, limit_of_machine
from core.tasks import Task
from model import PACKAGED_WEIGHTS, OnPixels, build_model, normalisation, parameter_groups, pretrained_config
from storage.crop_cache import Shown
from training.config import Config
from training.device import Precision, pick_device, place, to_device
from training.fold_setup import FUSED_ON
from training.heads import build_head
from training.inputs import shown_of, training_input

PHOTOS = 2
SIZE_STEP, TRIES = 32, 4
"""Sizes that are tried where the one that was asked for fails: so many larger multiples."""
LEAST_CHANNELS = 16
BACKBONE_FAULTS = (
    *(RuntimeError, AssertionError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(MemoryError, ImportError),
)


def refuse_untrainable(task: Task, config: Config, source: dict) -> None:
    """UserError unless these settings can be trained with crops of this source; it names a setting that can."""
    error = _error_of(task, config, source)
    if error is None:
        return
    reason = " ".join((str(error).strip() or type(error).__name__).split())[:200]
    line = limit_of_machine(error)
    if line is not None:
        raise UserError(f"--backbone {config.backbone}: {line}") from error
    working = (flag for change, flag in _changes(config) if not _error_of(task, replace(config, **change), source))
    advice = next(working, "another --backbone, or another --device")
    height, width = shown_of(config, source).size
    raise UserError(
        f"--backbone {config.backbone}: cannot be trained on images of {height} x {width} pixels, --batch-size "
        f"{config.batch_size} ({reason}); give {advice}"
    ) from error


def _changes(config: Config) -> Iterator[tuple[dict, str]]:
    """Yield changes of settings that may help, with the flag to give, the size of its pretraining among them."""
    if config.batch_size == 1:
        yield {"batch_size": PHOTOS}, f"--batch-size {PHOTOS} or more"
    if config.channels_last:
        yield {"channels_last": False}, "--no-channels-last"
    own = pretrained_config(parts_of(config.backbone)[0]).input_size[1]
    next_larger = config.image_size // SIZE_STEP + 1
    for size in dict.fromkeys([*(SIZE_STEP * (next_larger + number) for number in range(TRIES)), own]):
        yield {"image_size": size}, f"--image-size {size}"


def _error_of(task: Task, config: Config, source: dict) -> Exception | None:
    """Return what the backbone's code raises in a step."""
    try:
        _step(task, config, shown_of(config, source))
    except BACKBONE_FAULTS as error:
        return error
    return None


def _step(task: Task, config: Config, shown: Shown) -> None:
    """Learn from two random images of that size, and predict them."""
    device, head = pick_device(config.device), build_head(config.head, task, config.age_edges)
    downloaded = config.pretrained and config.backbone not in PACKAGED_WEIGHTS
    options = {"image_size": shown.size, "pretrained": downloaded, "drop_rate": config.drop_rate}
    network = build_model(config.backbone, head.outputs, **options)
    model = place(OnPixels(network, *normalisation(config.backbone)), device, config.channels_last)
    fold_input = training_input(config, shown)
    learner = fold_input.learner(model)
    if device.type == "cpu" and config.channels_last and not fold_input.is_frozen:
        _refuse_crash(network, config.backbone)
    pixels = torch.randint(256, (min(config.batch_size, PHOTOS), *shown.size, 3), dtype=torch.uint8)
    images = to_device(pixels, device, config.channels_last)
    if fold_input.is_frozen:
        with torch.inference_mode(), Precision(device, config.amp, learns=False).autocast():
            images = model.eval().features(images).float()
        images = images.clone()
    optimizer = AdamW(parameter_groups(network, 0, config.backbone_lr), lr=0.0, fused=device.type in FUSED_ON)
    with Precision(device, config.amp).autocast():
        outputs = learner.train()(images)
    outputs.float().logsumexp(dim=1).mean().backward()
    optimizer.step()
    with torch.inference_mode(), Precision(device, config.amp).autocast():
        found, expected = learner.eval()(images).shape, (len(pixels), head.outputs)
    if found != expected:
        raise ValueError(f"outputs of shape {tuple(found)}, not {expected}")


def _refuse_crash(network: nn.Module, backbone: str) -> None:
    """UserError for a layer with which the process would end without a word.

    torch 2.12 on a CPU writes beyond its memory in the backward pass of a strided 1 x 1 convolution of few channels in
    channels_last.
    """
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Conv2d) or layer.groups > 1 or layer.in_channels >= LEAST_CHANNELS:
            continue
        if layer.kernel_size == (1, 1) and max(layer.stride) > 1:
            raise UserError(
                f"--backbone {backbone}: torch crashes on a CPU in channels_last with its layer {name}; give "
                f"--no-channels-last"
            )

"""A run's networks with their preprocessing as one torch module that can be exported: crops in, predictions out."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from core.cropping import WIDE_WINDOW, CropSettings
from serving.onnx_model import value_output
from serving.torch_model import Averaging, RunClassifier
from storage.crop_cache import Shown, shrink
from training.predictor import Predictor


class Shrink(nn.Module):
    """Crops (N, h, w, 3) uint8 RGB to pixels (N, 3, H, W) float32 of 0 to 255, as storage.crop_cache.Shown does.

    Resizing is linear: a product with two fixed matrices, found by shrinking identity matrices.
    """

    def __init__(self, crop: CropSettings, shown: Shown) -> None:
        super().__init__()
        self.window = (slice(None), slice(None)) if shown.window == WIDE_WINDOW else crop.face_window
        height_width, size = crop.shape_of(shown.window), shown.size
        # OpenCV halves both sides by a rule of its own, which rounds halves up; all else it rounds to even.
        self.halves_up = height_width == (2 * size[0], 2 * size[1])
        self.register_buffer("rows", _resizing(height_width[0], size[0]))
        self.register_buffer("columns", _resizing(height_width[1], size[1]).T.contiguous())

    def forward(self, crops: Tensor) -> Tensor:
        rows, columns = self.window
        pixels = crops[:, rows, columns].permute(0, 3, 1, 2).to(torch.float32)
        shrunk = torch.matmul(torch.matmul(self.rows, pixels), self.columns)
        # Rounded, since the pixels that training saw were whole grey levels.
        return torch.floor(shrunk + 0.5) if self.halves_up else shrunk.round()


def _resizing(length: int, to: int) -> Tensor:
    """Return the matrix (to, length) that resizes an axis."""
    return torch.from_numpy(shrink(np.eye(length, dtype=np.float32), (to, length)))


class TaskModule(nn.Module):
    """Inputs of its folds to their average: log-probabilities (N, C), and expected values (N,) if the task has them.

    The input of a fold with a frozen backbone is features; of any other, pixels.
    """

    def __init__(self, predictors: Sequence[Predictor], averaging: Averaging) -> None:
        super().__init__()
        first = predictors[0]
        self.averaging = averaging
        self.head, self.flip = first.head, first.config.tta == "flip"
        self.sources = [source_of(predictor) for predictor in predictors]
        self.models = nn.ModuleList(predictor.input.learner(predictor.model) for predictor in predictors)

    def forward(self, inputs: Mapping[str, "PlainAndMirrored"]) -> tuple[Tensor, ...]:
        outputs = [
            self._outputs(model, inputs[source]) for model, source in zip(self.models, self.sources, strict=True)
        ]
        logits = torch.stack([self.head.class_logits(each) for each in outputs]) / self.averaging.temperature
        averaged = AVERAGES[self.averaging.average](logits)
        values = [self.head.values(each) for each in outputs if self.head.bins is not None]
        return (averaged, torch.stack(values).mean(dim=0)) if values else (averaged,)

    def _outputs(self, model: nn.Module, views: "PlainAndMirrored") -> Tensor:
        plain, mirrored = views
        return (model(plain) + model(mirrored)) / 2 if self.flip else model(plain)


PlainAndMirrored = tuple[Tensor, Tensor]
"""Pixels or features of the crops, and of their mirror images."""


def source_of(predictor: Predictor) -> str:
    """Return the name of a fold's input: pixels of its size, or the features of a frozen backbone."""
    shown = predictor.input.shown.name
    # A module's name has no dot.
    return f"{shown}-{predictor.input.backbone.weights.stem}".replace(".", "_") if predictor.input.is_frozen else shown


def _mean_logits(stack: Tensor) -> Tensor:
    return torch.log_softmax(stack.mean(dim=0), dim=1)


def _mean_probs(stack: Tensor) -> Tensor:
    # The sums of the probabilities add up to M: a further softmax divides by it.
    return torch.log_softmax(torch.logsumexp(torch.log_softmax(stack, dim=2), dim=0), dim=1)


AVERAGES = {"logit": _mean_logits, "log_prob": _mean_probs}
"""evaluation.logits.AVERAGES in torch: (M, N, C) logits of M models to (N, C) log-probabilities."""


class ServingModule(nn.Module):
    """Crops (N, h, w, 3) uint8 RGB to all outputs of all tasks, in the order of `output_names`."""

    def __init__(self, tasks: Mapping[str, TaskModule], predictors: Sequence[Predictor], crop: CropSettings) -> None:
        super().__init__()
        self.tasks = nn.ModuleDict(tasks)
        every = {predictor.input.shown.name: predictor.input.shown for predictor in predictors}
        self.shrinks = nn.ModuleDict({name: Shrink(crop, every[name]) for name in sorted(every)})
        frozen = {source_of(predictor): predictor for predictor in predictors if predictor.input.is_frozen}
        self.backbones = nn.ModuleDict({source: predictor.model for source, predictor in frozen.items()})
        self.shown_by = {source: predictor.input.shown.name for source, predictor in frozen.items()}

    @property
    def output_names(self) -> list[str]:
        names = []
        for name, task in self.tasks.items():
            names += [name] + ([] if task.head.bins is None else [value_output(name, task.head.task.value.name)])
        return names

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        inputs = {key: (pixels, pixels.flip(-1)) for key, shrunk in self.shrinks.items() for pixels in [shrunk(crops)]}
        for source, backbone in self.backbones.items():
            plain, mirrored = inputs[self.shown_by[source]]
            inputs[source] = (backbone.features(plain), backbone.features(mirrored))
        return tuple(output for task in self.tasks.values() for output in task(inputs))


def serving_module(run: RunClassifier) -> ServingModule:
    """Return the module of all tasks and folds of a run, on the CPU, ready to be exported."""
    tasks = {task: TaskModule(predictors, run.averaging[task]) for task, predictors in run.models.items()}
    every = [predictor for predictors in run.models.values() for predictor in predictors]
    return ServingModule(tasks, every, run.crop).cpu().eval()

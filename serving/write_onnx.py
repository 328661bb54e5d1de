"""Write a run as one ONNX file, crops in and predictions out, and quantise that file to 8-bit integers."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from core import files
from core.cropping import WIDE_WINDOW, CropSettings
from serving.onnx_graph import nodes_behind
from serving.onnx_model import ABOUT, FORMAT, INPUT, value_output
from serving.torch_model import Averaging, RunClassifier
from storage.crop_cache import Shown, shrink
from storage.run_dir import MODEL, REFIT
from training.device import versions
from training.predictor import Predictor

OPSET = 17
QUANTISED = ("Conv", "Gemm", "Clip", "Relu", "Add")
"""Node types that are quantised; resizing and normalisation stay in floats. With the activations among them, the range
of a convolution's integers is that of its activation."""
CALIBRATION_BATCH = 8


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


def write_onnx(run: RunClassifier, path: Path) -> None:
    """Write all tasks and folds of `run` as one graph; its metadata says how to feed it."""
    graph = serving_module(run)
    with files.replacing(path) as aside:
        _export(graph, aside, torch.zeros(2, *run.crop.shape, 3, dtype=torch.uint8))
        model = onnx.load(aside)
        model.doc_string = "Crops of faces to mask status, gender and age group; see the metadata entry 'about'."
        model.metadata_props.add(key=ABOUT, value=json.dumps(about(run), ensure_ascii=False))
        onnx.checker.check_model(model)
        onnx.save(model, aside)


def _export(graph: ServingModule, path: Path, crops: torch.Tensor) -> None:
    names = graph.output_names
    with torch.inference_mode(), warnings.catch_warnings():
        # The exporter that needs no further package is deprecated in favour of one that does.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Said of every index by a mask; what comes out of ours is compared with torch.
        warnings.filterwarnings("ignore", "Exporting aten::index", UserWarning)
        # Said of sizes that are looked at in passing: only the number of faces varies, and no size depends on it.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        # What the graph computes once and keeps is a constant of the export if it is there already.
        graph(crops)
        torch.onnx.export(
            graph,
            (crops,),
            path,
            input_names=[INPUT],
            output_names=names,
            dynamic_axes={name: {0: "faces"} for name in (INPUT, *names)},
            opset_version=OPSET,
            dynamo=False,
        )


def about(run: RunClassifier) -> dict[str, Any]:
    """Return the description of the model for its metadata: its input, tasks and origin."""
    return {
        "format": FORMAT,
        "input": {
            "name": INPUT,
            "type": "uint8 RGB, (faces, height, width, 3), neither scaled nor normalised",
            "height": run.crop.shape[0],
            "width": run.crop.shape[1],
        },
        "crop": asdict(run.crop),
        "tasks": [_about_task(run, name) for name in run.models],
        "versions": versions(),
    }


def _about_task(run: RunClassifier, name: str) -> dict[str, Any]:
    predictors = run.models[name]
    first = predictors[0]
    value = first.head.task.value
    return {
        "name": name,
        "classes": first.identity["classes"],
        "unit": value.name if value and first.head.bins is not None else "",
        "window": first.input.shown.window,
        "network_input": list(first.input.size),
        "normalisation": first.identity["normalisation"],
        **asdict(run.averaging[name]),
        "settings": first.identity["settings"],
        "data_hash": first.identity["data_hash"],
        "folds_hash": first.identity["folds_hash"],
        "folds": [
            {
                "fold": REFIT if predictor.fold_dir.name == REFIT else predictor.identity["fold"],
                "weights_sha256": files.file_sha256(predictor.fold_dir / MODEL),
            }
            for predictor in predictors
        ],
    }


def write_int8(path: Path, source: Path, crops: np.ndarray, in_floats: Sequence[str] = ()) -> None:
    """Write `source` quantised to `path`, with its metadata; `crops` (N, h, w, 3) uint8 calibrate the ranges.

    All nodes that the tasks `in_floats` depend on stay in floats, also those shared with other tasks. Pixels that they
    share are rounded to 8 bits, as they were before.
    """
    # Its import takes a second, which an export without int8 does not need.
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    starts = range(0, len(crops), CALIBRATION_BATCH)
    batches = ({INPUT: crops[start : start + CALIBRATION_BATCH]} for start in starts)
    description = onnx.load(source, load_external_data=False).metadata_props
    with files.replacing(path) as aside, TemporaryDirectory() as folder:
        prepared = Path(folder) / source.name
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(aside),
            SimpleNamespace(get_next=partial(next, batches, None)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=nodes_behind(onnx.load(prepared), in_floats),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(aside)
        for entry in description:
            if entry.key not in {kept.key for kept in model.metadata_props}:
                model.metadata_props.add(key=entry.key, value=entry.value)
        onnx.save(model, aside)

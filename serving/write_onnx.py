"""Write a run as one ONNX file with its description, and quantise that file to 8-bit integers."""

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch

from core import files
from serving.onnx_graph import nodes_behind
from serving.onnx_model import ABOUT, FORMAT, INPUT
from serving.run_module import ServingModule, serving_module
from serving.torch_model import RunClassifier
from storage.run_dir import MODEL, REFIT
from training.device import versions

OPSET = 17


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


QUANTISED = ("Conv", "Gemm", "Clip", "Relu", "Add")
"""Node types that are quantised; resizing and normalisation stay in floats. With the activations among them, the range
of a convolution's integers is that of its activation."""
CALIBRATION_BATCH = 8


class CropReader:
    """Calibration data for onnxruntime: crops (N, h, w, 3) uint8 in batches."""

    def __init__(self, crops: np.ndarray) -> None:
        self._batches = self._in_turn(crops)

    @staticmethod
    def _in_turn(crops: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(crops), CALIBRATION_BATCH):
            yield {INPUT: crops[start : start + CALIBRATION_BATCH]}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def write_int8(path: Path, source: Path, crops: np.ndarray, in_floats: Sequence[str] = ()) -> None:
    """Write `source` quantised to `path`, with its metadata; `crops` (N, h, w, 3) uint8 calibrate the ranges.

    All nodes that the tasks `in_floats` depend on stay in floats, also those shared with other tasks. Pixels that they
    share are rounded to 8 bits, as they were before.
    """
    # Its import takes a second, which an export without int8 does not need.
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    description = onnx.load(source, load_external_data=False).metadata_props
    with files.replacing(path) as aside, TemporaryDirectory() as folder:
        prepared = Path(folder) / source.name
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(aside),
            CropReader(crops),
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

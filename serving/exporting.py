"""A run written as one ONNX file that explains itself."""

import json
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import torch

from core import files
from serving.export_module import ServingGraph, serving_graph
from serving.onnx_model import ABOUT, FORMAT, INPUT
from serving.torch_model import TrainedRun
from storage.run_dir import MODEL
from training.device import versions

OPSET = 17


def write_onnx(run: TrainedRun, path: Path) -> None:
    """All tasks and folds of `run` as one graph, with what has to be known to feed it in its metadata."""
    graph = serving_graph(run)
    with files.replacing(path) as aside:
        _export(graph, aside, torch.zeros(2, run.crop.size, run.crop.width, 3, dtype=torch.uint8))
        model = onnx.load(aside)
        model.doc_string = "Crops of faces to mask status, gender and age group; see the metadata entry 'about'."
        model.metadata_props.add(key=ABOUT, value=json.dumps(about(run), ensure_ascii=False))
        onnx.checker.check_model(model)
        onnx.save(model, aside)


def _export(graph: ServingGraph, path: Path, crops: torch.Tensor) -> None:
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


def about(run: TrainedRun) -> dict[str, Any]:
    """What is needed to feed the model and to know where it comes from, as JSON has it."""
    return {
        "format": FORMAT,
        "input": {
            "name": INPUT,
            "type": "uint8 RGB, (faces, height, width, 3), neither scaled nor normalised",
            "height": run.crop.size,
            "width": run.crop.width,
        },
        "crop": asdict(run.crop),
        "tasks": [_about_task(run, name) for name in run.folds],
        "versions": versions(),
    }


def _about_task(run: TrainedRun, name: str) -> dict[str, Any]:
    predictors = run.folds[name]
    first = predictors[0]
    value = first.head.task.value
    return {
        "name": name,
        "classes": first.identity["classes"],
        "unit": value.name if value and first.head.bins is not None else "",
        "network_input": list(first.input.size),
        "normalisation": first.identity["normalisation"],
        **asdict(run.averaging[name]),
        "settings": first.identity["settings"],
        "data_hash": first.identity["data_hash"],
        "folds_hash": first.identity["folds_hash"],
        "folds": [
            {
                "fold": predictor.identity["fold"],
                "weights_sha256": files.file_sha256(predictor.fold_dir / MODEL),
            }
            for predictor in predictors
        ],
    }

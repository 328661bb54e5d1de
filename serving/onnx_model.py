"""An exported model as a classifier. Needs onnxruntime alone: nothing here imports torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

from core.cli import UserError, cpu_count
from core.cropping import FACE_WINDOW, WIDE_WINDOW, CropSettings, shared_settings
from core.files import parse_json, require_entries
from serving.types import BatchPrediction

ABOUT, FORMAT = "about", 1
"""Metadata entry that holds, as JSON, all that is needed to feed the model; and the version of that JSON."""
INPUT = "crops"
INT8_SUFFIX = ".int8.onnx"
AT_ONCE = 8
"""Crops in one call: the activations of more do not fit into the processor's cache, which costs a sixth."""
SUM_TOLERANCE = 0.01
"""Of the probabilities of a crop, which float16 rounds."""
DAMAGED = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf)


def value_output(task: str, unit: str) -> str:
    """Return the name of the output of a task's expected values, such as age_years."""
    return f"{task}_{unit}"


@dataclass(frozen=True)
class OnnxModel:
    """One file: its session and its metadata."""

    path: Path
    session: onnxruntime.InferenceSession
    about: dict
    crop: CropSettings

    def predicts(self, tasks: Sequence[str]) -> bool:
        """Return whether it predicts one of these tasks."""
        return any(task["name"] in tasks for task in self.about["tasks"])

    def run(self, crops: np.ndarray) -> dict[str, np.ndarray]:
        """Return outputs by name for crops (N, h, w, 3) uint8 RGB: log-probabilities (N, C), values (N,), float32."""
        names = [output.name for output in self.session.get_outputs()]
        starts = range(0, max(1, len(crops)), AT_ONCE)
        try:
            parts = [self.session.run(names, {INPUT: crops[start : start + AT_ONCE]}) for start in starts]
        except DAMAGED as error:
            raise UserError(f"{self.path}: cannot be run ({' '.join(str(error).split())[:200]})") from None
        return {name: np.concatenate(outputs) for name, outputs in zip(names, zip(*parts, strict=True), strict=True)}

    def __call__(self, crops: np.ndarray) -> dict[str, BatchPrediction]:
        """Predict. UserError for outputs that are not those of the description: they may depend on the crops."""
        outputs = self.run(crops)
        _refuse_outputs(self, outputs, len(crops))
        return {
            task["name"]: BatchPrediction(
                tuple(task["classes"]),
                outputs[task["name"]].astype(np.float64),
                outputs[value_output(task["name"], task["unit"])] if task["unit"] else None,
                task["unit"],
            )
            for task in self.about["tasks"]
        }


@dataclass(frozen=True)
class ExportedRun:
    """Exported models of different tasks, for all of which crops of the settings `crop` do."""

    models: Sequence[OnnxModel]
    crop: CropSettings

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(task["name"] for model in self.models for task in model.about["tasks"])

    def __call__(self, crops: Sequence[np.ndarray]) -> Mapping[str, BatchPrediction]:
        """Predict, by task, for crops (h, w, 3) uint8 RGB of the size that `crop` makes."""
        stacked = {window: np.stack([self.crop.cut(crop, window) for crop in crops]) for window in self._windows}
        return {task: batch for model in self.models for task, batch in model(stacked[_window_of(model)]).items()}

    @property
    def _windows(self) -> set[str]:
        return set(map(_window_of, self.models))


def _window_of(model: OnnxModel) -> str:
    """Return the window of crops that a model takes."""
    return WIDE_WINDOW if model.crop.surroundings else FACE_WINDOW


def load_onnx(path: Path, threads: int = 0) -> OnnxModel:
    """Load a file. UserError if it is missing, damaged, or not made by serving.export. `threads` 0: one a core."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; run `python -m serving.export` first")
    session = _session(path, str(path), threads)
    stored = session.get_modelmeta().custom_metadata_map.get(ABOUT)
    if stored is None:
        raise UserError(f"{path}: its metadata lacks {ABOUT!r}; it was not made by serving.export")
    about = parse_json(f"{path}: {ABOUT}", stored)
    if about.get("format") != FORMAT:
        raise UserError(f"{path}: format {about.get('format')!r}, this version reads format {FORMAT}")
    require_entries(f"{path}: {ABOUT}", about, {"crop": dict, "tasks": list})
    for task in about["tasks"]:
        require_entries(f"{path}: {ABOUT}, a task", task, {"name": str, "classes": list, "unit": str})
        if not all(isinstance(name, str) for name in task["classes"]):
            raise UserError(f"{path}: {ABOUT}, task {task['name']}: classes {task['classes']!r} are not all texts")
        if len(set(task["classes"])) < len(task["classes"]):
            raise UserError(f"{path}: {ABOUT}, task {task['name']}: classes {task['classes']!r} are not all different")
    model = OnnxModel(path, session, about, CropSettings.read(f"{path}: crop", about["crop"]))
    _refuse_misdescribed(model)
    return model


def _session(path: Path, model: str | bytes, threads: int) -> onnxruntime.InferenceSession:
    """Open the file of that name, or the bytes of a model from `path`."""
    options = onnxruntime.SessionOptions()
    # Its errors are raised as well; its log would print them a second time.
    options.log_severity_level = 4
    # Left alone, onnxruntime counts the machine's cores, also where a container allows this process fewer.
    options.intra_op_num_threads = threads or cpu_count()
    # Waiting threads sleep: spinning ones take the cores from whatever runs beside them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except DAMAGED as error:
        raise UserError(f"{path}: no readable ONNX model ({' '.join(str(error).split())[:200]})") from None


def _only(model: OnnxModel, tasks: Sequence[str], threads: int) -> OnnxModel:
    """Return the model of some of its tasks alone: onnxruntime computes all of a graph, whatever is asked of it."""
    kept = [task for task in model.about["tasks"] if task["name"] in tasks]
    if len(kept) == len(model.about["tasks"]):
        return model
    names = [task["name"] for task in kept]
    try:
        import onnx

        from serving.onnx_graph import only_tasks
    except ImportError as error:
        alone = f"python -m serving.export --task {' '.join(names)}"
        raise UserError(f"{model.path}: {error}; install onnx, or export these tasks alone: {alone}") from None
    graph = only_tasks(onnx.load(model.path), names).SerializeToString()
    return replace(model, session=_session(model.path, graph, threads), about={**model.about, "tasks": kept})


def _refuse_misdescribed(model: OnnxModel) -> None:
    """UserError unless it takes crops alone, and its outputs for two of them are those of the description."""
    taken = {entry.name: entry.type for entry in model.session.get_inputs()}
    if taken != {INPUT: "tensor(uint8)"}:
        raise UserError(f"{model.path}: its inputs are {taken}, expected {INPUT} alone, of whole numbers from 0 to 255")
    _refuse_outputs(model, model.run(np.full((2, *model.crop.shape, 3), 127, np.uint8)), 2)


def _refuse_outputs(model: OnnxModel, outputs: Mapping[str, np.ndarray], count: int) -> None:
    """UserError unless outputs for `count` crops have the names and shapes of the description and are finite numbers,
    and those of the classes logarithms of probabilities."""
    tasks = model.about["tasks"]
    expected = {task["name"]: (count, len(task["classes"])) for task in tasks}
    expected |= {value_output(task["name"], task["unit"]): (count,) for task in tasks if task["unit"]}
    found = {name: output.shape for name, output in outputs.items()}
    if found != expected or not tasks:
        raise UserError(f"{model.path}: {ABOUT!r} describes outputs {expected}, the model has {found}")
    if not all(output.dtype.kind == "f" and np.isfinite(output).all() for output in outputs.values()):
        raise UserError(f"{model.path}: its outputs are not finite numbers; export a run that has converged")
    for task in tasks:
        with np.errstate(over="ignore"):
            sums = np.exp(outputs[task["name"]].astype(np.float64)).sum(axis=1)
        if np.abs(sums - 1).max(initial=0) > SUM_TOLERANCE:
            raise UserError(f"{model.path}: the outputs of {task['name']} are no logarithms of probabilities")


def load_exported(path: Path, tasks: Sequence[str] = (), threads: int = 0) -> ExportedRun:
    """Load a file, or the models of a folder except int8: all their tasks, or those named.

    UserError if two have one task or need other crops, or none has a named task. `threads` 0: one a core.
    """
    paths = [path]
    if path.is_dir():
        paths = sorted(file for file in path.glob("*.onnx") if not file.name.endswith(INT8_SUFFIX))
        if not paths:
            raise UserError(f"{path}: no .onnx file in it; run `python -m serving.export` first")
    models = [load_onnx(file, threads) for file in paths]
    _refuse_conflicts(models)
    run = ExportedRun(models, next((model.crop for model in models if model.crop.surroundings), models[0].crop))
    lacking = [task for task in tasks if task not in run.tasks]
    if lacking:
        raise UserError(f"{path}: no model of {', '.join(lacking)}; it has {', '.join(run.tasks)}")
    if not tasks:
        return run
    return replace(run, models=[_only(model, tasks, threads) for model in models if model.predicts(tasks)])


def _refuse_conflicts(models: Sequence[OnnxModel]) -> None:
    fullest = max(models, key=lambda model: len(model.about["tasks"])).path
    owner: dict[str, OnnxModel] = {}
    for model in models:
        if shared_settings([model.crop, models[0].crop], [FACE_WINDOW]) is None:
            raise UserError(f"{model.path} wants other crops than {models[0].path}; choose a file: --onnx {fullest}")
        for task in (task["name"] for task in model.about["tasks"]):
            if task in owner:
                raise UserError(
                    f"{model.path} and {owner[task].path} both predict {task}; choose a file: --onnx {fullest}"
                )
            owner[task] = model

"""Models from wherever they are: a trained run, a model folder, an exported file, the hub, or the starter model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.environment import ROOT

from core.cli import OUTPUTS, UserError, cpu_count
from serving.model_folder import describe_model, is_model_folder, load_model_folder, read_model
from serving.types import Classifier
from storage.run_dir import default_run, run_path

STARTER = ROOT / "models" / "starter"
"""The model folder that comes with the project."""
HUB = "hf:"
DETECTOR = "retinaface"


@dataclass(frozen=True)
class ModelOptions:
    """Which models to use, and how. With no run, export or model: `default_run`, else the starter model.

    `model`: a run folder, a model folder, an exported file or folder of them, or hf:owner/name[@revision]. `folds` as
    in load_run; no tasks: all of them. `threads` 0: one for each core.
    """

    run_dir: Path | None = None
    folds: Sequence[int] | None = None
    onnx: Path | None = None
    device: str = "auto"
    tasks: Sequence[str] = ()
    threads: int = 0
    model: str | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A classifier, the lines that say which models they are, and the detector that found the faces of training."""

    classifier: Classifier
    about: str
    detector: str = DETECTOR


def load(options: ModelOptions) -> LoadedModel:
    """Load models. UserError if what was asked for is not there, is damaged, or has no such fold or task."""
    options, note = found(options)
    if options.onnx is not None:
        return _load_onnx(options)
    folder = Path(options.model) if options.model else None
    if folder is not None and options.folds is not None:
        raise UserError(f"--folds {_typed(options.folds)}: a model folder has one model a task, and no folds")
    # An exported model runs where torch is not installed, so torch is imported only here.
    from serving.torch_model import describe_run, load_run
    from training.device import prepare_process

    prepare_process(options.threads or cpu_count())
    if folder is not None:
        about = read_model(folder)
        classifier = load_model_folder(folder, tasks=options.tasks, device=options.device)
        return LoadedModel(classifier, note + describe_model(folder, about, classifier.tasks), about["detector"])
    run = load_run(options.run_dir, tasks=options.tasks, folds=options.folds, device=options.device)
    return LoadedModel(run, describe_run(options.run_dir, run))


def found(options: ModelOptions) -> tuple[ModelOptions, str]:
    """Return the options with one of run_dir, onnx and model set, the last to a model folder; and a note to print."""
    if options.model is not None and options.model.startswith(HUB):
        from serving.hub import fetch, pinned

        folder = fetch(options.model)
        return replace(options, model=str(folder)), f"{pinned(options.model, folder)}\n"
    if options.model is not None:
        return replace(options, **source_of(options.model)), ""
    if options.run_dir is not None and is_model_folder(options.run_dir):
        return replace(options, run_dir=None, model=str(options.run_dir)), ""
    if options.run_dir is not None or options.onnx is not None:
        return options, ""
    try:
        return replace(options, run_dir=default_run(OUTPUTS)), ""
    except UserError:
        if not is_model_folder(STARTER):
            raise
    how = "to train one of your own: DATA_DIR=/my/photos bash run_all.sh"
    return replace(options, model=str(STARTER)), f"no trained run in {OUTPUTS}; {how}\n"


def source_of(text: str) -> dict[str, Path | str | None]:
    """Return run_dir, onnx and model of what lies at a path, one of them set. UserError if it is none of them."""
    nothing, path = dict.fromkeys(("run_dir", "onnx", "model")), Path(text)
    if is_model_folder(path):
        return {**nothing, "model": text}
    if run_path(path).is_file():
        return {**nothing, "run_dir": path}
    if path.suffix == ".onnx" or any(path.glob("*.onnx")):
        return {**nothing, "onnx": path}
    raise UserError(
        f"model {text}: {'nothing to load in it' if path.exists() else 'no such folder or file'}; allowed are a run "
        f"folder, a model folder, an .onnx file or a folder of them, and {HUB}OWNER/NAME"
    )


def _load_onnx(options: ModelOptions) -> LoadedModel:
    if options.folds is not None:
        typed = _typed(options.folds)
        raise UserError(f"--folds {typed}: an exported model has its models in it; export those folds")
    from serving.onnx_model import load_exported

    exported = load_exported(options.onnx, options.tasks, options.threads)
    return LoadedModel(exported, f"exported model {options.onnx}: {', '.join(exported.tasks)}")


def _typed(folds: Sequence[int]) -> str:
    return ",".join(map(str, folds)) or "all"

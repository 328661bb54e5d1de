"""The flags of predict.py and the demo: which models, which detector; and the pipeline made from them."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.cli import OUTPUTS, UserError, add_trained_run, cpu_count, positive_int
from core.tasks import task_names
from preprocessing.detectors import detector_named, detector_names
from preprocessing.find_face import DEFAULT_THRESHOLD, Attempt
from serving.faces import DEFAULT_LEAST_SIZE, PHOTO_ATTEMPTS, FaceFinder, Pipeline
from serving.types import DEFAULT_UNSURE_BELOW, Classifier

FOLDS_HELP = "folds to average (default: the refit on all people if it is there, else all)"


@dataclass(frozen=True)
class ModelOptions:
    """A trained run, `default_run` by default, or an exported model. `folds` as in load_run; no tasks: all of them.

    `threads` 0: one for each core.
    """

    run_dir: Path | None = None
    folds: Sequence[int] | None = None
    onnx: Path | None = None
    device: str = "auto"
    tasks: Sequence[str] = ()
    threads: int = 0


@dataclass(frozen=True)
class FaceOptions:
    """A detector, the least score and side of a face, and the probability below which a prediction is unsure."""

    detector: str = "retinaface"
    threshold: float = DEFAULT_THRESHOLD
    least_size: int = DEFAULT_LEAST_SIZE
    unsure_below: float = DEFAULT_UNSURE_BELOW


def add_pipeline_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_run(parser)
    parser.add_argument("--folds", type=fold_numbers, metavar="all|0,1", help=FOLDS_HELP)
    parser.add_argument(
        "--tasks", nargs="+", choices=task_names(), default=(), help="predict these only (default: all)"
    )
    parser.add_argument("--onnx", type=Path, metavar="PATH", help="exported model, or a folder of them, to use")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ...")
    parser.add_argument("--detector", choices=detector_names(), default="retinaface", help="face detector")
    parser.add_argument("--threshold", type=fraction, default=DEFAULT_THRESHOLD, help="least score of a face, 0 to 1")
    parser.add_argument("--min-face", type=positive_int, default=DEFAULT_LEAST_SIZE, help="least side in pixels")
    unsure = "probability below which a prediction is unsure"
    parser.add_argument("--unsure-below", type=fraction, default=DEFAULT_UNSURE_BELOW, help=unsure)


def pipeline_options(args: argparse.Namespace) -> tuple[ModelOptions, FaceOptions]:
    """Return the values of the flags that `add_pipeline_flags` adds."""
    models = ModelOptions(args.run_dir, args.folds, args.onnx, args.device, args.tasks)
    return models, FaceOptions(args.detector, args.threshold, args.min_face, args.unsure_below)


def fold_numbers(text: str) -> tuple[int, ...]:
    """Parse a flag's value: "all" (no number) or folds such as 0,1."""
    if text == "all":
        return ()
    if not all(part.isdigit() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor folds such as 0,1")
    return tuple(map(int, text.split(",")))


def fraction(text: str) -> float:
    """Parse a flag's value: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return value


def open_pipeline(
    models: ModelOptions, faces: FaceOptions, *, attempts: Sequence[Attempt] = PHOTO_ATTEMPTS, retry: bool = True
) -> Pipeline:
    """Load models and detector. UserError if there is no trained run, no exported model, or no such fold."""
    classifier = open_classifier(models)
    detect = detector_named(faces.detector).load()
    return Pipeline(
        FaceFinder(detect, faces.threshold, faces.least_size, attempts, retry), classifier, faces.unsure_below
    )


def open_classifier(models: ModelOptions) -> Classifier:
    if models.onnx is None:
        # An exported model runs where torch is not installed, so torch is imported only here.
        from serving.torch_model import describe_run, load_run
        from storage.run_dir import default_run
        from training.device import prepare_process

        run_dir = models.run_dir or default_run(OUTPUTS)
        prepare_process(models.threads or cpu_count())
        classifier = load_run(run_dir, tasks=models.tasks, folds=models.folds, device=models.device)
        print(describe_run(run_dir, classifier), file=sys.stderr)
        return classifier
    if models.folds is not None:
        typed = ",".join(map(str, models.folds)) or "all"
        raise UserError(f"--folds {typed}: an exported model has its models in it; export those folds")
    from serving.onnx_model import load_exported

    return load_exported(models.onnx, models.tasks, models.threads)

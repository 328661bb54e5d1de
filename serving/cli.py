"""The flags of predict.py and the demo: which models, which detector; and the pipeline made from them."""

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from core.cli import UserError, add_trained_run, positive_int
from core.tasks import task_names
from preprocessing.detectors import detector_named, detector_names
from preprocessing.find_face import DEFAULT_THRESHOLD
from serving.faces import DEFAULT_LEAST_SIZE, VIDEO_ATTEMPTS, FaceFinder, Pipeline, StreamFinder
from serving.loading import LoadedModel, ModelOptions, load
from serving.types import DEFAULT_UNSURE_BELOW, Classifier

FOLDS_HELP = "folds to average (default: the refit on all people if it is there, else all)"


@dataclass(frozen=True)
class FaceOptions:
    """A detector, the least score and side of a face, and the probability below which a prediction is unsure.

    No detector: the one with which the model was trained.
    """

    detector: str | None = None
    threshold: float = DEFAULT_THRESHOLD
    least_size: int = DEFAULT_LEAST_SIZE
    unsure_below: float = DEFAULT_UNSURE_BELOW


def add_pipeline_flags(parser: argparse.ArgumentParser) -> None:
    add_trained_run(parser)
    parser.add_argument("--folds", type=fold_numbers, metavar="all|0,1", help=FOLDS_HELP)
    parser.add_argument("--tasks", type=tasks_named, default=(), metavar="mask,age", help="tasks (default: all)")
    parser.add_argument(
        "--model", metavar="PATH|hf:OWNER/NAME", help="model folder, run or exported model, or one of the hub's"
    )
    parser.add_argument("--onnx", type=Path, metavar="PATH", help="exported model, or a folder of them, to use")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ...")
    parser.add_argument("--detector", choices=detector_names(), help="face detector (default: that of the model)")
    parser.add_argument("--threshold", type=fraction, default=DEFAULT_THRESHOLD, help="least score of a face, 0 to 1")
    parser.add_argument("--min-face", type=positive_int, default=DEFAULT_LEAST_SIZE, help="least side in pixels")
    unsure = "probability below which a prediction is unsure"
    parser.add_argument("--unsure-below", type=fraction, default=DEFAULT_UNSURE_BELOW, help=unsure)


def pipeline_options(args: argparse.Namespace) -> tuple[ModelOptions, FaceOptions]:
    """Return the values of the flags that `add_pipeline_flags` adds. UserError for two sources of models."""
    given = {"--model": args.model, "--run-dir": args.run_dir, "--onnx": args.onnx}
    typed = [name for name, value in given.items() if value is not None]
    if len(typed) > 1:
        raise UserError(f"{' and '.join(typed)}: give one of them")
    models = ModelOptions(args.run_dir, args.folds, args.onnx, args.device, args.tasks, model=args.model)
    return models, FaceOptions(args.detector, args.threshold, args.min_face, args.unsure_below)


def fold_numbers(text: str) -> tuple[int, ...]:
    """Parse a flag's value: "all" (no number) or folds such as 0,1."""
    if text == "all":
        return ()
    if not all(part.isdigit() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor folds such as 0,1")
    return tuple(map(int, text.split(",")))


def tasks_named(text: str) -> tuple[str, ...]:
    """Parse a flag's value: tasks such as mask,age."""
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in task_names()]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of the tasks {', '.join(task_names())}")
    return names


def fraction(text: str) -> float:
    """Parse a flag's value: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return value


def open_pipeline(models: ModelOptions, faces: FaceOptions, *, video: bool = False, camera: bool = False) -> Pipeline:
    """Load models and detector, and say on standard error which models. UserError as `load`.

    They are for photos, the frames of a video, or those of a camera, in time.
    """
    return pipeline_of(_loaded(models), faces, video=video, camera=camera)


def pipeline_of(loaded: LoadedModel, faces: FaceOptions, *, video: bool = False, camera: bool = False) -> Pipeline:
    """Load the detector, and return it with the models."""
    detect = detector_named(faces.detector or loaded.detector).load()
    finder = FaceFinder(detect, faces.threshold, faces.least_size)
    if video or camera:
        # There is another frame soon.
        finder = replace(finder, attempts=VIDEO_ATTEMPTS, retry=False)
    find = StreamFinder(finder) if camera else finder
    return Pipeline(find, loaded.classifier, faces.unsure_below, loaded.about)


def open_classifier(models: ModelOptions) -> Classifier:
    """Load models, and say on standard error which. UserError as `load`."""
    return _loaded(models).classifier


def _loaded(models: ModelOptions) -> LoadedModel:
    loaded = load(models)
    print(loaded.about, file=sys.stderr)
    return loaded

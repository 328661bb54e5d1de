"""The flags that say which models look at which faces, and the pipeline made from them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from core.cli import UserError, cpu_count, positive_int
from preprocessing.detectors import detector_named, detector_names
from preprocessing.find_face import DEFAULT_THRESHOLD, Rung
from serving.faces import DEFAULT_LEAST_SIZE, PHOTO_LOOKS, FaceFinder
from serving.pipeline import Pipeline
from serving.types import DEFAULT_UNSURE_BELOW, Classifier

OUTPUTS = Path("outputs")


def add_pipeline_flags(parser: argparse.ArgumentParser) -> None:
    last = f"folder of a trained run (default: the one in {OUTPUTS}/ that was trained last)"
    parser.add_argument("--run-dir", type=Path, help=last)
    parser.add_argument("--folds", type=fold_numbers, default=(), metavar="all|0,1", help="folds to average")
    parser.add_argument("--onnx", type=Path, metavar="PATH", help="exported model, or a folder of them, to use")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ...")
    parser.add_argument("--detector", choices=detector_names(), default="retinaface", help="what finds the faces")
    parser.add_argument("--threshold", type=share, default=DEFAULT_THRESHOLD, help="least score of a face, 0 to 1")
    parser.add_argument("--min-face", type=positive_int, default=DEFAULT_LEAST_SIZE, help="least side in pixels")
    parser.add_argument(
        "--unsure-below", type=share, default=DEFAULT_UNSURE_BELOW, help="probability under which an answer is unsure"
    )


def fold_numbers(text: str) -> tuple[int, ...]:
    """An argparse type: "all" (no number) or folds such as 0,1."""
    if text == "all":
        return ()
    if not all(part.isdigit() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is neither all nor folds such as 0,1")
    return tuple(map(int, text.split(",")))


def share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 to 1")
    return value


def open_pipeline(args: argparse.Namespace, *, looks: Sequence[Rung] = PHOTO_LOOKS, climb: bool = True) -> Pipeline:
    """UserError where there is no trained run, no exported model, or no such fold."""
    classifier = open_classifier(args)
    finder = FaceFinder(detector_named(args.detector).load(), args.threshold, args.min_face, looks, climb)
    return Pipeline(finder, classifier, args.unsure_below)


def open_classifier(args: argparse.Namespace) -> Classifier:
    if args.onnx is None:
        # An exported model runs where torch is not installed, so torch comes in only here.
        from serving.torch_model import load_run
        from storage.run_dir import last_run
        from training.device import prepare_process

        run_dir = args.run_dir or last_run(OUTPUTS)
        print(f"models of {run_dir}", file=sys.stderr)
        prepare_process(cpu_count())
        return load_run(run_dir, folds=args.folds, device=args.device)
    if args.folds:
        raise UserError(f"--folds {','.join(map(str, args.folds))}: an exported model has all its folds in it")
    from serving.onnx_model import load_exported

    return load_exported(args.onnx)

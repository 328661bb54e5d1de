"""Write a trained run as ONNX: the models of a task, or of all tasks, in one file that needs no torch.

    python -m serving.export                     outputs/default/onnx/all.onnx: of every task its refit, or its folds
    python -m serving.export --task mask         outputs/default/onnx/mask.onnx
    python -m serving.export --int8      also all.int8.onnx, if it is faster and gives the same labels; tasks whose
                                         labels change stay in floats

The file takes crops as uint8 RGB; resizing and normalisation are part of it, and its metadata says how to crop, what
the outputs are, and from which weights they come. Its agreement with torch is measured on crops of the run and printed.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import core.environment  # noqa: F401  explains a missing package

from core.cli import UserError, add_trained_run, command_parser, cpu_count, positive_int, run_cli
from core.files import remove_stale
from core.locks import keep_out_of_git
from core.tasks import task_names
from serving.agreement import agreements, format_agreements, seconds_each
from serving.cli import FOLDS_HELP, fold_numbers
from serving.crop_sample import CropSample, sample_crops
from serving.onnx_model import INT8_SUFFIX, load_exported
from serving.types import BatchPrediction
from storage.run_dir import trained_run

if TYPE_CHECKING:
    from serving.torch_model import RunClassifier

ALL = "all"
TIMED_CROPS = 16
LARGEST_DIFFERENCE = 0.02
"""Largest difference of probabilities between torch and ONNX: resizing may round a pixel to the next grey level."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    args.run_dir = trained_run(args.run_dir)
    # torch and onnx take seconds to import: --help and the complaint about a mistyped flag do not wait for them.
    from serving.torch_model import load_run
    from serving.write_onnx import write_onnx
    from training.device import prepare_process

    prepare_process(cpu_count())
    run = load_run(args.run_dir, tasks=[] if ALL in args.task else args.task, folds=args.folds, device="cpu")
    path = (args.out or args.run_dir / "onnx") / f"{'-'.join(args.task)}.onnx"
    if path.parent.is_dir():
        remove_stale(path.parent)
    sample = sample_crops(args.run_dir, run.crop, args.crops, "eval")
    # Before anything is written: a run whose outputs are not finite is refused here.
    expected = run(sample.crops)
    keep_out_of_git(path.parent)
    write_onnx(run, path)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, {describe(run)}")
    compare(path, run, sample, expected)
    if args.int8:
        seen = sample_crops(args.run_dir, run.crop, args.crops, "train")
        add_int8(path, seen, sample, least_agreement=args.least_agreement)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_trained_run(parser)
    parser.add_argument("--task", nargs="+", choices=(ALL, *task_names()), default=[ALL], help="tasks of the file")
    parser.add_argument("--folds", type=fold_numbers, metavar="all|0,1", help=FOLDS_HELP)
    parser.add_argument("--out", type=Path, help="folder of the file (default: <run-dir>/onnx)")
    parser.add_argument("--crops", type=positive_int, default=128, help="crops to compare torch and ONNX on")
    parser.add_argument("--int8", action="store_true", help="also in 8-bit integers, kept only if no worse")
    parser.add_argument(
        "--least-agreement",
        type=float,
        default=0.99,
        help="fraction of a task's labels that int8 must not change",
    )
    return parser.parse_args(argv)


def describe(run: "RunClassifier") -> str:
    return ", ".join(f"{task} ({run.made_of(task)})" for task in run.models)


def compare(path: Path, run: "RunClassifier", sample: CropSample, expected: Mapping[str, BatchPrediction]) -> None:
    """Print agreement and speed. UserError, and no file, if ONNX and torch differ by more than rounding.

    `expected` are torch's predictions of the sample.
    """
    try:
        exported = load_exported(path)
        rows = agreements(expected, exported(sample.crops))
    except UserError:
        path.unlink()
        raise
    print(format_agreements(f"torch and ONNX on {len(sample.crops)} {sample.origin}", rows))
    worst = max(rows, key=lambda row: row.largest)
    if not worst.largest <= LARGEST_DIFFERENCE:
        path.unlink()
        raise UserError(f"{path}: {worst.task} differs by {worst.largest:.3g} from torch, more than rounding explains")
    torch_seconds, onnx_seconds = seconds_each([run, exported], sample.crops[:TIMED_CROPS])
    print(f"crops/s: torch {1 / torch_seconds:.1f}, ONNX {1 / onnx_seconds:.1f} ({torch_seconds / onnx_seconds:.2f}x)")


def add_int8(path: Path, seen: CropSample, sample: CropSample, *, least_agreement: float) -> None:
    """Quantise with the crops `seen`, and keep the file if on `sample` it is faster and its labels agree.

    Tasks whose labels do not agree are put back to floats, if the labels of others agree.
    """
    from serving.write_onnx import write_int8

    small, floats = path.with_name(path.stem + INT8_SUFFIX), load_exported(path)
    expected = floats(sample.crops)

    def disagreeing(in_floats: Sequence[str]) -> list[str]:
        """Write the file, print how it agrees, and return the tasks that agree too little."""
        write_int8(small, path, seen.crops, in_floats)
        rows = agreements(expected, load_exported(small)(sample.crops))
        print(format_agreements(f"floats and int8 on {len(sample.crops)} {sample.origin}", rows))
        return [row.task for row in rows if row.labels < least_agreement]

    apart = disagreeing(in_floats=())
    if 0 < len(apart) < len(expected):
        print(f"back to floats: {', '.join(apart)}, of whose labels less than {least_agreement:.1%} agree")
        apart = disagreeing(in_floats=apart)
    float_seconds, int8_seconds = seconds_each([floats, load_exported(small)], sample.crops[:TIMED_CROPS])
    speedup = float_seconds / int8_seconds
    print(f"crops/s: floats {1 / float_seconds:.1f}, int8 {1 / int8_seconds:.1f} ({speedup:.2f}x)")
    if apart or speedup <= 1:
        small.unlink()
        agreed = f"too few labels of {', '.join(apart)} agree" if apart else "all labels agree"
        print(f"int8 not kept: {agreed}, and it is {speedup:.2f} times as fast (above 1 is needed)")
        return
    print(f"{small}: {small.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_cli(main)

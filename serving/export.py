"""Write a trained run as ONNX: all folds of a task, or all tasks, in one file that needs no torch.

    python -m serving.export                     outputs/default/onnx/all.onnx: every task, its folds averaged
    python -m serving.export --task mask         outputs/default/onnx/mask.onnx
    python -m serving.export --int8      also all.int8.onnx, if it is faster and gives the same labels; tasks whose
                                         labels change stay in floats

The file takes crops as uint8 RGB; resizing and normalisation are part of it, and its metadata says how to crop, what
the outputs are, and from which weights they come. Its agreement with torch is measured on crops of the run and printed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.cli import UserError, add_run_dir, command_parser, cpu_count, positive_int, run_cli
from core.images import read_photo
from core.tasks import task_names
from serving.cli import fold_numbers
from serving.exporting import write_onnx
from serving.onnx_model import INT8_SUFFIX, load_exported
from serving.parity import agreements, format_agreements, seconds_each
from serving.torch_model import TrainedRun, load_run
from storage.crops import load_crops
from storage.run_dir import read_run
from training.device import prepare_process

ALL = "all"
TIMED_CROPS = 16
LARGEST_DIFFERENCE = 0.02
"""Of probabilities, between torch and ONNX: resizing may round a pixel to the next grey level. More is a fault."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare_process(cpu_count())
    run = load_run(args.run_dir, tasks=[] if ALL in args.task else args.task, folds=args.folds, device="cpu")
    path = (args.out or args.run_dir / "onnx") / f"{'-'.join(args.task)}.onnx"
    write_onnx(run, path)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, {describe(run)}")
    compare(path, run, *crops_of(args.run_dir, run, args.crops, "eval"))
    if args.int8:
        add_int8(path, run, args)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_run_dir(parser)
    parser.add_argument("--task", nargs="+", choices=(ALL, *task_names()), default=[ALL], help="tasks of the file")
    parser.add_argument("--folds", type=fold_numbers, default=(), metavar="all|0,1", help="folds to average")
    parser.add_argument("--out", type=Path, help="folder of the file (default: <run-dir>/onnx)")
    parser.add_argument("--crops", type=positive_int, default=128, help="crops to compare torch and ONNX on")
    parser.add_argument("--int8", action="store_true", help="also in 8-bit integers, kept only if no worse")
    parser.add_argument(
        "--least-agreement",
        type=float,
        default=0.99,
        help="share of a task's labels that int8 must not change",
    )
    return parser.parse_args(argv)


def describe(run: TrainedRun) -> str:
    return ", ".join(f"{task} of {len(predictors)} folds" for task, predictors in run.folds.items())


def crops_of(run_dir: Path, run: TrainedRun, count: int, split: str) -> tuple[np.ndarray, str]:
    """Crops (N, h, w, 3) uint8 of the run, spread over a split, or noise where there are none; and what they are."""
    crop_dir = Path(read_run(run_dir).crop_dir)
    try:
        crops = load_crops(crop_dir, split)
    except UserError as error:
        print(f"no crops of the run to look at, noise instead ({error})")
        return noise(run, count)
    if not crops.image_ids:
        print(f"no {split} crops in {crop_dir} to look at, noise instead")
        return noise(run, count)
    chosen = np.unique(np.linspace(0, len(crops.paths) - 1, count).round().astype(int))
    return np.stack([read_photo(crops.paths[row]) for row in chosen]), f"{split} crops"


def noise(run: TrainedRun, count: int) -> tuple[np.ndarray, str]:
    shape = (count, run.crop.size, run.crop.width, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), "pictures of noise"


def compare(path: Path, run: TrainedRun, crops: np.ndarray, origin: str) -> None:
    """Print agreement and speed. UserError, and no file, if the export does not give what torch gives."""
    exported = load_exported(path)
    rows = agreements(run(crops), exported(crops))
    print(format_agreements(f"torch and ONNX on {len(crops)} {origin}", rows))
    worst = max(rows, key=lambda row: row.largest)
    if worst.largest > LARGEST_DIFFERENCE:
        path.unlink()
        raise UserError(f"{path}: {worst.task} differs by {worst.largest:.3g} from torch, more than rounding explains")
    torch_seconds, onnx_seconds = seconds_each([run, exported], crops[:TIMED_CROPS])
    print(f"crops/s: torch {1 / torch_seconds:.1f}, ONNX {1 / onnx_seconds:.1f} ({torch_seconds / onnx_seconds:.2f}x)")


def add_int8(path: Path, run: TrainedRun, args: argparse.Namespace) -> None:
    """Quantise by training crops, measure on others, and keep the file only if it is faster and its labels agree.

    Tasks whose labels do not agree go back to floats, if others can stay.
    """
    # Its import takes a second that others need not wait.
    from serving.quantised import write_int8

    small = path.with_name(path.stem + INT8_SUFFIX)
    seen = crops_of(args.run_dir, run, args.crops, "train")[0]
    crops, origin = crops_of(args.run_dir, run, args.crops, "eval")
    floats = load_exported(path)

    def tasks_apart(in_floats: Sequence[str]) -> list[str]:
        """Write the file, print how it agrees, and return the tasks that agree too little."""
        write_int8(small, path, seen, in_floats)
        rows = agreements(floats(crops), load_exported(small)(crops))
        print(format_agreements(f"floats and int8 on {len(crops)} {origin}", rows))
        return [row.task for row in rows if row.labels < args.least_agreement]

    apart = tasks_apart(in_floats=())
    if 0 < len(apart) < len(run.folds):
        print(f"back to floats: {', '.join(apart)}, of whose labels less than {args.least_agreement:.1%} agree")
        apart = tasks_apart(in_floats=apart)
    of_floats, of_integers = seconds_each([floats, load_exported(small)], crops[:TIMED_CROPS])
    print(f"crops/s: floats {1 / of_floats:.1f}, int8 {1 / of_integers:.1f} ({of_floats / of_integers:.2f}x)")
    if apart or of_integers >= of_floats:
        small.unlink()
        agreed = f"too few labels of {', '.join(apart)} agree" if apart else "all labels agree"
        print(f"int8 not kept: {agreed}, and it is {of_floats / of_integers:.2f} times as fast (above 1 is needed)")
        return
    print(f"{small}: {small.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_cli(main)

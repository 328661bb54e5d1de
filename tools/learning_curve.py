"""Score how much more people bring: heads solved on the frozen features of a half, a quarter ... of the people.

    python -m tools.learning_curve                            gender and age of outputs/default
    python -m tools.learning_curve --task age --run-dir outputs/x --smallest 100

For every fold, ridge heads (training/ridge.py) are solved on 1, 1/2, 1/4 ... of its training people, each part within
the one before, and score the fold's own people. Nothing else is trained, and eval photos are not used. Printed, and
written to learning_curve.csv of the run, which the report shows: accuracy and macro-F1 out of fold with 95% intervals
over people. They are those of the ridge heads alone. Tasks whose backbone is not frozen are left out.
"""

if not __package__:
    raise SystemExit("run this as a module: python -m tools.learning_curve")

import argparse
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import core.environment  # noqa: F401  explains a missing package

import numpy as np
import pandas as pd

from core import files
from core.cli import UserError, add_trained_run, command_parser, cpu_count, positive_int, progress, run_cli
from core.tasks import task_named, task_names
from evaluation.metrics import format_estimate, scores
from storage.crops import load_crops
from storage.folds import folds_path, read_folds, refuse_other_folds
from storage.label_corrections import crops_to_train
from storage.learning_curve import CURVE, CURVE_COLUMNS, MADE_OF
from storage.run_dir import finished_folds, read_config_of, read_run, trained_run

if TYPE_CHECKING:
    from training.config import Config
    from training.fold_setup import FoldData


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    args.run_dir = trained_run(args.run_dir)
    # torch takes seconds to import: --help and the complaint about a mistyped flag do not wait for it.
    from training.device import prepare_process

    prepare_process(cpu_count())
    tasks = [task for task in args.task or task_names() if is_frozen(args.run_dir, task)]
    if not tasks:
        raise UserError(f"{args.run_dir}: no trained task with a frozen backbone; the default of gender and age is one")
    rows = [row for task in tasks for row in curve_of(args.run_dir, task, args.smallest)]
    files.write_csv(args.run_dir / CURVE, pd.DataFrame(rows, columns=[*CURVE_COLUMNS, *MADE_OF]))
    print(args.run_dir / CURVE)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_trained_run(parser)
    parser.add_argument("--task", nargs="+", choices=task_names(), help="tasks (default: all with a frozen backbone)")
    parser.add_argument("--smallest", type=positive_int, default=50, help="fewest people of a part")
    return parser.parse_args(argv)


def is_frozen(run_dir: Path, task: str) -> bool:
    folds = finished_folds(run_dir / task)
    return bool(folds) and read_config_of(folds[0], task)["settings"]["backbone_lr"] == 0


def curve_of(run_dir: Path, task: str, smallest: int) -> Iterator[dict]:
    """Yield and print a row for each part of the people."""
    fold_dirs = finished_folds(run_dir / task)
    data = [fold_data(run_dir, task, fold_dir) for fold_dir in fold_dirs]
    identity = read_config_of(fold_dirs[0], task)
    people = min(len(set(of_fold.part(out_of_fold=False)[0].frame["person"])) for of_fold, _ in data)
    sizes = [people >> halvings for halvings in range(people.bit_length()) if people >> halvings >= smallest]
    print(f"{task}, out of fold\n  {'people':>7}  {'accuracy':<25}macro-F1")
    with progress(None, title=task, total=len(sizes) * len(data)) as bar:
        for size in reversed(sizes or [people]):
            parts = []
            for of_fold, config in data:
                parts.append(solved(run_dir, of_fold, config, size))
                bar.update(1)
            truth, predicted, persons = (np.concatenate(column) for column in zip(*parts, strict=True))
            found = scores(truth, predicted, persons, num_classes=len(task_named(task).classes))
            bar.write(f"  {size:>7}  {format_estimate(found['accuracy']):<25}{format_estimate(found['macro_f1'])}")
            accuracy, macro_f1 = (found[name] for name in ("accuracy", "macro_f1"))
            yield {"task": task, "people": size, **{f"accuracy_{key}": value for key, value in accuracy.items()},
                   **{f"macro_f1_{key}": value for key, value in macro_f1.items()},
                   **{name: identity[name] for name in MADE_OF}}  # fmt: skip


def fold_data(run_dir: Path, task: str, fold_dir: Path) -> "tuple[FoldData, Config]":
    """Return the photos of a trained fold, and its settings. UserError for photos, labels or folds that are others."""
    from training.config import from_dict
    from training.fold_setup import FoldData

    crops = crops_to_train(run_dir, load_crops(Path(read_run(run_dir).crop_dir), "train"), None)
    identity = read_config_of(fold_dir, task)
    if identity["data_hash"] != crops.hash:
        raise UserError(f"{fold_dir}: trained with other photos or labels than {crops.crop_dir} has now; train anew")
    refuse_other_folds(run_dir, identity["folds_hash"], fold_dir)
    config, row = from_dict(identity["settings"]), task_named(task)
    labels = crops.labels(row, config.age_edges)
    return FoldData(row, identity["fold"], crops, labels, read_folds(folds_path(run_dir))), config


def solved(run_dir: Path, data: "FoldData", config: "Config", people: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, predicted labels and persons of a fold's own photos, by a head solved on so many people."""
    import torch

    from backbones.ridge_head import RidgeHead
    from training.heads import build_head
    from training.ridge import mean_features, solve_ridge

    head = build_head(config.head, data.task, config.age_edges)
    cache = data.input_for(config).prepared(run_dir).open(data.crops, device=config.device)
    (learned, labels), (own, truth) = data.part(out_of_fold=False), data.part(out_of_fold=True)
    # In an order that depends on the names alone, so that a part lies within the next.
    chosen = set(sorted(set(learned.frame["person"]), key=lambda name: (zlib.crc32(name.encode()), name))[:people])
    rows = [row for row, person in enumerate(learned.frame["person"]) if person in chosen]
    part = learned.take(rows)
    targets = head.targets(part, [labels[row] for row in rows])
    features = mean_features(cache, part.image_ids)
    solver = RidgeHead(features.shape[1], head.outputs, head.codes.shape[1])
    solve_ridge(solver, features, head.codes, head.codes_of(targets), list(part.frame["person"]))
    with torch.inference_mode():
        logits = head.class_logits(solver(mean_features(cache, own.image_ids)))
    return np.array(truth), logits.argmax(dim=1).numpy(), own.frame["person"].to_numpy(str)


if __name__ == "__main__":
    run_cli(main)

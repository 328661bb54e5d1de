"""Compare the refits of a run with the average of its folds on the eval photos: scores, paired intervals, and speed.

    python -m dev.benchmarks.refit --run-dir outputs/default

Nothing may be chosen by these scores.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from core.cli import UserError, add_run_dir, command_parser, cpu_count, run_cli
from core.tasks import UNKNOWN, task_named
from evaluation.logits import EVAL_PHOTOS
from evaluation.metrics import accuracy, format_difference, format_estimate, macro_f1, paired_difference, scores
from evaluation.results import RunResults
from serving.agreement import seconds_each
from serving.types import BatchPrediction
from storage.crops import load_crops
from storage.run_dir import REFIT, is_done, trained_tasks

TIMED_CROPS = 16
METRICS = {"macro_f1": macro_f1, "accuracy": accuracy}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    tasks = [task for task in trained_tasks(args.run_dir) if is_done(args.run_dir / task / REFIT)]
    if not tasks:
        raise UserError(f"run folder {args.run_dir}: no refit in it; run train.py --refit first")
    from dev.benchmarks.setup import images_for
    from serving.torch_model import load_run
    from training.device import prepare_process

    results = RunResults(args.run_dir)
    crops = load_crops(Path(results.run.crop_dir), "eval")
    labels = {task: results.labels(EVAL_PHOTOS, task_named(task)) for task in tasks}
    if not crops.image_ids or None in labels.values():
        raise UserError(f"run folder {args.run_dir}: no eval photos whose labels are known")
    prepare_process(cpu_count())
    folds, refit = (load_run(args.run_dir, tasks=tasks, folds=which, device=args.device) for which in ((), None))
    images = images_for(refit, crops)
    said = [classify(images) for classify in (folds, refit)]
    for task in tasks:
        truth = [labels[task].get(image_id, UNKNOWN) for image_id in crops.image_ids]
        print("\n".join(lines_of(task, truth, crops.image_ids, [one[task] for one in said])))
    of_folds, of_refit = seconds_each([folds, refit], images[:TIMED_CROPS])
    print(f"faces/s: folds {1 / of_folds:.1f}, refit {1 / of_refit:.1f} ({of_folds / of_refit:.2f}x)")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_run_dir(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ...")
    return parser.parse_args(argv)


def lines_of(
    task: str, truth: Sequence[int], image_ids: Sequence[str], said: Sequence[BatchPrediction]
) -> Sequence[str]:
    """Return a line a metric: the folds, the refit, and the difference, over photos whose label is known."""
    known = [row for row, label in enumerate(truth) if label != UNKNOWN]
    names, true = [image_ids[row] for row in known], [truth[row] for row in known]
    labels = [one.log_probs.argmax(axis=1)[known].tolist() for one in said]
    classes = len(said[0].classes)
    found: list[Mapping] = [scores(true, each, names, num_classes=classes) for each in labels]
    lines = [f"{task}, {len(known)} eval photos"]
    for name, metric in METRICS.items():
        apart = paired_difference(true, *labels, names, num_classes=classes, metric=metric)
        folds, refit = (format_estimate(one[name], 3) for one in found)
        lines.append(f"  {name:<10}folds {folds}, refit {refit}, difference {format_difference(apart, 3)}")
    return lines


if __name__ == "__main__":
    run_cli(main)

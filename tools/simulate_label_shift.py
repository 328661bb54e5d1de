"""Score the decision rules on photos whose class priors differ from those of the training photos.

    python -m tools.simulate_label_shift                            sets of 225 people with other priors of the ages
    python -m tools.simulate_label_shift --task mask --photos 1000 --draws 500 --run-dir outputs/x

Sets are drawn from the out-of-fold logits of a finished run: one photo of each of --photos people of one fold, drawn
anew for each set, so that the classes of --task have random priors. The rules are fitted on the people of the other
folds, and on the drawn photos without their labels. Printed is the mean gain of each rule over `raw`, with its 95%
interval over the sets. Eval photos are not used.
"""

if not __package__:
    raise SystemExit("run this as a module: python -m tools.simulate_label_shift")

import argparse
from collections.abc import Mapping, Sequence

import core.environment  # noqa: F401  explains a missing package

import numpy as np

from core.cli import UserError, add_trained_run, command_parser, positive_int, progress, run_cli
from core.tasks import combined_class_count, combined_tasks
from evaluation.combined_class import combine_labels
from evaluation.decision_rules import RAW, RULES, SHIFT, OutOfFold
from evaluation.metrics import accuracy, confusion_matrix, macro_f1
from evaluation.results import RunResults
from storage.run_dir import trained_run

MIXES: Mapping[str, float | None] = {"as it is": None, "another": 3.0, "quite another": 1.0}
"""Concentration of the symmetric Dirichlet distribution of the class priors; None keeps those of the fold's people."""
RULES_TRIED = tuple(rule for rule in RULES if rule.name in (RAW, SHIFT))
"""`temperature` predicts the same classes as `raw`, and `tuned` takes a search for each set."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    args.run_dir = trained_run(args.run_dir)
    oof = RunResults(args.run_dir).out_of_fold([task.name for task in combined_tasks()])
    if not oof:
        raise UserError(f"{args.run_dir}: no out-of-fold logits of all tasks; run train.py and ensemble.py first")
    if len(np.unique(oof.folds)) < 2:
        raise UserError(f"{args.run_dir}: out-of-fold logits of one fold alone; at least two are needed")
    rng = np.random.default_rng(args.seed)
    print(f"{args.draws} sets of {args.photos} photos for each mix of {args.task}; 18-class macro-F1 | accuracy")
    with progress(None, title="sets", total=args.draws * len(MIXES)) as bar:
        for title, concentration in MIXES.items():
            sets = []
            for _ in range(args.draws):
                sets.append(score_a_set(oof, args.task, args.photos, concentration, rng))
                bar.update(1)
            bar.write(format_mix(title, np.array(sets)))


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    names = [task.name for task in combined_tasks()]
    parser.add_argument("--task", choices=names, default="age", help="task whose class priors differ")
    parser.add_argument("--photos", type=positive_int, default=225, help="photos of a set")
    parser.add_argument("--draws", type=positive_int, default=300, help="sets of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    add_trained_run(parser)
    return parser.parse_args(argv)


def score_a_set(
    oof: OutOfFold, task: str, photos: int, concentration: float | None, rng: np.random.Generator
) -> list[tuple[float, float]]:
    """Macro-F1 and accuracy over the combined classes of each rule on one set of drawn photos."""
    in_fold = oof.folds == rng.choice(np.unique(oof.folds))
    drawn = oof.take(np.flatnonzero(in_fold)[draw_rows(oof.take(in_fold), task, photos, concentration, rng)])
    found = []
    for rule in RULES_TRIED:
        labels = rule.fit(oof.take(~in_fold), drawn.logits).labels(drawn.logits)
        confusion = confusion_matrix(drawn.combined_labels, combine_labels(labels), combined_class_count())
        found.append((float(macro_f1(confusion)), float(accuracy(confusion))))
    return found


def draw_rows(
    oof: OutOfFold, task: str, photos: int, concentration: float | None, rng: np.random.Generator
) -> np.ndarray:
    """(photos,) rows: people drawn with replacement so that their classes have random priors, a photo of each."""
    labels = oof.labels[task]
    there = np.unique(labels)
    priors = rng.dirichlet([concentration] * len(there)) if concentration else None
    if priors is None:
        priors = np.array([(labels == label).mean() for label in there])
    wanted = rng.choice(there, photos, p=priors)
    rows_of = {label: _rows_of_people(oof, labels == label) for label in there}
    return np.array([rng.choice(rows_of[label][rng.integers(len(rows_of[label]))]) for label in wanted])


def _rows_of_people(oof: OutOfFold, mask: np.ndarray) -> list[np.ndarray]:
    """The rows of each person among those of a mask (N,), persons in sorted order."""
    rows = np.flatnonzero(mask)
    _, person_of_row, photos = np.unique(oof.persons[rows], return_inverse=True, return_counts=True)
    return np.split(rows[np.argsort(person_of_row, kind="stable")], np.cumsum(photos)[:-1])


def format_mix(title: str, sets: np.ndarray) -> str:
    """Lines for (sets, rules, 2) scores: those of `raw`, and the gain of the other rules."""
    means = sets.mean(axis=0)
    lines = [f"{title}: {RAW} {means[0, 0]:.4f} | {means[0, 1]:.4f}"]
    for number, rule in enumerate(RULES_TRIED[1:], start=1):
        gains = sets[:, number] - sets[:, 0]
        spread = 1.96 * gains.std(axis=0) / np.sqrt(len(sets))
        told = [f"{gain:+.4f} ± {around:.4f}" for gain, around in zip(gains.mean(axis=0), spread, strict=True)]
        lines.append(f"  {rule.name:<8}{' | '.join(told)}")
    return "\n".join(lines)


if __name__ == "__main__":
    run_cli(main)

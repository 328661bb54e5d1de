"""Draw a contact sheet of the crops of a person, of a class, or of the mistakes in a task.

    python -m tools.look --person 000171_female_Indian_21
    python -m tools.look --class mask=incorrect,gender=female
    python -m tools.look --mistakes age

Result: look.jpg. Below each crop: its photo and its labels, with their probability where the run has predictions, and,
in red, label -> prediction where they differ. Predictions of training photos are out of fold; `--split eval` shows the
eval photos.
"""

if not __package__:
    raise SystemExit("run this as a module: python -m tools.look")

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

import numpy as np

from core.cli import UserError, add_run_dir, command_parser, name_some, run_cli
from core.contact_sheet import Cell, add_sheet_flags, contact_sheet
from core.images import UnreadablePhoto, read_photo, write_photo
from core.tasks import TASKS, UNKNOWN, task_named, task_names
from evaluation.logits import EVAL_PHOTOS, OUT_OF_FOLD
from evaluation.predictions import TaskPredictions, worst_mistakes
from evaluation.results import RunResults
from evaluation.run_decision import read_decision, read_predictions
from storage.crops import Crops, load_crops
from storage.run_dir import run_path
from training.config import Config

SPLITS = {"train": OUT_OF_FOLD, "eval": EVAL_PHOTOS}
DEFAULT_CROP_DIR = Path("crop_images")


@dataclass(frozen=True)
class KnownCrops:
    """Crops with their labels by task, one a row (None where it is not known), and the run's predictions by task."""

    crops: Crops
    labels: Mapping[str, Sequence[int | None]]
    predictions: Mapping[str, TaskPredictions]


@dataclass(frozen=True)
class Selection:
    """The rows to show, and the tasks to tell of each."""

    rows: Sequence[int]
    tasks: Sequence[str]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    has_run = args.crop_dir is None and run_path(args.run_dir).exists()
    known = read_run_crops(args.run_dir, args.split) if has_run else read_crops(args.crop_dir, args.split)
    if not known.crops.image_ids:
        raise UserError(f"crop folder {known.crops.crop_dir}: no photos in its {args.split} part")
    wish, select = next((getattr(args, name), way) for name, way in WAYS.items() if getattr(args, name))
    selection = select(known, wish, args.count)
    cells = [cell_of(known, row, selection.tasks) for row in selection.rows]
    write_photo(args.out, contact_sheet(cells))
    for cell in cells:
        print("  ".join(cell.lines))
    print(f"{args.out}: {len(cells)} crops")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    ways = parser.add_mutually_exclusive_group(required=True)
    ways.add_argument("--person", metavar="ID", help="a person's folder, or the part of it before the first _")
    ways.add_argument("--class", dest="of_class", metavar="TASK=CLASS,...", help="photos with all of these labels")
    ways.add_argument("--mistakes", metavar="TASK", help="wrong predictions, the surest first, one a person")
    parser.add_argument("--split", choices=list(SPLITS), default="train", help="which photos")
    add_run_dir(parser)
    parser.add_argument("--crop-dir", type=Path, help="look at these crops, and at no run (default: the run's)")
    add_sheet_flags(parser, "look.jpg")
    return parser.parse_args(argv)


def read_crops(crop_dir: Path | None, split: str) -> KnownCrops:
    """Crops without a run; the labels of training photos are known."""
    crops = load_crops(crop_dir or DEFAULT_CROP_DIR, split)
    labels = {name: [None] * len(crops.image_ids) for name in task_names()}
    if split == "train":
        labels = {name: _known(crops.labels(task_named(name), Config.age_edges)) for name in task_names()}
    return KnownCrops(crops, labels, {})


def read_run_crops(run_dir: Path, split: str) -> KnownCrops:
    """Crops of a run, with its predictions by its decision rule."""
    results, part = RunResults(run_dir), SPLITS[split]
    crops = results.train if part is OUT_OF_FOLD else load_crops(Path(results.run.crop_dir), split)
    label_of = {task.name: results.labels(part, task) or {} for task in TASKS}
    labels = {
        name: _known([of_task.get(image_id, UNKNOWN) for image_id in crops.image_ids])
        for name, of_task in label_of.items()
    }
    return KnownCrops(crops, labels, read_predictions(results, part, read_decision(run_dir)))


def _known(labels: Sequence[int]) -> list[int | None]:
    return [None if label == UNKNOWN else label for label in labels]


def select_person(known: KnownCrops, wish: str, count: int) -> Selection:
    """All photos of a person. UserError if there is none of that name, or several whose name begins so."""
    persons = list(known.crops.frame["person"])
    found = sorted({person for person in persons if person == wish}) or sorted(
        {person for person in persons if person.startswith(f"{wish}_")}
    )
    if len(found) != 1:
        what = f"stands for {name_some(found)}" if found else f"is none of {name_some(sorted(set(persons)))}"
        raise UserError(f"--person {wish!r}: {what}")
    return Selection([row for row, person in enumerate(persons) if person == found[0]][:count], task_names())


def select_class(known: KnownCrops, wish: str, count: int) -> Selection:
    """Photos with all of these labels, evenly over the whole list. UserError for a task or class that is none."""
    wanted = dict(_label_named(part) for part in wish.split(","))
    every = range(len(known.crops.image_ids))
    rows = [row for row in every if all(known.labels[name][row] == label for name, label in wanted.items())]
    if not rows:
        raise UserError(f"--class {wish!r}: no photo has these labels")
    places = np.linspace(0, len(rows) - 1, min(len(rows), count)).round().astype(int)
    return Selection([rows[place] for place in places], task_names())


def _label_named(part: str) -> tuple[str, int]:
    name, _, of_class = (text.strip() for text in part.partition("="))
    classes = task_named(name).classes
    if of_class not in classes:
        raise UserError(f"--class {part!r}: the classes of {name} are {', '.join(classes)}")
    return name, classes.index(of_class)


def select_mistakes(known: KnownCrops, wish: str, count: int) -> Selection:
    """Wrong predictions of a task. UserError if the run has none that can be scored, or none that is wrong."""
    found = known.predictions.get(task_named(wish).name)
    if found is None or found.truth is None:
        raise UserError(f"--mistakes {wish}: there are no predictions that can be compared with labels; see --run-dir")
    found, row_of = found.labelled, {image_id: row for row, image_id in enumerate(known.crops.image_ids)}
    rows = [row_of[found.image_ids[row]] for row in worst_mistakes(found, count)]
    if not rows:
        raise UserError(f"--mistakes {wish}: no prediction is wrong")
    return Selection(rows, (wish,))


WAYS: Mapping[str, Callable[[KnownCrops, str, int], Selection]] = {
    "person": select_person,
    "of_class": select_class,
    "mistakes": select_mistakes,
}
"""By the flag that was given."""


def cell_of(known: KnownCrops, row: int, tasks: Sequence[str]) -> Cell:
    """A crop with its photo's name and a line for each task; UserError if the crop cannot be read."""
    try:
        picture = read_photo(known.crops.paths[row])
    except UnreadablePhoto as error:
        raise UserError(f"crop {error}; run preprocessing/crop_faces.py again") from error
    image_id = known.crops.image_ids[row]
    told = [caption(name, image_id, known.labels[name][row], known.predictions.get(name)) for name in tasks]
    named = image_id.rsplit("/", 1)
    in_red = [number for number, (_, is_wrong) in enumerate(told, start=len(named)) if is_wrong]
    return Cell(picture, (*named, *(text for text, _ in told)), tuple(in_red))


def caption(name: str, image_id: str, label: int | None, predictions: TaskPredictions | None) -> tuple[str, bool]:
    """'old -> young 0.93' and True for a wrong prediction, 'old 0.93' for a right one, 'old' without one."""
    classes = task_named(name).classes
    truth = f"{name}?" if label is None else classes[label]
    row = predictions.row_of.get(image_id) if predictions else None
    if row is None:
        return truth, False
    predicted = int(predictions.predicted[row])
    text = f"{classes[predicted]} {predictions.probs[row, predicted]:.2f}"
    return (text, False) if predicted == label else (f"{truth} -> {text}", label is not None)


if __name__ == "__main__":
    run_cli(main)

"""Look at a person, a class or the mistakes of a task: a contact sheet of crops with what is known of each.

    python -m tools.look --person 000171_female_Indian_21
    python -m tools.look --class mask=incorrect,gender=female
    python -m tools.look --mistakes age

Result: look.jpg. Below each crop: its photo, its labels, where the run has answers their probability, and, in red,
label -> answer where they differ. Training photos are answered out of fold; `--split eval` shows the others.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.cli import UserError, command_parser, name_some, run_cli
from core.contact_sheet import Cell, contact_sheet
from core.images import UnreadablePhoto, read_photo, write_photo
from core.tasks import AgeEdges, task_named, task_names
from reporting.load import Answers, gather
from reporting.result_sections import worst_mistakes
from storage.crops import Crops, load_crops
from tools.places import add_places, crop_dir_of, has_run, refuse_no_crops
from training.config import Config

SPLITS = ("train", "eval")


@dataclass(frozen=True)
class Known:
    """Crops with their labels by task, one a row (None where nobody knows it), and the run's answers by task."""

    crops: Crops
    labels: Mapping[str, Sequence[int | None]]
    answers: Mapping[str, Answers]


@dataclass(frozen=True)
class Selection:
    """The rows to show, and the tasks to tell of each."""

    rows: Sequence[int]
    tasks: Sequence[str]


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    known = read_known(args)
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
    ways.add_argument("--mistakes", metavar="TASK", help="wrong answers, the surest first, one a person")
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0], help="which photos")
    add_places(parser, "look.jpg")
    return parser.parse_args(argv)


def read_known(args: argparse.Namespace) -> Known:
    """What the run knows, or, without one, what the crop folder does."""
    if not has_run(args):
        crops = load_crops(crop_dir_of(args), args.split)
        known = Known(crops, labels_of(crops, args.split, Config.age_edges, scored={}), {})
    else:
        data = gather(args.run_dir)
        split = data.oof if args.split == "train" else data.eval
        labels = labels_of(split.crops, args.split, data.run.age_edges, scored=split.scored)
        known = Known(split.crops, labels, split.answers)
    refuse_no_crops(known.crops.image_ids, known.crops.crop_dir, args.split)
    return known


def labels_of(
    crops: Crops, split: str, edges: AgeEdges, *, scored: Mapping[str, Answers]
) -> dict[str, Sequence[int | None]]:
    """Training photos carry their labels; those of eval photos are known where the run can be scored on them."""
    if split == "train":
        return {name: crops.labels(task_named(name), edges) for name in task_names()}
    truth = {
        name: dict(zip(answers.image_ids, answers.truth.tolist(), strict=True)) for name, answers in scored.items()
    }
    return {name: [truth.get(name, {}).get(image_id) for image_id in crops.image_ids] for name in task_names()}


def select_person(known: Known, wish: str, count: int) -> Selection:
    """All photos of a person. UserError if there is none of that name, or several whose name begins so."""
    persons = list(known.crops.frame["person"])
    found = sorted({person for person in persons if person == wish}) or sorted(
        {person for person in persons if person.startswith(f"{wish}_")}
    )
    if len(found) != 1:
        what = f"stands for {name_some(found)}" if found else f"is none of {name_some(sorted(set(persons)))}"
        raise UserError(f"--person {wish!r}: {what}")
    return Selection([row for row, person in enumerate(persons) if person == found[0]][:count], task_names())


def select_class(known: Known, wish: str, count: int) -> Selection:
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


def select_mistakes(known: Known, wish: str, count: int) -> Selection:
    """Wrong answers of a task. UserError if the run has no answers that can be scored, or none that is wrong."""
    answers = known.answers.get(task_named(wish).name)
    if answers is None or answers.truth is None:
        raise UserError(f"--mistakes {wish}: there are no answers that could be compared with labels; see --run-dir")
    row_of = {image_id: row for row, image_id in enumerate(known.crops.image_ids)}
    rows = [row_of[answers.image_ids[row]] for row in worst_mistakes(answers, count)]
    if not rows:
        raise UserError(f"--mistakes {wish}: no answer is wrong")
    return Selection(rows, (wish,))


WAYS: Mapping[str, Callable[[Known, str, int], Selection]] = {
    "person": select_person,
    "of_class": select_class,
    "mistakes": select_mistakes,
}
"""By the flag that was given."""


def cell_of(known: Known, row: int, tasks: Sequence[str]) -> Cell:
    """A crop with its photo's name and a line for each task; UserError if the crop cannot be read."""
    try:
        picture = read_photo(known.crops.paths[row])
    except UnreadablePhoto as error:
        raise UserError(f"crop {error}; run preprocessing/crop_faces.py again") from error
    image_id = known.crops.image_ids[row]
    told = [tell(name, image_id, label=known.labels[name][row], answers=known.answers.get(name)) for name in tasks]
    named = image_id.rsplit("/", 1)
    in_red = [number for number, (_, is_wrong) in enumerate(told, start=len(named)) if is_wrong]
    return Cell(picture, (*named, *(line for line, _ in told)), tuple(in_red))


def tell(name: str, image_id: str, *, label: int | None, answers: Answers | None) -> tuple[str, bool]:
    """'old -> young 0.93' and whether the answer is wrong; 'old 0.93' for one that is right, 'old' without one."""
    classes = task_named(name).classes
    truth = f"{name}?" if label is None else classes[label]
    if answers is None or image_id not in answers.image_ids:
        return truth, False
    row = answers.image_ids.index(image_id)
    predicted = int(answers.predicted[row])
    answer = f"{classes[predicted]} {answers.probs[row, predicted]:.2f}"
    return (answer, False) if predicted == label else (f"{truth} -> {answer}", label is not None)


if __name__ == "__main__":
    run_cli(main)

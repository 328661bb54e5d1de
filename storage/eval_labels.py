"""Labels and facts of the eval photos, for scoring alone: nothing here may reach training or a decision."""

from dataclasses import dataclass
from pathlib import Path

from core.cli import UserError
from core.files import read_csv, require_unique
from core.tasks import AgeEdges, Facts, combined_class_count, combined_tasks, decode, known_labels, task_named
from storage.folders import Photo, Search, refuse_outside
from storage.layouts import (
    MASK_OF_TYPE_PREFIX,
    SCORED_NAME,
    TABLE,
    Dataset,
    facts_of_match,
    parse_person,
    scan,
)
from storage.photo_table import photos_and_facts
from storage.run_dir import Run


@dataclass(frozen=True)
class EvalLabels:
    """Labels by image id and task, and further known facts (race, age in years ...) by image id."""

    labels: dict[str, dict[str, int]]
    facts: dict[str, Facts]


def find_eval_labels(path: Path | None, run: Run) -> EvalLabels | None:
    """Load eval labels from a CSV with ImageID and ans, or from the data root of the run; None where there are none.

    Further columns of the CSV are facts. UserError for a CSV that is not as it should be.
    """
    if path:
        return EvalLabels(read_eval_labels_csv(path), _facts_of_csv(path))
    source = Path(run.data_root)
    dataset = scan(source, run.layout) if source.exists() else None
    if dataset and run.layout == TABLE:
        return _of_facts(eval_facts(dataset), run.age_edges)
    labels = read_eval_labels(dataset, run.age_edges) if dataset else None
    if labels is None:
        return None
    is_named = run.layout == "remade"
    return EvalLabels(labels, _facts_of_names(dataset) if is_named else _facts_of_csv(source / "truth.csv"))


def eval_facts(dataset: Dataset) -> dict[str, Facts]:
    """Return the known facts of the eval photos by image id, labels among them, as the words of a table."""
    if dataset.layout == TABLE:
        search = Search(dataset.root, [], table_path=dataset.source if dataset.source != dataset.root else None)
        return {photo.image_id: facts for photo, facts in photos_and_facts(search) if photo.split == "eval"}
    if dataset.layout == "remade":
        return {photo.image_id: _facts_of_name(photo) for photo in dataset.of_split("eval")}
    path = dataset.root / "truth.csv"
    labels = read_eval_labels(dataset, (0, 0)) or {}
    further = _facts_of_csv(path) if labels else {}
    words = {
        image_id: {name: task_named(name).classes[label] for name, label in of_photo.items()}
        for image_id, of_photo in labels.items()
    }
    return {image_id: further[image_id] | of_photo for image_id, of_photo in words.items()}


def _of_facts(facts: dict[str, Facts], edges: AgeEdges) -> EvalLabels | None:
    """Return the labels that the facts have; None where no photo has any. UserError for a fact that cannot be read."""
    labels = {}
    for image_id, of_photo in facts.items():
        try:
            labels[image_id] = known_labels(of_photo, edges)
        except ValueError as error:
            raise UserError(f"eval photo {image_id}: a label cannot be read from its facts ({error})") from None
    return EvalLabels(labels, facts) if any(labels.values()) else None


def read_eval_labels(dataset: Dataset, edges: AgeEdges) -> dict[str, dict[str, int]] | None:
    """Return labels by image id and task from photo names or truth.csv; None where the data root has neither."""
    if dataset.layout == "remade":
        return {photo.image_id: _labels_of_name(photo, edges) for photo in dataset.of_split("eval")}
    path = dataset.root / "truth.csv"
    refuse_outside(dataset.root, path)
    return read_eval_labels_csv(path) if path.exists() else None


def read_eval_labels_csv(path: Path) -> dict[str, dict[str, int]]:
    """Return labels by image id and task from a CSV with ImageID and ans, the combined class."""
    frame = read_csv(path, ("ImageID", "ans"))
    require_unique(path, frame, "ImageID")
    allowed = {str(combined) for combined in range(combined_class_count())}
    for image_id, ans in zip(frame["ImageID"], frame["ans"], strict=True):
        if ans not in allowed:
            raise UserError(f"{path}: ans {ans!r} of {image_id} is not a whole number from 0 to {len(allowed) - 1}")
    return {image_id: decode(int(ans)) for image_id, ans in zip(frame["ImageID"], frame["ans"], strict=True)}


def _facts_of_name(photo: Photo) -> dict[str, str]:
    match = SCORED_NAME.fullmatch(photo.person)
    return facts_of_match(match) | {"mask": MASK_OF_TYPE_PREFIX[match["type"].lower()]}


def _labels_of_name(photo: Photo, edges: AgeEdges) -> dict[str, int]:
    facts = _facts_of_name(photo)
    return {task.name: task.read_label(facts, edges) for task in combined_tasks()}


def _facts_of_csv(path: Path) -> dict[str, Facts]:
    rows = read_csv(path, ("ImageID",)).drop(columns="ans").to_dict("records")
    return {row.pop("ImageID"): row for row in rows}


def _facts_of_names(dataset: Dataset) -> dict[str, Facts]:
    """Return the facts in names like 900001_female_Asian_31_incorrect_mask, the end of which is the kind of mask."""
    found = {}
    for photo in dataset.of_split("eval"):
        name, facts = photo.person, None
        while facts is None and "_" in name:
            name = name.rpartition("_")[0]
            facts = parse_person(name)
        found[photo.image_id] = facts or {}
    return found

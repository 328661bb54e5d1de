"""What is known of the eval photos, for scoring alone: nothing here may reach training or a decision."""

from dataclasses import dataclass
from pathlib import Path

from core.files import read_csv
from core.tasks import Facts
from storage.layouts import Dataset, parse_person, read_truth, read_truth_csv, scan
from storage.run_dir import Run


@dataclass(frozen=True)
class Truth:
    """Labels by image id and task, and further facts (race, age in years ...) by image id as far as they are known."""

    labels: dict[str, dict[str, int]]
    facts: dict[str, Facts]


def find_truth(path: Path | None, run: Run) -> Truth | None:
    """From a CSV with ImageID and ans, or from where the data root has it; None where nobody knows.

    Further columns of the CSV are facts. UserError for a CSV that is not as it should be.
    """
    if path:
        return Truth(read_truth_csv(path), _facts_of_csv(path))
    root = Path(run.data_root)
    dataset = scan(root, run.layout) if root.is_dir() else None
    labels = read_truth(dataset, run.age_edges) if dataset else None
    if labels is None:
        return None
    is_named = run.layout == "remade"
    return Truth(labels, _facts_of_names(dataset) if is_named else _facts_of_csv(root / "truth.csv"))


def _facts_of_csv(path: Path) -> dict[str, Facts]:
    rows = read_csv(path, ("ImageID",)).drop(columns="ans").to_dict("records")
    return {row.pop("ImageID"): row for row in rows}


def _facts_of_names(dataset: Dataset) -> dict[str, Facts]:
    """Facts in names like 900001_female_Asian_31_incorrect_mask, the end of which is the kind of mask."""
    found = {}
    for photo in dataset.of_split("eval"):
        name, facts = photo.person, None
        while facts is None and "_" in name:
            name = name.rpartition("_")[0]
            facts = parse_person(name)
        found[photo.image_id] = facts or {}
    return found

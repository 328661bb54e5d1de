"""What a run has and lacks, and its scores, in lines for run_all. Imports nothing that takes time."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from core.tasks import task_names


def missing_folds(run_dir: Path) -> dict[str, list[int]]:
    """Return the folds that are not trained, of each task that has a trained one."""
    folds = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))["folds"]
    found = {
        task: [fold for fold in range(folds) if not (run_dir / task / f"fold{fold}" / "DONE").exists()]
        for task in task_names()
    }
    return {task: missing for task, missing in found.items() if len(missing) < folds}


def has_eval_photos(crop_dir: Path) -> bool:
    with (crop_dir / "faces.csv").open(encoding="utf-8", newline="") as stream:
        return any(row["split"] == "eval" for row in csv.DictReader(stream))


def left_out(missing: Mapping[str, Sequence[int]], *, has_eval: bool) -> Iterator[str]:
    """Yield a line for each thing that is left out, and why."""
    if not has_eval:
        yield "no eval photos: inference is left out, and the scores are of the training photos, out of fold"
    for task, folds in missing.items():
        if folds:
            numbers = ", ".join(map(str, folds))
            yield f"{task}: fold {numbers} not trained, scores and predictions are of the others"
    if any(missing.values()):
        yield "the same command without --fold trains the other folds and goes on"


def score_lines(run_dir: Path) -> Iterator[str]:
    """Yield the score of the combined class and those of the tasks, as far as scores.json has them."""
    path = run_dir / "scores.json"
    parts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    titles = (("oof", "out of fold"), ("eval", "eval"))
    models = {title: parts[name]["model"] for name, title in titles if parts.get(name)}
    combined = [f"{title} {in_words(model['combined'])}" for title, model in models.items() if "combined" in model]
    if combined:
        yield f"score     macro-F1 {', '.join(combined)}"
    for title, model in list(models.items())[:1]:
        many = len(model["tasks"]) > 2
        tasks = [f"{name} {in_words(of_task, interval=not many)}" for name, of_task in model["tasks"].items()]
        yield f"tasks     macro-F1 {title}: {', '.join(tasks)}"


def in_words(estimates: Mapping[str, Mapping[str, float]], *, interval: bool = True) -> str:
    """Return a macro-F1 as '0.352 (0.232-0.452)'."""
    found = estimates["macro_f1"]
    return f"{found['value']:.3f}" + (f" ({found['low']:.3f}-{found['high']:.3f})" if interval else "")

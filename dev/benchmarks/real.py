"""Score predictions of the mask on photos of people who really wear masks: of a run, an export, or anybody else.

    python -m dev.benchmarks.real --photos DIR --run-dir outputs/default
    python -m dev.benchmarks.real --photos DIR --onnx outputs/default/onnx
    python -m dev.benchmarks.real --photos DIR --predictions FILE.csv     probabilities: file, wear, incorrect, not_wear

DIR has labels.csv (file, mask, perhaps kind and source; photos in DIR or DIR/photos) or a photos.csv of the layout
`table`. The main face of each photo is found as in detect_faces.py, and cropped and predicted as in predict.py. Prints
the scores and writes scores.json, predictions.csv and mistakes.jpg, the surest first, into --out. A photo without a
face, or without a row in FILE.csv, counts as a mistake where it says "of all".
"""

import argparse
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from core.boxes import Box
from core.cli import UserError, command_parser, name_some, progress, row_named, run_cli
from core.contact_sheet import Cell, contact_sheet
from core.cropping import CropSettings, crop_face
from core.files import read_csv, require_unique, write_csv, write_json
from core.images import UnreadablePhoto, read_photo, write_photo
from core.tasks import task_named
from evaluation.calibration import expected_calibration_error
from evaluation.metrics import Estimate, accuracy, draw_counts, f1_per_class, format_estimate, percentile_interval
from preprocessing.detectors import Detect, detector_named
from preprocessing.find_face import ATTEMPTS, Detection, find_face
from serving.cli import ModelOptions, open_classifier
from serving.faces import Pipeline
from serving.types import Classifier
from storage.label_words import column_named, read_label

TABLES = ("labels.csv", "photos.csv")
CLASSES = task_named("mask").classes
BARE, NO_PREDICTION = CLASSES.index("not_wear"), len(CLASSES)
SURE = 0.95
"""Probability from which a mistake is a sure one."""
MOST_SHOWN = 96
AROUND_FACE = CropSettings(margin=0.4, align=False, surroundings=False)


@dataclass(frozen=True)
class RealPhoto:
    """A labelled photo: its name in the table, its path, the class of its mask, and a finer kind of it or ""."""

    file: str
    path: Path
    truth: int
    kind: str = ""


@dataclass(frozen=True)
class RealPrediction:
    """Probabilities (C,) of the classes. `status` is detected, fallback or, from a table, given; `box` of the face."""

    probs: np.ndarray
    status: str = "given"
    box: Box | None = None


Predictions = Mapping[str, RealPrediction]
"""By file; photos without a prediction are left out."""


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    photos = read_labels(args.photos)
    if args.predictions:
        predictions = read_predictions(args.predictions, [photo.file for photo in photos])
    else:
        mask = ModelOptions(args.run_dir, onnx=args.onnx, device=args.device, tasks=("mask",))
        predictions = predict(photos, open_classifier(mask), detector_named(args.detector).load())
    scores = score(photos, predictions)
    print(format_scores(scores))
    source = str(args.predictions or args.onnx or args.run_dir)
    write_json(args.out / "scores.json", {"photos": str(args.photos), "predictions_of": source} | scores)
    write_csv(args.out / "predictions.csv", _table(predictions))
    wrong = mistakes(photos, predictions)
    if wrong:
        write_photo(args.out / "mistakes.jpg", contact_sheet([_cell(*one) for one in wrong[:MOST_SHOWN]]))
    print(f"{len(wrong)} mistakes, the {min(len(wrong), MOST_SHOWN)} surest in {args.out / 'mistakes.jpg'}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="folder of the photos and their labels")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run-dir", type=Path, help="folder of a trained run, or a model folder")
    source.add_argument("--onnx", type=Path, metavar="PATH", help="exported model, or a folder of them")
    source.add_argument("--predictions", type=Path, metavar="FILE", help="CSV of probabilities from elsewhere")
    parser.add_argument("--detector", default="retinaface", help="face detector")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ...")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/real"), help="folder of the results")
    return parser.parse_args(argv)


def read_labels(photos_dir: Path) -> list[RealPhoto]:
    """Read the table of a folder, rows without a mask label left out. UserError names the line of a fault."""
    tables = [photos_dir / name for name in TABLES if (photos_dir / name).is_file()]
    if not tables:
        raise UserError(f"--photos {photos_dir}: neither {' nor '.join(TABLES)} is in it")
    frame = read_csv(tables[0], ())
    frame = frame.rename(columns={column: column_named(column) for column in frame.columns})
    if not {"path", "mask"} <= set(frame.columns):
        raise UserError(f"{tables[0]}: columns file and mask are needed; it has {', '.join(frame.columns)}")
    require_unique(tables[0], frame, "path")
    photos = []
    for line, row in enumerate(frame.to_dict("records"), start=2):
        places = [photos_dir / row["path"], photos_dir / "photos" / row["path"]]
        path = next((place for place in places if place.is_file()), None)
        try:
            label = read_label("mask", row["mask"])
        except ValueError as error:
            raise UserError(f"{tables[0]}: line {line}: {error}") from None
        if path is None:
            raise UserError(f"{tables[0]}: line {line}: path {row['path']!r}: no such file")
        if label:
            photos.append(RealPhoto(row["path"], path, CLASSES.index(label), row.get("kind", "")))
    if not photos:
        raise UserError(f"{tables[0]}: no photo with a label of the mask")
    return photos


def read_predictions(path: Path, names: Sequence[str]) -> dict[str, RealPrediction]:
    """Read probabilities by file. UserError if they are none, or if a file is not among the photos `names`."""
    frame = read_csv(path, ("file", *CLASSES))
    require_unique(path, frame, "file")
    strange = sorted(set(frame["file"]) - set(names))
    if strange:
        raise UserError(f"{path}: {len(strange)} files are not in the labels: {name_some(strange)}")
    predictions = {}
    for line, row in enumerate(frame.to_dict("records"), start=2):
        try:
            probs = np.array([float(row[name]) for name in CLASSES])
        except ValueError as error:
            raise UserError(f"{path}: line {line}: {error}") from None
        if not (probs >= 0).all() or not math.isclose(probs.sum(), 1, abs_tol=0.01):
            raise UserError(f"{path}: line {line}: {probs.tolist()} are not probabilities with a sum of 1")
        status = row.get("status") or "given"
        predictions[row["file"]] = RealPrediction(probs / probs.sum(), status)
    return predictions


def predict(photos: Sequence[RealPhoto], classify: Classifier, detect: Detect) -> dict[str, RealPrediction]:
    """Predict the main face of each photo, photos without one left out. UserError for a photo that cannot be read."""
    pipeline = Pipeline(partial(main_face_of, detect=detect), classify)
    predictions = {}
    for photo in progress(photos, title="photos", total=len(photos)):
        try:
            faces = pipeline(read_photo(photo.path))
        except UnreadablePhoto as error:
            raise UserError(f"--photos: {error}") from None
        for face in faces:
            probs = np.exp(face.predictions["mask"].log_probs)
            plain = row_named(ATTEMPTS, face.attempt, what="attempt").plain
            status = "detected" if plain else "fallback"
            predictions[photo.file] = RealPrediction(probs / probs.sum(), status, face.box)
    return predictions


def main_face_of(rgb: np.ndarray, *, detect: Detect) -> list[Detection]:
    """Return the main face of an image (H, W, 3) uint8, if any."""
    found = find_face(rgb, detect)
    return [found] if found else []


def _table(predictions: Predictions) -> pd.DataFrame:
    rows = [(file, *(round(float(prob), 6) for prob in one.probs), one.status) for file, one in predictions.items()]
    return pd.DataFrame(rows, columns=["file", *CLASSES, "status"])


def score(photos: Sequence[RealPhoto], predictions: Predictions) -> dict:
    """Return all scores as JSON has them. Intervals are the bootstrap over photos."""
    found = [photo for photo in photos if photo.file in predictions]
    if not found:
        raise UserError("no photo has a prediction; see --photos and --predictions")
    truth = np.array([photo.truth for photo in photos])
    predicted = np.array([_class_of(predictions.get(photo.file)) for photo in photos])
    probs = np.array([predictions[photo.file].probs for photo in found])
    truth_found = [photo.truth for photo in found]
    wrong_sure = (probs.argmax(axis=1) != truth_found) & (probs.max(axis=1) >= SURE)
    return {
        "count": len(photos),
        "status": dict(
            Counter(predictions[photo.file].status if photo.file in predictions else "missing" for photo in photos)
        ),
        "of_all": _estimates(truth, predicted),
        "of_found": _estimates(truth[predicted != NO_PREDICTION], predicted[predicted != NO_PREDICTION]),
        "recall": {name: _recall(truth == number, predicted == truth) for number, name in enumerate(CLASSES)},
        "recall_of_kind": {
            kind: _recall(np.array([photo.kind == kind for photo in photos]), predicted == truth)
            for kind in sorted({photo.kind for photo in photos if photo.kind})
        },
        "worn_or_bare": _two_classes(photos, predictions),
        "ece": expected_calibration_error(probs, truth_found),
        "sure_mistakes": float(wrong_sure.sum() / len(photos)),
    }


def _class_of(prediction: RealPrediction | None) -> int:
    return NO_PREDICTION if prediction is None else int(prediction.probs.argmax())


def _estimates(truth: np.ndarray, predicted: np.ndarray) -> dict[str, Estimate]:
    """Accuracy and macro-F1 over the classes of N photos; NO_PREDICTION is wrong, and no class of its own."""
    size = len(CLASSES) + 1
    cells = np.zeros((len(truth), size * size))
    cells[np.arange(len(truth)), truth * size + predicted] = 1
    (drawn,) = draw_counts(len(truth))
    confusion = np.vstack([cells.sum(axis=0), drawn @ cells]).reshape(-1, size, size)
    f1 = np.nanmean(f1_per_class(confusion)[:, : len(CLASSES)], axis=1)
    right = accuracy(confusion)
    return {"accuracy": percentile_interval(right[0], right[1:]), "macro_f1": percentile_interval(f1[0], f1[1:])}


def _recall(chosen: np.ndarray, right: np.ndarray) -> dict[str, float | None]:
    """Right photos among the chosen ones, None where there is none of them."""
    count, hits = int(chosen.sum()), int((chosen & right).sum())
    return {"right": hits, "count": count, "value": hits / count if count else None}


def _two_classes(photos: Sequence[RealPhoto], predictions: Predictions) -> dict:
    """Score masked against bare on the worn and bare photos, as a detector of two classes is scored."""
    names = [photo for photo in photos if CLASSES[photo.truth] != "incorrect"]
    bare = [predictions[photo.file].probs[BARE] > 0.5 if photo.file in predictions else None for photo in names]
    right = np.array(
        [said is not None and said == (photo.truth == BARE) for said, photo in zip(bare, names, strict=True)]
    )
    return {
        "of_found": _recall(np.array([said is not None for said in bare]), right),
        "of_all": _recall(np.ones(len(names), bool), right),
    }


def format_scores(scores: Mapping) -> str:
    """Return the scores as lines to read."""
    status = ", ".join(f"{count} {name}" for name, count in sorted(scores["status"].items()))
    lines = [f"{scores['count']} photos: {status}"]
    for name, title in (("of_all", "of all"), ("of_found", "of those with a prediction")):
        found = scores[name]
        figures = ", ".join(f"{key.replace('_', '-')} {format_estimate(one, 3)}" for key, one in found.items())
        lines.append(f"{title}: {figures}")
    for title, found in (scores["recall"] | scores["recall_of_kind"]).items():
        lines.append(f"  {title:<12}{_fraction(found)}")
    two = scores["worn_or_bare"]
    lines.append(
        f"worn or bare, two classes: {_fraction(two['of_found'])} of those found, {_fraction(two['of_all'])} of all"
    )
    lines.append(f"ECE {scores['ece']:.3f}, sure mistakes (p >= {SURE:g}) {scores['sure_mistakes']:.3f}")
    return "\n".join(lines)


def _fraction(found: Mapping) -> str:
    return f"{found['right']}/{found['count']}" + (f" = {found['value']:.3f}" if found["count"] else "")


def mistakes(photos: Sequence[RealPhoto], predictions: Predictions) -> list[tuple[RealPhoto, RealPrediction]]:
    """Return the photos predicted wrongly, the surest first."""
    wrong = [
        (photo, predictions[photo.file])
        for photo in photos
        if photo.file in predictions and _class_of(predictions[photo.file]) != photo.truth
    ]
    return sorted(wrong, key=lambda pair: -pair[1].probs.max())


def _cell(photo: RealPhoto, prediction: RealPrediction) -> Cell:
    """Return the face with its surroundings, or the photo where no box is known, with label and prediction."""
    rgb = read_photo(photo.path)
    image = crop_face(rgb, prediction.box, AROUND_FACE) if prediction.box else rgb
    said = f"{CLASSES[_class_of(prediction)]} {prediction.probs.max():.2f}"
    return Cell(image, (f"{CLASSES[photo.truth]} {photo.kind}", said, photo.file), in_red=(1,))


if __name__ == "__main__":
    run_cli(main)

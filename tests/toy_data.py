"""Small data sets for the end-to-end tests, and the steps over them in the fastest settings.

The toys are coloured pictures of 32 x 40 pixels whose boxes are given by hand, so that no detector has to run.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ensemble
import inference
import submission
import train
from core.cli import UserError
from core.files import file_sha256
from core.images import write_photo
from core.tasks import TASKS, encode
from preprocessing import crop_faces, detect_faces
from storage.layouts import MASK_OF_STEM, scan

FAST_SETTINGS = (
    *("--profile", "smoke", "--backbone", "test_efficientnet", "--no-pretrained", "--image-size", "32"),
    *("--folds", "2", "--epochs", "2", "--batch-size", "16", "--workers", "0", "--photos-per-person", "0"),
    *("--lr", "0.001", "--tta", "none"),
)
FAST = (*FAST_SETTINGS, "--jobs", "1")
ALL_TASKS = tuple(task.name for task in TASKS)
CELLS = tuple((gender, age) for gender in ("male", "female") for age in (20, 31, 61))
SUFFIX_OF_MASK = ("mask2", "incorrect_mask", "normal")
Main = Callable[[Sequence[str]], None]


@dataclass(frozen=True)
class Toy:
    """A data root and the crop folder made from it."""

    root: Path
    crop_dir: Path


@dataclass(frozen=True)
class ToyRun:
    """A toy with a run folder in which everything up to submission.csv is finished."""

    root: Path
    crop_dir: Path
    run_dir: Path


def picture(gender: str, age: int, mask: str, number: int) -> np.ndarray:
    """(40, 32, 3) uint8: ground by gender, upper stripe by age, lower patch by mask, a little grain."""
    rgb = np.random.default_rng(number).integers(0, 30, (40, 32, 3)) + (60 if gender == "male" else 150)
    rgb[4:10] += (age, 2 * age, 0)
    rgb[24:36, 8:24, 2] = {"wear": 200, "incorrect": 110, "not_wear": 20}[mask]
    return np.clip(rgb, 0, 255).astype(np.uint8)


def person_names(count: int) -> list[str]:
    """Folder names, gender x age group in turn. Ids are not plain numbers, and one stands twice."""
    names = []
    for number in range(count):
        gender, age = CELLS[number % len(CELLS)]
        names.append(f"{number // 2 * 2:06d}-1_{gender}_Asian_{age + number // len(CELLS)}")
    return names


def facts_of(person: str) -> tuple[str, int]:
    _, gender, _, age = person.split("_")
    return gender, int(age)


def draw_train(folder: Path, persons: Sequence[str]) -> None:
    for number, person in enumerate(persons):
        for place, (stem, mask) in enumerate(MASK_OF_STEM.items()):
            suffix = (".jpg", ".png", ".JPG")[place % 3]
            write_photo(folder / person / f"{stem}{suffix}", picture(*facts_of(person), mask, number * 7 + place))


def eval_answers(count: int) -> list[tuple[str, int, str, int]]:
    """(gender, age, mask, combined class) of the eval photos."""
    rows = []
    for number in range(count):
        (gender, age), mask = CELLS[number % len(CELLS)], ("wear", "incorrect", "not_wear")[number % 3]
        labels = {"mask": number % 3, "gender": int(gender == "female"), "age": (20, 31, 61).index(age)}
        rows.append((gender, age, mask, encode(labels)))
    return rows


def make_competition(root: Path, *, people_count: int = 12, eval_photos: int = 7) -> Path:
    """The competition layout; info.csv names the eval photos in an order that is not sorted."""
    persons = person_names(people_count)
    draw_train(root / "train" / "images", persons)
    rows = [{"id": name.split("_")[0], "gender": facts_of(name)[0], "race": "Asian", "age": facts_of(name)[1],
             "path": name} for name in persons]  # fmt: skip
    pd.DataFrame(rows).to_csv(root / "train" / "train.csv", index=False)
    truth = {}
    for number, (gender, age, mask, answer) in enumerate(eval_answers(eval_photos)):
        name = f"{(number * 5) % 11:x}{number:03d}.jpg"
        write_photo(root / "eval" / "images" / name, picture(gender, age, mask, 1000 + number))
        truth[name] = answer
    frame = pd.DataFrame({"ImageID": list(truth), "ans": list(truth.values())})
    frame.assign(ans=0).to_csv(root / "eval" / "info.csv", index=False)
    frame.sort_values("ImageID").to_csv(root / "truth.csv", index=False)
    return root


def make_remade(root: Path, *, people_count: int = 12, eval_photos: int = 7) -> Path:
    draw_train(root / "images" / "train", person_names(people_count))
    for number, (gender, age, mask, answer) in enumerate(eval_answers(eval_photos)):
        name = f"9{number:05d}_{gender}_Asian_{age}_{SUFFIX_OF_MASK[answer // 6]}.jpg"
        write_photo(root / "images" / "eval" / name, picture(gender, age, mask, 1000 + number))
    return root


def make_photos(root: Path, *, count: int = 5) -> Path:
    """Pictures without labels, some in a folder of their own."""
    for number, (gender, age, mask, _) in enumerate(eval_answers(count)):
        write_photo(root / ("trip" if number % 2 else ".") / f"photo {number}.png", picture(gender, age, mask, number))
    return root


def detect_by_hand(root: Path, crop_dir: Path, *flags: str) -> None:
    """detect_faces with every box given by hand."""
    boxes = pd.DataFrame({"image_id": [photo.image_id for photo in scan(root).photos]})
    boxes = boxes.assign(x1=6, y1=6, x2=26, y2=34)
    boxes_path = root.parent / f"{root.name}_boxes.csv"
    boxes.to_csv(boxes_path, index=False)
    detect_faces.main(
        ["--data-dir", str(root), "--crop-dir", str(crop_dir), "--manual", str(boxes_path), "--workers", "1", *flags]
    )


def crop(crop_dir: Path, *flags: str) -> None:
    crop_faces.main(["--crop-dir", str(crop_dir), "--size", "32", "--aspect", "1", "--workers", "1", *flags])


def prepare(root: Path, crop_dir: Path) -> Toy:
    detect_by_hand(root, crop_dir)
    crop(crop_dir)
    return Toy(root, crop_dir)


def train_toy(crop_dir: Path, run_dir: Path, tasks: Sequence[str] = ("mask",), flags: Sequence[str] = ()) -> None:
    """train.py in the fastest settings that still train; later flags win."""
    train.main(["--task", *tasks, "--crop-dir", str(crop_dir), "--run-dir", str(run_dir), *FAST, *flags])


def infer(run_dir: Path, *flags: str) -> None:
    inference.main(["--run-dir", str(run_dir), "--device", "cpu", "--workers", "0", *flags])


def finish_run(toy: Toy, run_dir: Path) -> ToyRun:
    """Train all tasks, predict, average and submit."""
    train_toy(toy.crop_dir, run_dir, ALL_TASKS)
    infer(run_dir)
    ensemble.main(["--run-dir", str(run_dir)])
    submission.main(["--run-dir", str(run_dir)])
    return ToyRun(toy.root, toy.crop_dir, run_dir)


def snapshot(*folders: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and content of every file but locks, by path."""
    files = [path for folder in folders if folder.exists() for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if path.name != ".lock"]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def refusal(main: Main, argv: Sequence[object], *words: str, untouched: Sequence[Path] = ()) -> str:
    """The message with which a command refuses: one line with these words in it, and not a file changed."""
    before = snapshot(*untouched)
    with pytest.raises(UserError) as caught:
        main([str(word) for word in argv])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    assert snapshot(*untouched) == before
    return message


def table(path: Path) -> pd.DataFrame:
    """A table with its ids as strings."""
    return pd.read_csv(path, dtype={"image_id": str, "ImageID": str, "person": str})


def edit_csv(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Put what `change` makes of the table (all strings) in its place, as if its command had written that."""
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
    sign(path)


def sign(path: Path) -> None:
    """Put the digest of a changed or removed table where the digest of the written one is."""
    for stamp_path in (path.with_name("DONE"), *path.parent.glob("*.json")):
        stamp = json.loads(stamp_path.read_text()) if stamp_path.exists() else {}
        if path.name in stamp.get("sha256", {}):
            del stamp["sha256"][path.name]
            stamp["sha256"] |= {path.name: file_sha256(path)} if path.exists() else {}
            stamp_path.write_text(json.dumps(stamp))

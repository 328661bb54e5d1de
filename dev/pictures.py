"""Make all pictures of README.md and docs/ anew, from drawn people alone.

    python -m dev.pictures                      docs/images/, in minutes: it trains on the drawn people
    python -m dev.pictures demo annotate        these two alone; people and run are kept in outputs/pictures

Needs the packages of the tests and Chromium.
"""

import argparse
import csv
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from PIL import Image

from core.cli import UserError, command_parser, run_cli
from core.contact_sheet import Cell, contact_sheet, photo_grid
from core.images import read_photo, write_photo
from core.tasks import decode
from dev.command import ROOT, refuse_unknown, run_command
from preprocessing.annotation import Marks, choose
from preprocessing.annotation_server import Annotation, AnnotationServer
from serving.cli import FaceOptions, ModelOptions, open_pipeline
from serving.page import build_page, gradio_package, serve
from serving.sign import with_sign
from storage.layouts import scan
from synthesis.camera import PoorPhoto, spoil
from synthesis.drawn.person import random_person
from synthesis.drawn.portrait import Portrait, draw_person
from synthesis.masks.everyday import WORN_LOOSELY, WRONG_FREQUENCIES, Everyday, draw_everyday, everyday_spec
from synthesis.masks.things import THINGS

IMAGES = ROOT / "docs" / "images"
WORK = ROOT / "outputs" / "pictures"
PEOPLE, CROPS, RUN, FACES, GROUP = (WORK / name for name in ("people", "crops", "sample", "faces", "group.jpg"))
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DEMO_PORT = 7875
ACROSS, EACH = 7, 2
FAULTS = {
    "cut": PoorPhoto(cut=1.8, face=0, motion=0, angle=0, quality=0),
    "face of 24 pixels": PoorPhoto(cut=0, face=24, motion=0, angle=0, quality=0),
    "motion": PoorPhoto(cut=0, face=0, motion=0.1, angle=30, quality=0),
    "JPEG of 60 pixels": PoorPhoto(cut=0, face=60, motion=0, angle=0, quality=25),
}


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    prepare()
    for name in args.names or PICTURES:
        PICTURES[name]()
        print(f"{name}: done", flush=True)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(PICTURES)} (default: all)")
    args = parser.parse_args(argv)
    refuse_unknown(args.names, PICTURES, "picture")
    return args


command = partial(run_command, shown=True)


def prepare() -> None:
    """Draw people, train on them, and put four eval photos side by side. What is there already is kept."""
    run_dir = ("--run-dir", str(RUN))
    if not PEOPLE.exists():
        people = ("--train-people", 100, "--eval-photos", 60, "--seed", 1)
        command(["-m", "synthesis.drawn.sample", "--out", PEOPLE, *people])
    command(["preprocessing/detect_faces.py", "--data-dir", PEOPLE, "--crop-dir", CROPS])
    command(["preprocessing/crop_faces.py", "--crop-dir", CROPS])
    train = ("train.py", "--profile", "quick", "--folds", 2, "--crop-dir", CROPS, *run_dir)
    command([*train, "--task", "mask", "--epochs", 2, "--photos-per-person", 3])
    command([*train, "--task", "gender", "age"])
    for step in ("inference.py", "ensemble.py", "submission.py"):
        command([step, *run_dir])
    with (PEOPLE / "truth.csv").open(encoding="utf-8", newline="") as stream:
        masks = [(row["ImageID"], decode(int(row["ans"]))["mask"]) for row in csv.DictReader(stream)]
    chosen = [[name for name, mask in masks if mask == wanted][place] for place, wanted in enumerate((0, 2, 1, 0))]
    write_photo(GROUP, np.hstack([read_photo(PEOPLE / "eval" / "images" / name) for name in chosen]))


def sample_people() -> None:
    """Eight people, each bare, masked, and masked wrongly."""
    persons = sorted((PEOPLE / "train" / "images").iterdir())[:8]
    sheet = photo_grid([person / f"{stem}.jpg" for stem in ("normal", "mask1", "incorrect_mask") for person in persons])
    write_photo(IMAGES / "sample_people.jpg", sheet, quality=88)


def builder() -> None:
    """Sheets of a data set built from the bare photos."""
    with (PEOPLE / "train" / "train.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    FACES.mkdir(exist_ok=True)
    lines = ["file,gender,race,age"]
    for row in rows:
        shutil.copyfile(PEOPLE / "train" / "images" / row["path"] / "normal.jpg", FACES / f"{row['path']}.jpg")
        lines.append(f"{row['path']}.jpg,{row['gender']},{row['race']},{row['age']}")
    (WORK / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    built = WORK / "built"
    shutil.rmtree(built, ignore_errors=True)
    flags = ("--faces", FACES, "--labels", WORK / "labels.csv", "--train-people", 32, "--eval-people", 60)
    command(["-m", "synthesis.builder.build", "--out", built, *flags])
    for sheet in ("bare", "kind_surgical", "wrong_below_nose"):
        shutil.copyfile(built / "sheets" / f"{sheet}.jpg", IMAGES / f"build_{sheet}.jpg")


def everyday() -> None:
    """Every family of everyday drawings."""
    sheet = contact_sheet([*masks(), *things(), *faults()], ACROSS)
    write_photo(IMAGES / "everyday.jpg", sheet, quality=80)


def person(rng: np.random.Generator) -> Portrait:
    return draw_person(random_person(rng, str(rng.choice(["male", "female"])), int(rng.integers(18, 80))), rng)


def masks() -> Iterator[Cell]:
    """Yield each way to wear a mask, the second time with relief."""
    for wear in (WORN_LOOSELY, *WRONG_FREQUENCIES):
        for relief in (0.0, 1.0):
            rng = np.random.default_rng(sum(wear.encode()) + int(relief))
            face, spec = person(rng), everyday_spec(rng, wear)
            drawn = draw_everyday(face.photo, face.landmarks, spec, Everyday((), (), relief), rng)
            yield Cell(drawn, (f"{wear.replace('_', ' ')}{', relief' if relief else ''}",))


def things() -> Iterator[Cell]:
    for name in THINGS:
        for number in range(EACH):
            rng = np.random.default_rng(sum(name.encode()) + number)
            face = person(rng)
            drawn = draw_everyday(face.photo, face.landmarks, None, Everyday((name,), (), 0.0), rng)
            yield Cell(drawn, (name.replace("_", " "),))


def faults() -> Iterator[Cell]:
    for number, (name, fault) in enumerate(FAULTS.items()):
        face = person(np.random.default_rng(number))
        yield Cell(spoil(face.photo, face.landmarks, fault), (name,))


def training_batch() -> None:
    out = IMAGES / "training_batch.jpg"
    command(["-m", "tools.show_batch", "--task", "age", "--run-dir", RUN, "--count", 16, "--out", out])


def predicted() -> None:
    """The picture that predict.py writes."""
    command(["predict.py", GROUP, "--run-dir", RUN, "--out", WORK / "predicted", "--overwrite"])
    shutil.copyfile(WORK / "predicted" / GROUP.name, IMAGES / "predicted.jpg")


def sign() -> None:
    """The sign of an entrance, for a bare face, a mask worn wrongly, and one worn rightly."""
    folder = sorted(path for path in (PEOPLE / "train" / "images").iterdir() if path.is_dir())[0]
    names = {"not_wear": "normal.*", "incorrect": "incorrect_mask.*", "wear": "mask1.*"}
    photos = {state: read_photo(next(folder.glob(name))) for state, name in names.items()}
    write_photo(
        IMAGES / "sign.jpg", np.hstack([with_sign(rgb, [], state, "both") for state, rgb in photos.items()]), 85
    )


def report() -> None:
    """Head of the report in English and light; the worst mistakes in Korean and dark."""
    command(["-m", "reporting", "--run-dir", RUN])
    address = (RUN / "report" / "index.html").as_uri()
    for name, locale, scheme, place in (("light", "en-GB", "light", ""), ("dark", "ko-KR", "dark", "#mistakes")):
        with browser_tab(1280, 900, locale=locale, color_scheme=scheme) as tab:
            tab.goto(address + place)
            screenshot(tab, IMAGES / f"report_{name}.png")


def demo() -> None:
    """The demo page with the predictions of the four people."""
    gradio = gradio_package()
    with tempfile.TemporaryDirectory() as upload_dir:
        page = build_page(gradio, open_pipeline(ModelOptions(RUN), FaceOptions()), Path(upload_dir))
        serve(gradio, page, host="127.0.0.1", port=DEMO_PORT, most_megabytes=20)
        with browser_tab(1000, 900, locale="en-GB") as tab:
            tab.goto(f"http://127.0.0.1:{DEMO_PORT}")
            tab.set_input_files("input[type=file]", str(GROUP))
            tab.wait_for_selector("#found img")
            screenshot(tab, IMAGES / "demo.png", full_page=True)
        page.close()


def annotate() -> None:
    """The annotation page with a box drawn by hand."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = scan(PEOPLE)
        outcomes = choose(CROPS, statuses=["detected"], list_path=None)
        annotation = Annotation(dataset, outcomes, Marks(Path(folder, "boxes.csv"), dataset))
        with AnnotationServer(annotation) as server, browser_tab(1180, 720, locale="en-GB") as tab:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            tab.goto(server.url)
            tab.wait_for_selector("#canvas:visible")
            drag_box(tab, annotation.outcomes[0].box, annotation.photo(0).width)
            tab.wait_for_selector("#mark.box")
            tab.screenshot(path=IMAGES / "annotate.jpg", type="jpeg", quality=85)
            server.shutdown()


def drag_box(tab: Any, box: Sequence[float], width: int) -> None:
    """Drag the mouse over the canvas along a box in pixels of a photo of this width."""
    frame = tab.locator("#canvas").bounding_box()
    x1, y1, x2, y2 = (edge * frame["width"] / width for edge in box)
    tab.mouse.move(frame["x"] + x1, frame["y"] + y1)
    tab.mouse.down()
    tab.mouse.move(frame["x"] + x2, frame["y"] + y2, steps=3)
    tab.mouse.up()


@contextmanager
def browser_tab(width: int, height: int, **options: str) -> Iterator[Any]:
    """Yield a page of a new browser. UserError if there is none."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise UserError(f"no browser on the path; install one of {', '.join(BROWSERS)}")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": width, "height": height}, **options)
        browser.close()


def screenshot(tab: Any, path: Path, **options: bool) -> None:
    """Save what the tab shows as PNG of 256 colours."""
    tab.screenshot(path=path, **options)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


PICTURES: Mapping[str, Callable[[], None]] = MappingProxyType(
    {
        made.__name__: made
        for made in (sample_people, builder, everyday, training_batch, predicted, sign, report, demo, annotate)
    }
)


if __name__ == "__main__":
    run_cli(main)

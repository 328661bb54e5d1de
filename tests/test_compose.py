"""The portrait around a face: where the face lands, what is kept of the photo, and that nothing tells of the mask."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from face_photos import drawn_face
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.cli import UserError
from preprocessing.detectors import Face, detector_named
from synthesis.builder.backgrounds import BACKGROUNDS, background_named
from synthesis.builder.compose import HEIGHT, WIDTH, Composition, compose, placement, random_composition, shrunk
from synthesis.builder.labels import Label
from synthesis.builder.measure import MeasuredFace, find_faces
from synthesis.builder.photos import PersonPlan, PhotoPlan, photo_plans, portray
from synthesis.builder.select import Candidate, SelectedPerson
from synthesis.layout import BARE, INCORRECT, TRAIN_PHOTOS, WORN, Identity

PEOPLE = 60
SHOTS_EACH = 2
SMALL = (15, 20)
FACE_REGION = (0.62, 0.62, 1.05)
"""What may show a mask: half width, height above and below the middle, in widths and heights of the face's box."""


def composition(**changes: object) -> Composition:
    return replace(random_composition(np.random.default_rng(0)), **changes)


def found_in(photo: np.ndarray) -> Face:
    (face,) = find_faces(photo, detector_named("retinaface").load())
    return face


def test_face_lands_where_the_shot_says() -> None:
    photo = np.zeros((200, 200, 3), np.uint8)
    place = placement((50, 40, 150, 160), composition(face_width=0.5, x=0.4, y=0.6, stretch=1.1, turn=0.0))
    corners = np.array([(50, 40), (150, 160)]) @ place[:, :2].T + place[:, 2]
    assert np.allclose(corners.mean(axis=0), (0.4 * WIDTH, 0.6 * HEIGHT))
    assert np.allclose(np.ptp(corners, axis=0), (0.5 * WIDTH, 0.5 * WIDTH * 1.2 * 1.1))
    scene, _ = compose(photo, np.zeros((5, 2)), (50, 40, 150, 160), composition())
    assert scene.shape == (HEIGHT, WIDTH, 3) and scene.dtype == np.uint8


@pytest.mark.parametrize("background", [row.name for row in BACKGROUNDS])
@pytest.mark.parametrize("tight", [True, False])
def test_landmarks_move_with_the_face_before_every_background(background: str, tight: bool) -> None:
    photo = drawn_face(6, tight)
    face = found_in(photo)
    some = composition(background=background, turn=6.0, cut_out=True)
    scene, points = compose(photo, face.landmarks, face.box, some)
    again, _ = compose(photo, face.landmarks, face.box, some)
    assert np.array_equal(scene, again)
    unit = np.linalg.norm(points[1] - points[0])
    assert np.abs(found_in(scene).landmarks - points).max() < 0.15 * unit


def test_the_seam_is_soft() -> None:
    """No row of the portrait has a step between picture and background."""
    photo = np.full((200, 200, 3), 230, np.uint8)
    dark = composition(background="wall", light=0.1, seam=0.1, turn=0.0)
    scene, _ = compose(photo, np.zeros((5, 2)), (20, 20, 180, 200), dark)
    row = scene[int(dark.y * HEIGHT)].astype(int).max(axis=1)
    assert row.min() < 80 and row.max() > 220
    assert np.abs(np.diff(row)).max() < 30


def test_a_photo_with_room_around_the_face_keeps_it() -> None:
    rng = np.random.default_rng(0)
    photo = cv2.resize(rng.integers(0, 255, (60, 50, 3), np.uint8), (1000, 1200))
    box, wide = (400, 450, 600, 700), composition(background="wall", face_width=0.5)
    scene, _ = compose(photo, np.zeros((5, 2)), box, wide)
    expected = cv2.warpAffine(photo, placement(box, wide), (WIDTH, HEIGHT))
    assert np.array_equal(scene, expected)


def test_large_photos_are_made_smaller_and_small_ones_left() -> None:
    large = np.zeros((3000, 2000, 3), np.uint8)
    smaller, factor = shrunk(large, (500, 500, 1500, 1800))
    assert smaller.shape[1] == round(2000 * factor) and 0.4 < factor < 0.5
    small = np.zeros((200, 200, 3), np.uint8)
    assert shrunk(small, (20, 10, 180, 190)) == (small, 1.0)


def test_an_unknown_background_lists_the_names() -> None:
    with pytest.raises(UserError, match="reflected, sides, wall, room"):
        background_named("beach")


def person(number: int = 1, split: str = "train") -> PersonPlan:
    selected = SelectedPerson(Candidate(MeasuredFace("f.png"), Label("male", "White", 30)), 1.0)
    photos = tuple((f"{stem}.jpg", mask) for stem, mask in TRAIN_PHOTOS)
    return PersonPlan(split, Identity(number, "male", "White", 30), selected, photos, (5, number))


def test_photos_of_a_person_differ_outside_the_mask_too() -> None:
    drawn = photo_plans(person())
    assert len({plan.composition for plan in drawn}) == len({plan.camera for plan in drawn}) == 7
    assert [plan.spec is None for plan in drawn] == [False] * 6 + [True]
    assert [plan.spec.wear == "worn" for plan in drawn[:6]] == [True] * 5 + [False]
    worn = [(plan.spec.kind, plan.spec.colour) for plan in drawn[:6]]
    assert len(set(worn)) == 6
    assert {plan.pool for plan in photo_plans(person())} == {"train"}
    pools = [plan.pool for number in range(30) for plan in photo_plans(person(number, "eval"))]
    assert 0.35 < pools.count("eval") / len(pools) < 0.65


def test_the_mask_label_changes_no_other_parameter() -> None:
    """The same place in a person's photos gets the same composition and camera under any label."""
    first = person()
    relabelled = replace(first, photos=tuple((path, BARE) for path, _ in first.photos))
    pairs = list(zip(photo_plans(first), photo_plans(relabelled), strict=True))
    assert all(one.composition == other.composition and one.camera == other.camera for one, other in pairs)


def test_grain_and_background_are_the_same_with_and_without_a_mask() -> None:
    photo = drawn_face(6)
    face = found_in(photo)
    plan = photo_plans(person())[0]
    masked, bare = (portray(photo, face.landmarks, face.box, one) for one in (plan, replace(plan, spec=None)))
    changed = np.abs(masked.astype(int) - bare).max(axis=2) > 0
    assert 0.02 < changed.mean() < 0.5
    assert not changed[: HEIGHT // 5].any()


def blanked(photo: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The photo, made small, with all that may show a mask filled with grey: its pixels as a vector."""
    (x1, y1), (x2, y2) = box
    x, y, across, tall = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
    half, above, below = FACE_REGION
    corners = (x - half * across, y - above * tall, x + half * across, y + below * tall)
    left, top, right, bottom = (max(0, round(corner)) for corner in corners)
    filled = photo.copy()
    filled[top:bottom, left:right] = 128
    return cv2.resize(filled, SMALL, interpolation=cv2.INTER_AREA).ravel() / np.float32(255)


@pytest.fixture(scope="module")
def probed() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Blanked and whole photos of each mask label alike often, their labels and their people."""
    rows = []
    for number in range(PEOPLE):
        photo = drawn_face(number)
        height, width = photo.shape[:2]
        box = np.array([(12.0, 6.0), (width - 12.0, height - 2.0)])
        points = drawn_points(box)
        for plan in one_of_each_label(number):
            made = portray(photo, points, tuple(box.ravel()), plan)
            place = placement(tuple(box.ravel()), plan.composition)
            whole = cv2.resize(made, SMALL, interpolation=cv2.INTER_AREA).ravel() / np.float32(255)
            rows.append((blanked(made, box @ place[:, :2].T + place[:, 2]), whole, plan.mask, number))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def drawn_points(box: np.ndarray) -> np.ndarray:
    """About where the landmarks of a face in a box are; masks need no more."""
    shares = np.array([(0.29, 0.42), (0.71, 0.42), (0.5, 0.61), (0.32, 0.78), (0.68, 0.78)])
    return box[0] + shares * (box[1] - box[0])


def one_of_each_label(number: int) -> list[PhotoPlan]:
    """Plans for photos of one person, each label as often as the others, as the builder draws them."""
    first = person(number)
    labels = (WORN, INCORRECT, BARE) * SHOTS_EACH
    return photo_plans(replace(first, photos=tuple((f"{place}.jpg", mask) for place, mask in enumerate(labels))))


def probe_accuracy(pixels: np.ndarray, labels: np.ndarray, people: np.ndarray) -> float:
    """Of a linear model that is tested on people it has not seen."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=100))
    return float((cross_val_predict(probe, pixels, labels, groups=people, cv=GroupKFold(5)) == labels).mean())


def test_outside_the_face_nothing_tells_the_mask(probed: tuple[np.ndarray, ...]) -> None:
    """Labels are equally frequent, so chance is 1/3; three standard errors of a binomial pass once in 700 by chance."""
    outside, _, labels, people = probed
    margin = 3 * np.sqrt(1 / 3 * 2 / 3 / len(labels))
    assert probe_accuracy(outside, labels, people) < 1 / 3 + margin


def test_the_probe_would_find_a_giveaway(probed: tuple[np.ndarray, ...]) -> None:
    """The same probe sees the masks where they are not blanked, and a faint brightening of one label's corner."""
    outside, whole, labels, people = probed
    margin = 3 * np.sqrt(1 / 3 * 2 / 3 / len(labels))
    assert probe_accuracy(whole, labels, people) > 1 / 3 + 2 * margin
    leaking = outside.reshape(len(outside), SMALL[1], SMALL[0], 3).copy()
    leaking[labels == BARE, :8, :8] += 0.15
    assert probe_accuracy(leaking.reshape(len(outside), -1), labels, people) > 1 / 3 + margin

"""Masks drawn onto faces: where they cover, where they must not, at any size, tilt and place in the photo."""

from collections.abc import Callable
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest

from core.cli import UserError
from synthesis.masks.masks import WRONG_WAYS, MaskSpec, put_on_mask, random_spec, wrong_ways
from synthesis.masks.shape import face_frame
from synthesis.masks.tables import COLOURS, EDGE_KNOTS, KINDS, PATTERNS, WEARS, ClothColour, find, in_pool
from synthesis.masks.texture import RELIEFS, WEAVES, ClothStyle, draw_cloth

# A face whose eyes are 1 apart: eyes, nose tip, mouth corners.
FACE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.62], [-0.42, 1.0], [0.42, 1.0]])
LEFT_EYE, RIGHT_EYE, NOSE, LEFT_MOUTH, RIGHT_MOUTH = range(5)
SEEDS = range(20)
STRONG = 25  # grey levels: surely covered
UNTOUCHED = 2  # grey levels: the last of a soft edge


def toy(
    *,
    unit: float = 60.0,
    size: int = 260,
    roll: float = 0.0,
    centre: tuple[float, float] = (0.5, 0.33),
    turn: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """A skin-coloured oval on green, (size, size, 3) uint8, and its landmarks (5, 2); `turn` moves the nose aside."""
    points = FACE + np.array([[0, 0], [0, 0], [turn, 0], [turn * 0.5, 0], [turn * 0.5, 0]])
    cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    landmarks = points @ np.array([[cos, sin], [-sin, cos]]) * unit + np.array(centre) * size
    photo = np.full((size, size, 3), (70, 110, 80), np.uint8)
    middle = np.array([0.0, 0.6]) @ np.array([[cos, sin], [-sin, cos]]) * unit + np.array(centre) * size
    axes = (int(1.15 * unit), int(1.5 * unit))
    cv2.ellipse(photo, tuple(int(v) for v in middle), axes, roll, 0, 360, (205, 160, 135), -1, cv2.LINE_AA)
    return photo, landmarks.astype(np.float32)


def vivid(wear: str, seed: int, pool: str = "train") -> MaskSpec:
    """A random mask in a colour that no toy face has, without straps and shadow."""
    spec = random_spec(np.random.default_rng(seed), wear, pool)
    return replace(spec, colour="royal", trim="navy", strap="none", shadow=0.0, match=0.5)


def change(photo: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Largest change over the channels, (H, W) int."""
    return np.abs(masked.astype(int) - photo.astype(int)).max(2)


def change_at(photo: np.ndarray, masked: np.ndarray, point: np.ndarray) -> int:
    """Change at a point, median over its 3 × 3 pixels."""
    x, y = np.round(point).astype(int)
    return int(np.median(change(photo, masked)[y - 1 : y + 2, x - 1 : x + 2]))


def worn_by(face: tuple[np.ndarray, np.ndarray], wear: str, seed: int) -> Callable[[int], int]:
    """A function from a landmark's number to the change there once the face wears a mask."""
    photo, landmarks = face
    masked = put_on_mask(photo, landmarks, vivid(wear, seed), np.random.default_rng(seed))
    return lambda number: change_at(photo, masked, landmarks[number])


def chin_of(landmarks: np.ndarray) -> np.ndarray:
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    return eyes + 1.68 * (mouth - eyes)


@pytest.mark.parametrize("wear", [row.name for row in WEARS])
def test_same_input_gives_same_pixels_and_leaves_the_photo_alone(wear: str) -> None:
    photo, landmarks = toy()
    before = photo.copy()
    spec = random_spec(np.random.default_rng(3), wear, "eval")
    assert spec == random_spec(np.random.default_rng(3), wear, "eval")
    first = put_on_mask(photo, landmarks, spec, np.random.default_rng(7))
    second = put_on_mask(photo, landmarks, spec, np.random.default_rng(7))
    assert first.dtype == np.uint8 and first.shape == photo.shape
    assert np.array_equal(first, second)
    assert np.array_equal(photo, before)
    assert (change(photo, first) > STRONG).sum() > 300


@pytest.mark.parametrize("seed", SEEDS)
def test_worn_covers_nose_and_mouth_but_not_the_eyes(seed: int) -> None:
    at = worn_by(toy(), "worn", seed)
    assert min(at(NOSE), at(LEFT_MOUTH), at(RIGHT_MOUTH)) > STRONG
    assert max(at(LEFT_EYE), at(RIGHT_EYE)) <= UNTOUCHED


@pytest.mark.parametrize("seed", SEEDS)
def test_below_nose_covers_the_mouth_only(seed: int) -> None:
    at = worn_by(toy(), "below_nose", seed)
    assert at(NOSE) <= UNTOUCHED
    assert min(at(LEFT_MOUTH), at(RIGHT_MOUTH)) > STRONG


@pytest.mark.parametrize("wear", ["below_lip", "chin"])
@pytest.mark.parametrize("seed", SEEDS)
def test_low_masks_cover_the_chin_only(wear: str, seed: int) -> None:
    photo, landmarks = toy()
    masked = put_on_mask(photo, landmarks, vivid(wear, seed), np.random.default_rng(seed))
    assert max(change_at(photo, masked, point) for point in landmarks) <= UNTOUCHED
    assert change_at(photo, masked, chin_of(landmarks)) > STRONG


@pytest.mark.parametrize("seed", SEEDS)
def test_one_side_shows_half_of_the_mouth(seed: int) -> None:
    at, side = worn_by(toy(), "one_side", seed), vivid("one_side", seed).side
    shown, hidden = (LEFT_MOUTH, RIGHT_MOUTH) if side == 1 else (RIGHT_MOUTH, LEFT_MOUTH)
    assert at(shown) <= UNTOUCHED and at(hidden) > STRONG


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("turn", [-0.3, 0.0, 0.3])
def test_hanging_is_beside_the_face(seed: int, turn: float) -> None:
    photo, landmarks = toy(turn=turn)
    masked = put_on_mask(photo, landmarks, vivid("hanging", seed, "eval"), np.random.default_rng(seed))
    assert max(change_at(photo, masked, point) for point in landmarks) <= UNTOUCHED
    columns = np.nonzero((change(photo, masked) > STRONG).any(0))[0]
    middle, side = landmarks[:2, 0].mean(), vivid("hanging", seed, "eval").side
    assert (side * (columns - middle) > 0).all() and len(columns) > 20


@pytest.mark.parametrize("wear", [row.name for row in WEARS])
def test_far_from_the_face_nothing_changes(wear: str) -> None:
    photo, landmarks = toy(unit=40, size=400)
    frame_y, frame_x = np.mgrid[:400, :400]
    middle = landmarks.mean(0)
    far = np.hypot(frame_x - middle[0], frame_y - middle[1]) > 4 * 40
    for seed in range(6):
        spec = random_spec(np.random.default_rng(seed), wear, "eval")
        masked = put_on_mask(photo, landmarks, spec, np.random.default_rng(seed))
        assert change(photo, masked)[far].max() == 0


@pytest.mark.parametrize("roll", [-40, 25, 40, 90])
def test_mask_turns_with_the_face(roll: int) -> None:
    upright, upright_points = toy(centre=(0.5, 0.5))
    tilted, tilted_points = toy(centre=(0.5, 0.5), roll=roll)
    spec = replace(vivid("worn", 1), crumple=0.0)
    straight = change(upright, put_on_mask(upright, upright_points, spec, np.random.default_rng(0))) > STRONG
    turned = change(tilted, put_on_mask(tilted, tilted_points, spec, np.random.default_rng(0))) > STRONG
    back = cv2.getRotationMatrix2D((130, 130), roll, 1)
    turned = cv2.warpAffine(turned.astype(np.uint8), back, (260, 260)) > 0
    assert (straight & turned).sum() / (straight | turned).sum() > 0.93


def test_mask_follows_the_turn_of_the_head() -> None:
    spec = vivid("worn", 1)
    photo, landmarks = toy(turn=0.3)
    columns = np.nonzero((change(photo, put_on_mask(photo, landmarks, spec, np.random.default_rng(0))) > STRONG).any(0))
    near, far = landmarks[NOSE, 0] - columns[0].min(), columns[0].max() - landmarks[NOSE, 0]
    assert near > 1.5 * far
    assert face_frame(landmarks).yaw > np.radians(20) > face_frame(toy()[1]).yaw


@pytest.mark.parametrize(("unit", "size"), [(6, 32), (26, 120), (300, 1000)])
def test_tiny_and_huge_faces(unit: float, size: int) -> None:
    photo, landmarks = toy(unit=unit, size=size)
    masked = put_on_mask(photo, landmarks, vivid("worn", 5), np.random.default_rng(5))
    assert change_at(photo, masked, landmarks[3:].mean(0)) > STRONG
    covered = (change(photo, masked) > STRONG).sum() / unit**2
    assert 0.8 < covered < 3.0


@pytest.mark.parametrize("centre", [(0.02, 0.5), (0.98, 0.5), (0.5, 0.02), (0.5, 0.9), (-0.9, 0.5), (0.5, 2.0)])
@pytest.mark.parametrize("wear", ["worn", "one_side", "hanging"])
def test_faces_at_and_beyond_the_border(centre: tuple[float, float], wear: str) -> None:
    photo, landmarks = toy(centre=centre)
    masked = put_on_mask(photo, landmarks, vivid(wear, 2), np.random.default_rng(2))
    assert masked.shape == photo.shape
    if centre == (0.5, 2.0):
        assert np.array_equal(masked, photo)


def test_mask_follows_the_light() -> None:
    photo, landmarks = toy()
    spec = replace(vivid("worn", 4), colour="white", match=1.0, pattern="plain", stamp=False)
    dim = (photo * 0.35).astype(np.uint8)
    side_lit = (photo * np.linspace(0.4, 1.2, 260)[None, :, None]).clip(0, 255).astype(np.uint8)
    x, y = landmarks[3:].mean(0).astype(int)
    bright, dark, aside = (put_on_mask(p, landmarks, spec, np.random.default_rng(0)) for p in (photo, dim, side_lit))
    assert dark[y - 10 : y + 10, x - 20 : x + 20].mean() < 0.5 * bright[y - 10 : y + 10, x - 20 : x + 20].mean()
    assert aside[y - 10 : y + 10, x - 45 : x - 25].mean() < 0.85 * aside[y - 10 : y + 10, x + 25 : x + 45].mean()


def test_a_black_and_white_photo_stays_so() -> None:
    photo, landmarks = toy()
    grey = np.repeat(photo.mean(2, keepdims=True), 3, axis=2).astype(np.uint8)
    masked = put_on_mask(grey, landmarks, random_spec(np.random.default_rng(0), "worn"), np.random.default_rng(0))
    assert np.ptp(masked.astype(int), axis=2).max() <= 1


def test_eval_has_kinds_patterns_colours_and_ways_that_train_lacks() -> None:
    for rows in (KINDS, PATTERNS, COLOURS, WEARS):
        train, evaluation = ({row.name for row in in_pool(rows, pool)} for pool in ("train", "eval"))
        assert train < evaluation
    assert set(wrong_ways("train")) < set(wrong_ways("eval")) == set(WRONG_WAYS)
    drawn = [random_spec(np.random.default_rng(seed), "worn", "train") for seed in range(300)]
    assert {spec.kind for spec in drawn} == {row.name for row in in_pool(KINDS, "train")}
    assert {spec.pattern for spec in drawn} == {row.name for row in in_pool(PATTERNS, "train")}
    allowed = {row.name for row in in_pool(COLOURS, "train")}
    assert {spec.colour for spec in drawn} | {spec.trim for spec in drawn} <= allowed


def test_a_spec_is_a_row_of_plain_values() -> None:
    spec = random_spec(np.random.default_rng(0), "chin", "eval")
    assert {type(value) for value in asdict(spec).values()} <= {str, int, float, bool}


def test_tables_are_consistent() -> None:
    for kind in KINDS:
        assert kind.relief in RELIEFS and len(kind.top) == len(kind.bottom) == len(EDGE_KNOTS)
        assert {find(COLOURS, name).name for name in kind.colours} <= {row.name for row in COLOURS}
        assert all(find(PATTERNS, name).name in WEAVES for name in kind.patterns)
        assert all(low > high for low, high in zip(kind.bottom, kind.top, strict=True))
    for rows in (KINDS, PATTERNS, COLOURS, WEARS):
        assert len({row.name for row in rows}) == len(rows)


@pytest.mark.parametrize("weave", WEAVES)
def test_every_pattern_shows_both_colours(weave: str) -> None:
    first, second = np.array([200.0, 40.0, 40.0]), np.array([40.0, 40.0, 200.0])
    look = ClothStyle(weave, "smooth", first, second, 8.0, deep=0.0, crumple=0.0, stamp=False)
    picture = draw_cloth(look, (120, 160), (2.2, 1.5), rng=np.random.default_rng(1)).astype(int)
    near = [(np.abs(picture - colour).sum(2) < 90).mean() for colour in (first, second)]
    assert near[0] > 0.1 and (near[1] > 0.02) == (weave != "plain")


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        (lambda: random_spec(np.random.default_rng(0), "upside_down"), "worn, below_nose, below_lip"),
        (lambda: random_spec(np.random.default_rng(0), "worn", "test"), "train, eval"),
        (
            lambda: put_on_mask(*toy(), replace(vivid("worn", 0), kind="scarf"), np.random.default_rng(0)),
            "surgical, kf94",
        ),
        (lambda: find((ClothColour("white", (255, 255, 255)),), "blue"), "white"),
    ],
)
def test_unknown_names_list_the_allowed_ones(call: Callable[[], object], allowed: str) -> None:
    with pytest.raises(UserError, match=allowed):
        call()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda points: points[:4],
        lambda points: points * np.nan,
        lambda points: points * 0,
        lambda points: points * [1, -1],
    ],
)
def test_points_that_are_no_face_are_refused(spoil: Callable[[np.ndarray], np.ndarray]) -> None:
    photo, landmarks = toy()
    with pytest.raises(ValueError, match="landmarks"):
        put_on_mask(photo, spoil(landmarks), vivid("worn", 0), np.random.default_rng(0))

"""All photos of one person: what each is made with, drawn from the person's seed, and the making of them.

Everything a photo is made with is a plain value that is drawn before anything is painted, so that the manifest can be
written from the plan alone.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from core.cli import UserError
from core.images import UnreadablePhoto, read_photo, write_photo
from synthesis.builder.compose import Shot, compose, placement, random_shot, shrunk
from synthesis.builder.select import Chosen
from synthesis.camera import Camera, random_camera, take_photo
from synthesis.layout import BARE, MASK_TYPES, WORN, Identity, unworn_spec
from synthesis.masks.masks import MaskSpec, put_on_mask, wrong_ways

EVAL_POOLS = ("train", "eval")
"""Half of the eval masks are of the kinds that train has, half of all kinds."""


@dataclass(frozen=True)
class Sitting:
    """One person of the data set and the photos wanted: (path below the data root, mask label) each."""

    split: str
    identity: Identity
    chosen: Chosen
    photos: tuple[tuple[str, int], ...]
    stream: tuple[int, ...]

    @property
    def target(self) -> str:
        """What is in place, below the data root, when the person is done: a folder for several photos, or the photo."""
        path = self.photos[0][0]
        return path if self.split == "eval" else str(Path(path).parent)


@dataclass(frozen=True)
class Plan:
    """What one photo is made with. `spec` is None for a bare face; `pool` is where the mask comes from."""

    path: str
    mask: int
    pool: str
    seed: tuple[int, ...]
    shot: Shot
    camera: Camera
    spec: MaskSpec | None


def plans(sitting: Sitting) -> list[Plan]:
    """The photos of a person, in order. Shot and camera are drawn first, each alike for all mask labels."""
    worn: set[tuple[str, str]] = set()
    result = []
    for number, (path, mask) in enumerate(sitting.photos, start=1):
        seed = (*sitting.stream, number)
        rng = np.random.default_rng(seed)
        shot, camera = random_shot(rng), random_camera(rng)
        pool = "train" if sitting.split == "train" else str(rng.choice(EVAL_POOLS))
        spec = None
        if mask != BARE:
            way = "worn" if mask == WORN else str(rng.choice(wrong_ways(pool)))
            spec = unworn_spec(rng, way, worn, pool)
        result.append(Plan(path, mask, pool, seed, shot, camera, spec))
    return result


def portray(photo: np.ndarray, landmarks: np.ndarray, box: tuple[float, ...], plan: Plan) -> np.ndarray:
    """The photo (512, 384, 3) uint8 that a plan makes of a face's photo (H, W, 3) uint8 and its landmarks (5, 2)."""
    scene, points = compose(photo, landmarks, box, plan.shot)
    if plan.spec is not None:
        # Streams of their own: a mask that takes more numbers must not change the grain.
        scene = put_on_mask(scene, points, plan.spec, np.random.default_rng((*plan.seed, 1)))
    return take_photo(scene, plan.camera, np.random.default_rng((*plan.seed, 2)))


def painter(faces_dir: Path, root: Path) -> Callable[[Sitting], int]:
    """What makes all photos of a person; runs once in each process."""
    return partial(_paint_sitting, faces_dir, root)


def _paint_sitting(faces_dir: Path, root: Path, sitting: Sitting) -> int:
    """Write a person's photos aside, then put them in place with one rename; returns how many."""
    face = sitting.chosen.candidate.face
    try:
        photo = read_photo(faces_dir / face.file)
    except UnreadablePhoto as error:
        raise UserError(f"--faces changed while the data set was made: {error}") from None
    photo, factor = shrunk(photo, face.box)
    box, points = tuple(edge * factor for edge in face.box), face.points * factor
    target = root / sitting.target
    aside = root / ".work" / "aside" / sitting.identity.name
    # What a killed run has left there.
    shutil.rmtree(aside, ignore_errors=True)
    for plan in plans(sitting):
        write_photo(aside / Path(plan.path).name, portray(photo, points, box, plan), plan.camera.quality)
    target.parent.mkdir(parents=True, exist_ok=True)
    (aside / target.name if sitting.split == "eval" else aside).replace(target)
    shutil.rmtree(aside, ignore_errors=True)
    return len(sitting.photos)


def manifest_rows(sitting: Sitting) -> list[dict[str, object]]:
    """Every parameter of every photo of a person, one row a photo."""
    candidate, identity = sitting.chosen.candidate, sitting.identity
    face, label = candidate.face, candidate.label
    person = {
        "split": sitting.split,
        "person": identity.name,
        "source": face.file,
        "gender": label.gender,
        "race": label.race,
        "age": label.age,
        "confidence": label.confidence,
        "yaw": face.yaw,
        "pitch": face.pitch,
        "roll": face.roll,
        "pose_limit": sitting.chosen.turn_limit,
        "sharpness": face.sharpness,
        "face_height": round(face.face_height, 1),
        "score": face.score,
    }
    return [{"path": plan.path, **person, **_photo_columns(plan, candidate.face.box, face.points)}
            for plan in plans(sitting)]  # fmt: skip


def _photo_columns(plan: Plan, box: tuple[float, ...], points: np.ndarray) -> dict[str, object]:
    place = placement(box, plan.shot)
    placed = cv2.transform(points[None].astype(np.float64), place)[0]
    spec = asdict(plan.spec) if plan.spec else {field.name: "" for field in fields(MaskSpec)}
    return {
        "mask": MASK_TYPES[plan.mask],
        "pool": plan.pool if plan.spec else "",
        "seed": " ".join(map(str, plan.seed)),
        "landmarks": " ".join(f"{value:.1f}" for value in placed.ravel()),
        **{f"shot_{name}": value for name, value in asdict(plan.shot).items()},
        **{f"camera_{name}": value for name, value in asdict(plan.camera).items()},
        **{f"mask_{name}": value for name, value in spec.items()},
    }

"""Plan and write all photos of one person.

All parameters of a photo are plain values drawn from the person's seed before anything is painted, so that the manifest
can be written from the plans alone.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from core.cli import UserError
from core.contact_sheet import photo_grid
from core.images import UnreadablePhoto, read_photo, write_photo
from synthesis.builder.compose import Composition, compose, placement, random_composition, shrunk
from synthesis.builder.select import SelectedPerson
from synthesis.camera import CUTS, Camera, PoorPhoto, random_camera, random_poor_photo, spoil, take_photo
from synthesis.layout import BARE, MASK_TYPES, WORN, Identity, new_mask
from synthesis.masks.everyday import (
    WORN_LOOSELY,
    Everyday,
    draw_everyday,
    everyday_spec,
    random_everyday,
    random_wrong_way,
)
from synthesis.masks.masks import MaskSpec, put_on_mask, wrong_ways

SHEET_PHOTOS = 32
EVAL_POOLS = ("train", "eval")
"""Mask pools of eval photos, each used for half of them: the kinds seen in training, and all kinds."""
PLAIN, EVERYDAY = "plain", "everyday"
DRAWINGS = (PLAIN, EVERYDAY)
"""Masks alone on good photos; masks worn in all ways, things that are no masks, and poor photos."""
LEAST_SHOWN = 0.6
"""Upper part of a mask that is on the photo even where the photo ends below the chin."""


@dataclass(frozen=True)
class PersonPlan:
    """Person of the data set and its photos: (path below the data root, mask label) each."""

    split: str
    identity: Identity
    selected: SelectedPerson
    photos: tuple[tuple[str, int], ...]
    stream: tuple[int, ...]
    drawings: str = PLAIN

    @property
    def target(self) -> str:
        """Path below the data root that exists once the person is done: the train folder or the eval photo."""
        path = self.photos[0][0]
        return path if self.split == "eval" else str(Path(path).parent)


@dataclass(frozen=True)
class PhotoPlan:
    """All parameters of one photo. `spec` is None for a bare face; `pool` is the pool of the mask.

    `drawing` and `poor` are those of EVERYDAY drawings.
    """

    path: str
    mask: int
    pool: str
    seed: tuple[int, ...]
    composition: Composition
    camera: Camera
    spec: MaskSpec | None
    drawing: Everyday | None = None
    poor: PoorPhoto | None = None


def photo_plans(person: PersonPlan) -> list[PhotoPlan]:
    """Plan the photos of a person, in order. Composition and camera are drawn first, whatever the mask label."""
    worn: set[tuple[str, str]] = set()
    result = []
    for number, (path, mask) in enumerate(person.photos, start=1):
        seed = (*person.stream, number)
        rng = np.random.default_rng(seed)
        composition, camera = random_composition(rng), random_camera(rng)
        pool = "train" if person.split == "train" else str(rng.choice(EVAL_POOLS))
        plan = PhotoPlan(path, mask, pool, seed, composition, camera, None)
        if person.drawings == EVERYDAY:
            plan = _with_everyday(plan, rng)
        elif mask != BARE:
            way = "worn" if mask == WORN else str(rng.choice(wrong_ways(pool)))
            plan = replace(plan, spec=new_mask(rng, way, worn, pool))
        result.append(plan)
    return result


def _with_everyday(plan: PhotoPlan, rng: np.random.Generator) -> PhotoPlan:
    spec, shown = None, CUTS[0]
    if plan.mask != BARE:
        way = WORN_LOOSELY if plan.mask == WORN else random_wrong_way(rng)
        spec = everyday_spec(rng, way, plan.pool)
        shown = spec.top + LEAST_SHOWN * (spec.bottom - spec.top)
    drawing = random_everyday(rng, bare=spec is None)
    return replace(plan, spec=spec, drawing=drawing, poor=random_poor_photo(rng, shown))


def portray(photo: np.ndarray, landmarks: np.ndarray, box: tuple[float, ...], plan: PhotoPlan) -> np.ndarray:
    """Make the planned image from a face's image (H, W, 3) uint8 and its landmarks (5, 2).

    Returns (512, 384, 3) uint8, with fewer rows if plan.poor cuts it.
    """
    scene, points = compose(photo, landmarks, box, plan.composition)
    # Separate random streams: a mask that draws more numbers must not change the grain.
    rng, grain = np.random.default_rng((*plan.seed, 1)), np.random.default_rng((*plan.seed, 2))
    if plan.drawing is not None:
        scene = draw_everyday(scene, points, plan.spec, plan.drawing, rng)
    elif plan.spec is not None:
        scene = put_on_mask(scene, points, plan.spec, rng)
    photo = take_photo(scene, plan.camera, grain)
    return photo if plan.poor is None else spoil(photo, points, plan.poor)


def painter(faces_dir: Path, root: Path) -> Callable[[PersonPlan], int]:
    """Return the function that writes a person's photos. Called once per process."""
    return partial(_write_photos, faces_dir, root)


def _write_photos(faces_dir: Path, root: Path, person: PersonPlan) -> int:
    """Write a person's photos aside, move them into place with one rename, and return their number."""
    face = person.selected.candidate.face
    try:
        photo = read_photo(faces_dir / face.file)
    except UnreadablePhoto as error:
        raise UserError(f"--faces changed while the data set was made: {error}") from None
    photo, factor = shrunk(photo, face.box)
    box, points = tuple(edge * factor for edge in face.box), face.points * factor
    target = root / person.target
    aside = root / ".work" / "aside" / person.identity.name
    # Left by a killed run.
    shutil.rmtree(aside, ignore_errors=True)
    for plan in photo_plans(person):
        write_photo(aside / Path(plan.path).name, portray(photo, points, box, plan), plan.camera.quality)
    target.parent.mkdir(parents=True, exist_ok=True)
    (aside / target.name if person.split == "eval" else aside).replace(target)
    shutil.rmtree(aside, ignore_errors=True)
    return len(person.photos)


def manifest_rows(person: PersonPlan) -> list[dict[str, object]]:
    """Return the manifest rows of a person, one per photo, with every parameter."""
    candidate, identity = person.selected.candidate, person.identity
    face, label = candidate.face, candidate.label
    facts = {
        "split": person.split,
        "person": identity.name,
        "source": face.file,
        "source_hash": face.image_hash,
        "gender": label.gender,
        "race": label.race,
        "age": label.age,
        "confidence": label.confidence,
        "yaw": face.yaw,
        "pitch": face.pitch,
        "roll": face.roll,
        "pose_limit": person.selected.turn_limit,
        "sharpness": face.sharpness,
        "face_height": round(face.face_height, 1),
        "score": face.score,
    }
    return [{"path": plan.path, **facts, **_photo_columns(plan, candidate.face.box, face.points)}
            for plan in photo_plans(person)]  # fmt: skip


def _photo_columns(plan: PhotoPlan, box: tuple[float, ...], points: np.ndarray) -> dict[str, object]:
    place = placement(box, plan.composition)
    placed = cv2.transform(points[None].astype(np.float64), place)[0]
    spec = asdict(plan.spec) if plan.spec else {field.name: "" for field in fields(MaskSpec)}
    return {
        "mask": MASK_TYPES[plan.mask],
        "pool": plan.pool if plan.spec else "",
        "seed": " ".join(map(str, plan.seed)),
        "landmarks": " ".join(f"{value:.1f}" for value in placed.ravel()),
        **{f"shot_{name}": value for name, value in asdict(plan.composition).items()},
        **{f"camera_{name}": value for name, value in asdict(plan.camera).items()},
        **{f"mask_{name}": value for name, value in spec.items()},
        **_everyday_columns(plan),
    }


def _everyday_columns(plan: PhotoPlan) -> dict[str, object]:
    if plan.drawing is None:
        return {}
    drawn = {"below": " ".join(plan.drawing.below), "over": " ".join(plan.drawing.over), "relief": plan.drawing.relief}
    return {
        **{f"drawn_{name}": value for name, value in drawn.items()},
        **{f"poor_{name}": value for name, value in asdict(plan.poor).items()},
    }


def write_sheets(root: Path, manifest: pd.DataFrame) -> list[str]:
    """Write a contact sheet of up to 32 photos for each kind of mask, each wrong way, and bare faces; return names."""
    worn = manifest["mask"].eq(MASK_TYPES[WORN])
    sheet_of = ("kind_" + manifest["mask_kind"]).where(worn, "wrong_" + manifest["mask_wear"])
    sheet_of = sheet_of.where(manifest["mask_kind"].ne(""), "bare")
    names = sorted(set(sheet_of))
    for name in names:
        paths = manifest["path"][sheet_of == name].tolist()
        some = np.linspace(0, len(paths) - 1, min(len(paths), SHEET_PHOTOS)).round().astype(int)
        write_photo(root / "sheets" / f"{name}.jpg", photo_grid([root / paths[place] for place in some]), quality=85)
    return names

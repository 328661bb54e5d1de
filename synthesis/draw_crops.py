"""Draw masks, and things that are no masks, onto the crops of bare faces that a network is trained on.

    drawings = drawings_of(crops, per_photo=9)

A drawing depends on its crop, its number and the version of this code alone, so that only what is new is drawn.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from core import distributed
from core.alignment import are_of_box, points
from core.boxes import Box, carry_points
from core.cli import cpu_count, progress, working
from core.cropping import GREY, CropSettings, to_crop
from core.files import require_room, text_hash
from core.images import read_photo, write_photo
from core.locks import LOCK_NAME, locked
from core.parallel import run_parallel, with_flushes
from core.tasks import task_named
from storage.crops import LANDMARKS, Crops, content_of
from storage.drawings import FOLDER, drawing_file, is_whole, load_drawings, read_drawings, write_drawings
from synthesis.masks.everyday import WORN_LOOSELY, draw_everyday, everyday_spec, random_everyday, random_wrong_way
from synthesis.masks.masks import MaskSpec
from synthesis.masks.overlay import Surface, lay
from synthesis.masks.shape import face_frame
from synthesis.masks.things import CLOTHES

VERSION = 4
"""Of the drawings: other numbers are drawn anew."""
WEAR, INCORRECT, NOT_WEAR = task_named("mask").classes
IN_TURN = (INCORRECT, WEAR, NOT_WEAR)
"""Classes of the drawings of a photo, from a random one on."""
LEAST_SHOWN = 0.4
"""Part of a mask, from its top, that the photo must show."""
WITH_MASK = 9
"""Drawings on a bare face for each one on a face with a mask."""
BELOW_MASK = ("beard",)
"""Things that cannot be drawn where a mask is already."""
TRIES = 20
CONTINUED = 0.8
"""Fraction of the drawings in which a photo that ends within the crop goes on: most real ones do."""
FAR_BLUR, NECK, NECK_LIGHT = (0.03, 0.3), (0.5, 0.75), (0.6, 1.0)
"""What follows the photo: its blur and half the width of the neck, in distances between the eyes; light of the neck."""
ABOVE_MASK = ((-0.45, -0.3), (-0.2, -0.35), (0.0, -0.35), (0.2, -0.35), (0.45, -0.3))
"""Places of skin on a face with a mask."""
COARSE = 4
EDGE = 5
"""Pixels about the end of a photo that are not kept."""
BYTES = 60_000
"""Of a drawing's file, estimated from above."""


@dataclass(frozen=True)
class DrawingJob:
    """One drawing to make: landmarks (5, 2) in pixels of the crop.

    `to_pixels` (2, 3) maps those of the photo, of `photo_size` (width, height), to them.
    """

    crop_path: Path
    path: Path
    row: Mapping[str, str]
    keeps_mask: bool
    settings: CropSettings
    landmarks: np.ndarray
    to_pixels: np.ndarray
    photo_size: tuple[float, float]

    @property
    def seed(self) -> int:
        return zlib.crc32(self.row["key"].encode())


def drawings_of(crops: Crops, per_photo: int) -> Crops | None:
    """Return `per_photo` drawings on each crop of a bare face, drawn first if need be; None if there are none.

    Under torchrun the first process draws.
    """
    if not per_photo:
        return None
    if distributed.is_first():
        lock = crops.crop_dir / FOLDER / LOCK_NAME
        lock.parent.mkdir(exist_ok=True)
        with ExitStack() as held:
            # Another training may be at the same drawings.
            with working("drawings"):
                held.enter_context(locked(lock, "--crop-dir", wait=-1))
            draw_missing(crops, per_photo)
    distributed.wait_for_all()
    loaded = load_drawings(crops, per_photo)
    return loaded if loaded.image_ids else None


def draw_missing(crops: Crops, per_photo: int) -> None:
    """Draw what is not there yet of `plan`, and remove what is out of date."""
    jobs, lacking = plan(crops, per_photo)
    if lacking:
        print(f"drawings: nothing is drawn on {lacking} photos, whose landmarks are not known")
    content_of_photo = dict(zip(crops.whole["image_id"], crops.whole["content"], strict=True))
    known, table = read_drawings(crops.crop_dir).to_dict("records"), {}
    for row in known:
        if row["key"] == _key(content_of_photo.get(row["of"], ""), row["number"], row["mask"]) and is_whole(
            crops.crop_dir, row
        ):
            table[row["image_id"]] = row
        else:
            (crops.crop_dir / row["path"]).unlink(missing_ok=True)
    todo = [job for job in jobs if job.row["image_id"] not in table]
    if not todo and len(table) == len(known):
        return
    require_room(crops.crop_dir, BYTES * len(todo), "drawings")
    bare = sum(not job.keeps_mask for job in jobs)
    print(f"drawings: {bare} on bare faces, {len(jobs) - bare} on faces with a mask; {len(todo)} to draw", flush=True)
    keep = partial(write_drawings, crops.crop_dir, table)
    with closing(with_flushes(run_parallel(drawer, todo, cpu_count()), keep)) as made:
        for job, content in progress(made, title="drawings", total=len(todo), part=0.05):
            table[job.row["image_id"]] = {**job.row, "content": content}


def _key(content: str, number: str, mask: str) -> str:
    return text_hash([str(VERSION), content, number, mask])


def plan(crops: Crops, per_photo: int) -> tuple[list[DrawingJob], int]:
    """Return the drawings of all photos, and the number of photos without landmarks.

    A bare face has `per_photo` of them, of all classes in turn; one with a mask has fewer, which keep it.
    """
    settings, jobs, lacking = crops.settings, [], 0
    for photo in crops.frame.to_dict("records"):
        if photo["mask"] not in IN_TURN:
            continue
        box = Box(*(float(photo[edge]) for edge in ("x1", "y1", "x2", "y2")))
        landmarks = points([float(number) for number in photo.get(LANDMARKS, "").split()])
        if landmarks is None or not are_of_box(landmarks, box):
            lacking += 1
            continue
        to_pixels, size = to_crop(box, settings, landmarks), (float(photo["width"]), float(photo["height"]))
        place = settings, carry_points(to_pixels, landmarks), to_pixels, size
        for number, mask in enumerate(_classes(photo, per_photo)):
            path = drawing_file(photo["path"], number)
            row = {"image_id": f"{photo['image_id']} drawn {number}", "of": photo["image_id"], "number": str(number)}
            row |= {"mask": mask, "path": path, "key": _key(photo["content"], str(number), mask)}
            keeps = photo["mask"] != NOT_WEAR
            jobs.append(DrawingJob(crops.crop_dir / photo["path"], crops.crop_dir / path, row, keeps, *place))
    return jobs, lacking


def _classes(photo: Mapping[str, str], per_photo: int) -> list[str]:
    """Return the classes of the drawings on a photo."""
    if photo["mask"] != NOT_WEAR:
        return [photo["mask"]] * math.ceil(per_photo / WITH_MASK)
    first = zlib.crc32(photo["image_id"].encode("utf-8", "surrogateescape"))
    return [IN_TURN[(first + number) % len(IN_TURN)] for number in range(per_photo)]


def drawer() -> Callable[[DrawingJob], tuple[DrawingJob, str]]:
    """Return the function that makes a drawing. Runs once in each process."""
    return _draw


def _draw(job: DrawingJob) -> tuple[DrawingJob, str]:
    crop = read_photo(job.crop_path)
    write_photo(job.path, drawn(crop, job))
    return job, content_of(job.path)


def drawn(crop: np.ndarray, job: DrawingJob) -> np.ndarray:
    """Return a copy of the crop (h, w, 3) uint8 with what the job's class and seed say."""
    rng = np.random.default_rng(job.seed)
    inside = _inside(crop.shape[:2], job)
    continued = rng.random() < CONTINUED
    if continued and not inside.all():
        crop = _continued(crop, inside, job, rng)
    shown = np.ones_like(inside) if continued else inside
    spec = None if job.keeps_mask else _shown_spec(job, shown, rng)
    drawing = random_everyday(rng, bare=spec is None and not job.keeps_mask)
    if job.keeps_mask:
        drawing = replace(drawing, below=tuple(name for name in drawing.below if name not in BELOW_MASK))
    if continued and not set(CLOTHES) & set(drawing.below) and not inside[-1].all():
        drawing = replace(drawing, below=(str(rng.choice(CLOTHES)), *drawing.below))
    image = draw_everyday(crop, job.landmarks, spec, drawing, rng)
    image[~shown] = GREY
    return image


def _inside(shape: tuple[int, int], job: DrawingJob) -> np.ndarray:
    """Return (h, w) bool: pixels of the crop that the photo shows, or that are mirrored in the face's window."""
    width, height = job.photo_size
    corners = carry_points(job.to_pixels, np.array([(0, 0), (width, 0), (width, height), (0, height)]))
    inside = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(inside, np.rint(corners).astype(np.int32), 1)
    # Pixels at the end of the photo are mixed with grey.
    inside = cv2.erode(inside, np.ones((EDGE, EDGE), np.uint8))
    inside[job.settings.face_window] = 1
    return inside.astype(bool)


def _continued(crop: np.ndarray, inside: np.ndarray, job: DrawingJob, rng: np.random.Generator) -> np.ndarray:
    """Return a copy of the crop that goes on, blurred and with a neck, where the photo has ended."""
    height, width = crop.shape[:2]
    surface = Surface(crop, job.landmarks)
    # It is blurred anyway, which is done in a sixteenth of the time on a fourth of the width.
    small = cv2.resize(crop, (-(-width // COARSE), -(-height // COARSE)), interpolation=cv2.INTER_AREA)
    across, down = width / small.shape[1], height / small.shape[0]
    x, y = np.meshgrid((np.arange(small.shape[1]) + 0.5) * across, (np.arange(small.shape[0]) + 0.5) * down)
    places = carry_points(cv2.invertAffineTransform(job.to_pixels), np.column_stack([x.ravel(), y.ravel()]))
    ends = np.array(job.photo_size)
    mirrored = carry_points(job.to_pixels, ends - np.abs(ends - np.abs(places))).reshape(*small.shape[:2], 2)
    back = (mirrored / (across, down) - 0.5).astype(np.float32)
    far = cv2.remap(small, back[..., 0], back[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    far = cv2.GaussianBlur(far, (0, 0), rng.uniform(*FAR_BLUR) * surface.unit / COARSE)
    far = cv2.resize(far, (width, height), interpolation=cv2.INTER_LINEAR)
    half = rng.uniform(*NECK)
    neck = surface.polygon(surface.at(np.array([-half, half, 1.1 * half, -1.1 * half]), np.array([1.2, 1.2, 4, 4])))
    skin = surface.seen_at(ABOVE_MASK) if job.keeps_mask else surface.skin
    skin = surface.plain(skin * rng.uniform(*NECK_LIGHT))
    far = lay(surface, far, neck, skin, rng, roundness=rng.uniform(0, 0.4))
    soft = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 1.5)[..., None]
    return np.where(inside[..., None], crop, crop * soft + far * (1 - soft)).astype(np.uint8)


def _shown_spec(job: DrawingJob, shown: np.ndarray, rng: np.random.Generator) -> MaskSpec | None:
    """Draw a mask of the job's class that lies where the photo shows it; None for a bare face."""
    if job.row["mask"] == NOT_WEAR:
        return None
    frame = face_frame(job.landmarks)
    for _ in range(TRIES):
        spec = everyday_spec(rng, WORN_LOOSELY if job.row["mask"] == WEAR else random_wrong_way(rng))
        down = (spec.top + LEAST_SHOWN * (spec.bottom - spec.top)) * frame.reach
        (place,) = carry_points(frame.to_image((0, 0)), np.array([(frame.midline(np.array(down)), down)]))
        x, y = np.rint(place).astype(int)
        if 0 <= y < shown.shape[0] and 0 <= x < shown.shape[1] and shown[y, x]:
            return spec
    return everyday_spec(rng, WORN_LOOSELY if job.row["mask"] == WEAR else "nose_out")

"""Face detection: photos a second from file to box in one process, and how many faces are found.

Beside it one detection at full size, without further attempts.
"""

from pathlib import Path

from core.boxes import Box, iou, main_face
from core.images import read_photo
from dev.benchmarks.measure import Report, in_turn, ratios_of
from dev.benchmarks.setup import Setup
from preprocessing.detection import DetectionSettings, PhotoJob, searcher
from preprocessing.detectors import Detect, detector_named
from preprocessing.find_face import SAME_PLACE_IOU

OURS, FULL = "ours", "full size"


def bench_detect(setup: Setup) -> Report:
    """Photos a second of both, and the fraction of the faces found at full size that ours finds at the same place."""
    settings, photos = DetectionSettings(), setup.data.photos
    find, detect = searcher(settings), detector_named(settings.detector).load()
    boxes: dict[str, list[Box | None]] = {}

    def ours() -> int:
        boxes[OURS] = [find(PhotoJob(photo, setup.data_dir / photo.path, "")).box for photo in photos]
        return len(photos)

    def full_size() -> int:
        boxes[FULL] = [_box_at_full_size(detect, setup.data_dir / photo.path, settings.threshold) for photo in photos]
        return len(photos)

    rates = in_turn({OURS: ours, FULL: full_size}, setup.size.rounds)
    pairs = list(zip(boxes[OURS], boxes[FULL], strict=True))
    same = [bool(mine) and iou(mine, other) >= SAME_PLACE_IOU for mine, other in pairs if other]
    facts = {
        "photos": len(photos),
        "faces found at full size": len(same),
        "faces found by ours": sum(bool(mine) for mine, _ in pairs),
        "fraction of those at full size": sum(same) / len(same) if same else None,
    }
    return Report("photos/s", rates, ratios_of(rates, OURS), facts)


def _box_at_full_size(detect: Detect, path: Path, threshold: float) -> Box | None:
    rgb = read_photo(path)
    face = main_face(detect(rgb, threshold), rgb.shape[1::-1])
    return face.box if face else None

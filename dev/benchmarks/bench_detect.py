"""Face detection: photos a second from file to box, the faces it finds of those a search at full size finds, memory."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from core.boxes import iou, main_face
from core.images import read_photo
from dev.benchmarks.material import Setup, multiplied
from dev.benchmarks.measure import Report, in_turn, ratios_of
from dev.benchmarks.spreading import timed_spread
from dev.benchmarks.watch import watch
from preprocessing.detection import DetectionSettings, PhotoJob, searcher
from preprocessing.detectors import Detect, PhotoView, detector_named
from preprocessing.faces_table import Outcome
from preprocessing.find_face import SAME_PLACE_IOU, Attempt, Detection, run_attempt

OURS, FULL = "ours", "full size"
SETTINGS = DetectionSettings()


def bench_detect(setup: Setup) -> Report:
    """Our search beside one look at full size, over as many processes."""
    tasks = [PhotoJob(photo, setup.data_dir / photo.path, "") for photo in setup.data.photos]
    found: dict[str, list] = {}

    def search(name: str, start: Callable[[], Callable]) -> float:
        found[name], speed = timed_spread(start, tasks, setup.processes)
        return speed

    starts = {OURS: partial(searcher, SETTINGS), FULL: full_searcher}
    contenders = {name: partial(search, name, start) for name, start in starts.items()}
    # The processes start anew each time, so there is nothing to warm up but the files.
    rates = in_turn(contenders, setup.size.rounds, warm_up=False)
    facts = {"processes": setup.processes, "photos": len(tasks)}
    facts |= recall({one.image_id: one for one in found[OURS]}, dict(found[FULL])) | memory(setup)
    return Report("photos/s", rates, ratios_of(rates, OURS), facts)


def full_searcher() -> Callable[[PhotoJob], tuple[str, Detection | None]]:
    """Load the detector and return what looks once at a photo in its own size; runs once in each process."""
    return partial(_search_full, detector_named(SETTINGS.detector).load())


def _search_full(detect: Detect, job: PhotoJob) -> tuple[str, Detection | None]:
    rgb = read_photo(job.path)
    attempt = Attempt("full", PhotoView(max(rgb.shape[:2])), plain=True)
    face = main_face(run_attempt(rgb, detect, attempt, SETTINGS.threshold), rgb.shape[1::-1])
    return job.photo.image_id, face if face and face.score >= SETTINGS.threshold else None


def recall(ours: dict[str, Outcome], full: dict[str, Detection | None]) -> dict[str, object]:
    """How many of the faces seen at full size we have, at the same place."""
    seen = {image_id: face for image_id, face in full.items() if face}
    same = [
        image_id
        for image_id, face in seen.items()
        if ours[image_id].box and iou(ours[image_id].box, face.box) >= SAME_PLACE_IOU
    ]
    detected = [outcome for outcome in ours.values() if outcome.box]
    return {
        "faces seen at full size": len(seen),
        "faces seen by ours": len(detected),
        "recall of those seen at full size": len(same) / len(seen) if seen else None,
    }


def memory(setup: Setup) -> dict[str, float | None]:
    """Memory of the command over a long list, and how much higher it was in the second half than in the first."""
    times = -(-setup.size.many_photos // len(setup.data.photos))
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        root = multiplied(setup.data, Path(folder) / "photos", times)
        command = ["preprocessing/detect_faces.py", "--data-dir", root, "--crop-dir", Path(folder) / "crops"]
        watched = watch([*command, "--workers", setup.processes])
    return {
        "photos of the long list": times * len(setup.data.photos),
        "its photos/s, start included": times * len(setup.data.photos) / watched.seconds,
        "its peak MB, all processes": watched.peak_mb,
        "its growth MB": watched.growth_mb,
    }

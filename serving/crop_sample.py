"""Crops of a run on which two forms of its models are compared."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.cli import UserError
from core.cropping import FACE_WINDOW, WIDE_WINDOW, CropSettings
from core.images import read_photo
from storage.crops import load_crops
from storage.run_dir import read_run


@dataclass(frozen=True)
class CropSample:
    """Crops (N, h, w, 3) uint8 to compare on, and what they are."""

    crops: np.ndarray
    origin: str


def sample_crops(run_dir: Path, settings: CropSettings, count: int, split: str) -> CropSample:
    """Return crops of the run, spread over a split, or noise if there are none."""
    crop_dir, window = Path(read_run(run_dir).crop_dir), WIDE_WINDOW if settings.surroundings else FACE_WINDOW
    try:
        crops = load_crops(crop_dir, split)
        crops.settings.refuse_absent(window)
    except UserError as error:
        print(f"no crops of the run to compare on, noise instead ({error})")
        return noise(settings, count)
    if not crops.image_ids:
        print(f"no {split} crops in {crop_dir} to compare on, noise instead")
        return noise(settings, count)
    chosen = np.unique(np.linspace(0, len(crops.paths) - 1, count).round().astype(int))
    images = (crops.settings.cut(read_photo(crops.paths[row]), window) for row in chosen)
    return CropSample(np.stack(list(images)), f"{split} crops")


def noise(settings: CropSettings, count: int) -> CropSample:
    shape = (count, *settings.shape, 3)
    return CropSample(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8), "crops of noise")

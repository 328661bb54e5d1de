"""Benchmarks of detection, of the loader, of a training step, and of whole trainings."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from core.boxes import Box, iou, main_face
from core.cli import cpu_count, progress
from core.images import read_photo
from core.tasks import combined_tasks
from dev.benchmarks.baselines import OriginalRecipe, PhotoFiles
from dev.benchmarks.measure import Report, in_turn, ratios_of
from dev.benchmarks.setup import Setup
from dev.command import run_command
from evaluation.combined_class import COMBINED
from evaluation.logits import OUT_OF_FOLD, LogitTable, make_table
from evaluation.results import read_fold_tables
from evaluation.scores import score
from preprocessing.detection import DetectionSettings, PhotoJob, searcher
from preprocessing.detectors import Detect, detector_named
from preprocessing.find_face import SAME_PLACE_IOU
from storage.crop_cache import FOLDER as PIXELS
from training.device import pick_workers, prepare_process, to_device
from training.feature_cache import FOLDER as FEATURES
from training.fold_setup import FoldData, FoldTraining

TASK, OURS, FULL_SIZE, ORIGINAL = "mask", "ours", "full size", "original recipe"
REAL, ON_DEVICE = "real epoch", "batch on the device"


def bench_detect(setup: Setup) -> Report:
    """Photos a second from file to box in one process, beside one detection at full size without further attempts."""
    settings, photos = DetectionSettings(), setup.data.photos
    find, detect = searcher(settings), detector_named(settings.detector).load()
    boxes: dict[str, list[Box | None]] = {}

    def ours() -> int:
        boxes[OURS] = [find(PhotoJob(photo, setup.data_dir / photo.path, "")).box for photo in photos]
        return len(photos)

    def full_size() -> int:
        boxes[FULL_SIZE] = [_full_size_box(detect, setup.data_dir / photo.path, settings.threshold) for photo in photos]
        return len(photos)

    rates = in_turn({OURS: ours, FULL_SIZE: full_size}, setup.size.rounds)
    pairs = list(zip(boxes[OURS], boxes[FULL_SIZE], strict=True))
    same = [bool(mine) and iou(mine, other) >= SAME_PLACE_IOU for mine, other in pairs if other]
    facts = {
        "photos": len(photos),
        "faces found at full size": len(same),
        "faces found by ours": sum(bool(mine) for mine, _ in pairs),
        "fraction of those at full size": sum(same) / len(same) if same else None,
    }
    return Report("photos/s", rates, ratios_of(rates, OURS), facts)


def _full_size_box(detect: Detect, path: Path, threshold: float) -> Box | None:
    rgb = read_photo(path)
    face = main_face(detect(rgb, threshold), rgb.shape[1::-1])
    return face.box if face else None


def bench_loader(setup: Setup) -> Report:
    """Photos a second that reach the device, of our loader over the crop cache and of the baseline over the photos."""
    prepare_process(cpu_count())
    config = setup.config(TASK)
    size = setup.fold_data(TASK, config).input_for(config).size
    with tempfile.TemporaryDirectory() as folder:
        flip = setup.new_training(TASK, Path(folder), augment="flip", photos_per_person=0)
        usual = setup.new_training(TASK, Path(folder), photos_per_person=0)
        epochs = {
            OURS: partial(_our_epoch, flip),
            "ours, usual augmentation": partial(_our_epoch, usual),
            "Pillow and torchvision": _baseline(setup, size),
        }
        rates = in_turn({name: partial(_load, setup, epoch) for name, epoch in epochs.items()}, setup.size.rounds)
    return Report("photos/s", rates, ratios_of(rates, OURS), {"input": "{} x {}".format(*size)})


def _our_epoch(training: FoldTraining) -> Iterator[Tensor]:
    training.sampler.epoch += 1
    for images, *_ in training.train_loader:
        pixels = to_device(images, training.device, training.config.channels_last)
        yield (pixels - training.model.mean) / training.model.std


def _baseline(setup: Setup, size: tuple[int, int]) -> Callable[[], Iterator[Tensor]]:
    """Epochs over the photo files. The loader, and so its processes, are the same for all of them."""
    paths = [setup.data_dir / photo.path for photo in setup.data.of_split("train")]
    config = setup.config(TASK)
    loader = DataLoader(
        PhotoFiles((paths, [0] * len(paths)), size, config.backbone, flip=True),
        batch_size=config.batch_size,
        shuffle=True,
        num_workers=pick_workers(config.workers, setup.device),
        pin_memory=setup.device.type == "cuda",
    )
    options = {"memory_format": torch.channels_last, "non_blocking": True}
    return lambda: (images.to(setup.device, **options) for images, _ in loader)


def _load(setup: Setup, epoch: Callable[[], Iterator[Tensor]]) -> int:
    photos = sum(len(images) for _ in range(setup.size.passes) for images in epoch())
    if setup.device.type == "cuda":
        torch.cuda.synchronize()
    return photos


def bench_step(setup: Setup) -> Report:
    """Speed of an epoch as a fraction of that of its steps alone."""
    prepare_process(setup.threads_of_a_job)
    with tempfile.TemporaryDirectory() as folder:
        training = setup.new_training(TASK, Path(folder), photos_per_person=0)
        loader = training.train_loader
        batch = tuple(part.to(training.device) for part in next(iter(loader)))
        epochs = {REAL: loader, ON_DEVICE: [batch] * len(loader)}
        contenders = {name: partial(_train_epoch, training, epoch) for name, epoch in epochs.items()}
        rates = in_turn(contenders, setup.size.rounds)
    facts = {"device": str(setup.device), "batch": len(batch[0]), "threads": setup.threads_of_a_job}
    return Report("photos/s", rates, ratios_of(rates, REAL), facts)


def _train_epoch(training: FoldTraining, batches: Iterable) -> int:
    training.sampler.epoch += 1
    with progress(None, title="step") as bar:
        result = training.trainer.train_one_epoch(batches, first_step=0, bar=bar)
    return round(result.images_per_second * result.seconds)


def bench_job(setup: Setup) -> Report:
    """Seconds of all folds of each task, predictions included, for both sides, and the out-of-fold scores of both.

    Same backbone, input size, epochs, folds and crops. In an epoch the recipe shows every photo once; ours shows some
    of each person's, or, to a head on a frozen backbone, every kept view of a photo. Ours are the commands, started as
    a user starts them; the recipe runs in this process. The two run in turn, task after task.
    """
    sides = {OURS: _ours, ORIGINAL: _original}
    crops, labels = setup.train_crops, {}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    predicted: dict[str, dict[str, list[int]]] = {name: {} for name in sides}
    # Making the caches is a part of our time.
    for cache in (PIXELS, FEATURES):
        shutil.rmtree(setup.crop_dir / cache, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=setup.work_dir) as folder:
        for number, task in enumerate(combined_tasks()):
            config = setup.config(task.name, folds=setup.size.folds)
            folds = [setup.fold_data(task.name, config, fold) for fold in range(config.folds)]
            labels[task.name] = folds[0].labels
            for name in list(sides)[:: -1 if number % 2 else 1]:
                began = time.perf_counter()
                table = sides[name](setup, folds, Path(folder))
                seconds[name].append(time.perf_counter() - began)
                predicted[name][task.name] = table.of(crops.image_ids).argmax(axis=1).tolist()
    facts: dict[str, object] = {f"all tasks, {name}, s": sum(of_tasks) for name, of_tasks in seconds.items()}
    facts["all tasks, times faster"] = sum(seconds[ORIGINAL]) / sum(seconds[OURS])
    for name in sides:
        record = score(labels, predicted[name], list(crops.frame["person"]))
        of_each = {**record["tasks"], COMBINED: record[COMBINED]}
        facts |= {f"{task} macro-F1, {name}": found["macro_f1"] for task, found in of_each.items()}
    return Report("s a task", seconds, ratios_of(seconds, ORIGINAL), facts)


def _ours(setup: Setup, folds: Sequence[FoldData], folder: Path) -> LogitTable:
    """Train and predict with the commands; return the out-of-fold logits."""
    task, run_dir = folds[0].task, folder / "run"
    where = ["--task", task.name, "--run-dir", run_dir]
    run_command(["train.py", *where, "--crop-dir", setup.crop_dir, *setup.train_flags(folds=len(folds))])
    run_command(["inference.py", *where, "--device", setup.device])
    return read_fold_tables(run_dir, task, OUT_OF_FOLD).logits


def _original(setup: Setup, folds: Sequence[FoldData], _: Path) -> LogitTable:
    """Train and predict with the original recipe; return the out-of-fold logits."""
    task, config = folds[0].task, setup.config(folds[0].task.name)
    size, workers = folds[0].input_for(config).size, pick_workers(config.workers, setup.device)
    rows, columns = setup.train_crops.settings.face_window
    box = columns.start, rows.start, columns.stop, rows.stop
    recipe = OriginalRecipe(config.backbone, config.pretrained, size, config.epochs, setup.device, workers, box)
    image_ids, logits = [], []
    for data in folds:
        (crops, labels), (out_of_fold, expected) = data.part(out_of_fold=False), data.part(out_of_fold=True)
        model = recipe.train(task.name, len(task.classes), (crops.paths, labels), (out_of_fold.paths, expected))
        recipe.predict(model, setup.eval_crops.paths)
        image_ids += out_of_fold.image_ids
        logits.append(recipe.predict(model, out_of_fold.paths).numpy())
    return make_table(image_ids, task.classes, np.concatenate(logits))

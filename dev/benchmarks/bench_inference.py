"""Inference: photos a second through all models of a run, against the models' own speed."""

import shutil
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from core.cli import progress
from dev.benchmarks.material import Setup, some_run
from dev.benchmarks.measure import Report, in_turn, per_second, ratio
from dev.benchmarks.ours import predict_all, threads_of_a_job
from dev.benchmarks.resident import Resident
from storage.run_dir import finished_folds
from training.device import Precision, place
from training.engine import predict
from training.feature_cache import FOLDER as FEATURES
from training.feature_cache import features_of
from training.predictor import EVAL_BATCH_FACTOR, Predictor, load_predictor

REAL, CEILING = "all models over the crops", "the models' own compute"


def bench_inference(setup: Setup) -> Report:
    """What share of the models' own speed predicting a folder of crops reaches."""
    run_dir, tasks = some_run(setup)
    predictors = [load_predictor(folder, task) for task in tasks for folder in finished_folds(run_dir / task)]
    contenders = {REAL: partial(_real, setup, predictors), CEILING: partial(_own_compute, setup, predictors)}
    with threads_of_a_job(predictors[0].config) as threads:
        rates = in_turn({name: partial(per_second, run) for name, run in contenders.items()}, setup.size.rounds)
    facts = {"models": len(predictors), "photos": len(setup.eval_crops.image_ids), "device": str(setup.device)}
    facts["threads"] = threads
    return Report("photos/s", rates, {f"{REAL} / {CEILING}": ratio(rates, REAL, CEILING)}, facts)


def _real(setup: Setup, predictors: Sequence[Predictor]) -> int:
    # What frozen backbones say is a part of the work.
    shutil.rmtree(setup.crop_dir / FEATURES, ignore_errors=True)
    predict_all(setup, predictors)
    return len(setup.eval_crops.image_ids)


def _own_compute(setup: Setup, predictors: Sequence[Predictor]) -> int:
    """The same number of photos through the same models, from one batch that lies on the device."""
    config, photos = predictors[0].config, len(setup.eval_crops.image_ids)
    size = min(config.batch_size * EVAL_BATCH_FACTOR, photos)
    looks = {}
    for one in predictors:
        pictures = torch.randint(0, 256, (size, *one.size, 3), dtype=torch.uint8)
        batches = Resident((pictures, torch.zeros(size), torch.arange(size)), -(-photos // size), setup.device)
        if one.frozen is None:
            _whole_network(setup, one, batches)
            continue
        if one.frozen not in looks:
            looks[one.frozen] = [_look_at(setup, one, pictures.numpy()) for _ in range(len(batches))]
        one.of_views(looks[one.frozen], device=setup.device)
    return size * len(batches)


def _look_at(setup: Setup, one: Predictor, pictures: np.ndarray) -> torch.Tensor:
    """Features (V, N, F) of the pictures and, under TTA, of their mirror images, in the precision of the store."""
    model = place(one.model, setup.device, one.config.channels_last).eval()
    seen = [pictures, np.ascontiguousarray(pictures[:, :, ::-1])][: 2 if one.config.tta == "flip" else 1]
    views = [features_of(model, some, one.frozen, setup.device) for some in seen]
    return torch.from_numpy(np.stack(views).astype(np.float32))


def _whole_network(setup: Setup, one: Predictor, batches: Resident) -> None:
    model = place(one.model, setup.device, one.config.channels_last)
    with progress(None, title="models") as bar:
        options = {"precision": Precision(setup.device, one.config.amp), "tta": one.config.tta, "bar": bar}
        predict(model, batches, channels_last=one.config.channels_last, **options)

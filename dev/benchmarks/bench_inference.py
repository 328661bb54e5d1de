"""Inference: photos a second through all models of a run, from a crop folder and from images in memory."""

import shutil

from dev.benchmarks.measure import Report, in_turn, ratios_of
from dev.benchmarks.setup import Setup, images_for
from serving.torch_model import load_run
from training.device import prepare_process
from training.feature_cache import FOLDER as FEATURES
from training.inputs import PredictOptions
from training.predictor import predict_crops

FROM_FOLDER, IN_MEMORY = "crop folder", "images in memory"


def bench_inference(setup: Setup) -> Report:
    """Speed over a crop folder, features of frozen backbones included, beside that over images in memory."""
    device, workers = str(setup.device), setup.typed.get("workers", -1)
    trained = load_run(setup.some_run(), device=device)
    predictors = [predictor for of_task in trained.models.values() for predictor in of_task]
    images = images_for(trained, setup.eval_crops)

    def from_folder() -> int:
        shutil.rmtree(setup.crop_dir / FEATURES, ignore_errors=True)
        for predictor in predictors:
            options = PredictOptions(device, workers, predictor.config.tta, "inference")
            predict_crops(predictor, setup.eval_crops, options)
        return len(images)

    def in_memory() -> int:
        trained(images)
        return len(images)

    prepare_process(setup.threads_of_a_job)
    rates = in_turn({FROM_FOLDER: from_folder, IN_MEMORY: in_memory}, setup.size.rounds)
    facts = {"models": len(predictors), "photos": len(images), "device": device}
    return Report("photos/s", rates, ratios_of(rates, FROM_FOLDER), facts | {"threads": setup.threads_of_a_job})

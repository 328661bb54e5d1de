"""Training of one fold of one task: prepare, resume, epochs, out-of-fold logits.

The state is saved after every epoch, and every epoch is seeded by (seed, fold, epoch), so that a fold that was
interrupted ends with the same weights, bit for bit, as one that was not.
"""

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd
import torch
from torch.nn import functional

from core import distributed, files
from core.cli import Bar, UserError
from core.cli import progress as progress_bar
from evaluation.metrics import accuracy, confusion_matrix, macro_f1
from storage.run_dir import (
    CONFIG,
    DIGESTS,
    DONE,
    HISTORY,
    MODEL,
    OOF,
    STATE,
    begin_fold,
    is_done,
    refuse_incomplete,
    refuse_other_identity,
)
from training import checkpoints, refit
from training.config import Config
from training.device import seed_everything
from training.engine import predict, steps_per_epoch
from training.fold_setup import FoldData, FoldTraining, prepare_fold, training_cost
from training.inputs import PredictOptions
from training.predictor import load_predictor, predict_cached, write_prediction
from training.starting_weights import refuse_other_start, starting_weights
from training.tracking import NONE, open_tracker


@dataclass
class Progress:
    """Epochs done, and the best of them; saved after every epoch."""

    epoch: int = 0
    best_epoch: int = 0
    best_macro_f1: float = -1.0
    scaler: dict = field(default_factory=dict)
    history: list[dict] = field(default_factory=list)

    def is_over(self, config: Config) -> bool:
        scored_since_best = sum("macro_f1" in row for row in self.history[self.best_epoch :])
        return self.epoch >= config.epochs or scored_since_best >= config.patience


def train_fold(run_dir: Path, data: FoldData, config: Config, *, overwrite: bool = False) -> None:
    """Train one fold from where it stands, and write its weights, history and out-of-fold logits."""
    fold_dir = data.folder(run_dir)
    if is_done(fold_dir) and not overwrite:
        refuse_other_identity(fold_dir, data.identity(config))
        refuse_incomplete(fold_dir, MODEL, *([] if data.is_refit else [OOF]))
        print(f"{data.title}: done already")
        return
    fold_input = data.input_for(config).prepared(run_dir)
    training = prepare_fold(data, config, fold_input)
    # Only now: weights that cannot be had must neither cost the old fold nor leave a config.json behind.
    if overwrite and distributed.is_first() and fold_dir.exists():
        shutil.rmtree(fold_dir)
    distributed.wait_for_all()
    start = starting_weights(training.model.network, config)
    identity = {**data.identity(config), **fold_input.config_entry, **start}
    refuse_other_start(fold_dir, identity)
    begin_fold(fold_dir, identity, write=distributed.is_first())
    progress = resume(fold_dir, training)
    run_epochs(fold_dir, training, progress)
    finish(fold_dir, training, progress)


def run_epochs(fold_dir: Path, training: FoldTraining, progress: Progress) -> None:
    """Train until the last epoch, or until the out-of-fold macro-F1 has not risen in `patience` scored epochs."""
    data, config = training.data, training.config
    tracker = open_tracker(fold_dir, config.tracker if distributed.is_first() else NONE, config.learned())
    shown = {"shown": distributed.is_first(), "worth": training_cost(data, config)}
    with progress_bar(None, title=data.title, total=photos_left(training, progress), **shown) as bar:
        while not progress.is_over(config):
            row = run_epoch(training, progress, bar)
            record(fold_dir, training, progress, row)
            tracker.log(row)
            bar.write(epoch_line(data.title, row, config.epochs))
    tracker.close()


def run_epoch(training: FoldTraining, progress: Progress, bar: Bar) -> dict:
    """Train one epoch and score the fold's own people; return the row of history.csv."""
    data, config, epoch = training.data, training.config, progress.epoch
    best = f", {config.keep} F1 {progress.best_macro_f1:.3f}" if progress.best_epoch else ""
    bar.set_description(f"{data.title} epoch {epoch + 1}/{config.epochs}{best}")
    seed_everything(config.seed, data.fold, epoch, *filter(None, [distributed.number()]))
    training.sampler.epoch = epoch
    first_step = epoch * steps_per_epoch(len(training.train_loader), config.accumulate)
    result = training.trainer.train_one_epoch(training.train_loader, first_step=first_step, bar=bar)
    refuse_divergence(training, epoch, f"loss {result.loss}", math.isfinite(result.loss))
    distributed.broadcast_buffers(training.learner)
    return {
        "epoch": epoch + 1,
        "train_loss": result.loss,
        **(out_of_fold_scores(training, epoch, bar) if is_scored(epoch, training) else {}),
        "lr": training.optimizer.param_groups[0]["lr"],
        "images_per_second": result.images_per_second,
        "seconds": result.seconds,
    }


def record(fold_dir: Path, training: FoldTraining, progress: Progress, row: dict) -> None:
    """Write weights (if the epoch is the best, or ends a refit), history and state, on rank 0 alone.

    The state comes last: after a stop before it, the epoch is repeated and ends the same.
    """
    progress.epoch = row["epoch"]
    progress.history.append(row)
    progress.scaler = training.precision.scaler.state_dict()
    if training.data.is_refit:
        is_kept = progress.epoch == training.config.epochs
    else:
        is_kept = "macro_f1" in row and (training.config.keep == "last" or row["macro_f1"] > progress.best_macro_f1)
    if is_kept:
        progress.best_epoch, progress.best_macro_f1 = row["epoch"], row.get("macro_f1", progress.best_macro_f1)
    if not distributed.is_first():
        return
    if is_kept:
        checkpoints.save_weights(fold_dir / MODEL, training.saved)
    files.write_csv(fold_dir / HISTORY, pd.DataFrame(progress.history))
    checkpoints.save_state(fold_dir / STATE, training.saved, training.optimizer, asdict(progress))


def resume(fold_dir: Path, training: FoldTraining) -> Progress:
    """Load the state after the last whole epoch, if there is one. UserError if the weights that it kept are gone."""
    path = fold_dir / STATE
    if not path.exists():
        return Progress()
    progress = Progress(**checkpoints.load_state(path, training.saved, training.optimizer))
    weights = fold_dir / MODEL
    if progress.best_epoch and not weights.exists():
        raise UserError(f"{weights}: no such file, though epoch {progress.best_epoch} was kept; train with --overwrite")
    training.precision.scaler.load_state_dict(progress.scaler)
    print(f"{training.data.title}: goes on after epoch {progress.epoch}")
    return progress


def finish(fold_dir: Path, training: FoldTraining, progress: Progress) -> None:
    """Write out-of-fold logits from the saved weights, then the marker of a finished fold. A refit has no logits."""
    distributed.wait_for_all()
    result: dict = {"best_epoch": progress.best_epoch}
    if training.data.is_refit:
        tables, result["scores"] = [], refit.SCORES
    else:
        tables, result["macro_f1"] = write_out_of_fold(fold_dir, training), progress.best_macro_f1
    if not distributed.is_first():
        return
    result[DIGESTS] = {path.name: files.file_sha256(path) for path in (fold_dir / CONFIG, fold_dir / MODEL, *tables)}
    files.write_json(fold_dir / DONE, result)
    (fold_dir / STATE).unlink(missing_ok=True)


def write_out_of_fold(fold_dir: Path, training: FoldTraining) -> list[Path]:
    """Predict the people held out with the saved weights. Return the tables, written on rank 0 alone."""
    data, config = training.data, training.config
    image_ids = data.part(out_of_fold=True)[0].image_ids
    options = PredictOptions(config.device, config.workers, config.tta, f"{data.title} out of fold")
    prediction = predict_cached(load_predictor(fold_dir, data.task), training.cache, image_ids, options)
    return write_prediction(fold_dir / OOF, data.task, image_ids, prediction) if distributed.is_first() else []


def is_scored(epoch: int, training: FoldTraining) -> bool:
    """Return whether an epoch ends with out-of-fold scores. A refit, which learns from all people, has none."""
    config = training.config
    return not training.data.is_refit and ((epoch + 1) % config.validate_every == 0 or epoch + 1 == config.epochs)


def photos_left(training: FoldTraining, progress: Progress) -> int:
    """Count the photos of all epochs that are left, those of scoring included."""
    left = range(progress.epoch, training.config.epochs)
    scored = len(training.out_of_fold_labels)
    return sum(len(training.sampler) + is_scored(epoch, training) * scored for epoch in left)


def refuse_divergence(training: FoldTraining, epoch: int, found: str, finite: bool) -> None:
    """UserError, before anything of the epoch is saved, if its loss or outputs are not finite."""
    if not finite:
        raise UserError(
            f"{training.data.title}: training diverged at epoch {epoch + 1} ({found}); give a lower --lr or --no-amp, "
            f"with --overwrite"
        )


def out_of_fold_scores(training: FoldTraining, epoch: int, bar: Bar) -> dict[str, float]:
    """Score the plain crops of the fold's own people: mean cross-entropy, macro-F1 and accuracy."""
    labels, options = training.out_of_fold_labels, {"channels_last": training.config.channels_last, "bar": bar}
    outputs = predict(training.learner, training.out_of_fold_loader, precision=training.precision, **options)
    refuse_divergence(training, epoch, "out-of-fold outputs are not numbers", bool(outputs.isfinite().all()))
    logits = training.head.class_logits(outputs)
    loss = functional.cross_entropy(logits, torch.tensor(labels))
    confusion = confusion_matrix(labels, logits.argmax(dim=1).tolist(), len(training.data.task.classes))
    return {"loss": loss.item(), "macro_f1": float(macro_f1(confusion)), "accuracy": float(accuracy(confusion))}


def epoch_line(title: str, row: Mapping[str, float], epochs: int) -> str:
    """Return the printed line of an epoch, from its row of history.csv."""
    scores = f"out-of-fold F1 {row['macro_f1']:.4f}, " if "macro_f1" in row else ""
    return (
        f"{title} epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, {scores}"
        f"{row['images_per_second']:.0f} photos/s"
    )

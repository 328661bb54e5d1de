"""Look at what training is shown: the first photos of an epoch, augmented, with their labels.

    python -m tools.show_batch --task age
    python -m tools.show_batch --task mask --augment strong --count 16 --out strong.jpg

Result: batch.jpg, the very pictures of that fold and epoch. Where the run has begun the fold, its settings are used;
else those of the profile. Settings that are typed go before both.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from core.cli import UserError, command_parser, run_cli
from core.contact_sheet import Cell, contact_sheet
from core.images import write_photo
from core.tasks import Task, task_named, task_names
from storage.crops import load_crops
from storage.folds import make_folds, person_strata, plan_folds
from storage.label_corrections import training_crops
from storage.run_dir import CONFIG, fold_dir_of, read_config_of
from tools.places import add_places, crop_dir_of, has_run, refuse_no_crops
from training.config import PROFILES, Config, add_flags, from_dict, resolve, typed_settings
from training.fold_setup import FoldData, epoch_sampler, refuse_unusable
from training.inputs import FeatureInput, PixelInput


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    task = task_named(args.task)
    fold_dir = fold_dir_of(args.run_dir, task.name, args.fold)
    config = chosen_settings(args, fold_dir)
    refuse_unusable(task, config)
    data = fold_data(args, task, config)
    cells = list(islice(shown(data, config, args.epoch), args.count))
    write_photo(args.out, contact_sheet(cells))
    print(f"{args.out}: {len(cells)} photos of {data.title} epoch {args.epoch}, augment {config.augment}")
    if config.mixup:
        print(f"mixup {config.mixup} blends them in pairs as they enter the network, which is not shown")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    parser.add_argument("--task", choices=task_names(), required=True, help="what is learned")
    parser.add_argument("--fold", type=int, default=0, help="fold whose training is shown")
    parser.add_argument("--epoch", type=int, default=1, help="epoch whose photos are shown, from 1")
    parser.add_argument("--profile", choices=list(PROFILES), default="quick", help="named settings")
    add_places(parser, "batch.jpg")
    add_flags(parser)
    args = parser.parse_args(argv)
    if args.epoch < 1:
        raise UserError(f"--epoch {args.epoch}: allowed is 1 or more")
    return args


def chosen_settings(args: argparse.Namespace, fold_dir: Path) -> Config:
    """The fold's own settings or the profile's, with what was typed on top; on the CPU, with random weights."""
    typed = typed_settings(args)
    if has_run(args) and (fold_dir / CONFIG).exists():
        config = from_dict(read_config_of(fold_dir, args.task)["settings"] | typed)
    else:
        config = resolve(args.task, args.profile, typed)
    if not 0 <= args.fold < config.folds:
        raise UserError(f"--fold {args.fold}: allowed is 0 to {config.folds - 1}")
    return replace(config, pretrained=False, device="cpu", workers=0)


def fold_data(args: argparse.Namespace, task: Task, config: Config) -> FoldData:
    """The photos that the fold learns from, as training would split them. Writes nothing."""
    crop_dir = crop_dir_of(args)
    crops = training_crops(args.run_dir, crop_dir) if has_run(args) else load_crops(crop_dir, "train")
    refuse_no_crops(crops.image_ids, crop_dir, "train")
    split = {"folds": config.folds, "seed": config.fold_seed}
    if has_run(args):
        fold_of = plan_folds(args.run_dir, crops, **split, age_edges=config.age_edges)
    else:
        fold_of = make_folds(person_strata(crops, config.age_edges), **split)
    return FoldData(task, args.fold, crops, crops.labels(task, config.age_edges), fold_of)


def shown(data: FoldData, config: Config, epoch: int) -> Iterator[Cell]:
    """Yield the images of an epoch, counted from 1, in the order that training sees them."""
    fold_input = data.input_for(config)
    pixels = PixelInput(config, fold_input.size)
    cache = pixels.open(data.crops)
    crops, labels = data.part(out_of_fold=False)
    train_set = pixels.train_set(cache, crops.image_ids, torch.tensor(labels))
    sampler = epoch_sampler(data, config)
    sampler.epoch = epoch - 1
    for draw in sampler:
        image_id = crops.image_ids[draw.index]
        if isinstance(fold_input, FeatureInput):
            views = fold_input.views.of(cache.images[train_set.rows[draw.index]], image_id)
            image = views[draw.seed % fold_input.views_per_epoch]
        else:
            image = train_set[draw][0].numpy()
        yield Cell(image, (*image_id.rsplit("/", 1), data.task.classes[labels[draw.index]]))


if __name__ == "__main__":
    run_cli(main)

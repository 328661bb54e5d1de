"""Draw the first photos of a training epoch as a contact sheet: augmented, with their labels.

    python -m tools.show_batch --task age
    python -m tools.show_batch --task mask --augment strong --count 16 --out strong.jpg

Result: batch.jpg, the very images of that fold and epoch. Where the run has begun the fold, its settings are used; else
those of the profile. Settings that are typed override both.
"""

if not __package__:
    raise SystemExit("run this as a module: python -m tools.show_batch")

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from core.cli import UserError, add_run_dir, command_parser, run_cli
from core.contact_sheet import Cell, add_sheet_flags, contact_sheet
from core.images import write_photo
from core.tasks import task_named, task_names
from storage.crops import Crops, load_crops
from storage.folds import make_folds, person_strata, plan_folds
from storage.label_corrections import training_crops
from storage.run_dir import CONFIG, fold_dir_of, read_config_of, read_run, run_path
from training.config import PROFILES, Config, add_flags, from_dict, resolve, typed_settings

if TYPE_CHECKING:
    from training.fold_setup import FoldData


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    task = task_named(args.task)
    fold_dir = fold_dir_of(args.run_dir, task.name, args.fold)
    config = chosen_settings(args, fold_dir)
    # Only now: torch takes seconds to import, for which --help and a mistyped flag need not wait.
    from synthesis.draw_crops import drawings_of
    from training.fold_setup import FoldData, refuse_unusable

    refuse_unusable(task, config)
    crops = train_crops(args.run_dir, args.crop_dir)
    fold_of = plan_split(args.run_dir if has_run(args.run_dir, args.crop_dir) else None, crops, config)
    drawn = drawings_of(crops, config.drawn)
    data = FoldData(task, args.fold, crops, crops.labels(task, config.age_edges), fold_of, drawn)
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
    add_run_dir(parser)
    parser.add_argument("--crop-dir", type=Path, help="use these crops, and no run (default: the run's)")
    add_sheet_flags(parser, "batch.jpg")
    add_flags(parser)
    args = parser.parse_args(argv)
    if args.epoch < 1:
        raise UserError(f"--epoch {args.epoch}: allowed is 1 or more")
    return args


def chosen_settings(args: argparse.Namespace, fold_dir: Path) -> Config:
    """The fold's own settings or the profile's, with what was typed on top; on the CPU, with random weights."""
    typed = typed_settings(args)
    if has_run(args.run_dir, args.crop_dir) and (fold_dir / CONFIG).exists():
        config = from_dict(read_config_of(fold_dir, args.task)["settings"] | typed)
    else:
        config = resolve(args.task, args.profile, typed)
    if not 0 <= args.fold < config.folds:
        raise UserError(f"--fold {args.fold}: allowed is 0 to {config.folds - 1}")
    return replace(config, pretrained=False, device="cpu", workers=0)


def has_run(run_dir: Path, crop_dir: Path | None) -> bool:
    return crop_dir is None and run_path(run_dir).exists()


def train_crops(run_dir: Path, crop_dir: Path | None) -> Crops:
    """Training crops of the folder that was named, or else the run's, or else the default folder."""
    if has_run(run_dir, crop_dir):
        crops = training_crops(run_dir, Path(read_run(run_dir).crop_dir))
    else:
        crops = load_crops(crop_dir or Path("crop_images"), "train")
    if not crops.image_ids:
        raise UserError(f"crop folder {crops.crop_dir}: no photos in its train part")
    return crops


def plan_split(run_dir: Path | None, crops: Crops, config: Config) -> dict[str, int]:
    """The fold of every person as training would split them. Writes nothing."""
    split = {"folds": config.folds, "seed": config.fold_seed}
    if run_dir:
        return plan_folds(run_dir, crops, **split, age_edges=config.age_edges)
    return make_folds(person_strata(crops, config.age_edges), **split)


def shown(data: "FoldData", config: Config, epoch: int) -> Iterator[Cell]:
    """Yield the images of an epoch, counted from 1, in the order that training sees them."""
    import torch

    from dataset import JoinedDataset
    from training.fold_setup import epoch_sampler
    from training.inputs import PixelInput

    fold_input, parts = data.input_for(config), data.learned(config)
    pixels = PixelInput(config, fold_input.shown)
    sets = []
    for crops, labels in parts:
        targets = () if fold_input.is_frozen else (torch.tensor(labels),)
        make = pixels.eval_set if fold_input.is_frozen else pixels.train_set
        sets.append(make(pixels.open(crops), crops.image_ids, *targets))
    images = JoinedDataset(sets)
    named = [pair for crops, labels in parts for pair in zip(crops.image_ids, labels, strict=True)]
    sampler = epoch_sampler(data, config)
    sampler.epoch = epoch - 1
    for draw in sampler:
        image_id, label = named[draw.index]
        image = images[draw][0].numpy()
        if fold_input.is_frozen:
            image = fold_input.views.of(image, image_id)[draw.seed % fold_input.views_per_epoch]
        yield Cell(image, (*image_id.rsplit("/", 1), data.task.classes[label]))


if __name__ == "__main__":
    run_cli(main)

"""Write a model folder from the refits of a run: weights, settings, hashes and a model card, to copy, zip or push.

    python -m serving.publish --run-dir outputs/default --out models/mine
    python -m serving.publish --run-dir outputs/default --out models/mine --push OWNER/NAME
    python predict.py photo.jpg --model models/mine

Weights are in half precision where that changes no label of the crops it is tried on. The card, README.md, has the
run's scores. --push needs the hub's token (`hf auth login`), and makes a private repository.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import core.environment  # noqa: F401  explains a missing package

from core.cli import add_trained_run, command_parser, cpu_count, positive_int, run_cli
from core.files import in_words
from core.tasks import task_names
from serving.crop_sample import sample_crops
from serving.hub import parse, push
from storage.run_dir import is_of_drawn_people, trained_run

TERMS = "The terms of its training photos and of the weights it started from apply."


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if args.push:
        parse(args.push)
    # torch takes seconds to import: --help and the complaint about a mistyped flag do not wait for it.
    from serving.model_card import read_real_scores
    from serving.torch_model import load_run
    from serving.write_model_folder import Origin, write_model_folder
    from training.device import prepare_process

    real = read_real_scores(args.real) if args.real else {}
    args.run_dir = trained_run(args.run_dir)
    prepare_process(cpu_count())
    run = load_run(args.run_dir, tasks=args.task, device="cpu")
    sample = sample_crops(args.run_dir, run.crop, args.crops, "eval")
    drawn = "Learned from drawn people: predictions mean nothing. " if is_of_drawn_people(args.run_dir) else ""
    terms = args.terms or f"{drawn}{TERMS}"
    origin = Origin(args.run_dir, args.name or args.out.resolve().name, terms, sample.crops, real)
    precision = write_model_folder(args.out, run, origin)
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    kinds = ", ".join(f"{task} {kind}" for task, kind in precision.items())
    print(f"{args.out}: {in_words(size)}; {kinds}, tried on {len(sample.crops)} {sample.origin}")
    if args.push:
        print(f"pushed: {push(args.out, args.push)}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser(__doc__)
    add_trained_run(parser)
    parser.add_argument("--out", type=Path, required=True, help="model folder to write, not there yet")
    parser.add_argument("--task", nargs="+", choices=task_names(), default=(), help="tasks of the model (default: all)")
    parser.add_argument("--name", help="name of the model (default: that of the folder)")
    parser.add_argument("--terms", help="how it may be used, in a line that is shown whenever it is loaded")
    parser.add_argument("--real", type=Path, metavar="FILE", help="scores.json of dev.benchmarks.real, for the card")
    parser.add_argument("--crops", type=positive_int, default=512, help="crops to try half precision on")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload the folder to the Hugging Face hub, as private")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_cli(main)

"""From photos to submission.csv, a score table and a page about the run.

    bash run_all.sh                                       drawn sample people; their scores mean nothing
    DATA_DIR=/my/data bash run_all.sh                     your photos, in any of the layouts of README.md
    DATA_DIR=/my/data PROFILE=quick RUN=first bash run_all.sh --loss focal
    python run_all.py                                     the same, where the packages are installed already
    run_all.bat --data-dir C:\\my\\data                      on Windows

DATA_DIR  folder of photos; only read (default: sample_data, drawn when missing)
FACES     folder of bare faces with labels.csv (file, gender, race, age): masked people are built from them, and learned
          from together with those of DATA_DIR, if it is given; datasets/RUN holds them
PROFILE   smoke | quick | full (default: smoke for the sample; else full with a GPU, quick without)
RUN       name of the run: results go to outputs/RUN (default: default, or sample)
CROP_DIR  folder for the crops (default: crop_images, or crop_images_sample)
REFIT     0 leaves out the one model of all people, which predict.py and the demo prefer to the folds
CHECK     0 leaves out the check of a data set whose faces are not searched yet
REPORT    0 leaves out the last step, the page outputs/RUN/report/index.html
OFFLINE   1 refuses connections to other machines
PYTHON    interpreter to start from; TORCH_INDEX_URL  index to ask for torch as well

Flags that are not listed here go to train.py. Run it again after a stop: finished work is kept.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from core.environment import WINDOWS

from core.cli import UserError, command_parser, run_cli
from core.progress import IN_RUN_ALL
from core.tasks import task_names
from evaluation.run_outline import has_eval_photos, left_out, missing_folds, score_lines

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
INPUTS = ("data_dir", "faces", "label_fixes")
"""Flags with a path that is meant from where the command was typed. Results lie in the folder of the project."""
BUILDER = "synthesis.builder.build"
DATA_SETS = "datasets"
"""Folder for data sets that are made from FACES."""
BAD_INPUT = 2
"""Exit code of a command that was given something it cannot use."""
ADVICE = {
    "settings": "nothing has been done yet",
    "check data": "put that right (CHECK=0 skips the check; training may still refuse the data)",
}


@dataclass(frozen=True)
class Step:
    """A command of the pipeline. `weight` is its usual part of the time of all steps."""

    name: str
    command: Sequence[str]
    weight: float = 0


@dataclass(frozen=True)
class Plan:
    """Folders and flags that all steps share. Paths are absolute or relative to the folder of the project."""

    args: argparse.Namespace
    for_training: Sequence[str]
    data_dir: Path
    crop_dir: Path
    run_dir: Path
    is_sample: bool
    faces: Path | None = None
    beside_faces: Path | None = None

    def flags(self, *names: str) -> list[str]:
        """Return those flags of these names that were typed, with their values, as a command line."""
        typed = {name: getattr(self.args, name) for name in names}
        return [part for name, value in typed.items() if value is not None for part in as_flag(name, value)]

    @property
    def train(self) -> list[str]:
        folders = ["--crop-dir", str(self.crop_dir), "--run-dir", str(self.run_dir)]
        names = ("task", "profile", "fold", "device", "jobs", "workers", "folds", "age_edges", "label_fixes")
        return ["train.py", *self.flags(*names), *folders, *self.for_training]

    @property
    def pool(self) -> list[str]:
        """Return `--workers` for the steps to which it is a number of processes. In train.py it may be 0."""
        return self.flags("workers") if self.args.workers is not None and self.args.workers > 0 else []


@dataclass
class Pace:
    """Time that the steps took so far, from which a step estimates the time that is left."""

    total: float
    done: float = 0
    seconds_per_weight: float = 0
    began: float = field(default_factory=time.monotonic)

    def before(self, step: Step) -> dict[str, float]:
        """Return what core.progress draws the bar of all steps from."""
        after = max(0.0, self.total - self.done - step.weight)
        return {
            **{"done": self.done / self.total, "part": step.weight / self.total},
            "seconds_after": after * self.seconds_per_weight,
        }

    def after(self, step: Step, seconds: float) -> None:
        self.done += step.weight
        if step.weight:
            self.seconds_per_weight = max(self.seconds_per_weight, seconds / step.weight)


def main(argv: Sequence[str] | None = None) -> None:
    plan = make_plan(argv, os.environ)
    steps = [*steps_before_training(plan), Step("train", plan.train, 75)]
    later = sum(step.weight for step in steps_after_training(plan, has_eval=True, all_folds=True))
    pace = Pace(sum(step.weight for step in steps) + later)
    for step in steps:
        run_step(step, pace)
    missing = missing_folds(ROOT / plan.run_dir)
    has_eval = has_eval_photos(ROOT / plan.crop_dir)
    for line in left_out(missing, has_eval=has_eval):
        print(line, flush=True)
    for step in steps_after_training(plan, has_eval=has_eval, all_folds=not any(missing.values())):
        run_step(step, pace)
    minutes, seconds = divmod(round(time.monotonic() - pace.began), 60)
    print(f"\ndone in {minutes} min {seconds} s\n", *result_lines(plan), sep="\n")


def make_plan(argv: Sequence[str] | None, environ: Mapping[str, str]) -> Plan:
    """Read flags and variables; a flag wins over its variable. UserError for a flag that ends the work early."""
    args, for_training = parser().parse_known_args(argv)
    if "--show-settings" in for_training:
        raise UserError("--show-settings: it trains nothing; give it to train.py with your other flags")
    for name in INPUTS:
        if getattr(args, name):
            setattr(args, name, Path.cwd() / getattr(args, name))
    given = {name: environ.get(name) or None for name in ("DATA_DIR", "FACES", "PROFILE", "RUN", "CROP_DIR")}
    data_dir = args.data_dir or (given["DATA_DIR"] and Path.cwd() / given["DATA_DIR"])
    faces = args.faces or (given["FACES"] and Path.cwd() / given["FACES"])
    is_sample = data_dir is None and faces is None
    args.profile = args.profile or given["PROFILE"] or ("smoke" if is_sample else None)
    run_dir = args.run_dir or Path("outputs", given["RUN"] or ("sample" if is_sample else "default"))
    usual = "crop_images_sample" if is_sample else "crop_images_faces" if faces else "crop_images"
    crop_dir = args.crop_dir or Path(given["CROP_DIR"] or usual)
    if faces is None:
        return Plan(args, for_training, data_dir or Path("sample_data"), crop_dir, run_dir, is_sample)
    made = Path(DATA_SETS, run_dir.name, "joined" if data_dir else "built")
    return Plan(args, for_training, made, crop_dir, run_dir, is_sample, faces, data_dir)


def parser() -> argparse.ArgumentParser:
    found = command_parser(__doc__)
    found.prog = "run_all"
    found.add_argument("--data-dir", type=Path, help="as DATA_DIR")
    found.add_argument("--faces", type=Path, metavar="DIR", help="as FACES")
    found.add_argument("--run-dir", type=Path, help="folder of the results, in place of outputs/RUN")
    found.add_argument("--crop-dir", type=Path, help="as CROP_DIR")
    found.add_argument("--profile", help="as PROFILE")
    found.add_argument(
        "--photos", dest="data_dir", type=Path, metavar="FILE", help="table of photos, in place of --data-dir"
    )
    found.add_argument("--layout", help="layout of the photos; detected by default")
    found.add_argument("--task", nargs="+", choices=task_names(), help="what to learn (default: all)")
    found.add_argument("--fold", nargs="+", type=int, metavar="K", help="train these folds only (default: all)")
    found.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps ...")
    found.add_argument("--jobs", type=int, help="folds at once in training and inference")
    found.add_argument("--workers", type=int, help="processes for photos, and of each loader in training")
    found.add_argument("--folds", type=int, metavar="N", help="number of folds")
    found.add_argument("--age-edges", type=int, nargs=2, metavar="N", help="first ages of the middle and the old group")
    found.add_argument("--label-fixes", type=Path, metavar="FILE", help="corrections of training labels")
    return found


def as_flag(name: str, value: object) -> list[str]:
    return [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]


def steps_before_training(plan: Plan) -> Iterator[Step]:
    """Yield the steps up to the crops. A mistyped flag ends the first of them, before any work."""
    data = ["--data-dir", str(plan.data_dir), "--crop-dir", str(plan.crop_dir), *plan.flags("layout")]
    yield Step("settings", [*plan.train, "--show-settings"])
    if plan.faces is not None:
        yield from steps_of_faces(plan, plan.faces)
    if plan.is_sample:
        flags = ["--out", str(plan.data_dir), *plan.flags("age_edges"), *plan.pool]
        yield Step("sample people", ["-m", "synthesis.drawn.sample", *flags], 15)
    # A data set is checked once: later runs have its faces already.
    elif os.environ.get("CHECK") != "0" and not (ROOT / plan.crop_dir / "faces.csv").exists():
        yield Step("check data", ["-m", "check_data", *data, *plan.flags("folds", "age_edges"), *plan.pool], 2)
    yield Step("detect faces", ["preprocessing/detect_faces.py", *data, *plan.pool], 5)
    yield Step("crop faces", ["preprocessing/crop_faces.py", "--crop-dir", str(plan.crop_dir), *plan.pool], 3)


def steps_of_faces(plan: Plan, faces: Path) -> Iterator[Step]:
    """Yield the steps that build masked people from all bare faces, and join them with the photos that were given."""
    photos, labels, built = faces / "photos", faces / "labels.csv", plan.data_dir.with_name("built")
    folder = photos if photos.is_dir() else faces
    people = max(1, sum(path.is_file() for path in folder.rglob("*")))
    flags = ["--out", str(built), "--train-people", str(people), "--eval-people", "0", *plan.flags("age_edges")]
    labelled = ["--labels", str(labels)] if labels.exists() else []
    yield Step("build people", ["-m", BUILDER, "--faces", str(folder), *labelled, *flags, *plan.pool], 20)
    if plan.beside_faces is not None:
        given = [str(plan.beside_faces), str(built), "--names", "given", "built"]
        yield Step("join", ["-m", "tools.join", *given, "--out", str(plan.data_dir)], 1)


def steps_after_training(plan: Plan, *, has_eval: bool, all_folds: bool) -> Iterator[Step]:
    """Yield the steps from the trained folds to the report."""
    run = ["--run-dir", str(plan.run_dir)]
    if all_folds and os.environ.get("REFIT") != "0":
        yield Step("refit", [*plan.train, "--refit"], 20)
    if has_eval:
        yield Step("inference", ["inference.py", *run, *plan.flags("device", "jobs")], 12)
    yield Step("ensemble", ["ensemble.py", *run, *([] if all_folds else ["--folds", "trained"])])
    yield Step("submission", ["submission.py", *run], 1)
    if os.environ.get("REPORT") != "0":
        yield Step("report", ["-m", "reporting", *run], 2)


def run_step(step: Step, pace: Pace) -> None:
    """Run the command; exit with its code if it fails."""
    print(f"\n== {step.name}", flush=True)
    began = time.monotonic()
    # Only its errors are of interest.
    stdout = subprocess.DEVNULL if step.name == "settings" else None
    code = run_command(step.command, pace.before(step), stdout)
    if code:
        remedy = "put that right" if code == BAD_INPUT else "the same command goes on from there"
        advice = ADVICE.get(step.name, f"finished work is kept; {remedy}")
        print(f"run_all stopped at step {step.name!r} (exit code {code}); {advice}", file=sys.stderr)
        sys.exit(code)
    seconds = time.monotonic() - began
    pace.after(step, seconds)
    print(f"-- {step.name}: {seconds:.0f} s", flush=True)


def run_command(command: Sequence[str], progress: Mapping[str, float], stdout: int | None = None) -> int:
    """Return the exit code of a command of the project. Ctrl-C, which a terminal sends to both, is left to it."""
    environment = {**os.environ, IN_RUN_ALL: json.dumps(progress)}
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, stdout=stdout)

    def end(_: int, __: FrameType | None) -> None:
        process.terminate()

    # Not SIG_IGN, which the command would inherit.
    before = signal.signal(signal.SIGINT, lambda *_: None), signal.signal(signal.SIGTERM, end)
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    return code if code >= 0 else 128 - code


def result_lines(plan: Plan) -> Iterator[str]:
    """Yield the last lines of a run: score, tasks, files, report, what to do next."""
    run_dir, at_home = ROOT / plan.run_dir, Path.cwd() == ROOT
    where = plan.run_dir if at_home else run_dir
    yield from score_lines(run_dir)
    results = ("submission.csv", "predictions.csv", "predictions_oof.csv", "scores.json")
    names = [name for name in results if (run_dir / name).exists()]
    yield f"files     {where}: {', '.join(names) or 'trained folds'}"
    if (run_dir / "report" / "index.html").exists():
        yield f"report    {where / 'report' / 'index.html'}"
    if Path(sys.prefix) == VENV and os.environ.get("VIRTUAL_ENV") != str(VENV):
        script = (Path() if at_home else ROOT) / ".venv" / ("Scripts" if WINDOWS else "bin") / "activate"
        yield f"activate  {'' if WINDOWS else '. '}{script}   (once, before other commands)"
    if plan.is_sample:
        command = "run_all.bat --data-dir C:\\my\\photos" if WINDOWS else "DATA_DIR=/my/photos bash run_all.sh"
        yield f"next      {command}   (these were drawn people)"
    else:
        yield f"next      python predict.py PHOTO --run-dir {where}"


if __name__ == "__main__":
    run_cli(main)

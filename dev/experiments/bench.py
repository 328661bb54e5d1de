"""One row of an experiment from its settings to its lines in the results table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.cli import UserError, cpu_count
from core.tasks import Task, combined_tasks
from dev.experiments.budget import configs_for
from dev.experiments.grid import Setting, Values
from dev.experiments.scoring import TrainedRun, answered_tasks, eval_predictions, oof_predictions
from dev.experiments.table import OOF, Circumstances, Key, append_result, read_results, require_same, run_of
from dev.experiments.training import photos_per_second, share_cores, spent_by, train_run
from evaluation.scores import COMBINED
from storage.crops import Crops
from training.config import Config
from training.device import pick_device, prepare_process
from training.fold import refuse_unusable


@dataclass(frozen=True)
class Bench:
    """What all rows of one command have in common.

    `parts` are the crops of each part to score, `folds` those to train (none: all), `jobs` how many of them at once
    (0: as many as suit the machine), `deadline` a time of time.monotonic() after which no fold is begun.
    """

    run_dir: Path
    out: Path
    parts: Mapping[str, Crops]
    task_names: tuple[str, ...]
    profile: str
    typed: Values
    folds: tuple[int, ...]
    budget_minutes: float | None
    jobs: int
    deadline: float

    def configs(self, setting: Setting, seed: int) -> dict[Task, Config]:
        tasks = setting.tasks_asked(self.task_names)
        return {task: setting.config(task.name, self.profile, self.typed, seed=seed) for task in tasks}


def refuse_unrunnable(bench: Bench, settings: Sequence[Setting]) -> None:
    """UserError for a setting or fold that cannot be trained; writes nothing."""
    for setting in settings:
        for task, config in bench.configs(setting, 0).items():
            refuse_unusable(task, config)
            wrong = [fold for fold in bench.folds if not 0 <= fold < config.folds]
            if wrong:
                raise UserError(f"--folds {wrong[0]}: allowed is 0 to {config.folds - 1}")


def run_setting(bench: Bench, setting: Setting, seed: int) -> bool:
    """Train and score what the table lacks of a setting with a seed. False if the time was over before the end."""
    run = plan_run(bench, setting, seed)
    lacking = [part for part in bench.parts if not is_in_table(bench, setting, run, part)]
    if not lacking:
        print(f"{run.run_dir.name}: in {bench.out} already")
        return True
    jobs = share_cores(bench.jobs, run.configs.values())
    if not train_run(run, bench.parts[OOF], jobs, bench.deadline):
        return False
    for part in lacking:
        write_part(bench, setting, run, part)
    return True


def plan_run(bench: Bench, setting: Setting, seed: int) -> TrainedRun:
    """The run with its configs; under a budget, with epochs for that time."""
    configs = bench.configs(setting, seed)
    run_dir = run_of(bench.run_dir, setting.name, seed)
    if bench.budget_minutes:
        plan_path = bench.run_dir / "plans" / f"{setting.name}.json"
        budget = {"plan_path": plan_path, "run_dir": run_dir, "jobs": share_cores(bench.jobs, configs.values())}
        configs = configs_for(bench.budget_minutes, configs, bench.parts[OOF], **budget)
    folds = bench.folds or tuple(range(next(iter(configs.values())).folds))
    return TrainedRun(run_dir, configs, folds, seed)


def scored_names(run: TrainedRun) -> list[str]:
    """The tasks that a run answers, and the combined class if it can be made of them."""
    names = [task.name for task in answered_tasks(tuple(run.configs))]
    return [*names, COMBINED] if {task.name for task in combined_tasks()} <= set(names) else names


def is_in_table(bench: Bench, setting: Setting, run: TrainedRun, part: str) -> bool:
    """UserError if a row is there but was made with other settings or data."""
    rows = read_results(bench.out)
    keys = [key_of(setting, run, part, name) for name in scored_names(run)]
    for key in keys:
        if key in rows:
            require_same(bench.out, rows[key], settings_text(run, key.task), bench.parts[part].hash)
    return all(key in rows for key in keys)


def write_part(bench: Bench, setting: Setting, run: TrainedRun, part: str) -> None:
    crops = bench.parts[part]
    # Training in this process has left it with the threads of one fold.
    prepare_process(cpu_count())
    predictions = oof_predictions(run, crops) if part == OOF else eval_predictions(run, crops)
    rows = read_results(bench.out)
    for name in scored_names(run):
        key = key_of(setting, run, part, name)
        if key not in rows:
            append_result(bench.out, bench.run_dir, key, predictions[name], circumstances(run, name, crops.hash))


def key_of(setting: Setting, run: TrainedRun, part: str, name: str) -> Key:
    return Key(setting.name, run.seed, name, part, " ".join(map(str, run.folds)))


def circumstances(run: TrainedRun, name: str, data_hash: str) -> Circumstances:
    """What the tasks cost that a scored name needs."""
    tasks = trained_for(run, name)
    spent = spent_by(run, tasks)
    return Circumstances(
        seconds=round(spent.seconds, 1),
        cpu_seconds=round(spent.cpu_seconds, 1),
        jobs=" ".join(map(str, spent.jobs)),
        photos_per_second=round(photos_per_second(run, tasks), 1),
        device=device_name(run.configs[tasks[0]]),
        data=data_hash,
        settings=settings_text(run, name),
    )


def trained_for(run: TrainedRun, name: str) -> list[Task]:
    """The trained tasks behind a scored name: the task itself, or all of them."""
    return [task for task in run.configs if task.name == name] or list(run.configs)


def settings_text(run: TrainedRun, name: str) -> str:
    """JSON of what differs from the plain defaults, the seed left out; of several tasks as `task.setting`."""
    tasks = trained_for(run, name)
    found = {}
    for task in tasks:
        prefix = f"{task.name}." if len(tasks) > 1 else ""
        found |= {f"{prefix}{key}": value for key, value in changed_settings(run.configs[task]).items()}
    return json.dumps(found, sort_keys=True)


def changed_settings(config: Config) -> dict[str, Any]:
    plain = Config().learned()
    return {name: value for name, value in config.learned().items() if value != plain[name] and name != "seed"}


def device_name(config: Config) -> str:
    device = pick_device(config.device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu_count()} cores"

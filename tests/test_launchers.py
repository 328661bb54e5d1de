"""Launchers: here, one after the other; and over a local Ray of two workers, one of which is killed half-way."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from toy_data import FAST, Toy, ToyRun, table

from core.cli import OneLineParser, UserError
from training.launchers import (
    LAUNCHERS,
    Resources,
    add_launcher_flags,
    launch,
    resources_of,
)

pytest_plugins = ("toy_fixtures",)

ROOT = Path(__file__).resolve().parents[1]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")

TRAINING = """
import json, os, signal, sys
from functools import partial
from pathlib import Path

from training import checkpoints
from training.config import resolve
from storage.crops import load_crops
from storage.folds import plan_folds, write_folds
from core.tasks import task_named
from storage.run_dir import fold_dir_of
from training.fold import train_fold
from training.fold_setup import FoldData
from training.launchers import LAUNCHERS, Resources

SETTINGS = {
    "backbone": "test_efficientnet", "pretrained": False, "image_size": 32, "folds": 2, "epochs": 3, "batch_size": 16,
    "workers": 0, "photos_per_person": 0, "device": "cpu",
}


def trainer(victim, marker):
    save_state = checkpoints.save_state

    def save_and_die(path, *rest):
        save_state(path, *rest)
        if path.parent == victim and not marker.exists():
            marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save_state = save_and_die
    return train


def train(job):
    run_dir, data, config = job
    train_fold(run_dir, data, config)
    return str(fold_dir_of(run_dir, data.task.name, data.fold))


def jobs(crops, run_dir):
    for name in ("mask", "gender"):
        config = resolve(name, "smoke", SETTINGS)
        split = {"folds": config.folds, "seed": config.fold_seed, "age_edges": config.age_edges}
        fold_of = plan_folds(run_dir, crops, **split)
        write_folds(run_dir, fold_of)
        labels = crops.labels(task_named(name), config.age_edges)
        for fold in range(2):
            yield run_dir, FoldData(task_named(name), fold, crops, labels, fold_of), config


launcher, crop_dir, run_dir, marker = sys.argv[1], *map(Path, sys.argv[2:])
start = partial(trainer, fold_dir_of(run_dir, "mask", 1), marker)
todo = list(jobs(load_crops(crop_dir, "train"), run_dir))
print(json.dumps(sorted(LAUNCHERS[launcher](start, todo, Resources()))))
"""

RAY_REFUSAL = """
import json
from core.cli import OneLineParser, UserError
from training.launchers import LAUNCHERS, Resources


def start():
    return work


def work(item):
    if item == 7:
        raise UserError("seven is not allowed")
    return item


try:
    list(LAUNCHERS["ray"](start, [1, 7], Resources(shard=2)))
except UserError as error:
    print(json.dumps(str(error)))
"""


def python(*words: object, cwd: Path) -> object:
    """What a script prints last, as JSON."""
    return json.loads(run_apart(*words, cwd=cwd).strip().splitlines()[-1])


def run_apart(*words: object, cwd: Path) -> str:
    """What a script prints. A process of its own: Ray leaves threads and sockets behind."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def typed(*words: str) -> Resources:
    parser = OneLineParser()
    add_launcher_flags(parser)
    return resources_of(parser.parse_args(words))


def test_the_default_works_here_in_order() -> None:
    with closing(launch(typed(), lambda: str, [3, 1, 2])) as results:
        assert list(results) == ["3", "1", "2"]


def test_an_unknown_launcher_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="argument --launcher: invalid choice: 'slurm'"):
        typed("--launcher", "slurm")


def test_without_ray_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "training.ray_cluster", raising=False)
    with pytest.raises(UserError, match=r"python scripts/install\.py ray"):
        launch(typed("--launcher", "ray"), lambda: str, [1])


def test_every_launcher_can_be_typed() -> None:
    assert [typed("--launcher", launcher).launcher for launcher in LAUNCHERS] == ["local", "ray"]
    assert Resources() == Resources(processes=1, cpus=1, gpus=0.0, address="", shard=1)


@needs_ray
def test_a_killed_worker_changes_nothing(toy: Toy, tmp_path: Path) -> None:
    """The fold whose process is killed after its first epoch goes on elsewhere, and ends with the same weights."""
    here, there, nobody, killed = (tmp_path / name for name in ("here", "there", "nobody", "killed"))
    nobody.touch()
    script = tmp_path / "training.py"
    script.write_text(TRAINING)

    expected = python(script, "local", toy.crop_dir, here, nobody, cwd=tmp_path)
    found = python(script, "ray", toy.crop_dir, there, killed, cwd=tmp_path)

    assert killed.read_text().isdigit()
    assert found == [str(there / Path(folder).relative_to(here)) for folder in expected]
    assert len(found) == 4
    for folder, twin in zip(map(Path, found), map(Path, expected), strict=True):
        assert (folder / "DONE").read_text() == (twin / "DONE").read_text()
        assert table(folder / "oof.csv").equals(table(twin / "oof.csv"))
        weights, same = load_file(folder / "model.safetensors"), load_file(twin / "model.safetensors")
        assert all(weights[name].equal(same[name]) for name in same)


@needs_ray
def test_features_and_heads_over_a_cluster_are_those_made_here(toy: Toy, tmp_path: Path) -> None:
    flags = (*FAST, "--backbone", "test_efficientnet_ln", "--backbone-lr", "0", "--augment", "none", "--no-amp")
    folders = {}
    for launcher in LAUNCHERS:
        folders[launcher] = folder = tmp_path / launcher
        where = ("--crop-dir", shutil.copytree(toy.crop_dir, folder / "crops"), "--run-dir", folder / "run")
        command = (ROOT / "train.py", "--task", "gender", *where, *flags, "--launcher", launcher)
        subprocess.run([sys.executable, *map(str, command)], cwd=tmp_path, check=True, timeout=900)
    here, there = folders.values()
    made = sorted((here / "crops" / "features").rglob("*.npy"))
    assert len(made) == 2
    for path in made:
        assert np.array_equal(np.load(path), np.load(there / path.relative_to(here)))
    for fold in ("fold0", "fold1"):
        kept = Path("run", "gender", fold, "oof.csv")
        assert table(there / kept).equals(table(here / kept))


@needs_ray
def test_faces_and_predictions_over_a_cluster_are_those_found_here(drawn_run: ToyRun, tmp_path: Path) -> None:
    for launcher in LAUNCHERS:
        crop_dir, run_dir = (tmp_path / launcher / name for name in ("crops", "run"))
        shutil.copytree(drawn_run.run_dir, run_dir, ignore=shutil.ignore_patterns("eval*.csv"))
        for command in (
            ("preprocessing/detect_faces.py", "--data-dir", drawn_run.root, "--crop-dir", crop_dir),
            ("inference.py", "--run-dir", run_dir),
        ):
            run_apart(ROOT / command[0], *command[1:], "--launcher", launcher, cwd=tmp_path)
    here, there = (tmp_path / launcher for launcher in LAUNCHERS)
    assert table(there / "crops" / "faces.csv").equals(table(here / "crops" / "faces.csv"))
    predicted = sorted(path.relative_to(here) for path in here.glob("run/*/fold*/eval.csv"))
    assert len(predicted) == 6
    for path in predicted:
        assert table(there / path).equals(table(here / path))


@needs_ray
def test_what_the_work_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    script = tmp_path / "refusal.py"
    script.write_text(RAY_REFUSAL)
    assert python(script, cwd=tmp_path) == "seven is not allowed"


@needs_ray
@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(cpus=5), "--job-cpus 5: the cluster has 4 in all"),
        (Resources(gpus=0.5), "--job-gpus 0.5: the cluster"),
    ],
)
def test_a_job_too_large_for_the_cluster_is_refused(
    resources: Resources, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import ray_cluster

    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", lambda: {"CPU": 4.0})
    with pytest.raises(UserError, match=words):
        ray_cluster._refuse_too_much(resources)


@needs_ray
@pytest.mark.parametrize(
    ("resources", "shards"),
    [(Resources(), 8), (Resources(cpus=3), 2), (Resources(gpus=0.25), 8), (Resources(gpus=1), 2)],
)
def test_twice_as_much_is_handed_out_as_can_run(
    resources: Resources, shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import ray_cluster

    monkeypatch.setattr(ray_cluster.ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
    assert ray_cluster._at_once(resources) == shards


@needs_ray
def test_a_cluster_of_its_own_listens_on_this_machine_with_a_token_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from training import ray_cluster

    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    # Set first, so that what is set below is taken back at the end.
    monkeypatch.setenv("RAY_AUTH_TOKEN", "")
    del os.environ["RAY_AUTH_TOKEN"]
    assert ray_cluster._own_cluster()["_node_ip_address"] == "127.0.0.1"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    ray_cluster._own_cluster()
    assert os.environ["RAY_AUTH_TOKEN"] == "mine"

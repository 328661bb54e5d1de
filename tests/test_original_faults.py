"""Faults of the pipeline that this one re-creates: each test here would have failed there."""

import argparse
import ast
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ensemble
import submission
from core import files
from core.images import write_photo
from core.tasks import task_named
from dataset import Draw, PersonSampler
from evaluation.decision_rules import Decision
from evaluation.logits import make_table, read_table, write_table
from loss import LOSSES, build_loss
from storage.crops import Crops, content_of
from storage.folds import make_folds, person_strata
from storage.run_dir import DONE, EVAL, HISTORY, MODEL, OOF, Run, begin_fold, begin_run, fold_dir_of
from training import checkpoints
from training import fold as fold_training
from training.config import Config, add_flags, typed_settings
from training.fold import Progress, train_fold
from training.fold_setup import FoldData, FoldTraining, prepare_fold

EDGES = (25, 40)
STEMS = {"mask1": "wear", "mask2": "wear", "incorrect_mask": "incorrect", "normal": "not_wear"}
ToyCrops = Callable[..., Crops]
TINY = Config(
    backbone="test_byobnet", pretrained=False, image_size=32, folds=5, epochs=4, patience=9, batch_size=16, workers=0,
    device="cpu",
)  # fmt: skip


def people_rows(people: int = 15) -> list[dict[str, str]]:
    """Four photos each of people of both genders and three age groups."""
    return [
        {
            "image_id": f"p{n:02}/{stem}.jpg", "person": f"p{n:02}", "path": f"p{n:02}/{stem}.png", "mask": mask,
            "gender": ("male", "female")[n % 2], "age": str((20, 30, 50)[n // 2 % 3]),
        }
        for n in range(people)
        for stem, mask in STEMS.items()
    ]  # fmt: skip


def fold_data(crops: Crops, fold: int, task: str = "mask") -> FoldData:
    fold_of = make_folds(person_strata(crops, EDGES), folds=5, seed=0)
    return FoldData(task_named(task), fold, crops, crops.labels(task_named(task), EDGES), fold_of)


def prepared(data: FoldData, config: Config) -> FoldTraining:
    return prepare_fold(data, config, data.input_for(config))


@pytest.fixture
def drawn_crops(toy_crops: ToyCrops) -> Crops:
    """Crops whose pictures are there: random pixels, a little brighter for each mask label."""
    crops = toy_crops(people_rows())
    rng = np.random.default_rng(0)
    for path, mask in zip(crops.paths, crops.frame["mask"], strict=True):
        grain = rng.integers(0, 60, (32, 32, 3))
        write_photo(path, (grain + 90 * ("wear", "incorrect", "not_wear").index(mask)).astype(np.uint8))
    return replace(crops, frame=crops.frame.assign(content=[content_of(path) for path in crops.paths]))


def test_all_five_folds_held_out_the_same_people(toy_crops: ToyCrops) -> None:
    crops = toy_crops(people_rows())
    held_out = [set(fold_data(crops, fold).part(out_of_fold=True)[0].frame["person"]) for fold in range(5)]
    learned = [set(fold_data(crops, fold).part(out_of_fold=False)[0].frame["person"]) for fold in range(5)]
    everybody = set(crops.frame["person"])
    assert Counter(person for people in held_out for person in people) == dict.fromkeys(everybody, 1)
    assert Counter(person for people in learned for person in people) == dict.fromkeys(everybody, 4)
    for one, other in zip(held_out, learned, strict=True):
        assert (one | other, one & other) == (everybody, set())


def test_a_fifth_of_the_people_was_never_trained_on(toy_crops: ToyCrops) -> None:
    crops = toy_crops(people_rows())
    shown: set[str] = set()
    for fold in range(5):
        part, labels = fold_data(crops, fold).part(out_of_fold=False)
        sampler = PersonSampler(list(part.frame["person"]), labels, photos_per_person=0, seed=(0, fold))
        shown |= {part.image_ids[draw.index] for draw in sampler}
    assert shown == set(crops.image_ids)


def test_one_dataset_carried_the_lists_of_another(toy_crops: ToyCrops) -> None:
    crops = toy_crops(people_rows())
    before = fold_data(crops, 0).part(out_of_fold=True)[0].image_ids
    fold_data(crops, 1).part(out_of_fold=True)
    assert fold_data(crops, 0).part(out_of_fold=True)[0].image_ids == before
    assert fold_data(crops, 1).part(out_of_fold=True)[0].image_ids != before


def test_labels_did_not_follow_their_photos(toy_crops: ToyCrops) -> None:
    for fold in range(5):
        crops, labels = fold_data(toy_crops(people_rows()), fold).part(out_of_fold=True)
        assert labels == crops.labels(task_named("mask"), EDGES)


def test_folds_followed_the_order_of_the_directory_listing(toy_crops: ToyCrops) -> None:
    rows = people_rows()
    shuffled = [rows[n] for n in np.random.default_rng(0).permutation(len(rows))]
    for fold in range(5):
        one, other = (fold_data(toy_crops(order), fold).part(out_of_fold=True)[0] for order in (rows, shuffled))
        assert set(one.image_ids) == set(other.image_ids)


def test_folds_were_not_stratified(toy_crops: ToyCrops) -> None:
    strata = person_strata(toy_crops(people_rows(60)), EDGES)
    fold_of = make_folds(strata, folds=5, seed=0)
    for fold in range(5):
        assert Counter(strata[person] for person in strata if fold_of[person] == fold) == dict.fromkeys(
            set(strata.values()), 2
        )


def test_training_and_validation_shared_one_transform(drawn_crops: Crops) -> None:
    training = prepared(fold_data(drawn_crops, 0), TINY)
    learn, check = training.train_loader.dataset, training.out_of_fold_loader.dataset
    assert learn.transform.transforms
    assert not check.transform.transforms
    assert all(torch.equal(check[0][0], check[Draw(0, seed)][0]) for seed in range(3))


@pytest.fixture
def trained(drawn_crops: Crops, tmp_path: Path) -> Path:
    """A whole fold, trained on toys: 48 photos in 3 steps an epoch, 12 held out."""
    train_fold(tmp_path / "run", fold_data(drawn_crops, 0), TINY)
    return tmp_path / "run" / "mask" / "fold0"


def test_validation_dropped_the_last_batch(drawn_crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is always right must score 1, also where the held-out photos fill no whole number of batches."""
    monkeypatch.setattr("training.inputs.EVAL_BATCH_FACTOR", 1)
    data = fold_data(drawn_crops, 0)
    training = prepared(data, Config(**{**vars(TINY), "batch_size": 5}))
    sizes = [len(labels) for _, labels, _ in training.out_of_fold_loader]
    assert sizes == [5, 5, 2]
    truth = torch.nn.functional.one_hot(torch.tensor(data.part(out_of_fold=True)[1]), 3).float()
    answers = iter(truth.split(sizes))

    class AlwaysRight(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return next(answers) * 9

    always_right = replace(training, learner=AlwaysRight())
    found = fold_training.out_of_fold_scores(always_right, 0, fold_training.progress_bar(None, title="", total=1))
    assert (found["accuracy"], found["macro_f1"]) == (1.0, 1.0)


def test_the_learning_rate_never_fell(trained: Path) -> None:
    rates = pd.read_csv(trained / HISTORY)["lr"].tolist()
    assert len(rates) == TINY.epochs
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.05 * TINY.lr


def test_no_out_of_fold_predictions_were_kept(trained: Path, drawn_crops: Crops) -> None:
    held_out, _ = fold_data(drawn_crops, 0).part(out_of_fold=True)
    table = read_table(trained / OOF, ("wear", "incorrect", "not_wear"))
    assert set(table.image_ids) == set(held_out.image_ids)
    assert files.read_json(trained / DONE)["macro_f1"] > 0


def test_the_best_epoch_was_chosen_by_accuracy(
    drawn_crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third epoch has the best accuracy, the second the best macro-F1: the weights kept are the second's."""
    script: Iterator[tuple[float, float]] = iter([(0.3, 0.5), (0.6, 0.6), (0.5, 0.9), (0.6, 0.7)])
    weights = []

    def scripted(training: FoldTraining, *_: object) -> dict[str, float]:
        weights.append({name: tensor.clone() for name, tensor in training.model.state_dict().items()})
        macro_f1, accuracy = next(script)
        return {"loss": 1.0, "macro_f1": macro_f1, "accuracy": accuracy}

    monkeypatch.setattr(fold_training, "out_of_fold_scores", scripted)
    train_fold(tmp_path, fold_data(drawn_crops, 0), TINY)
    fold_dir = tmp_path / "mask" / "fold0"
    result = files.read_json(fold_dir / DONE)
    assert (result["best_epoch"], result["macro_f1"]) == (2, 0.6)
    kept = prepared(fold_data(drawn_crops, 0), TINY).model
    checkpoints.load_weights(fold_dir / MODEL, kept.network)
    same = [all(torch.equal(tensor, kept.state_dict()[name]) for name, tensor in epoch.items()) for epoch in weights]
    assert same == [False, True, False, False]


def test_training_stopped_by_accuracy_too(drawn_crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = iter([(0.5, 0.1), (0.4, 0.2), (0.3, 0.3), (0.2, 0.4)])
    monkeypatch.setattr(
        fold_training, "out_of_fold_scores", lambda *_: dict(zip(("macro_f1", "accuracy"), next(script), strict=True))
    )
    train_fold(tmp_path, fold_data(drawn_crops, 0), Config(**{**vars(TINY), "patience": 2}))
    assert pd.read_csv(tmp_path / "mask" / "fold0" / HISTORY)["epoch"].tolist() == [1, 2, 3]


def test_only_scored_epochs_end_a_training(drawn_crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = iter([0.5, 0.4, 0.3])
    monkeypatch.setattr(fold_training, "out_of_fold_scores", lambda *_: {"macro_f1": next(script), "accuracy": 0.1})
    config = Config(**{**vars(TINY), "epochs": 8, "patience": 2, "validate_every": 2})
    train_fold(tmp_path, fold_data(drawn_crops, 0), config)
    assert pd.read_csv(tmp_path / "mask" / "fold0" / HISTORY)["epoch"].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_training_without_a_scored_epoch_goes_on(drawn_crops: Crops, tmp_path: Path) -> None:
    config = Config(**{**vars(TINY), "epochs": 3, "patience": 1, "validate_every": 2})
    assert not Progress(epoch=2, history=[{"epoch": 1}, {"epoch": 2}]).is_over(config)
    train_fold(tmp_path, fold_data(drawn_crops, 0), config)
    fold_dir = tmp_path / "mask" / "fold0"
    assert (fold_dir / MODEL).exists()
    assert files.read_json(fold_dir / DONE)["best_epoch"] >= 2


def test_numbers_on_the_command_line_became_characters() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    typed = typed_settings(parser.parse_args(["--image-size", "224", "--age-edges", "30", "60", "--lr", "1e-3"]))
    assert typed == {"image_size": 224, "age_edges": (30, 60), "lr": 0.001}
    assert [type(value) for value in (typed["image_size"], *typed["age_edges"])] == [int, int, int]


@pytest.mark.parametrize("name", [loss.name for loss in LOSSES])
def test_losses_needed_a_gpu_to_be_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_gpu(*_: object) -> None:
        raise AssertionError("a GPU was asked for")

    monkeypatch.setattr(torch.Tensor, "cuda", no_gpu)
    monkeypatch.setattr(torch.cuda, "_lazy_init", no_gpu)
    criterion = build_loss(name, class_weights=torch.tensor([0.1, 0.1, 0.8]))
    assert criterion(torch.zeros(2, 3), torch.tensor([0, 2])).isfinite()


def test_a_gpu_was_named_in_a_class_body() -> None:
    tree = ast.parse(Path(fold_training.__file__).parents[1].joinpath("loss.py").read_text(encoding="utf-8"))
    bodies = [statement for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for statement in node.body]
    values = [ast.unparse(statement) for statement in bodies if not isinstance(statement, ast.FunctionDef)]
    assert not [value for value in values if "torch." in value or "cuda" in value]


def predicted_task(run_dir: Path, logits: np.ndarray) -> Path:
    """A task folder of two folds as inference leaves it: `logits` (2, N, 3) of photos 0.jpg, 1.jpg ..."""
    run = Run("/data", "competition", str(run_dir / "crops"), "hash", 2, 0, EDGES)
    begin_run(run_dir, run)
    classes = task_named("mask").classes
    for fold, of_fold in enumerate(logits):
        fold_dir = fold_dir_of(run_dir, "mask", fold)
        config = {
            "format": 1, "task": "mask", "classes": list(classes), "fold": fold, "settings": {"folds": 2}, "crop": {},
            "normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3}, "data_hash": "hash", "folds_hash": "f",
        }  # fmt: skip
        begin_fold(fold_dir, config)
        files.write_json(fold_dir / DONE, {})
        ids = [f"{number}.jpg" for number in range(len(of_fold))]
        write_table(fold_dir / EVAL, make_table(ids, classes, of_fold))
        write_table(fold_dir / OOF, make_table([f"fold{fold}.jpg"], classes, of_fold[:1]))
    return run_dir / "mask"


def test_logits_were_averaged_where_probabilities_were_promised(tmp_path: Path) -> None:
    logits = np.array([[[0.0, 0.0, math.log(2)]], [[math.log(8), 0.0, 0.0]]])
    predicted_task(tmp_path, logits)
    ensemble.main(["--run-dir", str(tmp_path), "--average", "log_prob"])
    found = np.exp(read_table(tmp_path / "mask.csv", task_named("mask").classes).logits)
    assert found[0] == pytest.approx([(1 / 4 + 8 / 10) / 2, (1 / 4 + 1 / 10) / 2, (2 / 4 + 1 / 10) / 2])


def test_a_second_run_voted_with_its_own_output(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 4, 3))
    task_dir = predicted_task(tmp_path, logits)
    once = ["--run-dir", str(tmp_path), "--average", "logit"]
    ensemble.main(once)
    first = (tmp_path / "mask.csv").read_bytes()
    assert np.allclose(read_table(tmp_path / "mask.csv", task_named("mask").classes).logits, logits.mean(axis=0))
    for stray in (task_dir / "mask.csv", task_dir / "fold0" / "old.csv", tmp_path / "other.csv"):
        stray.write_bytes(first)
    (tmp_path / "mask.json").unlink()
    ensemble.main(once)
    assert (tmp_path / "mask.csv").read_bytes() == first


def test_the_csv_had_an_extra_column_and_its_folder_was_not_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "submission.csv"
    labels = {"mask": [2, 0], "gender": [1, 0], "age": [2, 1]}
    submission.write_valid(path, ["b.jpg", "a.jpg"], labels, Decision.raw())
    assert path.read_bytes() == b"ImageID,ans\nb.jpg,17\na.jpg,1\n"
    submission.validate_submission(path, ["b.jpg", "a.jpg"])


@pytest.mark.parametrize("header", [",ImageID,ans", "ImageID,ans"])
def test_an_index_column_is_found_by_the_validator(tmp_path: Path, header: str) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(f"{header}\n0,b.jpg,17\n1,a.jpg,1\n")
    with pytest.raises(submission.UserError, match=r"submission\.csv: "):
        submission.validate_submission(path, ["b.jpg", "a.jpg"])


def test_logits_were_thrown_away(tmp_path: Path) -> None:
    predicted_task(tmp_path, np.zeros((2, 4, 3)))
    ensemble.main(["--run-dir", str(tmp_path)])
    assert {"mask.csv", "mask_oof.csv"} <= {path.name for path in tmp_path.iterdir()}
    assert read_table(tmp_path / "mask_oof.csv", task_named("mask").classes).image_ids == ("fold0.jpg", "fold1.jpg")

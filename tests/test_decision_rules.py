"""Rules of decision: exact on small cases, and honest: a rule that pays is found, one that fits chance is not."""

import json

import numpy as np
import pytest
from sklearn.metrics import f1_score

from core.cli import UserError
from core.tasks import combined_tasks, decode, encode
from evaluation.combined_class import combine_labels, combined_log_probs, split_labels
from evaluation.decision_rules import (
    AUTO,
    RAW,
    RIDGE,
    RULES,
    SHIFT,
    Decision,
    OutOfFold,
    best_biases,
    choose,
    compare,
    format_trials,
    rule_named,
)
from evaluation.logits import log_softmax

SIZES = {task.name: len(task.classes) for task in combined_tasks()}


def out_of_fold(people: int, *, push: float = 0.0, noise: float = 1.0, seed: int = 0) -> OutOfFold:
    """Three photos a person in four folds. `push` is added to the logits of every task's first class."""
    rng = np.random.default_rng(seed)
    persons = np.repeat([f"p{number:04}" for number in range(people)], 3)
    logits, labels = {}, {}
    for name, size in SIZES.items():
        labels[name] = np.repeat(rng.integers(0, size, people), 3)
        logits[name] = 2.0 * np.eye(size)[labels[name]] + rng.normal(0, noise, (len(persons), size))
        logits[name][:, 0] += push
    return OutOfFold(logits, labels, persons, np.repeat(np.arange(people) % 4, 3))


def test_combined_columns_are_numbered_as_the_combined_class() -> None:
    oof = out_of_fold(7)
    logs = {name: log_softmax(logits) for name, logits in oof.logits.items()}
    table = combined_log_probs(logs)
    assert table.shape == (21, 18)
    assert np.exp(table).sum(axis=1) == pytest.approx(np.ones(21))
    assert table[3, 10] == pytest.approx(logs["mask"][3, 1] + logs["gender"][3, 1] + logs["age"][3, 1])
    likeliest = {name: rows.argmax(axis=1) for name, rows in logs.items()}
    rows = [dict(zip(likeliest, row, strict=True)) for row in zip(*likeliest.values(), strict=True)]
    assert table.argmax(axis=1).tolist() == combine_labels(likeliest).tolist() == [encode(row) for row in rows]


def test_combined_labels_are_split_as_decode_does() -> None:
    split = split_labels(np.arange(18))
    assert [{name: int(labels[row]) for name, labels in split.items()} for row in range(18)] == [
        dict(sorted(decode(row).items(), key=lambda item: list(SIZES).index(item[0]))) for row in range(18)
    ]
    with pytest.raises(ValueError):
        combine_labels({"mask": [3], "gender": [0], "age": [0]})


def test_raw_is_the_likeliest_class_of_each_task() -> None:
    oof = out_of_fold(20)
    fitted, unfitted = rule_named(RAW).fit(oof, oof.logits), Decision.raw()
    assert fitted == unfitted
    for name, labels in unfitted.labels(oof.logits).items():
        assert (labels == oof.logits[name].argmax(axis=1)).all()


def test_a_temperature_alone_changes_no_answer() -> None:
    oof = out_of_fold(60)
    decision = rule_named("temperature").fit(oof, oof.logits)
    assert all(value != 1 for value in decision.temperatures.values())
    likeliest = {name: logits.argmax(axis=1) for name, logits in oof.logits.items()}
    for name, labels in decision.labels(oof.logits).items():
        assert (labels == likeliest[name]).all()
    assert (decision.log_probs(oof.logits).argmax(axis=1) == combine_labels(likeliest)).all()


class TestShift:
    def test_photos_of_the_same_mix_are_answered_as_by_raw(self) -> None:
        oof, photos = out_of_fold(300), out_of_fold(300, seed=1)
        decision = rule_named(SHIFT).fit(oof, photos.logits)
        assert decision.mixes == {}
        for name, labels in decision.labels(photos.logits).items():
            assert (labels == photos.logits[name].argmax(axis=1)).all()

    def test_another_mix_of_one_task_changes_that_task_alone(self) -> None:
        """Photos of the last age class alone, but for one in ten."""
        oof, photos = out_of_fold(300, noise=1.5), out_of_fold(600, noise=1.5, seed=1)
        photos = photos.take((photos.labels["age"] == 2) | (np.arange(1800) % 10 == 0))
        decision = rule_named(SHIFT).fit(oof, photos.logits)
        assert list(decision.mixes) == ["age"]
        assert decision.mixes["age"].found[2] > 0.6 > decision.mixes["age"].learned[2] + 0.2
        labels, raw = decision.labels(photos.logits), Decision.raw().labels(photos.logits)
        assert (labels["mask"] == raw["mask"]).all()
        assert (labels["gender"] == raw["gender"]).all()
        right, before = ((answers["age"] == photos.labels["age"]).mean() for answers in (labels, raw))
        assert right > before + 0.1

    def test_a_task_whose_models_say_one_class_of_all_is_left_as_it_is(self) -> None:
        oof, photos = out_of_fold(300), out_of_fold(300, seed=1).logits
        constant = {"age": np.tile([0.0, 0.0, 9.0], (900, 1)) + oof.logits["age"]}
        misled = OutOfFold({**oof.logits, **constant}, oof.labels, oof.persons, oof.folds)
        assert rule_named(SHIFT).fit(misled, photos | {"age": photos["age"] + [9.0, 0.0, 0.0]}).mixes == {}

    def test_labels_of_the_photos_to_decide_on_are_not_seen(self) -> None:
        """Nested, other labels in fold 0 leave the answers for fold 0 as they are, whatever its photos show."""
        oof = out_of_fold(80)
        held_out = oof.folds == 0
        aged = {**oof.logits, "age": oof.logits["age"] + 3 * held_out[:, None] * np.eye(3)[2]}
        lies = {name: np.where(held_out, 0, labels) for name, labels in oof.labels.items()}
        trials = [compare(OutOfFold(aged, labels, oof.persons, oof.folds)) for labels in (oof.labels, lies)]
        first, second = (next(trial for trial in found if trial.rule == SHIFT).labels for found in trials)
        raw = aged["age"].argmax(axis=1)
        assert (first["age"][held_out] == second["age"][held_out]).all()
        assert (first["age"][held_out] != raw[held_out]).any()


class TestBestBiases:
    def test_a_class_that_is_never_likeliest_is_lifted(self) -> None:
        """Class 1 is always .2 behind where it is right, and .6 behind where class 0 is right."""
        labels = np.array([0] * 50 + [1] * 50)
        logs = np.where(labels[:, None] == 1, [0.0, -0.2], [0.0, -0.6])
        biases = best_biases(logs, labels)
        assert ((logs + biases).argmax(axis=1) == labels).all()

    def test_never_worse_than_none_on_what_it_was_fitted_on(self) -> None:
        for seed in range(5):
            rng = np.random.default_rng(seed)
            logs, labels = log_softmax(rng.normal(0, 1, (150, 5))), rng.integers(0, 5, 150)
            biases = best_biases(logs, labels)
            before, after = (
                f1_score(labels, scores.argmax(axis=1), average="macro") for scores in (logs, logs + biases)
            )
            assert after - RIDGE * (biases**2).sum() >= before

    def test_one_bias_is_at_its_exact_best(self) -> None:
        """Against a search over every place where the answer of a photo changes."""
        rng = np.random.default_rng(3)
        logs, labels = log_softmax(rng.normal(0, 1, (60, 2))), rng.integers(0, 2, 60)
        biases = best_biases(logs, labels)
        found = f1_score(labels, (logs + biases).argmax(axis=1), average="macro") - RIDGE * (biases**2).sum()
        for shift in np.sort(logs[:, 0] - logs[:, 1]):
            for bias in ([0, shift + 1e-9], [-shift - 1e-9, 0]):
                worth = f1_score(labels, (logs + bias).argmax(axis=1), average="macro") - RIDGE * sum(np.square(bias))
                assert found >= worth - 0.002

    def test_the_same_at_every_call_and_in_every_order(self) -> None:
        rng = np.random.default_rng(0)
        logs, labels, order = log_softmax(rng.normal(0, 1, (100, 4))), rng.integers(0, 4, 100), rng.permutation(100)
        assert (best_biases(logs, labels) == best_biases(logs, labels)).all()
        assert best_biases(logs[order], labels[order]) == pytest.approx(best_biases(logs, labels))


class TestCompare:
    def test_no_person_is_in_what_their_answer_was_fitted_on(self) -> None:
        """Other labels in fold 0 leave all answers for fold 0 as they are."""
        oof = out_of_fold(40, push=2)
        held_out = oof.folds == 0
        lies = {name: np.where(held_out, (labels + 1) % SIZES[name], labels) for name, labels in oof.labels.items()}
        honest, lied_to = compare(oof), compare(OutOfFold(oof.logits, lies, oof.persons, oof.folds))
        for first, second in zip(honest, lied_to, strict=True):
            for name in SIZES:
                assert (first.labels[name][held_out] == second.labels[name][held_out]).all()

    def test_a_push_that_all_people_share_is_taken_back(self) -> None:
        trials = {trial.rule: trial for trial in compare(out_of_fold(200, push=2.5))}
        assert trials["tuned"].pays
        assert trials["tuned"].over_raw["value"] > 0.1
        assert choose(AUTO, list(trials.values())) == "tuned"

    def test_where_nothing_is_wrong_nothing_pays(self) -> None:
        trials = compare(out_of_fold(120, noise=1.5))
        assert not any(trial.pays for trial in trials)
        assert choose(AUTO, trials) == RAW

    def test_the_figures_are_those_of_the_answers(self) -> None:
        oof = out_of_fold(60, push=1)
        for trial in compare(oof):
            answers = combine_labels(trial.labels)
            expected = f1_score(oof.combined_labels, answers, average="macro")
            assert trial.combined["macro_f1"]["value"] == pytest.approx(expected)
        raw = compare(oof)[0]
        assert raw.rule == RAW
        assert set(raw.over_raw.values()) == {0.0}

    def test_one_fold_alone_is_refused(self) -> None:
        with pytest.raises(UserError, match="one fold alone"):
            compare(out_of_fold(10).take(np.arange(30) % 12 < 3))


def test_a_wanted_rule_is_taken_whether_it_pays_or_not() -> None:
    trials = compare(out_of_fold(30))
    assert [choose(rule.name, trials) for rule in RULES] == [rule.name for rule in RULES]
    with pytest.raises(
        UserError, match=r"decision rule 'best' is unknown; the decision rules are raw, temperature, shift, tuned$"
    ):
        choose("best", trials)


def test_the_printed_table_marks_the_rule_in_use() -> None:
    lines = format_trials(compare(out_of_fold(30)), used="tuned").splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["raw", "temperature", "shift", "*"]


def test_records_are_json() -> None:
    oof = out_of_fold(30)
    for record in (rule_named("tuned").fit(oof, oof.logits).as_json(), compare(oof)[-1].as_json()):
        assert list(json.loads(json.dumps(record))) == list(record)

"""From the tasks' logits to the combined class: the rules there are, and what each is worth on people not fitted on.

A rule may scale each task by a temperature and add a bias to each combined class before the likeliest is taken. Both
are fitted on out-of-fold logits, and, to estimate a mix of classes, on the logits of the very photos to decide on.
`compare` checks every rule nested: what it answers for the people of a fold is fitted on the people of the other folds
and, of that fold, on the photos without their labels. No label of an eval photo is ever seen here.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

import numpy as np

from core.cli import UserError, row_named
from core.tasks import combined_class_count, combined_tasks, decode
from evaluation.bias_search import best_biases
from evaluation.calibration import fit_temperature, negative_log_likelihood
from evaluation.label_shift import Mix, estimate_mix, knows_mix
from evaluation.logits import log_softmax
from evaluation.metrics import Estimate, paired_difference, scores

RAW, SHIFT, AUTO = "raw", "shift", "auto"
Logits = Mapping[str, np.ndarray]
"""(N, C) logits of each combined task, all in the same order of photos."""


@dataclass(frozen=True)
class OutOfFold:
    """What a rule is fitted on: logits (N, C) and labels (N,) of each task, persons (N,) and their folds (N,)."""

    logits: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    persons: np.ndarray
    folds: np.ndarray

    def take(self, rows: np.ndarray) -> "OutOfFold":
        """The photos that a mask (N,) or indices choose."""
        return OutOfFold(
            {name: logits[rows] for name, logits in self.logits.items()},
            {name: labels[rows] for name, labels in self.labels.items()},
            self.persons[rows],
            self.folds[rows],
        )

    @property
    def has_combined_class(self) -> bool:
        return all(task.name in self.logits for task in combined_tasks())

    @cached_property
    def combined_labels(self) -> np.ndarray:
        return combine_labels(self.labels)


@dataclass(frozen=True)
class Decision:
    """A fitted rule: a temperature for each combined task and a bias for each combined class.

    `mixes` are the tasks whose photos have another mix of classes than the training photos; the biases hold them.
    """

    rule: str
    temperatures: Mapping[str, float]
    biases: tuple[float, ...]
    mixes: Mapping[str, Mix] = field(default_factory=dict)

    @classmethod
    def raw(cls) -> "Decision":
        """The likeliest class of each task, which needs nothing to be fitted on."""
        return cls(RAW, {task.name: 1.0 for task in combined_tasks()}, (0.0,) * combined_class_count())

    def log_probs(self, logits: Logits) -> np.ndarray:
        """(N, K) log-probabilities of the combined classes, biases included."""
        scaled = {name: log_softmax(logits[name] / temperature) for name, temperature in self.temperatures.items()}
        return log_softmax(combined_log_probs(scaled) + np.array(self.biases))

    def labels(self, logits: Logits) -> dict[str, np.ndarray]:
        """(N,) labels of each combined task."""
        if not any(self.biases):
            # Task by task is the same as over the sums, and exact ties stay the lower class.
            return {task.name: logits[task.name].argmax(axis=1) for task in combined_tasks()}
        chosen = [decode(combined) for combined in self.log_probs(logits).argmax(axis=1).tolist()]
        return {task.name: np.array([labels[task.name] for labels in chosen], dtype=int) for task in combined_tasks()}

    def as_json(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """`fit_biases` takes out-of-fold photos whose logits are scaled already, and returns (K,) biases."""

    name: str
    says: str
    calibrated: bool
    fit_biases: Callable[[OutOfFold], np.ndarray]
    adapts: bool = False

    def fit(self, oof: OutOfFold, photos: Logits) -> Decision:
        """Fitted on people with labels, and, if it adapts, on the photos that it will decide on."""
        names = [task.name for task in combined_tasks()]
        fitted = {name: fit_temperature(oof.logits[name], oof.labels[name]) for name in names if self.calibrated}
        temperatures = dict.fromkeys(names, 1.0) | fitted
        scaled, to_decide = (
            {name: log_softmax(logits[name] / temperatures[name]) for name in names} for logits in (oof.logits, photos)
        )
        calibrated = replace(oof, logits=scaled)
        biases = self.fit_biases(calibrated)
        mixes = other_mixes(calibrated, to_decide) if self.adapts else {}
        if mixes:
            biases = biases + mix_biases(mixes)
        return Decision(self.name, temperatures, tuple(biases.tolist()), mixes)


def combined_log_probs(log_probs: Logits) -> np.ndarray:
    """(N, K) sums of the tasks' log-probabilities, columns numbered as core.tasks.encode numbers them."""
    sums: np.ndarray | None = None
    for task in combined_tasks():
        added = log_probs[task.name]
        sums = added if sums is None else (sums[:, :, None] + added[:, None, :]).reshape(len(added), -1)
    return sums


def combine_labels(labels: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N,) combined classes, as core.tasks.encode makes them one by one."""
    shape = [len(task.classes) for task in combined_tasks()]
    return np.ravel_multi_index([np.asarray(labels[task.name]) for task in combined_tasks()], shape)


def no_biases(_: OutOfFold) -> np.ndarray:
    return np.zeros(combined_class_count())


def prior_biases(oof: OutOfFold) -> np.ndarray:
    """-log of each class's share of the training photos, task by task.

    Logit adjustment after the fact: Menon et al., Long-Tail Learning via Logit Adjustment, 2021, equation 9, tau = 1.
    """
    return combined_log_probs({name: -np.log(shares)[None] for name, shares in class_shares(oof).items()})[0]


def class_shares(oof: OutOfFold) -> dict[str, np.ndarray]:
    """(C,) how common each class of each combined task is; one that is not there counts as one photo."""
    counts = {task.name: np.bincount(oof.labels[task.name], minlength=len(task.classes)) for task in combined_tasks()}
    return {name: np.maximum(of_task, 1) / np.maximum(of_task, 1).sum() for name, of_task in counts.items()}


def other_mixes(oof: OutOfFold, photos: Logits) -> dict[str, Mix]:
    """The mix of classes among `photos`, for the tasks where it surely is another than among the training photos.

    Left out are tasks whose models misjudge even the mix of the photos they are known from. All logits are calibrated.
    """
    shares = {name: of_task for name, of_task in class_shares(oof).items() if knows_mix(oof.logits[name], of_task)}
    mixes = {name: estimate_mix(photos[name], of_task) for name, of_task in shares.items()}
    return {name: mix for name, mix in mixes.items() if mix.found != mix.learned}


def mix_biases(mixes: Mapping[str, Mix]) -> np.ndarray:
    """(K,) what these mixes add to the log-probabilities of the combined classes."""
    rows = {task.name: np.zeros((1, len(task.classes))) for task in combined_tasks()}
    return combined_log_probs(rows | {name: mix.biases[None] for name, mix in mixes.items()})[0]


def task_biases(oof: OutOfFold) -> np.ndarray:
    """For each task the biases of its own macro-F1."""
    names = [task.name for task in combined_tasks()]
    return combined_log_probs({name: best_biases(oof.logits[name], oof.labels[name])[None] for name in names})[0]


def class_biases(oof: OutOfFold) -> np.ndarray:
    """The biases of the combined class's macro-F1."""
    return best_biases(combined_log_probs(oof.logits), oof.combined_labels)


RULES: tuple[Rule, ...] = (
    Rule(RAW, "the likeliest class of each task", False, no_biases),
    Rule("temperature", "the same, with truer probabilities", True, no_biases),
    Rule(SHIFT, "the same, for the mix of classes that the photos themselves show", True, no_biases, adapts=True),
    Rule("prior", "less what a class owes to its share of the photos", False, prior_biases),
    Rule("tuned_tasks", "a bias for each class of each task", False, task_biases),
    Rule("tuned", "a bias for each combined class", False, class_biases),
)


def rule_named(name: str) -> Rule:
    return row_named(RULES, name, what="decision rule")


@dataclass(frozen=True)
class Trial:
    """What a rule answers for photos it was not fitted on, and how that scores beside `raw`."""

    rule: str
    labels: Mapping[str, np.ndarray]
    nll: float
    combined: Mapping[str, Estimate]
    over_raw: Estimate

    @property
    def pays(self) -> bool:
        """Whether macro-F1 is above that of `raw` by more than chance: its interval lies above 0."""
        return self.over_raw["low"] > 0

    def as_json(self) -> dict:
        return {"rule": self.rule, "pays": self.pays, "nll": self.nll, **self.combined, "over_raw": self.over_raw}


def compare(oof: OutOfFold) -> list[Trial]:
    """Every rule, nested: for each fold fitted on the others. UserError where there is one fold alone."""
    if len(np.unique(oof.folds)) < 2:
        raise UserError("decision rules: out-of-fold logits of one fold alone; at least two are needed to compare them")
    answers = {rule.name: _nested(rule, oof) for rule in RULES}
    raw = combine_labels(answers[RAW][0])
    return [_trial(name, labels, log_probs, raw, oof) for name, (labels, log_probs) in answers.items()]


def _nested(rule: Rule, oof: OutOfFold) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Labels (N,) of each task, and log-probabilities (N, K) of the combined classes."""
    labels = {task.name: np.zeros(len(oof.persons), dtype=int) for task in combined_tasks()}
    log_probs = np.zeros((len(oof.persons), combined_class_count()))
    for fold in np.unique(oof.folds):
        held_out = oof.folds == fold
        logits = oof.take(held_out).logits
        decision = rule.fit(oof.take(~held_out), logits)
        log_probs[held_out] = decision.log_probs(logits)
        for name, found in decision.labels(logits).items():
            labels[name][held_out] = found
    return labels, log_probs


def _trial(
    name: str, labels: Mapping[str, np.ndarray], log_probs: np.ndarray, raw: np.ndarray, oof: OutOfFold
) -> Trial:
    truth, persons, count = oof.combined_labels, oof.persons, combined_class_count()
    answers = combine_labels(labels)
    combined = scores(truth, answers, persons, num_classes=count)
    over_raw = paired_difference(truth, raw, answers, persons, num_classes=count)
    return Trial(name, labels, negative_log_likelihood(log_probs, truth), combined, over_raw)


def choose(wanted: str, trials: list[Trial]) -> str:
    """The rule to use: the wanted one, or for `auto` the best of those that pay, else `raw`."""
    if wanted != AUTO:
        return rule_named(wanted).name
    paying = [trial for trial in trials if trial.pays]
    return max(paying, key=lambda trial: trial.over_raw["value"]).rule if paying else RAW


def format_trials(trials: list[Trial], used: str) -> str:
    """The table of the rules; the one in use is marked."""
    lines = ["decisions out of fold, each fitted on the other folds' people (* in use)"]
    lines += [f"  {'':<2}{'decision':<20}{'macro-F1':<24}{'above raw':<30}{'-log p':<9}pays"]
    for trial in trials:
        f1, over = trial.combined["macro_f1"], trial.over_raw
        difference = f"{over['value']:+.4f} ({over['low']:+.4f} to {over['high']:+.4f})"
        interval = f"{f1['value']:.4f} ({f1['low']:.4f}-{f1['high']:.4f})"
        mark = "*" if trial.rule == used else ""
        pays = "yes" if trial.pays else "no"
        lines.append(f"  {mark:<2}{trial.rule:<20}{interval:<24}{difference:<30}{trial.nll:<9.4f}{pays}")
    return "\n".join(lines)

"""Decision rules: from the logits of the tasks to the combined class, each rule checked on people it was not fitted on.

A rule may scale each task by a temperature and add a bias to each combined class before the likeliest is taken. Both
are fitted on out-of-fold logits, and, to estimate class priors, on the logits of the very photos to decide on.
`compare` checks every rule nested: its predictions for the people of a fold are fitted on the people of the other folds
and, of that fold, on the photos without their labels. Labels of eval photos are never used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

import numpy as np

from core.cli import UserError, row_named
from core.tasks import combined_class_count, combined_tasks
from evaluation.calibration import Mix, estimate_mix, fit_temperature, knows_mix, negative_log_likelihood
from evaluation.combined_class import combine_labels, combined_log_probs, split_labels
from evaluation.logits import log_softmax
from evaluation.metrics import Estimate, format_difference, format_estimate, paired_difference, scores

RAW, SHIFT, AUTO = "raw", "shift", "auto"
RIDGE = 0.01
"""Cost in macro-F1 of a bias of 1. Without it the fit follows single photos, since macro-F1 is a step function."""
SWEEPS = 20
PLACES = 200
"""Number of values tried for a bias, with as many photos between each."""
Logits = Mapping[str, np.ndarray]
"""(N, C) logits of each combined task, all in the same order of photos."""


@dataclass(frozen=True)
class OutOfFold:
    """Training photos to fit rules on: logits (N, C) and labels (N,) of each task, persons (N,) and folds (N,).

    `image_ids` name them; a set that was drawn from them has none.
    """

    logits: Mapping[str, np.ndarray]
    labels: Mapping[str, np.ndarray]
    persons: np.ndarray
    folds: np.ndarray
    image_ids: tuple[str, ...] = ()

    def take(self, rows: np.ndarray) -> "OutOfFold":
        """The photos that a mask (N,) or indices choose."""
        return OutOfFold(
            {name: logits[rows] for name, logits in self.logits.items()},
            {name: labels[rows] for name, labels in self.labels.items()},
            self.persons[rows],
            self.folds[rows],
        )

    @cached_property
    def combined_labels(self) -> np.ndarray:
        return combine_labels(self.labels)


@dataclass(frozen=True)
class Decision:
    """A fitted rule: a temperature for each combined task and a bias for each combined class.

    `mixes` are the tasks whose photos have other class priors than the training photos; the biases include them.
    """

    rule: str
    temperatures: Mapping[str, float]
    biases: tuple[float, ...]
    mixes: Mapping[str, Mix] = field(default_factory=dict)

    @classmethod
    def raw(cls) -> "Decision":
        """The likeliest class of each task, which needs no fit."""
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
        return split_labels(self.log_probs(logits).argmax(axis=1))

    def as_json(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """A row of RULES. `fit_biases` takes out-of-fold photos with scaled logits and returns (K,) biases.

    `calibrated` rules scale each task by its temperature; one that `adapts` corrects for the photos' class priors.
    """

    name: str
    summary: str
    calibrated: bool
    fit_biases: Callable[[OutOfFold], np.ndarray]
    adapts: bool = False

    def fit(self, oof: OutOfFold, photos: Logits) -> Decision:
        """Fit on photos with labels, and, if the rule adapts, on the photos to decide on."""
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


def no_biases(_: OutOfFold) -> np.ndarray:
    return np.zeros(combined_class_count())


def class_priors(oof: OutOfFold) -> dict[str, np.ndarray]:
    """(C,) frequency of each class of each combined task; an absent class counts as one photo."""
    counts = {task.name: np.bincount(oof.labels[task.name], minlength=len(task.classes)) for task in combined_tasks()}
    return {name: np.maximum(of_task, 1) / np.maximum(of_task, 1).sum() for name, of_task in counts.items()}


def other_mixes(oof: OutOfFold, photos: Logits) -> dict[str, Mix]:
    """Class priors of `photos`, for the tasks where they differ significantly from those of the training photos.

    Tasks whose models misjudge the priors of the training photos are left out. All logits are calibrated.
    """
    priors = {name: of_task for name, of_task in class_priors(oof).items() if knows_mix(oof.logits[name], of_task)}
    mixes = {name: estimate_mix(photos[name], of_task) for name, of_task in priors.items()}
    return {name: mix for name, mix in mixes.items() if mix.found != mix.learned}


def mix_biases(mixes: Mapping[str, Mix]) -> np.ndarray:
    """(K,) biases of the combined classes that correct for these class priors."""
    rows = {task.name: np.zeros((1, len(task.classes))) for task in combined_tasks()}
    return combined_log_probs(rows | {name: mix.biases[None] for name, mix in mixes.items()})[0]


def class_biases(oof: OutOfFold) -> np.ndarray:
    """Biases that maximise macro-F1 over the combined classes."""
    return best_biases(combined_log_probs(oof.logits), oof.combined_labels)


RULES: tuple[Rule, ...] = (
    Rule(RAW, "the likeliest class of each task", False, no_biases),
    Rule("temperature", "the same classes with calibrated probabilities", True, no_biases),
    Rule(
        SHIFT, "calibrated, and corrected for the class priors of the photos themselves", True, no_biases, adapts=True
    ),
    Rule("tuned", "a bias for each combined class, fitted for macro-F1", False, class_biases),
)
RETIRED_RULES = ("prior", "tuned_tasks")
"""Rules of earlier versions that a run folder may name; they can be read and no longer be fitted."""


def rule_named(name: str) -> Rule:
    return row_named(RULES, name, what="decision rule")


@dataclass(frozen=True)
class Trial:
    """Predictions of a rule for photos it was not fitted on, and their scores beside `raw`."""

    rule: str
    labels: Mapping[str, np.ndarray]
    nll: float
    combined: Mapping[str, Estimate]
    over_raw: Estimate

    @property
    def pays(self) -> bool:
        """True if macro-F1 is above that of `raw` by more than chance: its interval lies above 0."""
        return self.over_raw["low"] > 0

    def as_json(self) -> dict:
        return {"rule": self.rule, "pays": self.pays, "nll": self.nll, **self.combined, "over_raw": self.over_raw}


@dataclass(frozen=True)
class NestedPredictions:
    """Labels (N,) of each task and log-probabilities (N, K) of the combined classes, each fold by the other folds."""

    labels: Mapping[str, np.ndarray]
    log_probs: np.ndarray


def compare(oof: OutOfFold) -> list[Trial]:
    """Check every rule nested: for each fold fitted on the others. UserError if there is one fold alone."""
    found = {rule.name: predict_nested(rule, oof) for rule in RULES}
    raw = combine_labels(found[RAW].labels)
    return [_trial(name, nested, raw, oof) for name, nested in found.items()]


def predict_nested(rule: Rule, oof: OutOfFold) -> NestedPredictions:
    """Predictions of a rule for each fold's photos, fitted on the other folds. UserError if there is one fold alone."""
    if len(np.unique(oof.folds)) < 2:
        raise UserError("decision rules: out-of-fold logits of one fold alone; at least two are needed to compare them")
    labels = {task.name: np.zeros(len(oof.persons), dtype=int) for task in combined_tasks()}
    log_probs = np.zeros((len(oof.persons), combined_class_count()))
    for fold in np.unique(oof.folds):
        in_fold = oof.folds == fold
        logits = oof.take(in_fold).logits
        decision = rule.fit(oof.take(~in_fold), logits)
        log_probs[in_fold] = decision.log_probs(logits)
        for name, of_task in decision.labels(logits).items():
            labels[name][in_fold] = of_task
    return NestedPredictions(labels, log_probs)


def _trial(rule: str, nested: NestedPredictions, raw: np.ndarray, oof: OutOfFold) -> Trial:
    truth, persons, count = oof.combined_labels, oof.persons, combined_class_count()
    predicted = combine_labels(nested.labels)
    combined = scores(truth, predicted, persons, num_classes=count)
    over_raw = paired_difference(truth, raw, predicted, persons, num_classes=count)
    return Trial(rule, nested.labels, negative_log_likelihood(nested.log_probs, truth), combined, over_raw)


def choose(wanted: str, trials: Sequence[Trial]) -> str:
    """The rule to use: the wanted one, or for `auto` the best of those that pay, else `raw`."""
    if wanted != AUTO:
        return rule_named(wanted).name
    paying = [trial for trial in trials if trial.pays]
    return max(paying, key=lambda trial: trial.over_raw["value"]).rule if paying else RAW


def format_trials(trials: Sequence[Trial], used: str) -> str:
    """The table of the rules; the one in use is marked."""
    lines = ["decisions out of fold, each fitted on the other folds' people (* in use)"]
    lines += [f"  {'decision':<13}{'macro-F1':<23}{'above raw':<29}{'-log p':<8}pays"]
    for trial in trials:
        interval, gain = format_estimate(trial.combined["macro_f1"]), format_difference(trial.over_raw)
        mark = "*" if trial.rule == used else ""
        pays = "yes" if trial.pays else "no"
        lines.append(f"{mark:<2}{trial.rule:<13}{interval:<23}{gain:<29}{trial.nll:<8.4f}{pays}")
    return "\n".join(lines)


def best_biases(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(K,) biases that maximise the macro-F1 of the likeliest classes, less RIDGE for each bias squared.

    Coordinate ascent from 0: each bias in turn goes to its best value while the others are fixed, until a whole sweep
    moves none. A local optimum, the same at every call.
    """
    biases = np.zeros(log_probs.shape[1])
    for _ in range(SWEEPS):
        before = biases.copy()
        for number in range(len(biases)):
            biases[number] = _best_bias(log_probs, biases, labels, number)
        if (biases == before).all():
            break
    return biases


def _best_bias(log_probs: np.ndarray, biases: np.ndarray, labels: np.ndarray, number: int) -> float:
    """The best bias of one class while the others are fixed; its present one if none is better."""
    rivals = log_probs + biases
    rivals[:, number] = -np.inf
    rival = rivals.argmax(axis=1)
    needed = rivals[np.arange(len(rivals)), rival] - log_probs[:, number]  # a photo goes to the class above this bias
    order = np.argsort(needed, kind="stable")
    steps = needed[order]
    now = int(np.searchsorted(steps, biases[number]))
    cuts = np.union1d(np.linspace(0, len(steps), min(len(steps), PLACES) + 1).astype(int), [now])
    padded = np.concatenate([[steps[0] - 1], steps, [steps[-1] + 1]])
    places = (padded[cuts] + padded[cuts + 1]) / 2
    stays = int(np.searchsorted(cuts, now))
    places[stays] = biases[number]
    worth = _macro_f1_of_cuts(cuts, labels[order], rival[order], number, num_classes=len(biases)) - RIDGE * places**2
    best = int(worth.argmax())
    return float(places[best] if worth[best] > worth[stays] else biases[number])


def _macro_f1_of_cuts(
    cuts: np.ndarray, labels: np.ndarray, rival: np.ndarray, number: int, *, num_classes: int
) -> np.ndarray:
    """(cuts,) macro-F1 if the first `cut` photos go to class `number` and the others to their rival."""
    taken_at = np.searchsorted(cuts, np.arange(len(labels)), side="right")

    def left(rivals: np.ndarray, at: np.ndarray) -> np.ndarray:
        """(cuts, C) counts of these photos that still go to each rival."""
        taken = np.bincount(at * num_classes + rivals, minlength=len(cuts) * num_classes).reshape(-1, num_classes)
        return np.bincount(rivals, minlength=num_classes) - taken.cumsum(axis=0)

    right = rival == labels
    predicted, hits = left(rival, taken_at), left(rival[right], taken_at[right])
    predicted[:, number] = cuts
    hits[:, number] = np.append(0, (labels == number).cumsum())[cuts]
    total = predicted + np.bincount(labels, minlength=num_classes)
    f1 = np.divide(2 * hits, total, out=np.zeros(hits.shape), where=total > 0)
    return f1.sum(axis=1) / (total > 0).sum(axis=1)

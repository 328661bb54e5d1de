"""The biases of classes with which the likeliest one has the highest macro-F1 on given photos."""

import numpy as np

RIDGE = 0.01
"""What a bias of 1 costs in macro-F1. Without it the fit follows single photos: macro-F1 is a staircase."""
SWEEPS = 20
PLACES = 200
"""How many places of a bias are tried, with as many photos between each."""


def best_biases(log_probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(K,) biases whose likeliest classes have the highest macro-F1, less RIDGE for each bias squared.

    Coordinate ascent from 0: one bias after the other goes to its best place while the others stand, until a whole
    sweep moves none. A local optimum, the same at every call.
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
    """The best bias of one class while the others stand; the one it has, if none is better."""
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
    """(cuts,) macro-F1 when the first `cut` photos go to class `number` and the others to their rival."""
    taken_at = np.searchsorted(cuts, np.arange(len(labels)), side="right")

    def left(rivals: np.ndarray, at: np.ndarray) -> np.ndarray:
        """(cuts, C) how many of these photos still go to each rival."""
        taken = np.bincount(at * num_classes + rivals, minlength=len(cuts) * num_classes).reshape(-1, num_classes)
        return np.bincount(rivals, minlength=num_classes) - taken.cumsum(axis=0)

    right = rival == labels
    predicted, hits = left(rival, taken_at), left(rival[right], taken_at[right])
    predicted[:, number] = cuts
    hits[:, number] = np.append(0, (labels == number).cumsum())[cuts]
    total = predicted + np.bincount(labels, minlength=num_classes)
    f1 = np.divide(2 * hits, total, out=np.zeros(hits.shape), where=total > 0)
    return f1.sum(axis=1) / (total > 0).sum(axis=1)

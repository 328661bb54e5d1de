"""The combined class of the submission, as arrays: labels and log-probabilities of its tasks put together.

core.tasks has the numbering of the classes and the same for the labels of one photo.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from core.tasks import AgeEdges, Facts, Task, combined_class_count, combined_class_name, combined_tasks, encode

COMBINED = "combined"
"""Name of the combined class beside the names of the tasks."""


def combined_task() -> Task:
    """The combined class as one task. It is not in the table of tasks."""
    classes = tuple(map(combined_class_name, range(combined_class_count())))
    return Task(COMBINED, classes, _combined_label, reads=tuple(task.name for task in combined_tasks()))


def _combined_label(facts: Facts, edges: AgeEdges) -> int:
    return encode({task.name: task.read_label(facts, edges) for task in combined_tasks()})


def has_combined_tasks(names: Iterable[str]) -> bool:
    """True if all tasks of the combined class are among these names."""
    return {task.name for task in combined_tasks()} <= set(names)


def combine_labels(labels: Mapping[str, Sequence[int]]) -> np.ndarray:
    """(N,) combined classes of N labels of each task. ValueError for a label outside a task's classes."""
    shape = [len(task.classes) for task in combined_tasks()]
    columns = [np.asarray(labels[task.name], dtype=np.int64) for task in combined_tasks()]
    return np.ravel_multi_index(columns, shape)


def split_labels(combined: np.ndarray) -> dict[str, np.ndarray]:
    """(N,) labels of each task from N combined classes: the inverse of `combine_labels`."""
    names, shape = zip(*((task.name, len(task.classes)) for task in combined_tasks()), strict=True)
    return dict(zip(names, np.unravel_index(combined, shape), strict=True))


def combined_log_probs(log_probs: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N, K) sums of the tasks' log-probabilities, with the columns numbered as core.tasks.encode numbers them."""
    sums: np.ndarray | None = None
    for task in combined_tasks():
        added = log_probs[task.name]
        sums = added if sums is None else (sums[:, :, None] + added[:, None, :]).reshape(len(added), -1)
    return sums

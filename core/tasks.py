"""Table of tasks, and the combined class they make.

A new task (say `glasses`: worn or not) is one row in TASKS and the function that reads its label.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from core.cli import row_named

AgeEdges = tuple[int, int]
Facts = Mapping[str, str]
"""Facts of a photo: its row of faces.csv as strings, with any further column of train.csv; empty where unknown."""
UNKNOWN = -1
"""Label of a photo whose facts do not tell it. A task is neither trained nor scored on such photos."""


@dataclass(frozen=True)
class Value:
    """Number of which a task's classes are ranges, such as age in years; learned as whole numbers low .. high."""

    name: str
    read: Callable[[Facts], float]
    class_of: Callable[[int, AgeEdges], int]
    low: int
    high: int


@dataclass(frozen=True)
class Task:
    """A label to learn. `read_label` gives an index into `classes`; it raises ValueError for facts it cannot read.

    It reads the fact of the task's name, or `reads`; where one is empty or absent, the label is UNKNOWN. A task with a
    `value` can be learned through it (`--head values`), and is scored by its mean absolute error too.
    """

    name: str
    classes: tuple[str, ...]
    read_label: Callable[[Facts, AgeEdges], int]
    in_combined_class: bool = False
    value: Value | None = None
    reads: tuple[str, ...] = ()

    def label(self, facts: Facts, edges: AgeEdges) -> int:
        """Return an index into `classes`, or UNKNOWN. ValueError for a fact that cannot be read."""
        return self.read_label(facts, edges) if all(map(facts.get, self.reads or (self.name,))) else UNKNOWN


AGE_GROUPS = ("young", "middle", "old")


def class_index(name: str, classes: Sequence[str]) -> int:
    """Return the index of a class. ValueError, whose message names the classes there are."""
    if name not in classes:
        raise ValueError(f"{name!r}; allowed are {', '.join(classes)}")
    return classes.index(name)


def _mask_label(facts: Facts, _: AgeEdges) -> int:
    return class_index(facts["mask"], ("wear", "incorrect", "not_wear"))


def _gender_label(facts: Facts, _: AgeEdges) -> int:
    return class_index(facts["gender"], ("male", "female"))


def _age_label(facts: Facts, edges: AgeEdges) -> int:
    """Return the group of an age in years, of a range such as 30-39, or the one that is named."""
    age = facts["age"]
    if age in AGE_GROUPS:
        return AGE_GROUPS.index(age)
    youngest, _, oldest = age.partition("-")
    groups = {age_group(int(years), edges) for years in (youngest, oldest or youngest)}
    if len(groups) > 1:
        raise ValueError(f"age {age} is not within one group; groups begin at {edges[0]} and {edges[1]}")
    return groups.pop()


def _age_years(facts: Facts) -> float:
    return int(facts["age"])


def age_group(years: int, edges: AgeEdges) -> int:
    """Return 0 below the first edge, 1 from it to below the second, 2 from the second on."""
    return bisect_right(edges, years)


TASKS: tuple[Task, ...] = (
    Task("mask", ("wear", "incorrect", "not_wear"), _mask_label, in_combined_class=True),
    Task("gender", ("male", "female"), _gender_label, in_combined_class=True),
    Task(
        "age",
        AGE_GROUPS,
        _age_label,
        in_combined_class=True,
        value=Value("years", _age_years, age_group, low=0, high=100),
    ),
)


def task_names() -> tuple[str, ...]:
    return tuple(task.name for task in TASKS)


def task_named(name: str) -> Task:
    """Return the task of that name; UserError lists the names there are."""
    return row_named(TASKS, name, what="task")


def known_labels(facts: Facts, edges: AgeEdges) -> dict[str, int]:
    """Return the labels that the facts of a photo tell, by task. ValueError for a fact that cannot be read."""
    labels = {task.name: task.label(facts, edges) for task in TASKS}
    return {name: label for name, label in labels.items() if label != UNKNOWN}


def known_values(task: Task, facts: Sequence[Facts]) -> dict[int, float]:
    """Return the task's value by row, where the facts have it."""
    column = {}
    for row, known in enumerate(facts):
        try:
            column[row] = task.value.read(known)
        except (KeyError, ValueError):
            continue
    return column


def combined_tasks() -> tuple[Task, ...]:
    """Return the tasks that make the combined class, most significant first."""
    return tuple(task for task in TASKS if task.in_combined_class)


def combined_class_count() -> int:
    count = 1
    for task in combined_tasks():
        count *= len(task.classes)
    return count


def encode(labels: Mapping[str, int]) -> int:
    """Return the combined class of one label per task: mask*6 + gender*3 + age."""
    combined = 0
    for task in combined_tasks():
        label = labels[task.name]
        if not 0 <= label < len(task.classes):
            raise ValueError(f"{task.name} label {label} is outside 0..{len(task.classes) - 1}")
        combined = combined * len(task.classes) + label
    return combined


def decode(combined: int) -> dict[str, int]:
    """Return one label per task from the combined class: the inverse of `encode`."""
    if not 0 <= combined < combined_class_count():
        raise ValueError(f"combined class {combined} is outside 0..{combined_class_count() - 1}")
    labels = {}
    for task in reversed(combined_tasks()):
        combined, labels[task.name] = divmod(combined, len(task.classes))
    return labels


def combined_class_name(combined: int) -> str:
    labels = decode(combined)
    return " ".join(task.classes[labels[task.name]] for task in combined_tasks())

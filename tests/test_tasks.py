"""The table of tasks: the 18 classes written out, and the edges of the age groups."""

import pytest

from core import tasks
from core.cli import UserError
from core.tasks import Task, age_group, combined_class_count, combined_class_name, decode, encode, task_named

GOLDEN = (
    (0, "wear", "male", "young"),
    (1, "wear", "male", "middle"),
    (2, "wear", "male", "old"),
    (3, "wear", "female", "young"),
    (4, "wear", "female", "middle"),
    (5, "wear", "female", "old"),
    (6, "incorrect", "male", "young"),
    (7, "incorrect", "male", "middle"),
    (8, "incorrect", "male", "old"),
    (9, "incorrect", "female", "young"),
    (10, "incorrect", "female", "middle"),
    (11, "incorrect", "female", "old"),
    (12, "not_wear", "male", "young"),
    (13, "not_wear", "male", "middle"),
    (14, "not_wear", "male", "old"),
    (15, "not_wear", "female", "young"),
    (16, "not_wear", "female", "middle"),
    (17, "not_wear", "female", "old"),
)


def labels_of(mask: str, gender: str, age: str) -> dict[str, int]:
    named = {"mask": mask, "gender": gender, "age": age}
    return {name: task_named(name).classes.index(label) for name, label in named.items()}


@pytest.mark.parametrize(("combined", "mask", "gender", "age"), GOLDEN)
def test_golden_table(combined: int, mask: str, gender: str, age: str) -> None:
    assert encode(labels_of(mask, gender, age)) == combined
    assert decode(combined) == labels_of(mask, gender, age)
    assert combined_class_name(combined) == f"{mask} {gender} {age}"


def test_there_are_eighteen_classes() -> None:
    assert combined_class_count() == len(GOLDEN) == 18


@pytest.mark.parametrize("labels", [{"mask": 3, "gender": 0, "age": 0}, {"mask": 0, "gender": -1, "age": 0}])
def test_encode_refuses_labels_out_of_range(labels: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="outside"):
        encode(labels)


@pytest.mark.parametrize("combined", [-1, 18])
def test_decode_refuses_classes_out_of_range(combined: int) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.\.17"):
        decode(combined)


@pytest.mark.parametrize(
    ("edges", "groups"),
    [
        ((25, 40), {0: 0, 24: 0, 25: 1, 39: 1, 40: 2, 120: 2}),
        ((30, 60), {0: 0, 29: 0, 30: 1, 59: 1, 60: 2, 120: 2}),
    ],
)
def test_age_edges_belong_to_the_older_group(edges: tuple[int, int], groups: dict[int, int]) -> None:
    assert {years: age_group(years, edges) for years in groups} == groups


def test_labels_are_read_from_facts() -> None:
    facts = {"mask": "incorrect", "gender": "female", "age": "40"}
    assert [task.read_label(facts, (25, 40)) for task in tasks.TASKS] == [1, 1, 2]
    assert task_named("age").read_label(facts, (30, 60)) == 1


@pytest.mark.parametrize(("name", "value"), [("mask", "half"), ("gender", "Male"), ("gender", ""), ("age", "ancient")])
def test_facts_that_cannot_be_read(name: str, value: str) -> None:
    with pytest.raises(ValueError):
        task_named(name).read_label({name: value}, (25, 40))


def test_a_class_that_is_unknown_is_refused_with_the_known() -> None:
    assert tasks.class_index("with", ("without", "with")) == 1
    with pytest.raises(ValueError, match=r"^'maybe'; allowed are without, with$"):
        tasks.class_index("maybe", ("without", "with"))
    with pytest.raises(ValueError, match=r"^'half'; allowed are wear, incorrect, not_wear$"):
        task_named("mask").read_label({"mask": "half"}, (25, 40))


def test_unknown_task_lists_the_known() -> None:
    with pytest.raises(UserError, match=r"'hat' is unknown; the tasks are mask, gender, age$"):
        task_named("hat")


def test_a_fourth_task_leaves_the_combined_class_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    glasses = Task("glasses", ("no", "yes"), lambda facts, _: ("no", "yes").index(facts["glasses"]))
    monkeypatch.setattr(tasks, "TASKS", (*tasks.TASKS, glasses))
    assert task_named("glasses") is glasses
    assert tasks.task_names() == ("mask", "gender", "age", "glasses")
    assert combined_class_count() == 18
    assert encode({"mask": 2, "gender": 1, "age": 2}) == 17

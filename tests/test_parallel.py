"""Work spread over processes."""

import os
from collections.abc import Callable

import pytest

from core.cli import UserError
from core.parallel import run_parallel


def squarer() -> Callable[[int], int]:
    return square


def square(number: int) -> int:
    return number * number


def dying() -> Callable[[int], int]:
    return die


def die(_: int) -> int:
    os._exit(3)


def test_work_over_processes_is_the_same_work() -> None:
    numbers = range(200)
    assert sorted(run_parallel(squarer, numbers, 2)) == [number * number for number in numbers]


def test_a_dead_process_is_an_error_with_advice() -> None:
    with pytest.raises(UserError, match=r"fewer processes at once \(--jobs or --workers\)"):
        list(run_parallel(dying, range(200), 2))

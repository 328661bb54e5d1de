"""Measuring and printing: contenders in turn, medians with the lowest and highest figure, ratios within a round.

A machine slows down and speeds up for reasons of its own. So contenders run one after the other in every round, each
round beginning with another one, and a ratio is the median of the ratios of the rounds, not a ratio of two medians.
"""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from core.cli import cpu_count
from training.device import versions

Rates = dict[str, list[float]]
"""The figure of each contender in every round."""


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of repeated figures."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.low)}-{_short(self.high)})"


@dataclass(frozen=True)
class Report:
    """Result of one benchmark: figures in `unit` by contender, ratios by "a / b", and single facts."""

    unit: str
    rates: Rates
    ratios: dict[str, Spread] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)

    def record(self) -> dict:
        """The report as JSON, with the figures of all rounds."""
        return {
            "unit": self.unit,
            "rates": {name: {**vars(spread(runs)), "runs": list(runs)} for name, runs in self.rates.items()},
            "ratios": {name: vars(found) for name, found in self.ratios.items()},
            "facts": self.facts,
        }


def spread(figures: Sequence[float]) -> Spread:
    return Spread(statistics.median(figures), min(figures), max(figures))


def in_turn(contenders: Mapping[str, Callable[[], int]], rounds: int) -> Rates:
    """Photos a second of contenders that return how many photos they have handled.

    All run in every round, each round beginning with another one. A first round is not counted.
    """
    names = list(contenders)
    rates: Rates = {name: [] for name in names}
    for number in range(rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            photos = contenders[name]()
            rates[name].append(photos / (time.perf_counter() - began))
    return {name: runs[1:] for name, runs in rates.items()}


def ratio(rates: Rates, name: str, to: str) -> Spread:
    """Ratios of the figures of `name` to those of `to`, round by round."""
    return spread([one / other for one, other in zip(rates[name], rates[to], strict=True)])


def ratios_of(rates: Rates, name: str) -> dict[str, Spread]:
    """Ratios of `name` to every other contender."""
    return {f"{name} / {other}": ratio(rates, name, other) for other in rates if other != name}


def machine() -> dict[str, object]:
    """The processor, system and versions that the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(terse=True),
        **versions(),
    }


def format_report(name: str, report: Report) -> str:
    """The lines to print of one benchmark."""
    rows = [(contender, f"{spread(runs)} {report.unit}") for contender, runs in report.rates.items()]
    rows += [(pair, f"{found} times") for pair, found in report.ratios.items()]
    rows += [(fact, _short(value)) for fact, value in report.facts.items()]
    width = max(len(title) for title, _ in rows) + 2
    return "\n".join([name, *(f"  {title:<{width}}{found}" for title, found in rows)])


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(entry)}" for name, entry in value.items())
    return str(value)

"""How things are measured and shown: contenders in turn, medians with their spread, ratios within a round.

A machine slows down and speeds up for reasons of its own. So contenders run one after the other in every round, in an
order that changes, and a ratio is the median of the ratios within the rounds, not a ratio of two medians.
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
"""Of each contender, its figure in every round."""


@dataclass(frozen=True)
class Spread:
    """Median of repeated measurements, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.low)}-{_short(self.high)})"


@dataclass(frozen=True)
class Report:
    """What one benchmark found.

    `rates`: figures in `unit` by contender; `ratios`: "a / b" with its spread; `facts`: whatever else was seen;
    `skipped`: what was not measured, and why.
    """

    unit: str = ""
    rates: Rates = field(default_factory=dict)
    ratios: dict[str, Spread] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def record(self) -> dict:
        """The report as JSON has it, every single figure included."""
        return {
            "unit": self.unit,
            "rates": {name: {**vars(spread(runs)), "runs": list(runs)} for name, runs in self.rates.items()},
            "ratios": {name: vars(found) for name, found in self.ratios.items()},
            "facts": self.facts,
            "skipped": self.skipped,
        }


def spread(figures: Sequence[float]) -> Spread:
    return Spread(statistics.median(figures), min(figures), max(figures))


def in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = True) -> Rates:
    """Run all contenders in every round, each round beginning with another one; a round before them is not counted."""
    names = list(contenders)
    rates: Rates = {name: [] for name in names}
    for number in range(rounds + warm_up):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            rates[name].append(contenders[name]())
    return {name: runs[warm_up:] for name, runs in rates.items()}


def ratio(rates: Rates, name: str, to: str) -> Spread:
    """How many times the figure of `to` that of `name` is, round by round."""
    return spread([one / other for one, other in zip(rates[name], rates[to], strict=True)])


def ratios_of(rates: Rates, name: str) -> dict[str, Spread]:
    """`name` against every other contender."""
    return {f"{name} / {other}": ratio(rates, name, other) for other in rates if other != name}


def per_second(work: Callable[[], int]) -> float:
    """Run something that returns how many photos it handled; photos a second."""
    began = time.perf_counter()
    return work() / (time.perf_counter() - began)


def machine() -> dict[str, object]:
    """What the figures depend on."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "cores": cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": load,
        "system": platform.platform(terse=True),
        **versions(),
    }


def format_report(name: str, report: Report) -> str:
    """The lines to print of one benchmark."""
    rows = [(who, f"{spread(runs)} {report.unit}") for who, runs in report.rates.items()]
    rows += [(pair, f"{found} times") for pair, found in report.ratios.items()]
    rows += [(fact, _short(value)) for fact, value in report.facts.items()]
    rows += [(what, f"skipped: {why}") for what, why in report.skipped.items()]
    width = max(len(what) for what, _ in rows) + 2
    return "\n".join([name, *(f"  {what:<{width}}{found}" for what, found in rows)])


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(entry)}" for name, entry in value.items())
    return str(value)


def _processor() -> str:
    """The processor's name where the system tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()

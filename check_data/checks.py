"""Table of checks in printed order, and their findings as text and as JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from check_data import data_checks, environment_checks, picture_checks, table_checks
from check_data.findings import PROBLEM, WARNING, Finding, counted
from check_data.scan import DataScan

DATA, PICTURES, ENVIRONMENT = SECTIONS = ("data", "pictures", "environment")
DETAILS_SHOWN = 5
_INDENT = " " * 23


@dataclass(frozen=True)
class Check:
    """One check of a section of the output."""

    name: str
    section: str
    find: Callable[[DataScan], Finding]


CHECKS = (
    Check("layout", DATA, data_checks.layout),
    Check("names", DATA, data_checks.names),
    Check("other files", DATA, data_checks.ignored),
    Check("labels", DATA, data_checks.labels),
    Check("people", DATA, data_checks.photos_per_person),
    Check("ages apart", DATA, table_checks.ages_of_a_person),
    Check("ids", DATA, data_checks.ids),
    Check("classes", DATA, data_checks.classes),
    Check("balance", DATA, data_checks.balance),
    Check("ages", DATA, data_checks.ages),
    Check("folds", DATA, data_checks.folds),
    Check("readable", PICTURES, picture_checks.readable),
    Check("sizes", PICTURES, picture_checks.sizes),
    Check("copies", PICTURES, picture_checks.copies),
    Check("near copies", PICTURES, picture_checks.near_copies),
    Check("same faces", PICTURES, picture_checks.same_faces),
    Check("two labels", PICTURES, picture_checks.contradictions),
    Check("python", ENVIRONMENT, environment_checks.python),
    Check("torch", ENVIRONMENT, environment_checks.torch_pair),
    Check("opencv", ENVIRONMENT, environment_checks.opencv),
    Check("detector", ENVIRONMENT, environment_checks.detector),
    Check("gpu", ENVIRONMENT, environment_checks.gpu),
    Check("disk", ENVIRONMENT, environment_checks.disk),
)


Findings = Mapping[Check, Finding]


def run_checks(data: DataScan) -> dict[Check, Finding]:
    return {check: check.find(data) for check in CHECKS}


def is_fit(findings: Findings) -> bool:
    return not _count(findings, PROBLEM)


def _count(findings: Findings, severity: str) -> int:
    return sum(finding.severity == severity for finding in findings.values())


def as_text(data: DataScan, findings: Findings) -> str:
    """Format one line per check by section, the first few details below each, and the verdict at the end."""
    lines = []
    for section in SECTIONS:
        lines += ["", section]
        for check, finding in findings.items():
            if check.section == section:
                lines += [f"  {finding.severity:8} {check.name:11} {finding.summary}", *_details(finding.details)]
    return "\n".join([*lines[1:], "", _verdict(data, findings)])


def _details(details: Sequence[str]) -> list[str]:
    lines = [_INDENT + detail for detail in details[:DETAILS_SHOWN]]
    rest = len(details) - DETAILS_SHOWN
    return lines + ([f"{_INDENT}and {rest} more (--json has all)"] if rest > 0 else [])


def _verdict(data: DataScan, findings: Findings) -> str:
    purpose = "train on" if data.train or not is_fit(findings) else "predict, not to train on"
    counts = f"{counted(_count(findings, PROBLEM), 'problem')}, {counted(_count(findings, WARNING), 'warning')}"
    return f"{'fit' if is_fit(findings) else 'not fit'} to {purpose}: {counts}"


def as_json(data: DataScan, findings: Findings) -> dict:
    """Return all findings with all details and numbers."""
    checks = [
        {
            "name": check.name,
            "section": check.section,
            "severity": finding.severity,
            "summary": finding.summary,
            "details": list(finding.details),
            "numbers": dict(finding.numbers),
        }
        for check, finding in findings.items()
    ]
    root = str(data.dataset.root.resolve())
    return {"data_root": root, "layout": data.dataset.layout, "fit": is_fit(findings), "checks": checks}

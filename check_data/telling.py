"""The findings as a page for people, and as JSON for machines."""

from collections.abc import Mapping, Sequence

from check_data.checks import SECTIONS, Check
from check_data.findings import PROBLEM, WARNING, Finding, counted
from check_data.scan import Survey

DETAILS_SHOWN = 5
_INDENT = " " * 23
Findings = Mapping[Check, Finding]


def count(findings: Findings, severity: str) -> int:
    return sum(finding.severity == severity for finding in findings.values())


def is_fit(findings: Findings) -> bool:
    return not count(findings, PROBLEM)


def as_text(findings: Findings) -> str:
    """One line a check, in its section, with the first few details below; the verdict last."""
    lines = []
    for section in SECTIONS:
        lines += ["", section]
        for check, finding in findings.items():
            if check.section == section:
                lines += [f"  {finding.severity:8} {check.name:11} {finding.summary}", *_shown(finding.details)]
    return "\n".join([*lines[1:], "", verdict(findings)])


def _shown(details: Sequence[str]) -> list[str]:
    lines = [_INDENT + detail for detail in details[:DETAILS_SHOWN]]
    rest = len(details) - DETAILS_SHOWN
    return lines + ([f"{_INDENT}and {rest} more (--json has all)"] if rest > 0 else [])


def verdict(findings: Findings) -> str:
    said = f"{counted(count(findings, PROBLEM), 'problem')}, {counted(count(findings, WARNING), 'warning')}"
    return f"{'fit' if is_fit(findings) else 'not fit'} to train on: {said}"


def as_json(survey: Survey, findings: Findings) -> dict:
    """All findings with all details and numbers."""
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
    root = str(survey.dataset.root.resolve())
    return {"data_root": root, "layout": survey.dataset.layout, "fit": is_fit(findings), "checks": checks}

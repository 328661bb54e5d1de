"""The check of a GPU: its dry run on the CPU, its time limits, its table."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_benchmarks import in_this_process
from toy_data import make_competition, prepare

from core.cli import UserError
from core.files import read_json, write_json
from dev.benchmarks import setup as benchmark_setup
from dev.gpu_check import __main__ as gpu_check
from dev.gpu_check import sections

MEASURED = {
    "step": {"real epoch", "batch on the device"},
    "precision": {"float32", "bfloat16", "float16"},
    "compile": {"plain", "compiled"},
    "folds": {"1 at once", "2 at once"},
    "inference": {"crop folder", "images in memory"},
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of results whose photos are there already, and commands that run in this process."""
    out = tmp_path / "out"
    prepare(make_competition(out / "dry" / "photos"), out / "dry" / "crops")
    for module in (sections, benchmark_setup):
        monkeypatch.setattr(module, "run_command", in_this_process)
    monkeypatch.setattr(sections, "STEPS", 2)
    monkeypatch.setattr(sections, "AT_ONCE", (1, 2))
    return out


def test_every_benchmark_runs_dry_on_the_cpu(here: Path) -> None:
    setup = sections.setup_of(here, None, dry_run=True)
    for name, contenders in MEASURED.items():
        report = sections.SECTIONS[name](setup)
        assert report.rates.keys() == contenders and report.ratios, name


def test_without_a_gpu_it_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="torch finds no GPU here; --dry-run"):
        sections.setup_of(tmp_path, None, dry_run=False)


def test_a_section_that_fails_or_takes_too_long_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = {"unit": "s", "rates": {"one": {"median": 1.0, "low": 0.5, "high": 2.0, "runs": [1.0]}}}
    write_json(tmp_path / "report.json", {**report, "ratios": {}, "facts": {"cores": 2}})
    script = tmp_path / "section.py"
    script.write_text(
        "import shutil, sys, time\n"
        "name = sys.argv[1]\n"
        "if name == 'compile': sys.exit('error: no compiler')\n"
        "time.sleep(60 if name == 'job' else 0)\n"
        f"shutil.copy({str(tmp_path / 'report.json')!r}, {str(tmp_path)!r} + f'/out/{{name}}.json')\n"
    )
    start = subprocess.Popen

    def start_script(command: list[str], **options: object) -> subprocess.Popen:
        return start([sys.executable, str(script), command[command.index("--section") + 1]], **options)

    monkeypatch.setattr(gpu_check.subprocess, "Popen", start_script)
    monkeypatch.setattr(gpu_check, "LIMITS", {**gpu_check.LIMITS, "job": 0.2})
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="sections failed: compile"):
        gpu_check.main(["compile", "job", "step", "--out", str(tmp_path / "out")])
    states = {name: one["state"] for name, one in read_json(tmp_path / "out" / "gpu_check.json")["sections"].items()}
    assert states == {
        **{"photos": gpu_check.DONE, "compile": gpu_check.FAILED, "job": gpu_check.STOPPED},
        "step": gpu_check.DONE,
    }
    table = (tmp_path / "out" / "gpu_check.md").read_text(encoding="utf-8")
    assert "| step | one | 1 (0.5–2) s |" in table and "| step | cores | 2 |" in table
    assert "| compile | failed | error: no compiler |" in table


def test_all_sections_together_take_at_most_nine_minutes() -> None:
    assert sum(gpu_check.LIMITS.values()) <= 540
    assert gpu_check.LIMITS.keys() == sections.SECTIONS.keys()


def test_an_unknown_section_is_refused_with_the_known() -> None:
    with pytest.raises(UserError, match="section 'fast' is unknown; the sections are photos, tests, step"):
        gpu_check.main(["fast"])

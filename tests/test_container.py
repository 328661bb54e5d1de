"""The Dockerfile: what the service's image installs and copies is what the service needs, as users without rights."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_export import NO_TORCH

from scripts.install import read_groups

ROOT = Path(__file__).resolve().parents[1]
TRAIN, SERVICE = re.split(
    r"^FROM .* AS service\n", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE
)
START = (
    NO_TORCH
    + """
from core.cli import UserError
from serving import http

try:
    http.main(["--onnx", "none"])
except UserError as error:
    print(error)
print(*{name.partition(".")[0] for name in sys.modules})
"""
)


def test_the_images_install_groups_that_exist() -> None:
    groups = re.findall(r"scripts/install\.py ([a-z ]+?) *(?:\\|\n)", TRAIN + SERVICE)
    assert [names.split() for names in groups] == [["train", "report"], ["predict", "http"]]
    assert {name for names in groups for name in names.split()} <= read_groups(ROOT).keys()


def test_the_service_runs_from_what_its_image_copies(tmp_path: Path) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed (scripts/install.py http)")
    for folder in re.findall(r"^COPY (\w+) \w+$", SERVICE, re.MULTILINE):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-c", START], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    first, modules = done.stdout.splitlines()
    assert first == "none: no such file; run `python -m serving.export` first"
    assert not {"torch", "timm", "onnx"} & set(modules.split())


def test_images_run_without_rights() -> None:
    for stage in (TRAIN, SERVICE):
        assert stage.index("\nUSER 10001\n") < stage.index("ENTRYPOINT")
    assert "HEALTHCHECK" in SERVICE and "/health" in SERVICE


def test_what_the_images_copy_exists_and_is_sent_to_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (.+) \S+$", TRAIN + SERVICE, re.MULTILINE)
    names = {name for line in copied for name in line.split() if name != "."}
    assert names and all(list(ROOT.glob(name)) for name in names)
    assert not names & set(ignored)

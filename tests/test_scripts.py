"""The scripts that make the environment: what they install, what they say, where they stop."""

import base64
import hashlib
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from core.cli import EXIT_BAD_INPUT
from scripts import install
from scripts import lock as lock_script

ROOT = Path(__file__).resolve().parents[1]
IS_WHOLE = not any(install.lacking(install.read_groups(ROOT)["train"]))
needs_packages = pytest.mark.skipif(not IS_WHOLE, reason="this Python lacks packages, and run_all.sh would make .venv")


def run_all(*flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("DATA_DIR", "PROFILE", "RUN")}
    environment |= {"PYTHON": sys.executable, **variables}
    command = ["bash", str(ROOT / "run_all.sh"), *flags]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_run_all_explains_itself() -> None:
    done = run_all("--help")
    assert done.returncode == 0
    for word in ("bash run_all.sh", "DATA_DIR", "PROFILE", "RUN", "CROP_DIR", "PYTHON"):
        assert word in done.stdout


@needs_packages
def test_run_all_stops_at_the_first_failing_step_with_its_name(tmp_path: Path) -> None:
    done = run_all(DATA_DIR=str(tmp_path / "nowhere"), CROP_DIR=str(tmp_path / "crops"))
    assert done.returncode == EXIT_BAD_INPUT
    assert f"error: data folder {tmp_path / 'nowhere'}: no such folder" in done.stderr
    assert "run_all stopped at step 'check data' (exit code 2)" in done.stderr
    assert "== crop faces" not in done.stdout


@needs_packages
def test_run_all_finds_a_mistyped_flag_before_any_work(tmp_path: Path) -> None:
    done = run_all("--colour", "red", DATA_DIR=str(tmp_path), CROP_DIR=str(tmp_path / "crops"))
    assert done.returncode == EXIT_BAD_INPUT
    assert "--colour" in done.stderr
    assert "stopped at step 'settings'" in done.stderr
    assert not (tmp_path / "crops").exists()


@pytest.mark.parametrize(
    ("requirement", "said"),
    [
        ("numpy>=1", []),
        ("numpy<1; python_version < '3'", []),
        ("no-such-package==3", ["no-such-package is not installed"]),
    ],
)
def test_what_an_environment_lacks(requirement: str, said: list[str]) -> None:
    assert list(install.lacking([requirement])) == said


def test_a_version_out_of_range_is_named() -> None:
    (line,) = install.lacking(["numpy<1"])
    assert line.startswith("numpy ") and line.endswith(" is installed, needed is <1")


def test_an_unknown_group_is_refused_with_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        install.main(["colours"])
    assert stopped.value.code == EXIT_BAD_INPUT
    assert "the group 'colours' is unknown; the groups are predict, train, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "no group is named; the groups are predict"),
        (["--run"], "--run needs a group and a command"),
        (["--run", "train"], "--run needs a group and a command"),
    ],
)
def test_a_call_without_a_group_or_a_command_is_refused(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        install.main(argv)
    assert stopped.value.code == EXIT_BAD_INPUT
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def lock() -> list[install.Locked]:
    return install.read_lock((ROOT / "requirements.lock").read_text(encoding="utf-8"))


class TestLock:
    """requirements.lock, the groups of pyproject.toml and the files for pip agree."""

    @pytest.mark.parametrize("group", install.read_groups(ROOT))
    def test_each_requirement_of_a_group_is_locked_in_its_range(self, lock: list[install.Locked], group: str) -> None:
        for requirement in map(Requirement, install.read_groups(ROOT)[group]):
            name = requirement.name.lower().replace("_", "-")
            versions = [entry.version for entry in lock if entry.name == name and group in entry.groups]
            assert versions and all(map(requirement.specifier.contains, versions)), requirement

    def test_each_entry_has_hashes_and_no_address(self, lock: list[install.Locked]) -> None:
        assert all("--hash=sha256:" in entry.lines for entry in lock)
        assert "://" not in "".join(entry.lines for entry in lock)

    def test_what_an_entry_needs_here_is_locked_in_the_same_groups(self, lock: list[install.Locked]) -> None:
        here = {entry.name: entry for entry in lock if _is_for_this_python(entry)}
        for entry in here.values():
            for name in _dependencies(entry):
                left_out = {"synthesis"} | ({"predict"} if name == "opencv-python" else set())
                assert entry.groups - left_out <= here[name].groups, f"{entry.name} needs {name}"

    @pytest.mark.parametrize(("name", "group"), lock_script.FILES.items())
    def test_the_file_for_pip_has_the_requirements_of_its_group(self, name: str, group: str) -> None:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if not line.startswith("#")] == install.read_groups(ROOT)[group]

    def test_no_torch_is_needed_for_predictions(self, lock: list[install.Locked]) -> None:
        names = {entry.name for entry in lock if "predict" in entry.groups}
        assert names.isdisjoint({"torch", "torchvision", "timm", "albumentations", "triton", "nvidia-cublas"})


def _is_for_this_python(entry: install.Locked) -> bool:
    marker = Requirement(entry.lines.partition(" \\")[0]).marker
    return marker is None or marker.evaluate()


def _dependencies(entry: install.Locked) -> list[str]:
    """Names of what an installed package needs here; none for one that is not installed in the locked version."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        found = distribution(entry.name)
    except PackageNotFoundError:
        return []
    if found.version != entry.version:
        return []
    needed = [Requirement(line) for line in found.requires or ()]
    return [
        one.name.lower().replace("_", "-").replace(".", "-")
        for one in needed
        if one.marker is None or one.marker.evaluate({"extra": ""})
    ]


class TestInstallation:
    """A toy project with a lock of its own, and a folder of wheels in place of an index."""

    @pytest.fixture
    def toy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        wheels = tmp_path / "wheels"
        wheels.mkdir()
        lines = "# for train\n"
        for name in ("plain", "torch"):
            lines += f"{name}==1.0 \\\n    --hash=sha256:{_make_wheel(wheels, name, '1.0')}\n"
        (tmp_path / "requirements.lock").write_text(f"# for other\nmissing==1 \\\n    --hash=sha256:0\n{lines}")
        (tmp_path / "pyproject.toml").write_text('[dependency-groups]\ntrain = ["plain", "torch"]\nother = []\n')
        monkeypatch.setattr(install, "ROOT", tmp_path)
        monkeypatch.delenv("TORCH_INDEX_URL", raising=False)
        return tmp_path

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """What is called in place of an installer, with the text of its file in place of the file's name."""
        found: list[list[str]] = []

        def record(command: list[str]) -> None:
            words = [Path(word).read_text() if word.endswith(".txt") else word for word in command]
            found.append(words[words.index("install") + 1 :])

        monkeypatch.setattr(install, "call", record)
        return found

    def test_a_group_is_installed_with_its_hashes_alone(self, toy: Path, calls: list[list[str]]) -> None:
        install.main(["train"])
        ((*flags, text),) = calls
        assert flags[-3:] == ["--no-deps", "--require-hashes", "-r"]
        assert [line.partition("==")[0] for line in text.splitlines()[::2]] == ["plain", "torch"]

    def test_another_index_gives_torch_in_the_version_of_the_lock(
        self, toy: Path, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TORCH_INDEX_URL", "file:///small")
        install.main(["train"])
        assert "torch" not in calls[0][-1] and "plain==1.0" in calls[0][-1]
        assert calls[1][-3:] == ["--extra-index-url", "file:///small", "torch==1.0"]

    def test_an_environment_is_filled_and_used(self, toy: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """With pip itself: the locked files are installed, a file of another hash is refused."""
        # That of the Python below, which takes seconds to install.
        venv.create(toy / ".venv", system_site_packages=True)
        script = toy / "scripts" / "install.py"
        script.parent.mkdir()
        script.write_text(Path(install.__file__).read_text(encoding="utf-8"), encoding="utf-8")
        command = [sys.executable, str(script), "--run", "train", "-c", "import plain, sys; print(sys.prefix)"]
        only_here = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(toy / "wheels"), "PIP_CONFIG_FILE": os.devnull}
        environment = {**os.environ, **only_here}
        assert subprocess.run(command, env=environment, check=False).returncode == 0
        assert capfd.readouterr().out.splitlines()[-1] == str(toy / ".venv")

        _make_wheel(toy / "wheels", "plain", "1.0", content="changed = True")
        python = toy / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "plain"], env=environment, check=True)
        assert subprocess.run(command, env=environment, check=False).returncode != 0
        assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err


def _make_wheel(folder: Path, name: str, version: str, content: str = "") -> str:
    """Write a wheel of one module and return its SHA-256."""
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": content,
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()) for path, text in files.items()}
    record = "".join(f"{path},sha256={digest.decode().rstrip('=')},\n" for path, digest in digests.items())
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, text in {**files, f"{about}/RECORD": f"{record}{about}/RECORD,,\n"}.items():
            wheel.writestr(inner, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()

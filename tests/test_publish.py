"""Model folders: written from refits, copied, checked by hash, loaded without a run; the hub by a stand-in."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file
from serving_toys import CROP, crowd, make_run, random_crops
from toy_data import ToyRun, refusal

import predict
import train
from core import environment, files
from core.cli import UserError
from core.files import read_json, write_json
from core.images import write_photo
from model import head_weights
from serving import hub, publish, write_model_folder
from serving.agreement import agreements
from serving.loading import ModelOptions, load
from serving.model_folder import MODEL_FILE, load_model_folder, read_model
from serving.torch_model import load_run
from training import checkpoints
from training.config import resolve
from training.frozen_backbone import freeze
from training.inputs import shown_of
from training.predictor import build_model

pytest_plugins = ("toy_fixtures",)
TASKS = ("mask", "gender", "age")
ODD = {"average": "x", "temperature": 1.0}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("publish") / "run", TASKS, refit=True, head="values")


@pytest.fixture(scope="module")
def published(run_dir: Path) -> Path:
    folder = run_dir.parent / "mine"
    publish.main(["--run-dir", str(run_dir), "--out", str(folder), "--crops", "8", "--terms", "For tests alone."])
    return folder


@pytest.fixture
def copy(published: Path, tmp_path: Path) -> Path:
    return shutil.copytree(published, tmp_path / "copy")


class TestFolder:
    def test_it_says_the_same_as_the_run_wherever_it_lies(self, run_dir: Path, copy: Path) -> None:
        crops = random_crops(6)
        expected, found = load_run(run_dir, device="cpu")(crops), load_model_folder(copy, device="cpu")(crops)
        for row in agreements(expected, found):
            assert (row.labels, row.largest < 5e-3) == (1, True)
        np.testing.assert_allclose(found["age"].values, expected["age"].values, atol=0.2)
        assert load_model_folder(copy, tasks=("mask",)).tasks == ("mask",)

    def test_what_is_in_it(self, published: Path) -> None:
        about = read_model(published)
        names = [f"{task}/refit/{name}" for task in sorted(TASKS) for name in ("config.json", "model.safetensors")]
        assert list(about["files"]) == names
        assert {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()} == {
            *(*names, "README.md", "model.json")
        }
        assert (about["name"], about["tasks"], about["detector"]) == ("mine", list(TASKS), "retinaface")
        assert about["crop"]["size"] == CROP.size
        assert str(published.parent) not in (published / MODEL_FILE).read_text()

    @pytest.mark.parametrize("same", [True, False])
    def test_half_precision_where_no_label_changes(
        self, same: bool, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(write_model_folder, "_labels_are_same", lambda *_: same)
        publish.main(["--run-dir", str(run_dir), "--out", str(tmp_path / "m"), "--task", "mask", "--crops", "2"])
        stored = load_file(tmp_path / "m/mask/refit/model.safetensors")
        kinds = {str(tensor.dtype) for tensor in stored.values() if tensor.is_floating_point()}
        assert kinds == {"torch.float16" if same else "torch.float32"}
        assert read_model(tmp_path / "m")["precision"] == {"mask": "float16" if same else "float32"}

    def test_what_a_killed_process_left_is_removed(self, run_dir: Path, tmp_path: Path) -> None:
        gone = subprocess.Popen(["true"])
        gone.wait()
        (tmp_path / f".{files._HOST}-{gone.pid}-0123abcd.tmp" / "mask").mkdir(parents=True)
        publish.main(["--run-dir", str(run_dir), "--out", str(tmp_path / "m"), "--task", "mask", "--crops", "2"])
        assert [path.name for path in tmp_path.iterdir()] == ["m"]

    def test_predict_uses_it_and_says_so(
        self, published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_photo(tmp_path / "a.png", crowd(((240, 160, 150),))[0])
        predict.main([str(tmp_path / "a.png"), "--model", str(published), "--out", str(tmp_path / "out")])
        said = capsys.readouterr()
        assert f"model mine ({published}): mask, gender, age\n" in said.err
        assert "  For tests alone.\n" in said.err
        assert "1 face in 1 photo: " in said.out

    @pytest.mark.parametrize("backbone", ["face_pair", "face_gender+sface_alone"])
    def test_a_packaged_backbone_is_not_copied(self, backbone: str, tmp_path: Path) -> None:
        run_dir = frozen_run(tmp_path / "run", backbone)
        publish.main(["--run-dir", str(run_dir), "--out", str(tmp_path / "m"), "--crops", "2"])
        about = read_model(tmp_path / "m")
        assert list(about["backbones"].values()) == [backbone]
        assert not (tmp_path / "m" / "backbones").exists()
        run = load_run(run_dir)
        crops = random_crops(2, run.crop)
        (row,) = agreements(run(crops), load_model_folder(tmp_path / "m")(crops))
        assert (row.labels, row.largest < 5e-3) == (1, True)
        path = tmp_path / "m" / "gender/refit/config.json"
        name = read_json(path)["backbone_file"]
        write_json(path, read_json(path) | {"backbone_file": "face_pair-0.safetensors"})
        sign(tmp_path / "m", backbones={"face_pair-0.safetensors": backbone})
        with pytest.raises(UserError, match=f"face_pair-0.safetensors, the installed packages have {re.escape(name)}"):
            load_model_folder(tmp_path / "m")

    def test_any_other_frozen_backbone_is(self, tmp_path: Path) -> None:
        run_dir = frozen_run(tmp_path / "run", "test_efficientnet_ln", pretrained=False)
        publish.main(["--run-dir", str(run_dir), "--out", str(tmp_path / "m"), "--crops", "2"])
        assert read_model(tmp_path / "m")["backbones"] == {}
        assert len(list((tmp_path / "m" / "backbones").iterdir())) == 1
        run = load_run(run_dir)
        crops = random_crops(2, run.crop)
        (row,) = agreements(run(crops), load_model_folder(tmp_path / "m")(crops))
        assert row.labels == 1


def frozen_run(run_dir: Path, backbone: str, *, pretrained: bool = True) -> Path:
    """A run with a refit of gender whose head nobody trained, on a frozen backbone."""
    make_run(run_dir, ("gender",), refit=True)
    settings = {"backbone": backbone, "pretrained": pretrained, "backbone_lr": 0.0, "ridge_share": 0.0}
    settings |= {"image_size": 32, "folds": 2}
    for name in ("fold0", "fold1", "refit"):
        folder = run_dir / "gender" / name
        config = replace(resolve("gender", "smoke", settings), keep="last")
        shown = shown_of(config, {"crop": asdict(CROP)})
        frozen = freeze(run_dir, config, shown)
        identity = read_json(folder / "config.json")
        write_json(
            folder / "config.json", identity | {"settings": config.learned(), "backbone_file": frozen.weights.name}
        )
        checkpoints.save_weights(
            folder / "model.safetensors", head_weights(build_model(backbone, 2, image_size=shown.size))
        )
    return run_dir


def sign(folder: Path, **entries: object) -> None:
    """Write the hashes of the files as they are now, and other entries, into model.json."""
    about = read_json(folder / MODEL_FILE)
    hashes = {name: write_model_folder.files.file_sha256(folder / name) for name in about["files"]}
    write_json(folder / MODEL_FILE, about | {"files": hashes} | entries)


@pytest.fixture(scope="module")
def card(toy_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The card of a run that was scored, with groups and photos of real masks."""
    folder = tmp_path_factory.mktemp("card")
    run_dir = shutil.copytree(toy_run.run_dir, folder / "run")
    train.main(["--refit", "--crop-dir", str(toy_run.crop_dir), "--run-dir", str(run_dir)])
    right = {"right": 3, "count": 4, "value": 0.75}
    estimate = {"value": 0.75, "low": 0.5, "high": 1.0}
    real = {
        "count": 4,
        "of_all": {"accuracy": estimate},
        "recall": {"wear": right},
        "recall_of_kind": {"chin": right},
    }
    write_json(folder / "real.json", real)
    argv = ["--run-dir", run_dir, "--out", folder / "m", "--real", folder / "real.json", "--crops", "5"]
    publish.main(list(map(str, argv)))
    return (folder / "m" / "README.md").read_text()


class TestCard:
    def test_it_has_what_a_reader_asks_for(self, card: str) -> None:
        assert card.startswith("---\nlicense: other\n")
        for title in ("How to load", "What it learned from", "Scores", "Licences", "Limits"):
            assert f"\n## {title}\n" in card
        assert "- Data: data, 84 photos of 12 people" in card
        assert "| mask, out of fold | 84 | " in card
        assert "| gender, eval photos | 7 | " in card
        assert "Mean error of age, out of fold: " in card
        assert "| chin | 3 of 4 | 0.750 |" in card
        assert "mask accuracy 0.750 (0.500-1.000)" in card

    def test_groups_with_the_weakest(self, card: str) -> None:
        assert "| race: Asian | 12 | " in card
        assert "\n**Weakest**: Asian (" in card

    def test_a_run_without_scores(self, published: Path) -> None:
        assert "The run was not scored." in (published / "README.md").read_text()


class TestRefusals:
    def test_what_cannot_be_published(self, run_dir: Path, published: Path, tmp_path: Path) -> None:
        argv = ["--run-dir", run_dir, "--out"]
        refusal(publish.main, [*argv, published], "mine: there already; give another folder", untouched=[published])
        refusal(publish.main, [*argv, tmp_path / "m", "--push", "a"], "a: allowed is hf:OWNER/NAME")
        make_run(tmp_path / "folds", ("mask",))
        argv = ["--run-dir", tmp_path / "folds", "--out", tmp_path / "m"]
        refusal(publish.main, argv, "no refit of mask; run train.py --refit first")
        assert not (tmp_path / "m").exists()

    @pytest.mark.parametrize(
        ("real", "words"),
        [
            ({}, "entry count, of_all, recall, recall_of_kind is missing"),
            ({"of_all": {"accuracy": 0.9}}, "accuracy: expected a JSON object, found a float"),
            ({"recall": {"wear": {"right": 3, "count": 4}}}, "wear: entry value is missing"),
        ],
    )
    def test_scores_on_real_masks_of_another_kind(self, run_dir: Path, tmp_path: Path, real: dict, words: str) -> None:
        whole = {"count": 4, "of_all": {}, "recall": {}, "recall_of_kind": {}} if real else {}
        write_json(tmp_path / "real.json", whole | real)
        argv = ["--run-dir", run_dir, "--out", tmp_path / "m", "--real", tmp_path / "real.json"]
        refusal(publish.main, argv, f"{tmp_path / 'real.json'}: {words}")
        assert not (tmp_path / "m").exists()

    def test_a_file_that_is_missing_or_changed(self, copy: Path) -> None:
        weights = copy / "mask" / "refit" / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        with pytest.raises(UserError, match=r"mask/refit/model\.safetensors: damaged or changed"):
            load_model_folder(copy)
        weights.unlink()
        with pytest.raises(UserError, match=r"mask/refit/model\.safetensors: no such file, though model\.json names"):
            load_model_folder(copy)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda about: about | {"format": 2}, r"format 2, this version reads format 1"),
            (lambda about: about | {"tasks": "mask"}, r"entry tasks is 'mask'"),
            (lambda about: {"format": 1}, r"entry name, tasks, .* is missing"),
            (lambda about: about | {"files": {"../run/run.json": "0"}}, r"'\.\./run/run\.json' lies outside"),
            (lambda about: about | {"files": {}}, r"file mask/refit/config\.json is missing in it"),
            (lambda about: about | {"averaging": {}}, r"averaging of mask: entry average, temperature is missing"),
            (
                lambda about: about | {"averaging": dict.fromkeys(TASKS, ODD)},
                r"mask: average 'x', temperature 1.0; allowed are logit",
            ),
            (
                lambda about: (
                    about | {"averaging": dict.fromkeys(TASKS, ODD | {"average": "logit", "temperature": np.inf})}
                ),
                r"mask: average 'logit', temperature inf; allowed are logit",
            ),
            (lambda about: about | {"tasks": [1]}, r"tasks \[1\], expected names of tasks"),
            (lambda about: about | {"tasks": []}, r"tasks \[\], expected names of tasks"),
            (lambda about: about | {"accuracy": {"age": None}}, r"accuracy: entry age is None, expected a float"),
        ],
        ids=[
            *("version", "type", "lacking", "outside", "unlisted", "averaging", "average", "temperature"),
            *("number", "none", "accuracy"),
        ],
    )
    def test_a_description_that_is_none(self, copy: Path, change: Callable[[dict], dict], words: str) -> None:
        write_json(copy / MODEL_FILE, change(read_json(copy / MODEL_FILE)))
        with pytest.raises(UserError, match=words):
            load_model_folder(copy)

    def test_what_a_description_says_does_nothing_to_a_terminal(self, copy: Path) -> None:
        about = read_json(copy / MODEL_FILE)
        write_json(copy / MODEL_FILE, about | {"name": "\x1b[31m", "terms": "free\nerror: forged\x07"})
        lines = load(ModelOptions(model=str(copy))).about.splitlines()
        assert lines[0].startswith(r"model \x1b[31m (")
        assert lines[-1] == r"  free\nerror: forged\x07"

    def test_a_device_that_is_not_there(self, copy: Path) -> None:
        with pytest.raises(UserError, match="--device nonsense: cannot be used"):
            load(ModelOptions(model=str(copy), device="nonsense"))

    def test_a_task_or_folds_that_are_not_in_it(self, run_dir: Path, published: Path, tmp_path: Path) -> None:
        publish.main(["--run-dir", str(run_dir), "--out", str(tmp_path / "m"), "--task", "mask", "--crops", "2"])
        with pytest.raises(UserError, match=r"m: no model of age; it has mask"):
            load(ModelOptions(model=str(tmp_path / "m"), tasks=("age",)))
        with pytest.raises(UserError, match=r"--folds 0: a model folder has one model a task"):
            load(ModelOptions(model=str(published), folds=(0,)))

    def test_what_is_no_model(self, published: Path, tmp_path: Path) -> None:
        write_photo(tmp_path / "a.png", crowd(())[0])
        argv = [tmp_path / "a.png", "--out", tmp_path / "out", "--model"]
        refusal(predict.main, [*argv, tmp_path / "none"], "none: no such folder or file; allowed are a run folder")
        refusal(predict.main, [*argv, tmp_path], "nothing to load in it")
        refusal(predict.main, [*argv, "x", "--onnx", "y"], "--model and --onnx: give one of them")
        refusal(predict.main, [*argv[:-1], "--run-dir", "x", "--onnx", "y"], "--run-dir and --onnx: give one of them")


@dataclass
class StandInHub:
    """The parts of the hub's client that are called: one repository, with one commit, `online` or not."""

    folder: Path
    online: bool = True
    asked: list[tuple] = field(default_factory=list)

    def snapshot_download(self, repository: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        self.asked.append((repository, revision))
        assert MODEL_FILE in allow_patterns
        if not self.online:
            raise LocalEntryNotFoundError("Cannot find the requested files in the disk cache.\nMore words.")
        return str(self.folder)

    def create_repo(self, repository: str, **options: object) -> None:
        self.asked.append((repository, options["private"]))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> SimpleNamespace:
        self.asked.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))
        if not self.online:
            raise ConnectionError("no route to host")
        return SimpleNamespace(oid="abc123")


class TestHub:
    @pytest.fixture
    def stand_in(self, published: Path, monkeypatch: pytest.MonkeyPatch) -> StandInHub:
        stand_in = StandInHub(published)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", stand_in.snapshot_download)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: stand_in)
        return stand_in

    def test_a_name_is_fetched_at_its_revision(self, stand_in: StandInHub) -> None:
        loaded = load(ModelOptions(model="hf:somebody/mask-model@abc123", tasks=("mask",)))
        assert stand_in.asked == [("somebody/mask-model", "abc123")]
        assert loaded.classifier.tasks == ("mask",)

    def test_without_a_revision_the_one_to_pin_is_told(self, stand_in: StandInHub, copy: Path) -> None:
        stand_in.folder = copy.rename(copy.parent / ("0" * 40))
        loaded = load(ModelOptions(model="hf:somebody/mask-model"))
        assert f"hf:somebody/mask-model@{'0' * 40}" in loaded.about

    def test_offline_only_what_was_fetched_before(self, stand_in: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
        stand_in.online = False
        with pytest.raises(UserError, match=r"hf:a/b: cannot be had \(Cannot find the requested files") as caught:
            hub.fetch("hf:a/b")
        assert "--offline" not in str(caught.value)
        monkeypatch.setenv(environment.OFFLINE, "1")
        with pytest.raises(UserError, match="under --offline only models that were fetched before"):
            hub.fetch("hf:a/b")

    def test_offline_the_client_asks_nobody(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(UserError, match="hf:nobody/nothing: cannot be had"):
            hub.fetch("hf:nobody/nothing")

    @pytest.mark.parametrize("name", ["hf:", "hf:name", "hf:a/b/c", "hf:a/b@", "hf:a /b", "hf:../b@x y"])
    def test_names_of_another_form(self, name: str) -> None:
        with pytest.raises(UserError, match="allowed is hf:OWNER/NAME"):
            hub.fetch(name)

    def test_a_repository_without_a_model(self, stand_in: StandInHub, tmp_path: Path) -> None:
        stand_in.folder = tmp_path
        with pytest.raises(UserError, match=r"hf:a/b: no model\.json in it"):
            hub.fetch("hf:a/b")

    def test_a_folder_is_pushed_as_private(
        self, stand_in: StandInHub, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        argv = ["--run-dir", str(run_dir), "--out", str(tmp_path / "m"), "--task", "mask", "--crops", "2"]
        publish.main([*argv, "--push", "somebody/mask-model"])
        assert "pushed: hf:somebody/mask-model@abc123" in capsys.readouterr().out
        assert stand_in.asked == [
            ("somebody/mask-model", True),
            ("somebody/mask-model", ["README.md", "mask", "model.json"]),
        ]

    def test_a_push_that_is_refused(self, stand_in: StandInHub, copy: Path) -> None:
        stand_in.online = False
        with pytest.raises(UserError, match=r"--push a/b: refused \(no route to host\)"):
            hub.push(copy, "a/b")
        with pytest.raises(UserError, match="a revision cannot be chosen"):
            hub.push(copy, "a/b@main")
        (copy / "mask/refit/config.json").unlink()
        with pytest.raises(UserError, match="no such file"):
            hub.push(copy, "a/b")


def test_the_starter_speaks_where_no_run_is(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("serving.loading.STARTER", published)
    write_photo(tmp_path / "a.png", crowd(((240, 160, 150),))[0])
    predict.main(["a.png"])
    said = capsys.readouterr().err
    assert "to train one of your own: DATA_DIR=/my/photos bash run_all.sh" in said
    assert f"model mine ({published})" in said
    make_run(tmp_path / "outputs" / "default", ("mask",))
    predict.main(["a.png", "--out", "again"])
    assert "models of outputs/default: mask (2 of 2 folds)" in capsys.readouterr().err

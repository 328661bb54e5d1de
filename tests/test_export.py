"""export.py: the ONNX file agrees with torch, explains itself, and works where torch cannot be imported."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from retinaface.weights import WEIGHTS
from serving_toys import CROP, crowd, make_run, random_crops
from toy_data import refusal, table

import predict
from core.cli import UserError
from core.cropping import CropSettings
from core.files import file_sha256
from core.images import write_photo
from serving import export
from serving.agreement import Agreement, agreements, seconds_each
from serving.onnx_model import load_exported, load_onnx
from serving.torch_model import load_run
from serving.types import BatchPrediction
from serving.write_onnx import Shrink
from storage.crop_cache import Shown, shrink
from storage.crops import CROP_COLUMNS, FACE_COLUMNS

ROOT = Path(__file__).resolve().parents[1]
TASKS = ("mask", "gender", "age")
NO_TORCH = """
import sys

REFUSED = {"torch", "torchvision", "timm", "albumentations", "safetensors", "onnx", "scipy", "sklearn", "jinja2"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in REFUSED:
            raise ImportError(f"{name} is not to be imported")


sys.meta_path.insert(0, Refuse())
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned years, mirrors its age crops, and is exported whole."""
    run_dir = make_run(tmp_path_factory.mktemp("export") / "run", TASKS, head="values", tta="flip")
    write_crops(run_dir / "crops")
    export.main(["--run-dir", str(run_dir), "--crops", "6"])
    return run_dir


def write_crops(crop_dir: Path) -> None:
    """A crop folder of six eval and six train crops, with just what is read of it."""
    rows, lines = [], []
    for number, crop in enumerate(random_crops(12)):
        split, name = ("eval", "train")[number % 2], f"{number}.png"
        write_photo(crop_dir / name, crop)
        known = {"image_id": name, "split": split, "person": name, "path": name, "status": "detected"}
        rows.append(",".join(known.get(column, "") for column in FACE_COLUMNS))
        lines.append(",".join((name, "key", "content")))
    (crop_dir / "faces.csv").write_text("\n".join((",".join(FACE_COLUMNS), *rows)) + "\n")
    (crop_dir / "crops.csv").write_text("\n".join((",".join(CROP_COLUMNS), *lines)) + "\n")
    crop = asdict(CROP)
    (crop_dir / "source.json").write_text(json.dumps({"data_root": "/data", "layout": "photos", "crop": crop}))


@dataclass
class ToldApart:
    """Says that all labels agree, but for one task none from the second call on, `until` so many."""

    task: str
    until: int = 2
    calls: int = 0

    def __call__(self, one: Mapping[str, BatchPrediction], other: Mapping[str, BatchPrediction]) -> list[Agreement]:
        self.calls += 1
        apart = self.task if 1 < self.calls <= self.until else ""
        return [Agreement(task, 0.0, 0.0, float(task != apart)) for task in one]


def without_torch(code: str, folder: Path) -> str:
    """What Python code prints, run in `folder` where torch cannot be imported."""
    process = subprocess.run(
        [sys.executable, "-c", NO_TORCH + f"sys.path.insert(0, {str(ROOT)!r})\n" + code],
        cwd=folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    return process.stdout


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def save_graph(path: Path, run_dir: Path, name: str, nodes: Sequence[str]) -> None:
    """Save a graph of a stranger: the description of the run's mask, and a constant output made by these nodes."""
    helper, kinds = onnx.helper, onnx.TensorProto
    (about,) = (
        entry.value for entry in onnx.load(run_dir / "onnx" / "all.onnx").metadata_props if entry.key == "about"
    )
    about = json.loads(about)
    about["tasks"] = [{**task, "unit": ""} for task in about["tasks"] if task["name"] == "mask"]
    row = onnx.numpy_helper.from_array(np.array([[-1, -2, -3]], np.float32), "row")
    made = [
        helper.make_node("Shape", [name], ["count"], start=0, end=1),
        helper.make_node("Concat", ["count", "one"], ["times"], axis=0),
        helper.make_node(
            "Tile" if "Tile" in nodes else "Identity", ["row", "times"][: 1 + ("Tile" in nodes)], ["rows"]
        ),
        helper.make_node("Cast", ["rows"], ["mask"], to=kinds.STRING if "Cast" in nodes else kinds.FLOAT),
    ]
    taken = helper.make_tensor_value_info(name, kinds.UINT8, ["n", "h", "w", 3])
    given = helper.make_tensor_value_info("mask", kinds.STRING if "Cast" in nodes else kinds.FLOAT, ["m", 3])
    one = onnx.numpy_helper.from_array(np.array([1]), "one")
    graph = helper.make_graph(made, "odd", [taken], [given], [row, one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model.metadata_props.add(key="about", value=json.dumps(about))
    onnx.save(model, path)


class TestGraph:
    @pytest.mark.parametrize("size", [(32, 26), (40, 32), (13, 7), (20, 16), (10, 8), (20, 20)])
    def test_shrinking_is_that_of_training(self, size: tuple[int, int]) -> None:
        crops = np.random.default_rng(1).integers(0, 256, (3, *CROP.shape, 3), dtype=np.uint8)
        pixels = Shrink(CROP, Shown("face", size))(torch.from_numpy(crops)).permute(0, 2, 3, 1).numpy()
        expected = np.stack([shrink(CROP.cut(crop, "face"), size) for crop in crops])
        # Where the mean is halfway between two grey levels, OpenCV and torch may round it to different ones.
        assert np.abs(pixels - expected).max() <= 1
        assert (pixels != expected).mean() < 0.01

    def test_torch_and_onnx_agree(self, run_dir: Path) -> None:
        crops = random_crops(5)
        trained, exported = load_run(run_dir, device="cpu")(crops), load_exported(run_dir / "onnx")(crops)
        assert list(trained) == list(exported) == list(TASKS)
        for row in agreements(trained, exported):
            assert row.largest < 5e-3
            assert row.labels == 1
        for task in TASKS:
            np.testing.assert_allclose(np.exp(exported[task].log_probs).sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(exported["age"].values, trained["age"].values, atol=0.5)
        assert (exported["age"].unit, exported["mask"].values) == ("years", None)

    def test_the_number_of_faces_is_free(self, run_dir: Path) -> None:
        exported, crops = load_exported(run_dir / "onnx"), random_crops(11)
        alone = np.concatenate([exported(crops[row : row + 1])["mask"].log_probs for row in range(11)])
        np.testing.assert_allclose(exported(crops)["mask"].log_probs, alone, atol=1e-4)

    @pytest.mark.parametrize("average", ["logit", "log_prob"])
    def test_the_ensemble_s_average_and_temperature(self, average: str, tmp_path: Path) -> None:
        make_run(tmp_path, ("gender",))
        stamp = {"average": average, "temperatures": [3.0], "made_from": {}}
        (tmp_path / "gender.json").write_text(json.dumps(stamp))
        export.main(["--run-dir", str(tmp_path), "--crops", "4"])
        classify = load_run(tmp_path, device="cpu")
        crops = random_crops(4, classify.crop)
        trained, exported = classify(crops), load_exported(tmp_path / "onnx")(crops)
        assert agreements(trained, exported)[0].largest < 5e-3


class TestFile:
    def test_metadata(self, run_dir: Path) -> None:
        about = load_onnx(run_dir / "onnx" / "all.onnx").about
        assert about["crop"] == asdict(CROP)
        assert (about["input"]["height"], about["input"]["width"]) == CROP.shape
        mask, gender, age = about["tasks"]
        assert (mask["name"], mask["classes"]) == ("mask", ["wear", "incorrect", "not_wear"])
        assert (gender["unit"], age["unit"]) == ("", "years")
        assert (mask["window"], mask["network_input"]) == ("wide", [32, 32])
        assert (age["window"], age["network_input"]) == ("face", [32, 26])
        assert age["settings"]["age_edges"] == [25, 40]
        assert mask["normalisation"] == {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
        weights = file_sha256(run_dir / "mask" / "fold1" / "model.safetensors")
        assert mask["folds"][1] == {"fold": 1, "weights_sha256": weights}

    def test_what_is_printed(self, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        export.main(["--run-dir", str(run_dir), "--task", "mask", "--folds", "1", "--out", str(tmp_path)])
        printed = capsys.readouterr().out
        assert "mask.onnx: " in printed
        assert "mask (1 of 2 folds)" in printed
        assert "torch and ONNX on 6 eval crops" in printed
        assert re.search(r"mask +\d\.\d\de-\d+ +\d\.\d\de-\d+ +100\.0%", printed)
        assert re.search(r"crops/s: torch [\d.]+, ONNX [\d.]+ \([\d.]+x\)", printed)
        (task,) = load_onnx(tmp_path / "mask.onnx").about["tasks"]
        assert [fold["fold"] for fold in task["folds"]] == [1]

    def test_int8_is_kept_only_if_it_is_no_worse(
        self, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        argv = ["--run-dir", str(run_dir), "--task", "mask", "--int8", "--out", str(tmp_path), "--crops", "6"]
        small = tmp_path / "mask.int8.onnx"
        monkeypatch.setattr(export, "seconds_each", lambda *_: [1.0, 0.5])
        export.main([*argv, "--least-agreement", "0"])
        assert "floats and int8 on 6 eval crops" in capsys.readouterr().out
        assert small.stat().st_size < (tmp_path / "mask.onnx").stat().st_size
        assert load_onnx(small).about == load_onnx(tmp_path / "mask.onnx").about
        assert list(load_exported(tmp_path)(random_crops(2))) == ["mask"]
        monkeypatch.setattr(export, "seconds_each", lambda *_: [0.5, 0.5])
        export.main([*argv, "--least-agreement", "0"])
        assert "int8 not kept" in capsys.readouterr().out
        assert [path.name for path in tmp_path.glob("*.onnx")] == ["mask.onnx"]

    def test_tasks_that_int8_changes_stay_in_floats(
        self, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(export, "seconds_each", lambda *_: [1.0, 0.5])
        monkeypatch.setattr(export, "agreements", told_apart := ToldApart("gender"))
        export.main(["--run-dir", str(run_dir), "--int8", "--out", str(tmp_path), "--crops", "6", "--folds", "0"])
        assert "back to floats: gender, of whose labels less than 99.0% agree" in capsys.readouterr().out
        assert told_apart.calls == 3
        crops = random_crops(6)
        expected, mixed = (load_exported(tmp_path / f"all{kind}.onnx")(crops) for kind in ("", ".int8"))
        apart = {task: np.abs(mixed[task].log_probs - expected[task].log_probs).max() for task in TASKS}
        assert apart["gender"] < 0.01 < min(apart["mask"], apart["age"])

    def test_int8_is_not_kept_if_a_task_differs_in_floats_too(
        self, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(export, "seconds_each", lambda *_: [1.0, 0.5])
        monkeypatch.setattr(export, "agreements", ToldApart("gender", until=9))
        export.main(["--run-dir", str(run_dir), "--int8", "--out", str(tmp_path), "--crops", "6", "--folds", "0"])
        assert "int8 not kept: too few labels of gender agree, and it is 2.00 times as fast" in capsys.readouterr().out
        assert [path.name for path in tmp_path.glob("*.onnx")] == ["all.onnx"]

    def test_a_run_whose_crops_are_gone_is_compared_on_noise(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_run(tmp_path, ("mask",))
        export.main(["--run-dir", str(tmp_path), "--crops", "3"])
        assert "torch and ONNX on 3 crops of noise" in capsys.readouterr().out


class TestRefusals:
    def test_an_export_that_differs_is_not_left(
        self, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(export, "LARGEST_DIFFERENCE", -1.0)
        refusal(export.main, ["--run-dir", run_dir, "--task", "gender", "--out", tmp_path], "gender differs by")
        assert not list(tmp_path.glob("*.onnx*"))

    def test_bad_files(self, run_dir: Path, tmp_path: Path) -> None:
        photo = tmp_path / "a.png"
        write_photo(photo, crowd(((240, 160, 150),))[0])
        argv = [photo, "--out", tmp_path / "out", "--onnx"]
        refusal(
            predict.main, [*argv, tmp_path / "no.onnx"], "no.onnx: no such file; run `python -m serving.export` first"
        )
        damaged = tmp_path / "damaged.onnx"
        damaged.write_bytes((run_dir / "onnx" / "all.onnx").read_bytes()[:5000])
        refusal(predict.main, [*argv, damaged], "damaged.onnx: no readable ONNX model")
        foreign = tmp_path / "detector.onnx"
        foreign.write_bytes(WEIGHTS)
        refusal(predict.main, [*argv, foreign], "detector.onnx: its metadata lacks 'about'; it was not made by")

    @pytest.mark.parametrize(
        ("about", "words"),
        [
            ("{", "about: not valid JSON"),
            ("[]", "about: expected a JSON object, found a list"),
            ('{"format": 1}', "about: entry crop, tasks is missing"),
            ('{"format": 1, "crop": {}, "tasks": [{"name": "mask"}]}', "a task: entry classes, unit is missing"),
            ('{"format": 1, "crop": {}, "tasks": []}', "crop: entry margin, aspect, size, align is missing"),
        ],
    )
    def test_metadata_from_a_stranger(self, tmp_path: Path, about: str, words: str) -> None:
        model = onnx.load_from_string(WEIGHTS)
        model.metadata_props.add(key="about", value=about)
        onnx.save(model, tmp_path / "odd.onnx")
        with pytest.raises(UserError, match=rf"odd\.onnx: .*{words}"):
            load_exported(tmp_path / "odd.onnx")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"name": "gender", "classes": ["male", "female"]}, "describes outputs"),
            ({"classes": ["wear", "incorrect", "not_wear", "x"]}, "describes outputs"),
            ({"classes": ["wear"]}, "describes outputs"),
            ({"classes": ["wear", 1, None]}, "are not all texts"),
            ({"classes": ["wear", "wear", "not_wear"]}, "are not all different"),
            ({"unit": "years"}, "describes outputs"),
            (None, "describes outputs"),
            ({"size": 48}, "cannot be run"),
        ],
        ids=["task", "more", "fewer", "no text", "twice", "unit", "none", "size"],
    )
    def test_a_description_that_does_not_fit(
        self, run_dir: Path, tmp_path: Path, change: dict | None, words: str
    ) -> None:
        model = onnx.load(run_dir / "onnx" / "all.onnx")
        (entry,) = (entry for entry in model.metadata_props if entry.key == "about")
        about = json.loads(entry.value)
        if change is None:
            about["tasks"] = []
        else:
            about["crop" if "size" in change else "tasks"] = (
                about["crop"] | change if "size" in change else [about["tasks"][0] | change, *about["tasks"][1:]]
            )
        entry.value = json.dumps(about)
        onnx.save(model, tmp_path / "lie.onnx")
        with pytest.raises(UserError, match=rf"lie\.onnx: .*{words}"):
            load_exported(tmp_path / "lie.onnx")

    def test_outputs_that_are_not_finite(self, run_dir: Path, tmp_path: Path) -> None:
        model = onnx.load(run_dir / "onnx" / "all.onnx")
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, np.nan), tensor.name))
        onnx.save(model, tmp_path / "nan.onnx")
        with pytest.raises(UserError, match=r"nan\.onnx: its outputs are not finite"):
            load_exported(tmp_path / "nan.onnx")

    @pytest.mark.parametrize(
        ("name", "nodes", "words"),
        [
            ("photos", (), "its inputs are .*photos.*, expected crops alone"),
            ("crops", ("Identity",), "describes outputs .*, the model has .*1, 3"),
            ("crops", ("Tile",), "the outputs of mask are no logarithms of probabilities"),
            ("crops", ("Tile", "Cast"), "its outputs are not finite numbers"),
        ],
        ids=["input", "one row", "no probabilities", "texts"],
    )
    def test_graphs_of_strangers(
        self, run_dir: Path, tmp_path: Path, name: str, nodes: Sequence[str], words: str
    ) -> None:
        save_graph(tmp_path / "odd.onnx", run_dir, name, nodes)
        with pytest.raises(UserError, match=rf"odd\.onnx: .*{words}"):
            load_exported(tmp_path / "odd.onnx")

    def test_a_model_that_takes_a_fixed_number_of_crops(self, run_dir: Path, tmp_path: Path) -> None:
        model = onnx.load(run_dir / "onnx" / "all.onnx")
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        onnx.save(model, tmp_path / "two.onnx")
        exported = load_exported(tmp_path / "two.onnx")
        crop = np.zeros((*exported.crop.shape, 3), np.uint8)
        assert set(exported([crop, crop])) == {"mask", "gender", "age"}
        with pytest.raises(UserError, match=r"two\.onnx: cannot be run .*Got: 3 Expected: 2"):
            exported([crop] * 3)

    def test_two_files_that_do_not_go_together(self, run_dir: Path, tmp_path: Path) -> None:
        folder = tmp_path / "onnx"
        make_run(tmp_path / "other", ("mask",), crop=CropSettings(0.3, 0.8, 40))
        for source, name in ((run_dir, "all"), (tmp_path / "other", "mask")):
            export.main(["--run-dir", str(source), "--task", name, "--out", str(folder), "--crops", "2"])
        argv = [ROOT / "docs" / "images" / "sample_people.jpg", "--out", tmp_path / "out", "--onnx", folder]
        refusal(predict.main, argv, "mask.onnx wants other crops than", "all.onnx")
        export.main(["--run-dir", str(run_dir), "--task", "mask", "--out", str(folder), "--crops", "2"])
        refusal(predict.main, argv, "mask.onnx and", "both predict mask; choose a file: --onnx", "all.onnx")


class TestWithoutTorch:
    def test_the_lines_of_the_documentation(self, run_dir: Path, tmp_path: Path) -> None:
        ten, whole = python_blocks(ROOT / "docs" / "deploy.md")
        assert len(re.findall(r"^(?!import)\S.*|^ .*", ten, re.MULTILINE)) <= 10
        (tmp_path / "outputs" / "default").mkdir(parents=True)
        (tmp_path / "outputs" / "default" / "onnx").symlink_to(run_dir / "onnx")
        crop = random_crops(1)[0]
        write_photo(tmp_path / "crop.png", crop)
        write_photo(tmp_path / "photo.jpg", crowd(((240, 160, 150),))[0])
        expected = load_run(run_dir, device="cpu")([crop])
        printed = [line.split() for line in without_torch(ten, tmp_path).splitlines()]
        assert [task for task, _, _ in printed] == list(TASKS)
        for task, label, probability in printed:
            probs = np.exp(expected[task].log_probs[0])
            assert label == expected[task].classes[probs.argmax()]
            assert float(probability) == pytest.approx(probs.max(), abs=5e-3)
        assert re.fullmatch(
            r"Box\(.*\) \{'mask': '.*', 'gender': '.*', 'age': '.*'\}\n", without_torch(whole, tmp_path)
        )

    def test_predict(self, run_dir: Path, tmp_path: Path) -> None:
        write_photo(tmp_path / "a.png", crowd(((240, 160, 150),))[0])
        model = str(run_dir / "onnx" / "all.onnx")
        argv = ["a.png", "--onnx", model, "--format", "csv"]
        without_torch(f"import predict\npredict.main({argv!r})", tmp_path)
        (row,) = table(tmp_path / "predictions" / "predictions.csv").to_dict("records")
        predict.main([str(tmp_path / "a.png"), "--run-dir", str(run_dir), "--out", str(tmp_path / "torch"),
                      "--format", "csv"])  # fmt: skip
        (of_torch,) = table(tmp_path / "torch" / "predictions.csv").to_dict("records")
        for column in ("mask_wear", "gender_male", "age_old"):
            assert row[column] == pytest.approx(of_torch[column], abs=5e-3)
        assert row["age_years"] == pytest.approx(of_torch["age_years"], abs=0.5)


def test_classifiers_are_timed_in_turn() -> None:
    calls: list[str] = []
    taken = seconds_each([lambda _: calls.append("a"), lambda _: calls.append("b")], random_crops(2), rounds=2)
    assert calls == list("ababab")
    assert len(taken) == 2


def test_onnxruntime_alone_reads_the_metadata(run_dir: Path) -> None:
    session = onnxruntime.InferenceSession(str(run_dir / "onnx" / "all.onnx"))
    assert [output.name for output in session.get_outputs()] == ["mask", "gender", "age", "age_years"]
    assert session.get_inputs()[0].type == "tensor(uint8)"
    assert session.get_inputs()[0].shape == ["faces", *CROP.shape, 3]

"""The Python API: load_model from every source, photos of every kind, and results as dictionary, table and picture."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from serving_toys import crowd, make_run

import predict
from core.cli import UserError
from core.images import read_photo, write_photo
from serving import load_model, publish
from serving.api import Model

ROOT = Path(__file__).resolve().parents[1]
CROWD = ((80, 100, 110), (240, 160, 160))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("api") / "run", refit=True, head="values")


@pytest.fixture(scope="module")
def model(run_dir: Path) -> Model:
    return load_model(run_dir)


@pytest.fixture(scope="module")
def photo(run_dir: Path) -> Path:
    path = run_dir.parent / "photo.png"
    write_photo(path, crowd(CROWD)[0])
    return path


class TestResults:
    def test_what_is_known_of_a_face(self, model: Model, photo: Path) -> None:
        faces = model(photo)
        assert len(faces) == 2
        face = faces[0]
        assert face.box.width > faces[1].box.width
        assert 0.9 < face.score <= 1
        assert face.mask.label in ("wear", "incorrect", "not_wear")
        assert sum(face.mask.probabilities.values()) == pytest.approx(1)
        assert face.mask.probabilities[face.mask.label] == pytest.approx(face.mask.probability)
        assert (face.age.unit, face.gender.value) == ("years", None)
        assert face.unsure == any(prediction.unsure for prediction in face.predictions.values())
        with pytest.raises(AttributeError, match="'glasses' is not predicted for this face"):
            face.glasses  # noqa: B018

    def test_the_dictionary_is_that_of_predict(self, model: Model, run_dir: Path, photo: Path, tmp_path: Path) -> None:
        predict.main([str(photo), "--run-dir", str(run_dir), "--out", str(tmp_path)])
        (expected,) = json.loads((tmp_path / "predictions.json").read_text())["pictures"]
        assert model(photo).to_dict() == expected | {"photo": str(photo)}

    def test_the_table_is_that_of_predict(self, model: Model, run_dir: Path, photo: Path, tmp_path: Path) -> None:
        predict.main([str(photo), "--run-dir", str(run_dir), "--out", str(tmp_path), "--format", "csv"])
        expected = pd.read_csv(tmp_path / "predictions.csv").assign(photo=str(photo))
        pd.testing.assert_frame_equal(model(photo).to_frame(), expected, check_dtype=False)
        assert model(np.zeros((64, 64, 3), np.uint8)).to_frame()["face"].isna().all()

    def test_the_drawing_is_that_of_predict(self, model: Model, run_dir: Path, photo: Path, tmp_path: Path) -> None:
        predict.main([str(photo), "--run-dir", str(run_dir), "--out", str(tmp_path)])
        np.testing.assert_array_equal(np.asarray(model(photo).draw()), read_photo(tmp_path / "photo.png"))


class TestPhotos:
    def test_a_path_an_array_and_a_picture_give_the_same(self, model: Model, photo: Path) -> None:
        rgb, expected = read_photo(photo), model(photo).to_dict()["faces"]
        for same in (str(photo), rgb, Image.fromarray(rgb), Image.open(photo)):
            assert model(same).to_dict()["faces"] == expected

    def test_a_picture_that_was_given_stays_as_it_was(self, model: Model, photo: Path) -> None:
        turned = Image.open(photo)
        turned.getexif()[0x0112] = 6
        width, height = turned.size
        assert model(turned).image.shape[:2] == (width, height)
        assert (turned.size, turned.getexif()[0x0112]) == ((width, height), 6)

    def test_a_list_gives_a_list(self, model: Model, photo: Path) -> None:
        found = model([photo, np.zeros((64, 64, 3), np.uint8)])
        assert [len(faces) for faces in found] == [2, 0]
        assert model([]) == []

    @pytest.mark.parametrize(
        ("photo", "words"),
        [
            (np.zeros((8, 8), np.uint8), r"shape \(8, 8\), uint8: allowed is \(height, width, 3\) uint8, RGB"),
            (np.zeros((8, 8, 3)), r"float64"),
            (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\)"),
            (Image.new("RGB", (0, 8)), r"shape \(8, 0, 3\)"),
            (Image.new("F", (8, 8)), "PIL image of mode F: numbers of 32 bits a pixel"),
            (7, "photo of type int: allowed are a path, an array and a PIL image"),
            ("none.jpg", r"none\.jpg: No such file"),
        ],
        ids=["grey", "floats", "empty", "empty picture", "wide numbers", "number", "missing"],
    )
    def test_what_is_no_photo(self, model: Model, photo: object, words: str) -> None:
        with pytest.raises(UserError, match=words):
            model(photo)


class TestSources:
    def test_a_run_a_model_folder_and_an_exported_file(self, run_dir: Path, photo: Path, tmp_path: Path) -> None:
        from serving import export

        publish.main(["--run-dir", str(run_dir), "--out", str(tmp_path / "mine"), "--crops", "4"])
        export.main(["--run-dir", str(run_dir), "--out", str(tmp_path / "onnx"), "--crops", "4"])
        sources = (run_dir, tmp_path / "mine", tmp_path / "onnx", tmp_path / "onnx" / "all.onnx")
        models = [load_model(source) for source in sources]
        said = [[face.mask.probability for face in model(photo)] for model in models]
        np.testing.assert_allclose(said, [said[0]] * len(said), atol=0.02)
        assert [repr(model).split()[0] for model in models] == ["models", "model", "exported", "exported"]
        assert all(model.tasks == ("mask", "gender", "age") for model in models)

    def test_tasks_folds_and_what_is_unsure(self, run_dir: Path, photo: Path) -> None:
        model = load_model(str(run_dir), tasks=["mask"], folds=(), unsure_below=1.0)
        assert "mask (1 of 2 folds)" in load_model(run_dir, folds=[0, 0]).about
        assert model.tasks == ("mask",)
        assert "mask (2 of 2 folds)" in model.about
        assert all(face.unsure for face in model(photo))

    def test_nothing_named_is_the_starter(self, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        publish.main(["--run-dir", str(run_dir), "--out", str(tmp_path / "starter"), "--crops", "4"])
        monkeypatch.setattr("serving.api.STARTER", tmp_path / "starter")
        assert load_model().about.startswith("model starter")

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"unsure_below": float("nan")}, "unsure_below nan, least_size 16: allowed are a number from 0 to 1"),
            ({"unsure_below": 2}, "unsure_below 2"),
            ({"least_size": 0}, "least_size 0"),
            ({"tasks": "mask"}, r"tasks 'mask': give a list, such as \['mask'\]"),
            ({"device": "nonsense"}, "device nonsense: cannot be used"),
        ],
    )
    def test_values_that_are_not_allowed(self, run_dir: Path, given: dict[str, object], words: str) -> None:
        with pytest.raises(UserError, match=words):
            load_model(run_dir, **given)

    def test_what_is_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="allowed are a run folder, a model folder"):
            load_model(tmp_path)


def test_the_import_alone_loads_no_torch() -> None:
    code = "import sys; from serving import load_model; print(sorted({'torch', 'timm', 'onnx'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_other_names_are_not_there() -> None:
    with pytest.raises(ImportError, match="load_models"):
        from serving import load_models  # noqa: F401


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_the_lines_of_the_documents(
    page: str, run_dir: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (lines,) = [block for block in blocks if "load_model" in block]
    assert len([line for line in lines.splitlines() if line.strip()]) <= 10
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "default").symlink_to(run_dir)
    Image.open(photo).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, page, "exec"), {})
    assert (tmp_path / "drawn.jpg").exists()

"""Heads trained on stored features: training, prediction, serving and export, and what is refused by name."""

import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_resume import assert_same_fold, stop_at
from timm.models.efficientnet import EfficientNet
from toy_data import ALL_TASKS, FAST, Toy, infer, refusal, sign, snapshot, table, train_toy

import inference
import train
from core.cli import UserError
from core.cropping import CropImages
from core.files import read_json, write_json
from core.images import read_photo
from core.tasks import task_named
from dataset import Draw
from evaluation.logits import average_log_probs
from serving import export
from serving.agreement import agreements
from serving.onnx_model import load_exported
from serving.torch_model import load_run
from storage.crops import load_crops
from training import feature_cache, inputs
from training import fold as fold_training
from training.config import resolve
from training.engine import Trainer
from training.feature_cache import FeatureDataset
from training.fold_setup import FoldData, FoldTraining, prepare_fold
from training.inputs import PixelInput, PredictOptions
from training.predictor import Prediction, Predictor, load_predictor, predict_crops, predict_images

pytest_plugins = ("toy_fixtures",)

FROZEN = (
    *("--backbone", "test_efficientnet_ln", "--backbone-lr", "0", "--lr", "0.05", "--tta", "flip"),
    *("--window", "face"),
)
SETTINGS = {
    **{"backbone": "test_efficientnet_ln", "backbone_lr": 0.0, "pretrained": False, "image_size": 32, "folds": 2},
    **{"workers": 0, "device": "cpu", "window": "face"},
}
OUTPUTS = {"mask": 3, "gender": 2, "age": 101}


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """inference.py shares out all cores; tiny networks are slower on several."""
    monkeypatch.setattr("inference.cpu_count", lambda: 1)


@pytest.fixture(scope="module")
def crop_dir(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(toy.crop_dir, tmp_path_factory.mktemp("frozen") / "crops")


@pytest.fixture(scope="module")
def run_dir(crop_dir: Path) -> Path:
    """All tasks on one frozen backbone; age learned by years."""
    train_toy(crop_dir, crop_dir.parent / "run", ALL_TASKS, FROZEN)
    return crop_dir.parent / "run"


@pytest.fixture(scope="module")
def mixed_run(crop_dir: Path) -> Path:
    """A fold of each task: two frozen backbones, and a network that has learned whole."""
    run_dir = crop_dir.parent / "mixed"
    for task, flags in (("mask", ("--backbone-lr", "1")), ("gender", ()), ("age", ("--seed", "1"))):
        train_toy(crop_dir, run_dir, (task,), (*FROZEN, "--fold", "0", "--epochs", "1", *flags))
    return run_dir


@pytest.fixture
def run_copy(run_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run_dir, tmp_path / "run")


@pytest.fixture
def backbones_run(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of the backbones that compute features of pictures in memory, as they do."""
    asked, image_features = [], inputs.image_features

    def record(fold_input: inputs.FeatureInput, *args: object, **options: object) -> torch.Tensor:
        asked.append(fold_input.backbone.weights.name)
        return image_features(fold_input, *args, **options)

    monkeypatch.setattr(inputs, "image_features", record)
    return asked


def whole_network(predictor: Predictor, images: Sequence[np.ndarray], *, tta: str = "flip") -> Prediction:
    """What the whole network predicts from pixels, features aside."""
    on_pixels = replace(predictor, input=PixelInput(predictor.config, predictor.input.shown))
    return predict_images(
        on_pixels, CropImages(images, replace(predictor.crop, surroundings=False)), PredictOptions("cpu", tta=tta)
    )


def pictures_of(crop_dir: Path, split: str) -> dict[str, np.ndarray]:
    crops = load_crops(crop_dir, split)
    faces = (crops.settings.cut(read_photo(path), "face") for path in crops.paths)
    return dict(zip(crops.image_ids, faces, strict=True))


def said_alone(predictor: Predictor, path: Path, crop_dir: Path, *, tta: str = "flip") -> np.ndarray:
    """What the whole network says of the eval photos, in the order of a table."""
    pictures = pictures_of(crop_dir, "eval")
    asked = [pictures[name] for name in table(path)["image_id"]]
    return whole_network(predictor, asked, tta=tta).logits


def eval_pictures(crop_dir: Path) -> list[np.ndarray]:
    return list(pictures_of(crop_dir, "eval").values())


def logits_in(path: Path) -> np.ndarray:
    return table(path).drop(columns="image_id").to_numpy(np.float32)


def assert_close(found: np.ndarray, expected: np.ndarray, share: float = 0.01) -> None:
    """Equal but for what float16 features may change, which is little beside what tells the photos apart."""
    spread = float(np.ptp(expected, axis=0).max())
    assert spread > 0
    assert np.abs(found - expected).max() < share * spread


def argv_of(crop_dir: Path, run_dir: Path, *flags: str) -> list[str]:
    return ["--task", "gender", "--crop-dir", str(crop_dir), "--run-dir", str(run_dir), *FAST, *FROZEN, *flags]


class TestTraining:
    def test_one_file_of_weights_for_all_folds_and_heads_alone_in_theirs(self, run_dir: Path) -> None:
        (backbone,) = (run_dir / "backbones").iterdir()
        assert not [name for name in load_file(backbone) if name.startswith("classifier")]
        for task, outputs in OUTPUTS.items():
            for fold in (0, 1):
                fold_dir = run_dir / task / f"fold{fold}"
                assert read_json(fold_dir / "config.json")["backbone_file"] == backbone.name
                shapes = {
                    name: tuple(tensor.shape) for name, tensor in load_file(fold_dir / "model.safetensors").items()
                }
                codes = 1 if task == "age" else outputs
                assert shapes == {
                    **{"learned.weight": (outputs, 256), "learned.bias": (outputs,), "ridge.mean": (256,)},
                    **{"ridge.weight": (codes, 256), "ridge.codes": (outputs, codes), "ridge.cost": (outputs,)},
                }

    def test_a_network_loaded_has_the_stored_backbone_and_shares_its_memory(self, run_dir: Path) -> None:
        (path,) = (run_dir / "backbones").iterdir()
        known: dict = {}
        networks = [load_predictor(run_dir / task / "fold1", task, known).model.network for task in ("mask", "age")]
        for name, tensor in load_file(path).items():
            one, other = (network.state_dict()[name] for network in networks)
            assert torch.equal(one, tensor), name
            assert one.data_ptr() == other.data_ptr(), name

    @pytest.mark.parametrize("task", ALL_TASKS)
    def test_out_of_fold_logits_are_those_of_the_photos(self, task: str, run_dir: Path, crop_dir: Path) -> None:
        pictures = pictures_of(crop_dir, "train")
        for fold in (0, 1):
            fold_dir = run_dir / task / f"fold{fold}"
            held_out = table(fold_dir / "oof.csv")["image_id"]
            assert len(held_out) == 42
            expected = whole_network(load_predictor(fold_dir, task), [pictures[name] for name in held_out])
            assert_close(logits_in(fold_dir / "oof.csv"), expected.logits)
            assert (expected.value is not None) == (task == "age")
            if expected.value is not None:
                assert_close(table(fold_dir / "oof_years.csv")["years"].to_numpy(), expected.value)

    def test_years_begin_at_the_shares_of_the_people_learned_from(self, crop_dir: Path, tmp_path: Path) -> None:
        """Four people of 20, 31 and 61 years each, of whom the first two are held out."""
        crops = load_crops(crop_dir, "train")
        fold_of = {person: int(number >= 2) for number, person in enumerate(sorted(set(crops.frame["person"])))}
        task, config = task_named("age"), resolve("age", "smoke", {**SETTINGS, "drop_rate": 0.0, "ridge_share": 0.0})
        data = FoldData(task, 0, crops, crops.labels(task, config.age_edges), fold_of)
        training = prepare_fold(data, config, data.input_for(config).prepared(tmp_path))
        learned, labels = data.part(out_of_fold=False)
        with torch.no_grad():
            outputs = training.learner.eval()(torch.zeros(1, 256))
        shares = np.bincount(labels, minlength=3) / len(learned.image_ids)
        assert len(set(shares)) > 1
        # Ages are softened by 3 years, and the tails of three ages lie beyond an edge.
        assert training.head.class_logits(outputs).softmax(dim=1)[0].tolist() == pytest.approx(shares, abs=0.06)

    @pytest.mark.parametrize("tta", ["none", "flip"])
    def test_crops_of_a_split(self, tta: str, run_dir: Path, crop_dir: Path) -> None:
        predictor = load_predictor(run_dir / "gender" / "fold0", "gender")
        found = predict_crops(predictor, load_crops(crop_dir, "eval"), PredictOptions("cpu", 0, tta))
        assert_close(found.logits, whole_network(predictor, eval_pictures(crop_dir), tta=tta).logits)

    def test_a_second_run_does_nothing(self, run_dir: Path, crop_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = snapshot(run_dir, crop_dir)
        train_toy(crop_dir, run_dir, ALL_TASKS, FROZEN)
        printed = capsys.readouterr().out
        assert all(f"{task} fold {fold}: done already" in printed for task in ALL_TASKS for fold in (0, 1))
        assert "features of" not in printed
        assert snapshot(run_dir, crop_dir) == before

    def test_another_run_on_the_same_crops_computes_no_features(
        self, run_dir: Path, crop_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(feature_cache, "features_of", None)
        train_toy(crop_dir, tmp_path, ("gender",), (*FROZEN, "--fold", "1"))
        assert_same_fold(tmp_path / "gender" / "fold1", run_dir / "gender" / "fold1")

    def test_nothing_of_the_backbone_moves(
        self, crop_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also not the statistics of its batch normalisation."""
        states, run_epochs = [], fold_training.run_epochs

        def record(fold_dir: Path, training: FoldTraining, *rest: object) -> None:
            states.append({name: tensor.clone() for name, tensor in training.model.network.state_dict().items()})
            run_epochs(fold_dir, training, *rest)
            states.append(training.model.network.state_dict())

        monkeypatch.setattr(fold_training, "run_epochs", record)
        flags = (*FROZEN, "--backbone", "test_efficientnet", "--fold", "0")
        train_toy(crop_dir, tmp_path, ("gender",), flags)
        before, after = states
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {"classifier.learned.weight", "classifier.learned.bias"}
        assert [name for name in before if name.endswith("running_var")]

    @pytest.mark.parametrize(
        ("flags", "views"),
        [
            (("--augment", "none"), {0}),
            (("--augment", "flip"), {0, 1}),
            (("--augment", "standard", "--views", "2"), {0, 1, 2, 3}),
            (("--augment", "strong", "--views", "1"), {0, 1, 2}),
        ],
    )
    def test_an_epoch_learns_from_each_of_these_views(
        self, flags: tuple[str, ...], views: set[int], crop_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown, kept, get = defaultdict(list), {}, FeatureDataset.__getitem__

        def record(self: FeatureDataset, item: int | Draw) -> tuple:
            found = get(self, item)
            stored = [view.tobytes() for view in self.cache.views(self.rows[found[2]]).astype(np.float32)]
            if isinstance(item, Draw):
                shown[item.index].append(found[0].numpy().tobytes())
                kept[item.index] = stored
            else:
                assert found[0].numpy().tobytes() == stored[0]
            return found

        monkeypatch.setattr(FeatureDataset, "__getitem__", record)
        one_by_one = ("--fold", "0", "--epochs", "1", "--batch-size", "1")
        train_toy(crop_dir, tmp_path, ("gender",), (*FROZEN, *one_by_one, *flags))
        assert shown
        for index, seen in shown.items():
            assert sorted(seen) == sorted(kept[index][view] for view in views)


class TestResume:
    @pytest.mark.parametrize(
        ("owner", "name", "call"),
        [
            (Trainer, "_step", 1),
            (Trainer, "_step", 4),
            (feature_cache.Shard, "make", 3),
            (fold_training, "write_prediction", 1),
        ],
        ids=["before anything is learned", "in epoch 2", "while features are computed", "before the table"],
    )
    def test_it_ends_with_the_same_bytes(
        self, owner: object, name: str, call: int, crop_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flags = (*FROZEN, "--fold", "1", "--augment", "none")
        monkeypatch.setattr(feature_cache, "SHARD", 20)
        ignore = shutil.ignore_patterns("features", "pixels")
        folders = [shutil.copytree(crop_dir, tmp_path / f"crops{number}", ignore=ignore) for number in (0, 1)]
        train_toy(folders[0], tmp_path / "whole", ("gender",), flags)
        with monkeypatch.context() as patched:
            stop_at(patched, owner, name, call=call)
            with pytest.raises(KeyboardInterrupt):
                train_toy(folders[1], tmp_path / "stopped", ("gender",), flags)
        train_toy(folders[1], tmp_path / "stopped", ("gender",), flags)
        assert_same_fold(tmp_path / "stopped" / "gender" / "fold1", tmp_path / "whole" / "gender" / "fold1")

    def test_a_fold_begun_on_another_backbone_is_refused(
        self, crop_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_dir = tmp_path / "run"
        train_toy(crop_dir, run_dir, ("gender",), (*FROZEN, "--fold", "0"))
        with monkeypatch.context() as patched:
            stop_at(patched, Trainer, "_step", call=4)
            with pytest.raises(KeyboardInterrupt):
                train_toy(crop_dir, run_dir, ("gender",), (*FROZEN, "--fold", "1"))
        config = run_dir / "gender" / "fold1" / "config.json"
        now = read_json(config)["backbone_file"]
        write_json(config, read_json(config) | {"backbone_file": "other.safetensors"})
        refusal(
            train.main, argv_of(crop_dir, run_dir),
            f"{config}: trained with backbone_file 'other.safetensors', now '{now}'; give another --run-dir",
            untouched=[run_dir],
        )  # fmt: skip

    def test_a_fold_that_learned_whole_is_not_gone_on_with(self, mixed_run: Path, crop_dir: Path) -> None:
        argv = argv_of(crop_dir, mixed_run, "--fold", "0", "--epochs", "1", "--backbone-lr", "0.5")
        refusal(train.main, argv, "trained with backbone_lr 0.0, now 0.5", untouched=[mixed_run])


class TestInference:
    def test_all_folds_from_features_computed_once(
        self, run_copy: Path, crop_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for folder in (crop_dir / "features").glob("eval-*"):
            shutil.rmtree(folder)
        shapes, compute = [], feature_cache.features_of

        def record(model: object, pictures: np.ndarray, *args: object) -> np.ndarray:
            shapes.append(pictures.shape)
            return compute(model, pictures, *args)

        monkeypatch.setattr(feature_cache, "features_of", record)
        infer(run_copy)
        assert shapes == [(14, 32, 32, 3)]
        assert capsys.readouterr().out.count("features of 7 photos, for all folds") == 1
        assert len(list((crop_dir / "features").glob("eval-*"))) == 1
        for task in ALL_TASKS:
            for fold_dir in (run_copy / task).glob("fold*"):
                expected = said_alone(load_predictor(fold_dir, task), fold_dir / "eval.csv", crop_dir)
                assert_close(logits_in(fold_dir / "eval.csv"), expected)
        before = snapshot(run_copy, crop_dir)
        infer(run_copy)
        printed = capsys.readouterr().out
        assert printed.count("eval logits are up to date") == 6
        assert "features of" not in printed
        assert snapshot(run_copy, crop_dir) == before
        assert len(shapes) == 1

    def test_without_mirror_images(self, run_copy: Path, crop_dir: Path) -> None:
        infer(run_copy, "--task", "gender", "--tta", "none")
        fold_dir = run_copy / "gender" / "fold1"
        expected = said_alone(load_predictor(fold_dir, "gender"), fold_dir / "eval.csv", crop_dir, tta="none")
        assert_close(logits_in(fold_dir / "eval.csv"), expected)

    def test_pictures_are_normalised_as_config_json_says(self, run_copy: Path, crop_dir: Path) -> None:
        config = run_copy / "gender" / "fold0" / "config.json"
        write_json(config, read_json(config) | {"normalisation": {"mean": [0.9, 0.1, 0.1], "std": [0.1, 0.9, 0.5]}})
        sign(config)
        eval_path = config.with_name("eval.csv")
        infer(run_copy, "--task", "gender")
        expected = said_alone(load_predictor(config.parent, "gender"), eval_path, crop_dir)
        assert_close(logits_in(eval_path), expected)


class TestServing:
    def test_a_backbone_is_asked_once_for_all_folds(
        self, run_dir: Path, crop_dir: Path, backbones_run: list[str]
    ) -> None:
        (backbone,) = (run_dir / "backbones").iterdir()
        pictures = eval_pictures(crop_dir)
        scores = load_run(run_dir, device="cpu")(pictures)
        assert backbones_run == [backbone.name]
        assert_scores(scores, run_dir, pictures)

    def test_each_of_two_backbones_is_asked_once(
        self, mixed_run: Path, crop_dir: Path, backbones_run: list[str]
    ) -> None:
        pictures = eval_pictures(crop_dir)
        scores = load_run(mixed_run, device="cpu")(pictures)
        assert sorted(backbones_run) == sorted(path.name for path in (mixed_run / "backbones").iterdir())
        assert len(backbones_run) == 2
        assert_scores(scores, mixed_run, pictures)

    @pytest.mark.parametrize(("kind", "backbones"), [("run", 1), ("mixed", 3)])
    def test_the_export_agrees_and_holds_each_backbone_once(
        self, kind: str, backbones: int, request: pytest.FixtureRequest, crop_dir: Path, tmp_path: Path
    ) -> None:
        run_dir = request.getfixturevalue({"run": "run_dir", "mixed": "mixed_run"}[kind])
        export.main(["--run-dir", str(run_dir), "--out", str(tmp_path), "--crops", "6"])
        pictures = np.stack(eval_pictures(crop_dir))
        trained, exported = load_run(run_dir, device="cpu")(pictures), load_exported(tmp_path)(pictures)
        for row in agreements(trained, exported):
            assert row.largest < 1e-4
        for task in ALL_TASKS:
            np.testing.assert_allclose(exported[task].log_probs, trained[task].log_probs, atol=1e-3)
        np.testing.assert_allclose(exported["age"].values, trained["age"].values, atol=1e-2)
        tensors = onnx.load(tmp_path / "all.onnx").graph.initializer
        weights = sum(int(np.prod(tensor.dims)) for tensor in tensors)
        of_backbone = sum(tensor.numel() for tensor in load_file(next((run_dir / "backbones").iterdir())).values())
        assert 0.9 * backbones < weights / of_backbone < backbones + 0.9
        assert onnxruntime.InferenceSession(tmp_path / "all.onnx").get_outputs()[0].name == "mask"


def assert_scores(scores: dict, run_dir: Path, pictures: list[np.ndarray]) -> None:
    """The scores are the folds' averages, each fold asked alone."""
    for task in ALL_TASKS:
        folds = [load_predictor(folder, task) for folder in sorted((run_dir / task).glob("fold*"))]
        alone = [whole_network(predictor, pictures) for predictor in folds]
        expected = average_log_probs(np.stack([prediction.logits for prediction in alone]))
        np.testing.assert_allclose(scores[task].log_probs, expected, atol=1e-4)
    np.testing.assert_allclose(scores["age"].values, np.mean([each.value for each in alone], axis=0), atol=1e-3)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def with_other_shapes(path: Path) -> None:
    save_file({name: torch.zeros(2) for name in load_file(path)}, path)


class TestRefusals:
    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (Path.unlink, "no such file"),
            (damage, "damaged or no safetensors file"),
            (lambda path: path.write_bytes(b""), "damaged or no safetensors file"),
            (with_other_shapes, "weights of another architecture"),
            (lambda path: save_file({}, path), "weights of another architecture"),
        ],
        ids=["missing", "a bit flipped", "empty", "other shapes", "no tensors"],
    )
    def test_a_spoilt_backbone(self, spoil: Callable[[Path], object], words: str, run_copy: Path) -> None:
        (backbone,) = (run_copy / "backbones").iterdir()
        spoil(backbone)
        with pytest.raises(UserError) as caught:
            load_predictor(run_copy / "gender" / "fold0", "gender")
        assert str(caught.value).startswith(f"{backbone}: {words}")
        refusal(
            inference.main, ["--run-dir", run_copy, "--task", "gender", "--tta", "none", "--device", "cpu"],
            str(backbone), untouched=[run_copy],
        )  # fmt: skip

    def test_a_network_with_two_heads(self, crop_dir: Path, tmp_path: Path) -> None:
        argv = argv_of(crop_dir, tmp_path / "run", "--backbone", "deit_tiny_distilled_patch16_224")
        refusal(train.main, argv, "--backbone-lr 0: ", "has no head of its own", untouched=[crop_dir])
        assert not (tmp_path / "run").exists()

    def test_a_network_without_a_head_apart(
        self, crop_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(EfficientNet, "forward_head")
        argv = argv_of(crop_dir, tmp_path / "run")
        refusal(train.main, argv, "--backbone-lr 0: EfficientNet has no head of its own", untouched=[crop_dir])
        assert not (tmp_path / "run").exists()


def test_a_frozen_backbone_of_random_weights_is_warned_of(
    crop_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (*FROZEN, "--fold", "0", "--epochs", "1")
    train_toy(crop_dir, tmp_path / "run", flags=flags)
    warning = "warning: mask: backbone test_efficientnet_ln has random weights (--no-pretrained) and learns nothing"
    assert capsys.readouterr().out.count(warning) == 1

"""The report of finished, unfinished and odd runs: its texts, and that the page is self-contained."""

import importlib
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from timm.models import SwinTransformer, VisionTransformer
from toy_data import (
    Toy,
    ToyRun,
    edit_csv,
    infer,
    make_photos,
    make_remade,
    prepare,
    refusal,
    sign,
    table,
    train_toy,
)

import ensemble
import submission
from core.cli import UserError
from core.cropping import CropImages
from core.files import read_json, write_json
from core.images import read_photo
from core.tasks import task_named
from evaluation import scores
from evaluation.metrics import count_errors
from evaluation.predictions import TaskPredictions, worst_mistakes
from model import build_model
from reporting import __main__ as report
from reporting.data_sections import folds_section, training_section
from reporting.i18n import INSTALL_GRADCAM
from reporting.load import RunData, gather
from reporting.result_sections import (
    groups_section,
    least_sure,
    scores_section,
    unsure_section,
    years_section,
)

pytest_plugins = ("toy_fixtures",)
KOREAN = re.compile("[가-힣]")


def page_of(run_dir: Path, *flags: str) -> str:
    """The page that report.py writes, without heat unless a flag asks for it."""
    report.main(["--run-dir", str(run_dir), "--no-heat", *flags])
    return (run_dir / "report" / "index.html").read_text(encoding="utf-8")


def section(page: str, name: str) -> str:
    """One section's text in English, without tags."""
    inside = page.split(f'<section id="{name}">')[1].split("</section>")[0]
    return " ".join(re.sub("<[^>]+>", " ", inside).split())


def gradcam_or_skip() -> ModuleType:
    pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    return importlib.import_module("reporting.gradcam")


def answers(probs: list[list[float]], truth: list[int], persons: str) -> TaskPredictions:
    """Predictions of the gender task; `persons` has one letter a photo."""
    table = np.array(probs)
    ids = tuple(f"{person}/{row}" for row, person in enumerate(persons))
    arrays = np.log(table), table.argmax(axis=1), np.array(truth), np.full(len(truth), np.nan)
    return TaskPredictions(task_named("gender"), ids, tuple(persons), *arrays)


@pytest.fixture(scope="module")
def toy_page(toy_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> str:
    run_dir = shutil.copytree(toy_run.run_dir, tmp_path_factory.mktemp("report") / "run <script>")
    return page_of(run_dir)


class TestThePage:
    def test_it_needs_nothing_but_itself(self, toy_page: str) -> None:
        assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", toy_page)
        assert "://" not in toy_page
        assert "url(" not in toy_page

    def test_a_name_of_the_run_is_escaped(self, toy_page: str) -> None:
        assert "run &lt;script&gt;" in toy_page
        assert toy_page.count("<script>") == 1

    def test_every_section_is_there_and_reached(self, toy_page: str) -> None:
        sections = re.findall(r'<section id="(\w+)">', toy_page)
        assert sections == re.findall(r'<a href="#(\w+)">', toy_page)
        assert len(sections) == 14

    def test_the_same_run_gives_the_same_page(self, run_copy: ToyRun) -> None:
        assert page_of(run_copy.run_dir) == page_of(run_copy.run_dir)
        assert [path.name for path in (run_copy.run_dir / "report").iterdir()] == ["index.html"]

    def test_it_is_of_a_sane_size(self, toy_page: str) -> None:
        assert len(toy_page) < 1_000_000

    def test_one_language_alone(self, run_copy: ToyRun) -> None:
        english, korean = (page_of(run_copy.run_dir, "--language", language) for language in ("en", "ko"))
        assert not KOREAN.search(english)
        assert '<html lang="en">' in english
        assert "학습용 인물의 나이" in korean
        assert "Ages of the training people" not in korean
        assert 'id="language"' not in english + korean

    def test_pictures_of_training_and_eval_photos(self, toy_page: str) -> None:
        assert toy_page.count("data:image/jpeg;base64,") > 30
        assert 'alt="000000-1_male_Asian_20/' in toy_page


class TestTheNumbers:
    def test_scores_are_those_of_the_submission(self, toy_run: ToyRun) -> None:
        written = read_json(toy_run.run_dir / "scores.json")
        parts = scores_section(gather(toy_run.run_dir))["parts"]
        assert [part["split"] for part in parts] == ["oof", "eval"]
        for part in parts:
            combined, *tasks = part["rows"]
            of_split = written[part["split"]]
            assert combined["found"] == of_split["model"]["combined"]
            assert combined["naive"] == of_split["majority"]["combined"]
            assert {row["name"]: row["found"] for row in tasks} == of_split["model"]["tasks"]

    def test_a_tuned_decision_is_what_the_page_counts(self, run_copy: ToyRun) -> None:
        submission.main(["--run-dir", str(run_copy.run_dir), "--decision", "tuned"])
        data, written = gather(run_copy.run_dir), read_json(run_copy.run_dir / "scores.json")
        for part in scores_section(data)["parts"]:
            assert part["rows"][0]["found"] == written[part["split"]]["model"]["combined"]
        assert "tuned" in section(page_of(run_copy.run_dir, "--language", "en"), "scores")

    def test_another_mix_of_the_photos_is_on_the_page(self, run_copy: ToyRun) -> None:
        submission.main(["--run-dir", str(run_copy.run_dir)])
        path, mix = run_copy.run_dir / "decision.json", {"learned": [0.25, 0.5, 0.25], "found": [0.1, 0.2, 0.7]}
        assert scores_section(gather(run_copy.run_dir))["mixes"] == []
        write_json(path, read_json(path) | {"rule": "shift", "mixes": {"age": mix}})
        shown = section(page_of(run_copy.run_dir, "--language", "en"), "scores")
        assert "the class priors of the eval photos seem to differ" in shown
        assert "young 25% 10% middle 50% 20% old 25% 70%" in shown

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"temperatures": None}, r"decision\.json: entry temperatures"),
            ({"rule": "best"}, "decision rule 'best' is unknown"),
            ({"biases": [0.0] * 3}, r"decision\.json: allowed are a temperature for each task and 18 biases"),
            ({"biases": [float("nan")] * 18}, r"decision\.json: "),
            ({"biases": ["0"] * 18}, r"decision\.json: allowed are a temperature for each task and 18 biases"),
            (
                {"mixes": {"age": {"learned": [0.5, 0.5], "found": [1, 0]}}},
                r"decision\.json: allowed are .* shares of classes",
            ),
            ({"mixes": {"hat": {}}}, r"decision\.json: allowed are .* shares of classes"),
            ({"temperatures": {"age": 1.0}}, r"decision\.json: allowed are a temperature for each task and 18 biases"),
        ],
    )
    def test_a_decision_that_was_edited_is_refused(self, change: dict, words: str, run_copy: ToyRun) -> None:
        path = run_copy.run_dir / "decision.json"
        write_json(path, read_json(path) | change)
        with pytest.raises(UserError, match=words):
            gather(run_copy.run_dir)

    @pytest.mark.parametrize("rule", ["prior", "tuned_tasks"])
    def test_a_decision_by_a_rule_of_an_earlier_version_still_loads(self, rule: str, run_copy: ToyRun) -> None:
        raw, path = gather(run_copy.run_dir), run_copy.run_dir / "decision.json"
        old_and_always = [9.0 if number % 3 == 2 else 0.0 for number in range(18)]
        write_json(path, read_json(path) | {"rule": rule, "biases": old_and_always})
        found = gather(run_copy.run_dir)
        assert found.decision.rule == rule
        assert set(found.eval.answers["age"].predicted) == {2}
        assert (found.oof.answers["age"].predicted == raw.oof.answers["age"].predicted).all()

    @pytest.mark.parametrize("gone", ["age_oof.csv", "age.csv"])
    def test_a_decision_without_the_table_of_a_task_leaves_the_likeliest_classes(
        self, gone: str, run_copy: ToyRun
    ) -> None:
        raw = gather(run_copy.run_dir)
        submission.main(["--run-dir", str(run_copy.run_dir), "--decision", "tuned"])
        (run_copy.run_dir / gone).unlink()
        sign(run_copy.run_dir / gone)
        found = gather(run_copy.run_dir)
        part = "oof" if "oof" in gone else "eval"
        for task in ("mask", "gender"):
            told, expected = (getattr(data, part).answers[task].predicted for data in (found, raw))
            assert np.array_equal(told, expected)

    def test_a_group_of_few_or_alone_is_not_called_the_weakest(self, toy_run: ToyRun) -> None:
        data = gather(toy_run.run_dir)
        by_race, *rest = groups_section(data)["tables"]
        assert [(row["group"], row["people"]) for row in by_race["rows"]] == [("Asian", 12)]
        assert by_race["weakest"] == []  # the only group there is
        assert [table["weakest"] for table in rest] == [[], []]  # none has ten people

    def test_the_weakest_group_is_named(self, toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scores, "FEWEST_PEOPLE", 2)
        tables = groups_section(gather(toy_run.run_dir))["tables"]
        of_strata = next(table for table in tables if table["by"] != "race" and table["split"] == "oof")
        (named,) = of_strata["weakest"]
        accuracies = {row["group"]: row["scores"]["combined"]["accuracy"]["value"] for row in of_strata["rows"]}
        assert accuracies[named["group"]] == min(accuracies.values())

    def test_years_are_compared_with_those_that_are_known(self, run_copy: ToyRun) -> None:
        frame = table(run_copy.crop_dir / "faces.csv")
        frame = frame[frame["split"] == "train"]
        frame.assign(years=frame["age"] + 3)[["image_id", "years"]].to_csv(
            run_copy.run_dir / "age_oof_years.csv", index=False
        )
        sign(run_copy.run_dir / "age_oof_years.csv")
        part = next(part for part in years_section(gather(run_copy.run_dir))["parts"] if part["split"] == "oof")
        assert part["whole"]["mean_absolute_error"] == pytest.approx({"value": 3, "low": 3, "high": 3})
        assert [(start, row.photos, row.bias) for start, row in part["decades"]] == [
            (20, 28, 3),
            (30, 28, 3),
            (60, 28, 3),
        ]

    def test_worst_mistakes_are_one_a_person_and_the_surest_first(self) -> None:
        found = answers([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.45, 0.55], [0.99, 0.01]], [0, 0, 0, 0, 1], "abbcd")
        assert worst_mistakes(found, 9) == [4, 1, 3]
        assert worst_mistakes(found, 1) == [4]
        assert least_sure(found, 2) == [3, 2]

    def test_errors_in_years(self) -> None:
        found = count_errors(np.array([20.0, 30.0, 40.0]), np.array([25.0, 28.0, 50.0]))
        assert (found.photos, found.near) == (3, pytest.approx(2 / 3))
        assert (found.mean_absolute, found.bias) == (pytest.approx(17 / 3), pytest.approx(13 / 3))

    def test_eval_photos_unlike_the_training_photos_are_pointed_out(
        self, toy_run: ToyRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = gather(toy_run.run_dir)
        (task, *_) = (task for task in unsure_section(data)["tasks"] if task["task"] == "mask")
        oof, predicted = data.oof.scored["mask"], data.eval.answers["mask"]
        accuracy, before, now = (
            (oof.predicted == oof.truth).mean(),
            oof.probs.max(1).mean(),
            predicted.probs.max(1).mean(),
        )
        assert task["shift"]["expected"] == pytest.approx(accuracy - before + now)
        assert "Mean confidence" in section(page_of(toy_run.run_dir, "--language", "en"), "unsure")
        monkeypatch.setattr("reporting.result_sections.UNLIKE", -1)
        assert "look unlike" in section(page_of(toy_run.run_dir, "--language", "en"), "unsure")


class TestTheCurves:
    @pytest.mark.parametrize(
        ("settings", "keeps_last", "same_kind"),
        [
            (
                {"keep": "best", "head": "classes", "mixup": 0.0, "loss": "cross_entropy", "class_weights": "none"},
                False,
                True,
            ),
            ({"keep": "last", "head": "classes", "mixup": 0.4}, True, False),
            ({"keep": "last", "head": "values", "mixup": 0.0}, True, False),
        ],
    )
    def test_they_say_what_is_kept_and_share_an_axis_only_for_losses_of_one_kind(
        self, toy_run: ToyRun, settings: dict, keeps_last: bool, same_kind: bool
    ) -> None:
        data = gather(toy_run.run_dir)
        folds = tuple(
            replace(fold, identity=fold.identity | {"settings": fold.identity["settings"] | settings})
            for fold in data.trained["mask"]
        )
        (task,) = training_section(replace(data, trained={"mask": folds}))["tasks"]
        assert (task["keeps_last"], task["same_kind_of_loss"]) == (keeps_last, same_kind)
        ticks = [re.findall(r'text-anchor="end">([^<]+)<', task[chart]) for chart in ("train_loss", "loss")]
        assert ticks[0] == ticks[1] or not same_kind


class TestTheAudit:
    @staticmethod
    def troubles(data: RunData) -> dict[str, str]:
        return {check["name"]: check["trouble"] for check in folds_section(data)["checks"]}

    def test_a_sound_run_has_no_trouble(self, toy_run: ToyRun) -> None:
        assert self.troubles(gather(toy_run.run_dir)) == dict.fromkeys(("persons", "out_of_fold", "folds", "crops"), "")

    def test_a_person_moved_to_another_fold_is_found(self, run_copy: ToyRun) -> None:
        before = table(run_copy.run_dir / "folds.csv")
        moved, fold = before["person"][0], before["fold"][0]
        edit_csv(run_copy.run_dir / "folds.csv", lambda frame: frame.assign(
            fold=[str(1 - int(fold)) if person == moved else old
                  for person, old in zip(frame["person"], frame["fold"], strict=True)]
        ))  # fmt: skip
        found = self.troubles(gather(run_copy.run_dir))
        assert f"fold{fold}: {moved}/" in found["out_of_fold"]
        assert found["folds"] and not found["persons"] and not found["crops"]

    def test_crops_that_changed_after_training_are_found(self, data_copy: Toy, toy_run: ToyRun, tmp_path: Path) -> None:
        run_dir = shutil.copytree(toy_run.run_dir, tmp_path / "run")
        edit_csv(data_copy.crop_dir / "faces.csv", lambda frame: frame.assign(age=frame["age"].replace("20", "21")))
        path = run_dir / "run.json"
        path.write_text(path.read_text().replace(str(toy_run.crop_dir), str(data_copy.crop_dir)))
        assert self.troubles(gather(run_dir))["crops"].endswith("fold0")
        assert "Failed:" in section(page_of(run_dir), "folds")


class TestMissingParts:
    def test_one_task_and_nothing_averaged(self, toy: Toy, tmp_path: Path) -> None:
        flags = ("--fold", "0", "--loss", "cross_entropy", "--class-weights", "none")
        train_toy(toy.crop_dir, tmp_path / "run", ("mask",), flags)
        page = page_of(tmp_path / "run", "--language", "en")
        assert "Folds not trained yet: 1." in section(page, "training")
        assert "memorising" in section(page, "training")
        assert "mask" in section(page, "scores")
        assert "No eval score" in section(page, "scores")
        assert "No 18 classes" in section(page, "confusion")
        assert "No predictions on eval photos" in section(page, "unsure")
        assert "no expected ages" in section(page, "years")

    def test_photos_of_another_data_set(self, toy_run: ToyRun, tmp_path: Path) -> None:
        photos = prepare(make_photos(tmp_path / "photos"), tmp_path / "crops")
        infer(toy_run.run_dir, "--crop-dir", str(photos.crop_dir), "--output-dir", str(tmp_path / "other"))
        ensemble.main(["--run-dir", str(tmp_path / "other")])
        page = page_of(tmp_path / "other", "--language", "en")
        assert "No training photos" in section(page, "photos")
        assert "Nothing can be scored" in section(page, "scores")
        assert "No folds.csv" in section(page, "folds")
        assert "No labels to compare with" in section(page, "mistakes")
        assert "Lowest confidence" in section(page, "unsure")
        assert "Mean confidence" not in section(page, "unsure")

    def test_no_truth_at_hand(self, toy_run: ToyRun, tmp_path: Path) -> None:
        run_dir = shutil.copytree(toy_run.run_dir, tmp_path / "run")
        path = run_dir / "run.json"
        path.write_text(path.read_text().replace(str(toy_run.root), str(tmp_path / "gone")))
        page = page_of(run_dir, "--language", "en")
        assert "No eval score" in section(page, "scores")
        given = page_of(run_dir, "--language", "en", "--truth", str(toy_run.root / "truth.csv"))
        assert "out-of-fold and eval intervals" in section(given, "scores")

    def test_eval_groups_by_race_where_names_tell_it(self, tmp_path: Path) -> None:
        toy = prepare(make_remade(tmp_path / "data"), tmp_path / "crops")
        train_toy(toy.crop_dir, tmp_path / "run", ("mask",))
        infer(tmp_path / "run")
        ensemble.main(["--run-dir", str(tmp_path / "run")])
        assert section(page_of(tmp_path / "run", "--language", "en"), "groups").count("by race") == 2

    def test_suspects_and_doubts_are_shown_and_escaped(self, toy: Toy, toy_run: ToyRun, tmp_path: Path) -> None:
        run_dir = shutil.copytree(toy_run.run_dir, tmp_path / "run")
        crop_dir = shutil.copytree(toy.crop_dir, tmp_path / "crops")
        image_id = "000000-1_male_Asian_20/normal.jpg"
        (run_dir / "label_suspects.csv").write_text(
            "image_id,task,label,predicted,prob_label,prob_predicted,score\n"
            f"{image_id},age,young,old,0.01,0.97,0.9\n<img src=x>,mask,wear,not_wear,0.1,0.8,0.5\n"
        )
        (crop_dir / "review.csv").write_text(
            f"image_id,path,status,reason,why\n{image_id},p,manual,,<b>two faces</b>\n"
        )
        path = run_dir / "run.json"
        path.write_text(path.read_text().replace(str(toy_run.crop_dir), str(crop_dir)))
        page = page_of(run_dir, "--language", "en")
        assert "2 training labels" in section(page, "suspects")
        assert "&lt;img src=x&gt;" in page and "<img src=x>" not in page
        assert "&lt;b&gt;two faces&lt;/b&gt;" in page
        assert "1 of 1" in section(page, "faces")


class TestRefusals:
    def test_no_run(self, tmp_path: Path) -> None:
        refusal(report.main, ["--run-dir", tmp_path], str(tmp_path), "no run in it", "train.py")

    def test_crops_are_gone(self, run_copy: ToyRun, tmp_path: Path) -> None:
        path = run_copy.run_dir / "run.json"
        path.write_text(path.read_text().replace(str(run_copy.crop_dir), str(tmp_path / "gone")))
        refusal(report.main, ["--run-dir", run_copy.run_dir], str(tmp_path / "gone"), "no faces.csv",
                untouched=[run_copy.run_dir])  # fmt: skip

    def test_a_table_with_a_foreign_photo(self, run_copy: ToyRun) -> None:
        edit_csv(run_copy.run_dir / "mask.csv", lambda frame: frame.replace({frame["image_id"][0]: "foreign.jpg"}))
        refusal(report.main, ["--run-dir", run_copy.run_dir], "mask.csv", "foreign.jpg", untouched=[run_copy.run_dir])

    def test_a_history_with_a_word_in_it(self, run_copy: ToyRun) -> None:
        path = run_copy.run_dir / "age" / "fold0" / "history.csv"
        edit_csv(path, lambda frame: frame.assign(loss="low"))
        refusal(report.main, ["--run-dir", run_copy.run_dir], str(path), "low")

    def test_an_unknown_language(self, tmp_path: Path) -> None:
        refusal(report.main, ["--run-dir", tmp_path, "--language", "fr"], "--language", "fr", "en", "ko")


class TestHeat:
    def test_without_the_package_the_page_says_how_to_get_it(
        self, run_copy: ToyRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        report.main(["--run-dir", str(run_copy.run_dir)])
        assert INSTALL_GRADCAM in (run_copy.run_dir / "report" / "index.html").read_text(encoding="utf-8")

    def test_heat_has_the_shape_of_the_input_and_differs_by_class(self, toy_run: ToyRun) -> None:
        gradcam = gradcam_or_skip()
        crops = gather(toy_run.run_dir).oof.crops
        images = CropImages([read_photo(path) for path in crops.paths[:8]], crops.settings)
        heat_maps = gradcam.HeatMaps()
        young, old = (heat_maps.heat(toy_run.run_dir / "age" / "fold0", "age", images, [label] * 8) for label in (0, 2))
        assert young.shape == old.shape == (8, 32, 32)
        assert min(young.min(), old.min()) >= 0 and max(young.max(), old.max()) <= 1
        # On some of the photos: where nothing speaks for either class both are 0 everywhere.
        assert not np.array_equal(young, old)
        assert young.any() or old.any()
        assert heat_maps.window(toy_run.run_dir / "age" / "fold0", "age") == "face"
        shown = images.settings.cut(images.crops[0], "face")
        assert heat_maps.overlay(shown, young[0]).shape == (32, 32, 3)

    def test_a_network_without_maps_has_no_heat(self) -> None:
        flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
        assert gradcam_or_skip().find_map_layer(flat, torch.zeros(1, 3, 2, 2)) is None

    def test_a_vision_transformer_has_no_heat(self) -> None:
        network = VisionTransformer(img_size=32, patch_size=8, embed_dim=8, depth=1, num_heads=1)
        assert gradcam_or_skip().find_map_layer(network, torch.zeros(1, 3, 32, 32)) is None

    def test_networks_side_by_side_have_the_maps_of_the_first(self) -> None:
        network = build_model("test_resnet+test_vit", 3, image_size=(32, 32)).eval()
        layer = gradcam_or_skip().find_map_layer(network, torch.zeros(1, 3, 32, 32))
        assert layer.module in set(network.parts[0].modules())
        other = build_model("test_vit+test_resnet", 3, image_size=(32, 32)).eval()
        assert gradcam_or_skip().find_map_layer(other, torch.zeros(1, 3, 32, 32)) is None

    def test_maps_with_the_channels_last_are_read_as_such(self) -> None:
        gradcam = gradcam_or_skip()
        torch.manual_seed(0)
        options = {"img_size": 64, "window_size": 4, "embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}
        network = SwinTransformer(num_classes=3, **options).eval().requires_grad_(False)
        layer = gradcam.find_map_layer(network, torch.zeros(1, 3, 64, 64))
        assert layer == gradcam.MapLayer(network.norm, channels_last=True)
        # Mean pooling gives each place the gradient of its channel: here -1 for the first channel of class 1.
        network.get_classifier().weight.copy_(-torch.eye(3, network.num_features).roll(1, dims=0))
        images = torch.rand(2, 3, 64, 64)
        predictor = SimpleNamespace(model=network, head=SimpleNamespace(class_logits=lambda outputs: outputs))
        heat = gradcam._grad_cam(predictor, layer, images, [1, 1])
        with torch.no_grad():
            maps = network.forward_features(images)
        expected = (-maps[..., 0]).clamp(min=0)
        shrunk = torch.nn.functional.avg_pool2d(torch.from_numpy(heat)[None], 8)[0]
        for found, wanted in zip(shrunk, expected, strict=True):
            assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.9

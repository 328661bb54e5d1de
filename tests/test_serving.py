"""Faces, answers, records, drawing and smoothing: what predict.py and demo.py are made of."""

import json
import os
import re
import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from serving_toys import CROP, GivenFaces, MeanColour, crowd, face_at, make_run, random_crops
from toy_data import ToyRun

from core.boxes import Box, iou
from core.cli import UserError
from core.cropping import crop_face
from core.files import read_json, write_json
from evaluation.logits import average_log_probs, log_softmax
from preprocessing.detectors import Detect, Face, PhotoView, detector_named
from preprocessing.find_face import Detection
from serving.drawing import COLOURS, annotated
from serving.faces import COARSE, VIDEO_ATTEMPTS, FaceFinder, Pipeline, without_parts
from serving.records import describe, face_record, face_rows
from serving.smoothing import Smoother
from serving.torch_model import Averaging, averaging_of, describe_run, load_run
from serving.types import FacePrediction, TaskPrediction
from storage.run_dir import default_run
from synthesis.drawn.person import random_person
from synthesis.drawn.portrait import draw_person

pytest_plugins = ("toy_fixtures",)
BOX = Box(20, 30, 60, 80)
CROWD = ((80, 100, 110), (240, 160, 160), (400, 110, 60))


def person_photo(seed: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """A drawn person, (512, 384, 3) uint8, and the box of the face in whole pixels."""
    rng = np.random.default_rng(seed)
    portrait = draw_person(random_person(rng, ("male", "female")[seed % 2], 20 + 2 * seed), rng)
    return portrait.photo, tuple(map(round, portrait.box))


@pytest.fixture(scope="module")
def detect() -> Detect:
    return detector_named("retinaface").load()


class TestFaces:
    def test_every_face_of_a_crowd_is_found_once_the_largest_first(self, detect: Detect) -> None:
        rgb, boxes = crowd(CROWD)
        found = FaceFinder(detect, 0.9)(rgb)
        assert len(found) == 3
        for face, box in zip(found, (boxes[1], boxes[0], boxes[2]), strict=True):
            assert iou(face.box, box) > 0.6

    def test_small_faces_are_left_out(self, detect: Detect) -> None:
        rgb, _ = crowd(CROWD)
        assert len(FaceFinder(detect, 0.9, least_size=60)(rgb)) == 2

    def test_a_face_keeps_the_box_of_the_first_attempt_that_finds_it(self, detect: Detect) -> None:
        rgb, _ = crowd(CROWD[1:2])
        (alone,) = FaceFinder(detect, 0.9, attempts=(COARSE,))(rgb)
        (face,) = FaceFinder(detect, 0.9)(rgb)
        assert (face.box, face.attempt) == (alone.box, COARSE)

    def test_attempts_on_the_same_image_are_made_once(self) -> None:
        sizes = []

        def detect(rgb: np.ndarray, least_score: float) -> list[Face]:
            sizes.append(rgb.shape[:2])
            return []

        FaceFinder(detect, 0.9, retry=False)(np.zeros((300, 200, 3), np.uint8))
        assert sizes == [(256, 171), (300, 200)]

    def test_further_attempts_are_made_for_photos_alone(self, detect: Detect) -> None:
        rgb = np.ascontiguousarray(crowd(((160, 120, 150),), 320, 240)[0][::-1])
        assert FaceFinder(detect, 0.9, attempts=VIDEO_ATTEMPTS, retry=False)(rgb) == []
        (face,) = FaceFinder(detect, 0.9)(rgb)
        assert face.attempt.view == PhotoView(256, turn=180)

    @pytest.mark.parametrize("height", [60, 300, 3000])
    def test_one_face_is_one_face_at_any_size(self, height: int, detect: Detect) -> None:
        rgb, (left, top, right, bottom) = person_photo(2)
        margin = round(0.2 * (bottom - top))
        head = rgb[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
        scale = height / (bottom - top)
        large = cv2.resize(head, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        assert len(FaceFinder(detect, 0.9)(large)) == 1

    @pytest.mark.parametrize("seed", range(4))
    def test_a_face_that_fills_the_photo_is_one_face(self, seed: int, detect: Detect) -> None:
        """As a telephone held close shows it: sharp, with grain; larger views see faces within the face."""
        close = cv2.resize(person_photo(seed)[0][128:358, 115:269], (1600, 1800), interpolation=cv2.INTER_CUBIC)
        grain = np.random.default_rng(0).normal(0, 4, close.shape)
        (face,) = FaceFinder(detect, 0.9)(np.clip(close + grain, 0, 255).astype(np.uint8))
        assert face.box.width > 800

    @pytest.mark.parametrize(("count", "columns", "scale"), [(3, 3, 0.4), (3, 3, 3), (140, 20, 0.25)])
    def test_all_people_of_a_photo_are_counted(self, count: int, columns: int, scale: float, detect: Detect) -> None:
        people = [cv2.resize(person_photo(seed)[0], None, fx=scale, fy=scale) for seed in range(columns)]
        row = np.concatenate(people, axis=1)
        assert len(FaceFinder(detect, 0.9)(np.concatenate([row] * (count // columns)))) == count

    def test_of_boxes_inside_one_another_the_best_scored_stays(self) -> None:
        def detection(score: float, *box: float) -> Detection:
            return Detection(Box(*box), score, COARSE, np.zeros((5, 2)))

        face, again = detection(0.95, 0, 0, 100, 100), detection(0.999, 5, 5, 105, 105)
        eye, beside = detection(0.97, 20, 20, 50, 50), detection(0.92, 90, 0, 130, 50)
        assert without_parts([face, again, eye, beside]) == [face, beside]
        crowd_box = detection(0.91, 0, 0, 300, 300)
        assert without_parts([crowd_box, face, beside]) == [face, beside]

    def test_no_face(self, detect: Detect) -> None:
        assert FaceFinder(detect, 0.9)(np.full((64, 64, 3), 90, np.uint8)) == []


class TestPipeline:
    def test_crops_are_those_of_training(self) -> None:
        rgb = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)
        boxes, classify = (BOX, Box(-5, -5, 12, 14)), MeanColour()
        faces = Pipeline(GivenFaces(boxes), classify)(rgb)
        assert [face.box for face in faces] == list(boxes)
        for box, shown in zip(boxes, classify.shown, strict=True):
            np.testing.assert_array_equal(shown, crop_face(rgb, box, classify.crop))

    def test_each_face_has_its_own_answers(self) -> None:
        rgb = np.zeros((100, 200, 3), np.uint8)
        rgb[:, 100:] = (230, 0, 0)
        dark, red = Pipeline(GivenFaces((Box(20, 20, 60, 70), Box(140, 20, 180, 70))), MeanColour(), 0.95)(rgb)
        assert (dark.predictions["mask"].label, red.predictions["mask"].label) == ("wear", "not_wear")
        assert (dark.predictions["mask"].value, red.predictions["mask"].value) == (0, pytest.approx(100 * 230 / 255))
        assert dark.predictions["mask"].unsure
        assert red.predictions["mask"].unsure

    def test_a_picture_without_faces_is_not_classified(self) -> None:
        classify = MeanColour()
        assert Pipeline(GivenFaces(()), classify)(np.zeros((9, 9, 3), np.uint8)) == []
        assert classify.shown == []


class TestRunClassifier:
    def test_folds_are_averaged_as_ensemble_does(self, tmp_path: Path) -> None:
        make_run(tmp_path, head="classes")
        crops = random_crops(4)
        both, zero, one = (load_run(tmp_path, folds=folds, device="cpu")(crops) for folds in ((), (0,), (1,)))
        for task in ("mask", "gender", "age"):
            expected = average_log_probs(np.stack([zero[task].log_probs, one[task].log_probs]))
            np.testing.assert_allclose(both[task].log_probs, expected, atol=1e-6)
            assert np.ptp(np.exp(expected), axis=0).max() > 0.01
        assert both["age"].values is None

    def test_a_run_that_learned_years_gives_them(self, tmp_path: Path) -> None:
        make_run(tmp_path, head="values")
        crops = random_crops(3)
        both, zero, one = (load_run(tmp_path, folds=folds, device="cpu")(crops)["age"] for folds in ((), (0,), (1,)))
        assert both.unit == "years"
        assert both.log_probs.shape == (3, 3)
        np.testing.assert_allclose(both.values, (zero.values + one.values) / 2, atol=1e-4)

    def test_the_ensemble_s_average_and_temperature_are_used(self, tmp_path: Path) -> None:
        make_run(tmp_path, ("mask",))
        own = str(tmp_path / "mask" / "fold0" / "eval.csv")
        stamp = {"average": "logit", "temperatures": [2.0], "made_from": {own: "0"}}
        write_json(tmp_path / "mask.json", stamp)
        assert load_run(tmp_path).averaging == {"mask": Averaging("logit", 2.0)}
        write_json(tmp_path / "mask.json", stamp | {"made_from": {own: "0", "other/mask/fold0/eval.csv": "0"}})
        assert load_run(tmp_path).averaging == {"mask": Averaging("log_prob", 1.0)}

    def test_averaging(self) -> None:
        stack = np.array([[[0.0, 2.0]], [[4.0, 0.0]]])
        np.testing.assert_allclose(Averaging("logit", 2.0)(stack), log_softmax(np.array([[1.0, 0.5]])))
        np.testing.assert_allclose(np.exp(Averaging()(stack)).sum(axis=1), 1)

    def test_refusals(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"run train\.py first"):
            load_run(tmp_path / "nothing")
        make_run(tmp_path, ("mask", "gender"))
        with pytest.raises(UserError, match=r"mask: fold 7 is not trained; trained are: 0, 1"):
            load_run(tmp_path, folds=(0, 7))
        with pytest.raises(UserError, match=r"age: fold 0 is not trained; trained are: none"):
            load_run(tmp_path, tasks=("age",))
        path = tmp_path / "gender" / "fold1" / "config.json"
        write_json(path, read_json(path) | {"crop": {"margin": 0.5, "aspect": 0.8, "size": 40, "align": True}})
        with pytest.raises(UserError, match=r"fold1: trained on crops made with .*0\.5"):
            load_run(tmp_path)
        write_json(tmp_path / "mask.json", {"average": "logit", "made_from": None})
        with pytest.raises(UserError, match=r"mask\.json: entry made_from is None, expected a dict"):
            load_run(tmp_path, tasks=("mask",))

    @pytest.mark.parametrize(
        ("crop", "words"),
        [
            ({"margin": 0.1, "size": 40, "align": True}, "entry aspect is missing"),
            ({**asdict(CROP), "size": "L"}, "entry size is 'L'"),
        ],
    )
    def test_crop_settings_that_are_none(self, tmp_path: Path, crop: dict, words: str) -> None:
        make_run(tmp_path, ("mask",))
        for fold in (0, 1):
            path = tmp_path / "mask" / f"fold{fold}" / "config.json"
            write_json(path, read_json(path) | {"crop": crop})
        with pytest.raises(UserError, match=rf"fold0/config\.json: crop: {words}"):
            load_run(tmp_path)

    def test_the_last_run_is_the_one_that_finished_a_fold_last(self, tmp_path: Path) -> None:
        for place, name in enumerate(("b", "c", "a")):
            marker = make_run(tmp_path / name, ("mask",)) / "mask" / "fold1" / "DONE"
            os.utime(marker, (2e9 + place,) * 2)
        assert default_run(tmp_path) == tmp_path / "a"
        with pytest.raises(UserError, match=r"none: no trained run in it; run train\.py first"):
            default_run(tmp_path / "none")

    def test_the_default_run_goes_first_and_drawn_people_are_never_meant(self, tmp_path: Path) -> None:
        outputs = tmp_path / "outputs"
        write_json(tmp_path / "drawn" / "sample.json", {})
        for name, root in (("sample", tmp_path / "drawn"), ("default", tmp_path), ("later", tmp_path)):
            make_run(outputs / name, ("mask",))
            path = outputs / name / "run.json"
            write_json(path, read_json(path) | {"data_root": str(root)})
        os.utime(outputs / "later" / "mask" / "fold0" / "DONE", (2e9,) * 2)
        assert default_run(outputs) == outputs / "default"
        shutil.rmtree(outputs / "default")
        assert default_run(outputs) == outputs / "later"
        shutil.rmtree(outputs / "later")
        with pytest.raises(UserError, match=r"sample, which learned from drawn people; .* give --run-dir .*sample to"):
            default_run(outputs)
        assert "drawn people, predictions mean nothing" in describe_run(
            outputs / "sample", load_run(outputs / "sample")
        )

    def test_a_run_is_described(self, toy_run: ToyRun) -> None:
        told = describe_run(toy_run.run_dir, load_run(toy_run.run_dir, folds=(1,)))
        assert f"models of {toy_run.run_dir}: mask (1 of 2 folds), gender (1 of 2 folds)" in told
        assert "trained on data, 12 people\n" in told
        assert re.search(r"right out of fold: mask \d+\.\d%, gender \d+\.\d%, age", told)


class TestRecords:
    def test_record_of_a_face(self) -> None:
        face = replace(face_at(BOX, (0.5, 0.2, 0.3), 31.26), track=4)
        assert json.loads(json.dumps(face_record(face))) == {
            "track": 4,
            "box": [20, 30, 60, 80],
            "score": 0.99,
            "found": "coarse",
            "unsure": True,
            "answers": {
                "mask": {
                    "label": "wear",
                    "unsure": True,
                    "probs": {"wear": 0.5, "incorrect": 0.2, "not_wear": 0.3},
                    "years": 31.3,
                }
            },
            "class": None,
            "class_name": None,
        }

    def test_the_combined_class(self) -> None:
        answers = {
            "mask": TaskPrediction(("wear", "incorrect", "not_wear"), np.log([0.1, 0.8, 0.1])),
            "gender": TaskPrediction(("male", "female"), np.log([0.2, 0.8])),
            "age": TaskPrediction(("young", "middle", "old"), np.log([0.1, 0.1, 0.8])),
        }
        face = FacePrediction(BOX, 1.0, "coarse", answers)
        assert (face.combined, face.combined_name) == (11, "incorrect female old")

    def test_rows(self) -> None:
        one, two = face_rows({"photo": "a.jpg"}, [face_at(BOX, (0.5, 0.2, 0.3), 31), face_at(BOX, (0.1, 0.1, 0.8))])
        assert list(one) == [
            *("photo", "face", "score", "found", "unsure", "x1", "y1", "x2", "y2", "mask", "mask_unsure"),
            *("mask_wear", "mask_incorrect", "mask_not_wear", "mask_years", "class", "class_name"),
        ]
        assert (one["face"], two["face"], two["mask"], one["mask_years"]) == (1, 2, "not_wear", 31.0)
        assert face_rows({"photo": "b.jpg"}, []) == [{"photo": "b.jpg", "face": None}]

    def test_a_line_for_people(self) -> None:
        assert describe(face_at(BOX, (0.5, 0.2, 0.3), 31.2)) == "mask wear? 50% (31 years)"


class TestDrawing:
    def test_the_source_is_left_alone_and_the_box_is_drawn(self) -> None:
        rgb = np.full((700, 500, 3), 90, np.uint8)
        picture = annotated(rgb, [face_at(Box(100, 100, 300, 350), (0.9, 0.05, 0.05))])
        assert np.ptp(rgb) == 0
        assert picture.shape == rgb.shape
        np.testing.assert_array_equal(picture[200, 100], COLOURS[0])
        np.testing.assert_array_equal(picture[100, 200], COLOURS[0])

    def test_small_pictures_are_enlarged(self) -> None:
        assert annotated(np.zeros((96, 128, 3), np.uint8), []).shape == (480, 640, 3)

    @pytest.mark.parametrize("size", [(8, 8), (1, 2000), (700, 30)])
    def test_labels_fit_into_any_picture(self, size: tuple[int, int]) -> None:
        rgb = np.zeros((*size, 3), np.uint8)
        faces = [face_at(Box(-50, -50, 20, 20), (0.9, 0.05, 0.05)), face_at(Box(0, 0, 3000, 3000), (0.1, 0.8, 0.1))]
        assert annotated(rgb, faces).dtype == np.uint8


class TestSmoothing:
    def test_one_odd_frame_changes_no_label(self) -> None:
        smoother = Smoother(0.5)
        labels = []
        for number in range(10):
            probs = (0.001, 0.001, 0.998) if number == 6 else (0.8, 0.1, 0.1)
            (face,) = smoother([face_at(BOX, probs)], number / 25)
            labels.append(face.predictions["mask"].label)
        assert labels == ["wear"] * 10

    def test_weights_halve_with_the_half_life(self) -> None:
        smoother = Smoother(0.5)
        smoother([face_at(BOX, (0.8, 0.1, 0.1), 20)], 0.0)
        (face,) = smoother([face_at(BOX, (0.2, 0.4, 0.4), 50)], 0.5)
        expected = (0.5 * np.log([0.8, 0.1, 0.1]) + np.log([0.2, 0.4, 0.4])) / 1.5
        np.testing.assert_allclose(face.predictions["mask"].log_probs, log_softmax(expected[None])[0])
        assert face.predictions["mask"].value == pytest.approx((0.5 * 20 + 50) / 1.5)

    def test_no_smoothing(self) -> None:
        smoother = Smoother(0)
        smoother([face_at(BOX, (0.8, 0.1, 0.1))], 0.0)
        (face,) = smoother([face_at(BOX, (0.1, 0.1, 0.8))], 0.04)
        np.testing.assert_allclose(np.exp(face.predictions["mask"].log_probs), (0.1, 0.1, 0.8))

    def test_tracks_follow_faces_that_move_and_change_their_order(self) -> None:
        smoother, tracks = Smoother(), []
        for number in range(5):
            left, right = (Box(x, 0, x + 40, 50) for x in (number * 8, 200 - number * 8))
            faces = [face_at(left, (0.8, 0.1, 0.1)), face_at(right, (0.1, 0.1, 0.8))]
            seen = smoother(faces[:: (-1) ** number], number / 25)
            tracks.append({face.track: face.predictions["mask"].label for face in seen})
        assert tracks == [{1: "wear", 2: "not_wear"}] * 5

    def test_a_face_that_was_gone_for_long_is_another_one(self) -> None:
        track = partial(Smoother(), [face_at(BOX, (0.8, 0.1, 0.1))])
        assert [track(seconds)[0].track for seconds in (0.0, 0.9, 1.8, 3.0)] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    "changed",
    [{"average": "zzz"}, {"temperatures": ["x"]}, {"temperatures": [0]}, {"temperatures": [float("nan")]},
     {"temperatures": 3}],
)  # fmt: skip
def test_a_record_of_averaging_of_another_form_is_refused(tmp_path: Path, changed: dict) -> None:
    written = {"average": "logit", "temperatures": [2.0], "made_from": {}}
    write_json(tmp_path / "age.json", written)
    assert averaging_of(tmp_path, "age") == Averaging("logit", 2.0)
    write_json(tmp_path / "age.json", written | changed)
    with pytest.raises(UserError, match=r"age\.json: not what ensemble\.py writes; run it again"):
        averaging_of(tmp_path, "age")

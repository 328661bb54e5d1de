"""The benchmarks: how they measure, exactly; and a short run of each, whose figures are not looked at."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from drawn_faces import blank, drawn_photo
from toy_data import Toy, make_competition, prepare

import inference
import train
from core.cli import UserError
from core.images import write_photo
from dev.benchmarks import __main__ as run
from dev.benchmarks import learning, measure, predicting, setup
from dev.benchmarks.baselines import OriginalRecipe, PhotoFiles
from dev.benchmarks.measure import Report, Spread, in_turn, ratio, ratios_of, spread
from dev.benchmarks.setup import QUICK, Setup, Size
from dev.command import Finished, run_command
from preprocessing import crop_faces, detect_faces
from serving import export
from synthesis.drawn import sample

TINY = Size("tiny", people=6, eval_photos=3, rounds=1, passes=1, folds=2, requests=4)
SETTINGS = {
    **{"backbone": "test_efficientnet", "pretrained": False, "image_size": 32, "epochs": 1, "batch_size": 16},
    **{"workers": 0, "device": "cpu", "folds": 2},
}
COMMANDS = {
    "preprocessing/detect_faces.py": detect_faces.main,
    "preprocessing/crop_faces.py": crop_faces.main,
    "synthesis.drawn.sample": sample.main,
    "train.py": train.main,
    "inference.py": inference.main,
    "serving.export": export.main,
}


def in_this_process(words: Sequence[object]) -> Finished:
    """Run a command as `run_command` does, but in this process."""
    command, *flags = [str(word) for word in words if word != "-m"]
    one_process = {"train.py": ["--jobs", "1"], "inference.py": [], "serving.export": []}
    with redirect_stdout(StringIO()) as printed:
        COMMANDS[command]([*flags, *one_process.get(command, ["--workers", "1"])])
    return Finished(1.0, printed.getvalue())


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (learning, predicting, setup):
        monkeypatch.setattr(module, "run_command", in_this_process)


@pytest.fixture(scope="module")
def small_toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("bench")
    return prepare(make_competition(folder / "data", people_count=6, eval_photos=3), folder / "crops")


@pytest.fixture
def toys(small_toy: Toy, no_processes: None) -> Setup:
    return Setup(small_toy.crop_dir.parent, small_toy.root, TINY, "quick", SETTINGS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock that goes on by two seconds whenever it is looked at."""
    times = iter(range(0, 1000, 2))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(times))
    yield


def contender(name: str, calls: list[str], figures: Sequence[int]) -> Callable[[], int]:
    remaining = iter(figures)

    def measured() -> int:
        calls.append(name)
        return next(remaining)

    return measured


class TestMeasuring:
    """Contenders in turn, and what is made of their figures."""

    def test_every_round_begins_with_another_contender_and_the_first_is_not_counted(self, clock: None) -> None:
        calls: list[str] = []
        rates = in_turn({"a": contender("a", calls, (9, 2, 4)), "b": contender("b", calls, (9, 6, 8))}, 2)
        assert "".join(calls) == "ab" + "ba" + "ab"
        assert rates == {"a": [1, 2], "b": [3, 4]}

    def test_a_ratio_is_taken_within_each_round(self) -> None:
        rates = {"a": [10.0, 40.0, 90.0], "b": [10.0, 20.0, 30.0]}
        assert ratio(rates, "a", "b") == Spread(2, 1, 3)
        assert ratios_of(rates, "b") == {"b / a": Spread(0.5, 1 / 3, 1)}

    def test_a_report_is_printed_and_written_whole(self) -> None:
        report = Report("photos/s", {"ours": [1.0, 2.0, 4.0]}, {"ours / x": spread([2.5])}, {"n": 3})
        printed = measure.format_report("loader", report)
        assert printed.splitlines() == [
            "loader",
            "  ours      2 (1-4) photos/s",
            "  ours / x  2.5 (2.5-2.5) times",
            "  n         3",
        ]
        assert json.loads(json.dumps(report.record())) == {
            "unit": "photos/s",
            "rates": {"ours": {"median": 2.0, "low": 1.0, "high": 4.0, "runs": [1.0, 2.0, 4.0]}},
            "ratios": {"ours / x": {"median": 2.5, "low": 2.5, "high": 2.5}},
            "facts": {"n": 3},
        }

    def test_the_machine_is_named(self) -> None:
        found = measure.machine()
        assert found["cores"] >= 1
        assert found["torch"] == torch.__version__.split("+")[0] or found["torch"]
        json.dumps(found)


def test_a_command_that_fails_is_named_with_its_last_line() -> None:
    with pytest.raises(UserError, match="exit code 3: no such thing"):
        run_command(["-c", "import sys; print('one'); print('no such thing'); sys.exit(3)"])


def test_the_baseline_reads_normalised_pixels(toys: Setup) -> None:
    paths = [toys.data_dir / photo.path for photo in toys.data.of_split("train")]
    image, label = PhotoFiles((paths, [2] * len(paths)), (24, 20), "test_efficientnet", flip=True)[0]
    assert (image.shape, image.dtype, label) == ((3, 24, 20), torch.float32, 2)
    assert -3 <= image.min() < 0 < image.max() <= 3


def test_the_original_recipe_learns_and_predicts(toys: Setup) -> None:
    paths, labels = toys.train_crops.paths[:12], [0, 1, 2] * 4
    logits = []
    for epochs in (0, 2):
        torch.manual_seed(0)
        recipe = OriginalRecipe("test_efficientnet", False, (24, 20), epochs, torch.device("cpu"), 0)
        model = recipe.train("age", 3, (paths, labels), (paths[:3], labels[:3]))
        logits.append(recipe.predict(model, paths))
    assert logits[1].shape == (12, 3)
    assert not torch.equal(*logits)


class TestShortRuns:
    """Each benchmark once, on toys: its contenders are there, however fast."""

    def test_loader(self, toys: Setup) -> None:
        report = learning.bench_loader(toys)
        others = {"ours, usual augmentation", "Pillow and torchvision"}
        assert set(report.ratios) == {f"ours / {other}" for other in others}

    def test_step(self, toys: Setup) -> None:
        assert list(learning.bench_step(toys).ratios) == ["real epoch / batch on the device"]

    def test_job(self, toys: Setup) -> None:
        report = learning.bench_job(toys)
        assert {name: len(seconds) for name, seconds in report.rates.items()} == {"ours": 3, "original recipe": 3}
        assert {f"{task} macro-F1, ours" for task in ("mask", "gender", "age", "combined")} < set(report.facts)

    def test_detect(self, toys: Setup, tmp_path: Path) -> None:
        for number in range(3):
            write_photo(tmp_path / "photos" / f"{number}.png", drawn_photo()[0])
        report = learning.bench_detect(replace(toys, data_dir=tmp_path / "photos", work_dir=tmp_path))
        assert report.facts["fraction of those at full size"] == 1
        assert report.facts["photos"] == 3

    def test_inference(self, toys: Setup) -> None:
        report = predicting.bench_inference(toys)
        assert report.facts["models"] == 6
        assert list(report.ratios) == ["crop folder / images in memory"]

    def test_export(self, toys: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(export, "seconds_each", lambda *_: [1.0, 0.5])
        report = predicting.bench_export(toys)
        names = {"torch", "ONNX", *({"ONNX int8"} if "ONNX int8, skipped" not in report.facts else ())}
        assert set(report.rates) == {f"{name}, {how}" for name in names for how in ("all at once", "one by one")}
        assert report.facts["ONNX, same label as torch"] == 1

    def test_export_says_why_it_is_skipped(self, toys: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_: Sequence[object]) -> Finished:
            raise UserError("onnx is missing")

        monkeypatch.setattr(predicting, "run_command", refuse)
        assert predicting.bench_export(toys).facts == {"ONNX, skipped": "onnx is missing"}

    def test_service(self, toys: Setup) -> None:
        pytest.importorskip("fastapi", reason="fastapi is not installed (scripts/install.py http)")
        report = predicting.bench_service(toys)
        assert set(report.rates) == {predicting.SERVICE, predicting.ALONE}
        assert report.facts["replies with predict's labels"] == 1
        assert report.facts["requests"] == 3 * TINY.requests

    def test_stream(self, toys: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of a first photo without a face and a second with one, the stream shows the second."""
        photos = iter((blank(384, 512), drawn_photo(384, 512)[0]))
        monkeypatch.setattr(predicting, "read_photo", lambda _: next(photos))
        report = predicting.bench_stream(toys)
        others = {predicting.ENTRANCE, predicting.MODEL, predicting.EVERYTHING}
        assert set(report.rates) == {predicting.EXPORTED, *others}
        assert report.facts["faces in the frame"] == 1

    def test_a_stream_without_a_face(self, toys: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(predicting, "read_photo", lambda _: blank(384, 512))
        with pytest.raises(UserError, match="no face is found"):
            predicting.bench_stream(toys)


def test_the_command_writes_what_it_found(
    tmp_path: Path, no_processes: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "QUICK", replace(QUICK, people=6, eval_photos=3))
    out = tmp_path / "results.json"
    flags = ["--backbone", "test_efficientnet", "--no-pretrained", "--image-size", "32", "--workers", "0"]
    run.main(["step", "--quick", "--work-dir", str(tmp_path / "bench"), "--out", str(out), *flags])
    results = json.loads(out.read_text())
    assert list(results["benchmarks"]) == ["step"]
    assert results["photos"] == 45
    assert results["settings"]["image_size"] == 32
    assert "real epoch / batch on the device" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="'stepp' is unknown; the benchmarks are loader, step"):
        run.main(["stepp"])

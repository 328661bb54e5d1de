"""The benchmarks: how they measure, exactly; and a short run of each, whose figures are not looked at."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from drawn_faces import drawn_photo
from toy_data import Toy, make_competition, prepare

import inference
import train
from core.cli import UserError
from core.images import write_photo
from dev.benchmarks import __main__ as run
from dev.benchmarks import (
    bench_build,
    bench_detect,
    bench_export,
    bench_inference,
    bench_job,
    bench_loader,
    bench_scaling,
    bench_step,
    material,
    measure,
)
from dev.benchmarks.material import QUICK, Setup, Size, multiplied
from dev.benchmarks.measure import Report, Spread, in_turn, per_second, ratio, ratios_of, spread
from dev.benchmarks.original import Criterion, OriginalFold, Recipe
from dev.benchmarks.rivals import RIVALS, Feed
from dev.benchmarks.spreading import timed_spread
from dev.benchmarks.watch import Watched, watch
from preprocessing import crop_faces, detect_faces
from serving import export
from storage.layouts import Dataset, scan
from synthesis.drawn import sample

TINY = Size("tiny", people=6, eval_photos=3, rounds=1, passes=1, folds=2, many_photos=1, times=(1,))
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
    "dev.benchmarks.bench_build": bench_build.main,
}


def in_this_process(words: Sequence[object]) -> Watched:
    """What `watch` does, without starting a process: nothing is known of its memory."""
    command, *flags = [str(word) for word in words if word != "-m"]
    one_process = {"train.py": ["--jobs", "1"], "inference.py": [], "serving.export": []}.get(
        command, ["--workers", "1"]
    )
    with redirect_stdout(StringIO()) as printed:
        COMMANDS[command]([*flags, *one_process])
    return Watched(1.0, None, None, printed.getvalue())


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (material, bench_detect, bench_export, bench_job, bench_scaling, run):
        monkeypatch.setattr(module, "watch", in_this_process)


@pytest.fixture(scope="module")
def small_toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    folder = tmp_path_factory.mktemp("bench")
    return prepare(make_competition(folder / "data", people_count=6, eval_photos=3), folder / "crops")


@pytest.fixture
def setup(small_toy: Toy, no_processes: None) -> Setup:
    return Setup(small_toy.crop_dir.parent, small_toy.root, TINY, "quick", SETTINGS)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock that goes on by two seconds whenever it is looked at."""
    times = iter(range(0, 1000, 2))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(times))
    yield


def contender(name: str, calls: list[str], figures: Sequence[float]) -> Callable[[], float]:
    remaining = iter(figures)

    def measured() -> float:
        calls.append(name)
        return next(remaining)

    return measured


class TestMeasuring:
    """Contenders in turn, and what is made of their figures."""

    def test_every_round_begins_with_another_contender_and_the_first_is_not_counted(self) -> None:
        calls: list[str] = []
        rates = in_turn({"a": contender("a", calls, (9, 1, 2)), "b": contender("b", calls, (9, 3, 4))}, 2)
        assert "".join(calls) == "ab" + "ba" + "ab"
        assert rates == {"a": [1, 2], "b": [3, 4]}

    def test_without_a_warm_up_every_figure_counts(self) -> None:
        assert in_turn({"a": contender("a", [], (9, 1))}, 2, warm_up=False) == {"a": [9, 1]}

    def test_a_ratio_is_taken_within_each_round(self) -> None:
        rates = {"a": [10.0, 40.0, 90.0], "b": [10.0, 20.0, 30.0]}
        assert ratio(rates, "a", "b") == Spread(2, 1, 3)
        assert ratios_of(rates, "b") == {"b / a": Spread(0.5, 1 / 3, 1)}

    def test_photos_a_second(self, clock: None) -> None:
        assert per_second(lambda: 10) == 5

    def test_a_report_is_printed_and_written_whole(self) -> None:
        report = Report(
            "photos/s", {"ours": [1.0, 2.0, 4.0]}, {"ours / x": spread([2.5])}, {"n": 3}, {"y": "not there"}
        )
        printed = measure.format_report("loader", report)
        assert printed.splitlines() == [
            "loader",
            "  ours      2 (1-4) photos/s",
            "  ours / x  2.5 (2.5-2.5) times",
            "  n         3",
            "  y         skipped: not there",
        ]
        assert json.loads(json.dumps(report.record())) == {
            "unit": "photos/s",
            "rates": {"ours": {"median": 2.0, "low": 1.0, "high": 4.0, "runs": [1.0, 2.0, 4.0]}},
            "ratios": {"ours / x": {"median": 2.5, "low": 2.5, "high": 2.5}},
            "facts": {"n": 3},
            "skipped": {"y": "not there"},
        }

    def test_work_spread_over_processes_gives_all_results(self) -> None:
        results, speed = timed_spread(lambda: str, [1, 2, 3], 1)
        assert results == ["1", "2", "3"]
        assert speed > 0

    def test_the_machine_is_named(self) -> None:
        found = measure.machine()
        assert found["cores"] >= 1
        assert found["torch"] == torch.__version__.split("+")[0] or found["torch"]
        json.dumps(found)


class TestWatching:
    """A command, its output, its memory, its failure."""

    @pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the system does not tell memory")
    def test_memory_of_a_command_and_its_child(self) -> None:
        hold = "held = bytearray(60_000_000); import time; time.sleep(.4)"
        child = (
            f"import subprocess, sys; held = bytearray(50_000_000); subprocess.run([sys.executable, '-c', {hold!r}])"
        )
        watched = watch(["-c", f"{child}; print('done')"])
        assert 100 < watched.peak_mb < 200
        assert watched.output == "done\n"
        assert watched.seconds > 0.4

    def test_a_command_that_fails_is_named_with_its_last_line(self) -> None:
        with pytest.raises(UserError, match="exit code 3: no such thing"):
            watch(["-c", "import sys; print('one'); print('no such thing'); sys.exit(3)"])


def facts_of(data: Dataset) -> list[tuple[str, str]]:
    return sorted((photo.facts["gender"], photo.facts["age"]) for photo in data.of_split("train"))


def test_multiplied_photos_are_links_and_other_people_with_the_same_facts(small_toy: Toy, tmp_path: Path) -> None:
    data = scan(small_toy.root)
    many = scan(multiplied(data, tmp_path / "many", 2))
    assert len(many.photos) == 2 * len(data.photos)
    assert len({photo.person for photo in many.of_split("train")}) == 2 * 6
    facts = [
        sorted((photo.facts["gender"], photo.facts["age"]) for photo in one.of_split("train")) for one in (data, many)
    ]
    assert sorted(facts[0] * 2) == facts[1]
    assert {(many.root / photo.path).stat().st_nlink for photo in many.photos} == {3}


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_a_rival_gives_every_photo_once_as_normalised_pixels(rival: object, setup: Setup) -> None:
    if rival.name == "fastai":
        pytest.importorskip("fastai")
    paths = setup.train_photos[:32]
    feed = Feed(setup.train_root, paths, (24, 20), (0.5,) * 3, (0.5,) * 3, 16, 0, torch.device("cpu"))
    batches = [batch[0] for batch in rival.build(feed)]
    count = len(setup.train_photos) if rival.name == "timm_create_loader" else len(paths)
    # timm leaves out a last batch that is not full, as it does in training.
    assert sum(map(len, batches)) in (count, count // 16 * 16)
    assert batches[0].shape == (16, 3, 24, 20)
    assert batches[0].dtype == torch.float32
    assert -1 <= batches[0].min() < 0 < batches[0].max() <= 1


def test_the_original_recipe_learns_and_answers(setup: Setup) -> None:
    recipe = Recipe("test_efficientnet", False, (24, 20), 2, 3, torch.device("cpu"), 0)
    torch.manual_seed(0)
    fold = OriginalFold(recipe, Criterion("age", "focal", (0.1, 0.1, 0.8)))
    paths, labels = setup.train_crops.paths[:12], [0, 1, 2] * 4
    before = fold.predict(paths)
    fold.train(paths, labels, held_out=(paths[:3], labels[:3]))
    assert fold.predict(paths).shape == (12, 3)
    assert not torch.equal(before, fold.predict(paths))


class TestShortRuns:
    """Each benchmark once, on toys: what it compares is there, however fast."""

    def test_loader(self, setup: Setup) -> None:
        report = bench_loader.bench_loader(setup)
        assert set(report.rates) | set(report.skipped) >= {"ours", *(rival.name for rival in RIVALS)}
        assert "ours / pillow_torchvision" in report.ratios

    def test_step(self, setup: Setup) -> None:
        assert list(bench_step.bench_step(setup).ratios) == ["real epoch / resident tensors"]

    def test_job(self, setup: Setup) -> None:
        report = bench_job.bench_job(setup)
        assert {name: len(seconds) for name, seconds in report.rates.items()} == {"ours": 3, "original recipe": 3}
        assert {f"{task} macro-F1, ours" for task in ("mask", "gender", "age", "combined")} < set(report.facts)

    def test_detect(self, setup: Setup, tmp_path: Path) -> None:
        for number in range(3):
            write_photo(tmp_path / "photos" / f"{number}.png", drawn_photo()[0])
        report = bench_detect.bench_detect(replace(setup, data_dir=tmp_path / "photos", work_dir=tmp_path))
        assert report.facts["recall of those seen at full size"] == 1
        assert report.facts["photos of the long list"] == 3

    def test_inference(self, setup: Setup) -> None:
        report = bench_inference.bench_inference(setup)
        assert report.facts["models"] == 6
        assert list(report.ratios) == ["all models over the crops / the models' own compute"]

    def test_models_of_other_sizes_are_shown_pictures_of_their_own(
        self, setup: Setup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shown = []
        config = setup.config("mask")
        whole = SimpleNamespace(size=(32, 24), frozen=None, config=config)
        frozen = SimpleNamespace(size=(50, 40), frozen="a backbone", config=config, of_views=lambda *_, **__: None)
        monkeypatch.setattr(
            bench_inference, "_whole_network", lambda _, __, batches: shown.append(batches.batch[0].shape[1:])
        )
        monkeypatch.setattr(bench_inference, "_look_at", lambda _, __, pictures: shown.append(pictures.shape[1:]))
        bench_inference._own_compute(setup, [whole, frozen, frozen])
        assert set(map(tuple, shown)) == {(32, 24, 3), (50, 40, 3)}

    def test_export(self, setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(export, "seconds_each", lambda *_: [1.0, 0.5])
        report = bench_export.bench_export(setup)
        names = {"torch", "ONNX", *({"ONNX int8"} - set(report.skipped))}
        assert set(report.rates) == names | {f"{name}, one by one" for name in names}
        assert report.facts["ONNX, same label as torch"] == 1

    def test_export_says_why_it_is_skipped(self, setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_: Sequence[object]) -> Watched:
            raise UserError("onnx is missing")

        monkeypatch.setattr(bench_export, "watch", refuse)
        assert bench_export.bench_export(setup).skipped == {"ONNX": "onnx is missing"}

    def test_scaling(self, setup: Setup) -> None:
        of_tasks = {f"{step} {task} x1" for step in ("train", "inference") for task in ("mask", "gender")}
        assert set(bench_scaling.bench_scaling(setup).rates) == {"detect_faces x1", "crop_faces x1", *of_tasks}

    def test_build(self, setup: Setup) -> None:
        assert run.bench_build(replace(setup, size=replace(TINY, people=2))).facts["photos"] == 14


def test_growth_is_one_where_time_is_linear() -> None:
    found = {times: {"train": Watched(10 + times, 100.0 + times, None, "")} for times in (1, 4, 16)}
    assert bench_scaling._growth("train", found) == {
        "train, time of a further photo": Spread(1, 1, 1),
        "train, memory x16 / x1": spread([116 / 101]),
    }


def test_the_command_writes_what_it_found(
    tmp_path: Path, no_processes: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "QUICK", replace(QUICK, people=6, eval_photos=3))
    out = tmp_path / "results.json"
    flags = ["--backbone", "test_efficientnet", "--no-pretrained", "--image-size", "32", "--workers", "0"]
    run.main(["step", "--quick", "--work-dir", str(tmp_path / "bench"), "--out", str(out), *flags])
    results = json.loads(out.read_text())
    assert list(results["benchmarks"]) == ["step"]
    assert results["photos"] == 45
    assert results["settings"]["image_size"] == 32
    assert "real epoch / resident tensors" in capsys.readouterr().out


def test_an_unknown_benchmark_is_refused_by_name() -> None:
    with pytest.raises(UserError, match="'stepp' is unknown; the benchmarks are loader, step"):
        run.main(["stepp"])

"""What was changed between two steps is noticed by the next one: crops, labels, folds, weights and tables."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_data import FAST, Toy, ToyRun, crop, edit_csv, infer, refusal, train_toy

import ensemble
import inference
import submission
import train
from core.images import read_photo, write_photo
from preprocessing import crop_faces, detect_faces
from storage.crops import reading

pytest_plugins = ("toy_fixtures",)

ROOT = Path(__file__).resolve().parents[1]


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def read_from(run: ToyRun, crop_dir: Path) -> None:
    """Let the run take its crops from another folder."""
    rewrite(run.run_dir / "run.json", lambda text: text.replace(str(run.crop_dir), str(crop_dir)))


def train_argv(toy: Toy, run_dir: Path) -> list[object]:
    return ["--task", "mask", "--crop-dir", toy.crop_dir, "--run-dir", run_dir, *FAST]


class TestCrops:
    @pytest.mark.parametrize("split", ["train", "eval"])
    def test_one_edited_by_hand_is_refused_until_it_is_made_anew(
        self, run_copy: ToyRun, data_copy: Toy, tmp_path: Path, split: str
    ) -> None:
        path = next(path for path in (data_copy.crop_dir / split).rglob("*.[jp][pn]g"))
        whole = path.read_bytes()
        write_photo(path, 255 - read_photo(path))
        words = (path.name, "changed since it was written", "remove it and run preprocessing/crop_faces.py")
        refusal(crop_faces.main, ["--crop-dir", data_copy.crop_dir, "--size", "32", "--aspect", "1"], *words)
        if split == "train":
            refusal(train.main, train_argv(data_copy, tmp_path / "new"), *words, untouched=[tmp_path / "new"])
        else:
            argv = ["--run-dir", run_copy.run_dir, "--crop-dir", data_copy.crop_dir, "--output-dir", tmp_path / "out"]
            refusal(inference.main, argv, *words)
        path.unlink()
        crop(data_copy.crop_dir)
        assert path.read_bytes() == whole

    @pytest.mark.parametrize(("entry", "value"), [("data_root", {}), ("crop", []), ("detect", "retinaface")])
    def test_an_origin_of_another_type(self, data_copy: Toy, entry: str, value: object) -> None:
        path = data_copy.crop_dir / "source.json"
        rewrite(path, lambda text: json.dumps(json.loads(text) | {entry: value}))
        refusal(
            crop_faces.main, ["--crop-dir", data_copy.crop_dir], f"source.json: entry {entry} is {value!r}, expected"
        )

    def test_none_is_cut_while_they_are_read(self, data_copy: Toy) -> None:
        code = "import sys; from pathlib import Path; from storage.crops import reading\n" + (
            "with reading(Path(sys.argv[1])):\n print('read', flush=True); sys.stdin.read()"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        reader = subprocess.Popen([sys.executable, "-c", code, str(data_copy.crop_dir)], cwd=ROOT, **pipes, text=True)
        assert reader.stdout.readline() == "read\n"
        words = (str(data_copy.crop_dir), "is in use by", f"process {reader.pid}", "another --crop-dir")
        for main in (crop_faces.main, detect_faces.main):
            refusal(main, ["--crop-dir", data_copy.crop_dir, "--workers", "1"], *words)
        with reading(data_copy.crop_dir):
            # A second reader is let in; the lock of one that was killed holds nobody back.
            reader.kill()
            reader.communicate()
        crop(data_copy.crop_dir)
        assert not list(data_copy.crop_dir.glob(".*.lock"))

    def test_a_photo_of_the_same_size_and_time_is_found_by_its_content(
        self, data_copy: Toy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        argv = ["--crop-dir", str(data_copy.crop_dir), "--workers", "1"]
        path = next((data_copy.root / "train").rglob("*.png"))
        state, content = path.stat(), path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        detect_faces.main(argv)
        assert " 0 to search" in capsys.readouterr().out
        detect_faces.main([*argv, "--verify"])
        assert " 1 to search" in capsys.readouterr().out


class TestRuns:
    """Of a finished run, one thing is changed, and the next step names it."""

    def refused(self, main: Callable, run: ToyRun, *words: str, flags: tuple = ()) -> None:
        refusal(main, ["--run-dir", run.run_dir, *flags], *words)

    def test_labels_changed_after_training(self, run_copy: ToyRun, data_copy: Toy) -> None:
        rewrite(
            run_copy.run_dir / "run.json", lambda text: text.replace(str(run_copy.crop_dir), str(data_copy.crop_dir))
        )
        submission.main(["--run-dir", str(run_copy.run_dir)])
        edit_csv(data_copy.crop_dir / "faces.csv", lambda frame: frame.replace({"gender": {"male": "female"}}))
        words = ("no longer those it was trained with", str(data_copy.crop_dir))
        self.refused(submission.main, run_copy, *words)
        self.refused(ensemble.main, run_copy, *words, flags=("--calibrate",))

    @pytest.mark.parametrize("main", [ensemble.main, submission.main])
    def test_folds_changed_after_training(self, run_copy: ToyRun, main: Callable) -> None:
        edit_csv(
            run_copy.run_dir / "folds.csv", lambda frame: frame.assign(fold=frame["fold"].map({"0": "1", "1": "0"}))
        )
        self.refused(main, run_copy, "folds.csv", "not the folds that", "trained with")

    @pytest.mark.parametrize("main", [ensemble.main, submission.main])
    def test_age_groups_other_than_those_of_the_training(self, run_copy: ToyRun, main: Callable) -> None:
        rewrite(run_copy.run_dir / "run.json", lambda text: json.dumps(json.loads(text) | {"age_edges": [30, 60]}))
        self.refused(main, run_copy, "run.json: age groups that begin at 30 and 60", "was trained for 25 and 40")

    @pytest.mark.parametrize("edges", [[], [30], [30, 25], ["25", "40"], [25, 40, 60]])
    def test_age_groups_that_are_none(self, run_copy: ToyRun, edges: list) -> None:
        rewrite(run_copy.run_dir / "run.json", lambda text: json.dumps(json.loads(text) | {"age_edges": edges}))
        self.refused(submission.main, run_copy, f"run.json: age_edges {edges}; allowed are two whole numbers")

    def test_settings_of_a_finished_fold(self, run_copy: ToyRun) -> None:
        path = run_copy.run_dir / "mask" / "fold1" / "config.json"
        rewrite(path, lambda text: text.replace('"tta": "none"', '"tta": "flip"'))
        words = ("fold1/config.json: damaged, or replaced since the training", "put it back, or train it anew")
        self.refused(inference.main, run_copy, *words)
        self.refused(ensemble.main, run_copy, "fold1: trained with tta 'flip', fold0 with 'none'", "must agree")

    def test_a_fold_copied_over_another(self, run_copy: ToyRun) -> None:
        shutil.rmtree(run_copy.run_dir / "mask" / "fold1")
        shutil.copytree(run_copy.run_dir / "mask" / "fold0", run_copy.run_dir / "mask" / "fold1")
        self.refused(ensemble.main, run_copy, "fold1/config.json", "of fold 0")
        self.refused(inference.main, run_copy, "fold1/config.json", "of fold 0", flags=("--task", "mask"))

    @pytest.mark.parametrize("name", ["oof.csv", "model.safetensors", "config.json"])
    def test_a_finished_fold_without_a_file(self, run_copy: ToyRun, name: str) -> None:
        (run_copy.run_dir / "mask" / "fold1" / name).unlink()
        words = (f"fold1/{name}: no such file", "put it back, or train it anew: train.py --task mask --fold 1")
        argv = train_argv(Toy(run_copy.root, run_copy.crop_dir), run_copy.run_dir)
        refusal(train.main, argv, *words, untouched=[run_copy.run_dir])
        step = {"oof.csv": ensemble.main}.get(name, inference.main)
        self.refused(step, run_copy, *words)
        train.main([*map(str, argv), "--fold", "1", "--overwrite"])
        infer(run_copy.run_dir)
        ensemble.main(["--run-dir", str(run_copy.run_dir)])

    def test_weights_of_another_training(self, run_copy: ToyRun, tmp_path: Path) -> None:
        train_toy(run_copy.crop_dir, tmp_path / "other", ("mask",), ("--fold", "0", "--seed", "9"))
        name = Path("mask", "fold0", "model.safetensors")
        shutil.copy(tmp_path / "other" / name, run_copy.run_dir / name)
        self.refused(inference.main, run_copy, str(name), "damaged, or replaced since the training")

    def test_an_edited_out_of_fold_table(self, run_copy: ToyRun) -> None:
        rewrite(run_copy.run_dir / "mask" / "fold0" / "oof.csv", lambda text: text.replace("-", "", 1))
        self.refused(ensemble.main, run_copy, "fold0/oof.csv", "replaced since the training")

    def test_an_edited_eval_table_is_made_anew(self, run_copy: ToyRun) -> None:
        path = run_copy.run_dir / "mask" / "fold0" / "eval.csv"
        whole = path.read_bytes()
        path.write_bytes(whole + whole[:0] + b"\n")
        self.refused(ensemble.main, run_copy, "fold0/eval.csv", "run inference.py again")
        infer(run_copy.run_dir)
        assert path.read_bytes() == whole

    @pytest.mark.parametrize("change", ["edited", "gone"])
    @pytest.mark.parametrize("name", ["mask.csv", "mask_oof.csv", "age_years.csv"])
    def test_an_averaged_table_is_refused_and_made_anew(self, run_copy: ToyRun, name: str, change: str) -> None:
        path = run_copy.run_dir / name
        whole = path.read_bytes()
        if change == "gone":
            path.unlink()
        else:
            path.write_bytes(whole.replace(b"1", b"2"))
        self.refused(submission.main, run_copy, name, "run ensemble.py", flags=("--decision", "auto"))
        ensemble.main(["--run-dir", str(run_copy.run_dir)])
        assert path.read_bytes() == whole

    def test_an_average_of_folds_that_were_trained_anew(self, run_copy: ToyRun) -> None:
        ensemble.main(["--run-dir", str(run_copy.run_dir)])
        argv = train_argv(Toy(run_copy.root, run_copy.crop_dir), run_copy.run_dir)
        train.main([*map(str, argv), "--seed", "9", "--overwrite"])
        self.refused(submission.main, run_copy, "mask.csv", "changed since", "ensemble.py again")

    def test_eval_crops_cut_anew_after_inference(self, run_copy: ToyRun, data_copy: Toy) -> None:
        rewrite(
            run_copy.run_dir / "run.json", lambda text: text.replace(str(run_copy.crop_dir), str(data_copy.crop_dir))
        )
        edit_csv(data_copy.crop_dir / "crops.csv", lambda frame: frame.assign(content=frame["content"].str[::-1]))
        self.refused(submission.main, run_copy, "mask.csv", "eval crops have changed since")

    def test_an_output_folder_that_is_another_run(self, run_copy: ToyRun, toy_run: ToyRun) -> None:
        words = (f"--output-dir {run_copy.run_dir}", "a run is trained in it")
        refusal(inference.main, ["--run-dir", toy_run.run_dir, "--output-dir", run_copy.run_dir], *words,
                untouched=[run_copy.run_dir])  # fmt: skip

    def test_no_table_of_other_members_stays(self, run_copy: ToyRun) -> None:
        for path in (run_copy.run_dir / "mask").glob("fold*/*"):
            # Left is what inference.py writes elsewhere: predictions for other photos.
            if path.name not in ("config.json", "eval.csv", "eval.json"):
                path.unlink()
        ensemble.main(["--run-dir", str(run_copy.run_dir), "--mask", str(run_copy.run_dir / "mask")])
        assert (run_copy.run_dir / "mask.csv").exists()
        assert not (run_copy.run_dir / "mask_oof.csv").exists()

    @pytest.mark.parametrize("text", ["", "[1", "[]", "\0"])
    def test_a_damaged_record_is_made_anew(self, run_copy: ToyRun, text: str) -> None:
        ensemble.main(["--run-dir", str(run_copy.run_dir)])
        paths = [
            run_copy.run_dir / name for name in ("scores.json", "decision.json", "mask.json", "mask/fold0/eval.json")
        ]
        whole = [json.loads(path.read_text()) for path in paths]
        for path in paths:
            path.write_text(text)
        infer(run_copy.run_dir)
        ensemble.main(["--run-dir", str(run_copy.run_dir)])
        submission.main(["--run-dir", str(run_copy.run_dir)])
        assert [json.loads(path.read_text()) for path in paths] == whole


def test_corrections_share_the_caches_of_the_crops(data_copy: Toy, tmp_path: Path) -> None:
    train_toy(data_copy.crop_dir, tmp_path / "plain", flags=("--fold", "0"))
    caches = sorted((data_copy.crop_dir / "pixels").glob("train-*"))
    person = json.loads((tmp_path / "plain" / "run.json").read_text())["train_hash"]
    first = next(path for path in (data_copy.crop_dir / "train").rglob("normal.*"))
    image_id = f"{first.parent.name}/{first.name}"
    (tmp_path / "fixes.csv").write_text(f"image_id,drop\n{image_id},1\n")
    train_toy(
        data_copy.crop_dir, tmp_path / "fixed", flags=("--fold", "0", "--label-fixes", str(tmp_path / "fixes.csv"))
    )
    assert sorted((data_copy.crop_dir / "pixels").glob("train-*")) == caches
    assert json.loads((tmp_path / "fixed" / "run.json").read_text())["train_hash"] != person
    assert np.load(caches[0]).shape[0] == len(list((data_copy.crop_dir / "train").rglob("*.*")))

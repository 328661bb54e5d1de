"""Non-finite numbers, files of strangers, and the limits of the machine end a command in one line."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from serving_toys import GivenFaces, MeanColour, make_run, random_crops
from test_demo import free_port
from toy_data import FAST, Toy, refusal

import train
from core import cli, files
from core.cli import UserError
from model import normalisation
from preprocessing import annotate_faces
from serving import page as demo_page
from serving.faces import Pipeline
from serving.torch_model import load_run
from storage.run_dir import CONFIG, DONE
from training import checkpoints

pytest_plugins = ("toy_fixtures",)
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("broken", ["training.engine.Mixup.loss", "training.fold.predict"])
def test_a_training_that_diverges_is_not_done(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    if broken.endswith("loss"):
        monkeypatch.setattr(broken, lambda self, model, criterion, images, targets: model(images).sum() * torch.nan)
    else:
        monkeypatch.setattr(broken, lambda *_, **__: torch.full((1, 3), torch.inf))
    argv = ["--task", "mask", "--fold", "0", "--crop-dir", toy.crop_dir, "--run-dir", tmp_path / "run", *FAST]
    refusal(train.main, argv, "training diverged at epoch 1 (", "lower --lr or --no-amp")
    assert not (tmp_path / "run" / "mask" / "fold0" / DONE).exists()


def test_a_model_whose_outputs_are_not_finite_predicts_nothing(tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run", ("mask",)), device="cpu")
    torch.nn.init.constant_(run.models["mask"][0].model.network.get_classifier().weight, torch.nan)
    with pytest.raises(UserError, match=r"fold0: its model's outputs are not finite numbers"):
        run(random_crops(2))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"backbone_file": 7}, "backbone_file is 7"),
        ({"backbone_file": "../../x.safetensors"}, "backbone_file is '../../x.safetensors'"),
        ({"normalisation": {"mean": ["a", 0.5, 0.5], "std": [1, 1, 1]}}, "mean is .*three finite numbers"),
        ({"normalisation": {"mean": [0.5, 0.5], "std": [1, 1, 1]}}, "mean is .*three finite numbers"),
        ({"normalisation": {"mean": [0.5, 0.5, float("nan")], "std": [1, 1, 1]}}, "mean is .*three finite numbers"),
        ({"normalisation": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "std is .*above 0"),
        ({"normalisation": {"mean": [0, 0, 0], "std": [1, 10**400, 1]}}, r"config\.json: not valid JSON .*too large"),
        ({"classes": [-1, None]}, "fold0: trained for the classes -1, None, but those of mask are"),
    ],
)
def test_config_of_a_stranger(tmp_path: Path, change: dict, words: str) -> None:
    path = make_run(tmp_path / "run", ("mask",)) / "mask" / "fold0" / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=words):
        load_run(tmp_path / "run", device="cpu")


@pytest.mark.parametrize("table", ["a,b\n1,\x1b]0;x\x07\n", 'a,b\n1,"x\nerror: forged"\n', "a,b\x9b\n1,2\n"])
def test_control_characters_in_a_table(tmp_path: Path, table: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(table, encoding="utf-8")
    with pytest.raises(UserError, match=r"table\.csv: control characters in column 'b") as refused:
        files.read_csv(path, ("a",))
    assert str(refused.value).isprintable()


def test_a_message_does_nothing_to_a_terminal() -> None:
    assert cli.printable("사진 \x1b[31m\n\udc80") == "사진 \\x1b[31m\\n\\udc80"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to\nallocate 9 GiB"), "smaller --batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "smaller --batch-size"),
        (np._core._exceptions._ArrayMemoryError((9,), np.dtype(int)), "smaller --batch-size"),
        (RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space"), "--workers 0"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "shm-size"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "fewer --workers"),
        (RuntimeError("unable to open shared memory object </torch_7>: Too many open files (24)"), "ulimit -n"),
    ],
)
def test_limits_of_the_machine(error: Exception, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main(_: object) -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.run_cli(main)
    message = capsys.readouterr().err
    assert ended.value.code == 2
    assert advice in message and message.count("\n") == 1


def test_other_errors_keep_their_traceback() -> None:
    def main(_: object) -> None:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        cli.run_cli(main)


def test_ctrl_c_while_libraries_are_imported() -> None:
    code = "import core, os, signal; os.kill(os.getpid(), signal.SIGINT); import time; time.sleep(9)"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert (ended.returncode, len(ended.stderr.split("\n"))) == (130, 3)
    assert "interrupted" in ended.stderr


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k", "hf_hub:timm/resnet18.a1_in1k"])
def test_names_of_timm(name: str) -> None:
    assert normalisation(name) == normalisation("resnet18.a1_in1k")


def test_a_folder_as_timm_saves_it(tmp_path: Path) -> None:
    config = {"architecture": "test_vit", "num_classes": 3, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert normalisation(f"local-dir:{tmp_path}")[0] == (0.1, 0.2, 0.3)
    path = checkpoints.save_tensors(tmp_path / "b", f"local-dir:{tmp_path}", {"a": torch.zeros(1)})
    assert path.parent == tmp_path / "b" and ":" not in path.name


@pytest.mark.parametrize("name", ["local-dir:/none", "hf-hub:", "ftp:x", "hf-hub:nobody/nothing"])
def test_a_description_that_cannot_be_had(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"its config\.json cannot be had") as refused:
        normalisation(name)
    assert "\n" not in str(refused.value)


def test_a_tag_that_is_unknown() -> None:
    assert timm.is_model("resnet18")
    with pytest.raises(UserError, match=r"'resnet18\.a1_in2k' is not a timm model; did you mean .*resnet18\.a1_in1k"):
        normalisation("resnet18.a1_in2k")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:{port}"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:{port}"}, 200),
    ],
)
def test_the_demo_replies_to_its_own_address(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    gradio = pytest.importorskip("gradio", reason="gradio is not installed")
    port = free_port()
    page = demo_page.build_page(gradio, Pipeline(GivenFaces(()), MeanColour()), tmp_path)
    demo_page.serve(gradio, page, host="127.0.0.1", port=port, most_megabytes=1)
    filled = {name: value.format(port=port) for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/", headers=filled)) as reply:
            found = reply.status
    except urllib.error.HTTPError as error:
        found = error.code
    finally:
        page.close()
    assert found == status


def test_the_secret_of_the_annotation_page_is_no_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    annotate_faces.open_page("http://127.0.0.1:7/S3CR3T/", tmp_path)
    assert "S3CR3T" not in opened[0]
    assert "http://127.0.0.1:7/S3CR3T/" in (tmp_path / "open.html").read_text()

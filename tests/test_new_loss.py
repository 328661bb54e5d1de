"""A new loss with a parameter is a row in loss.py and a field in training/config.py: nothing else is changed."""

from pathlib import Path

import pytest
from test_new_task import copy_code, run

LOSS = '''
class PowerLoss(nn.Module):
    """1 - p^power, p being the probability of the true class."""

    def __init__(self, class_weights: Tensor | None = None, power: float = 1.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return (1 - logits.softmax(dim=1).gather(1, target[:, None]) ** self.power).mean()


LOSSES = (
    Loss("power", PowerLoss, ("power",)),
'''
FIELD = '    power: float = _setting(1.0, "power loss: its exponent", low=0.1, high=10, of_class_loss=True)\n'
SCRIPT = """
import sys
import torch
import train
from core.tasks import task_named
from training.config import from_dict, resolve, typed_settings
from training.fold_setup import build_criterion
from training.heads import build_head

typed = typed_settings(train.parse_args(["--loss", "power", "--power", "2"]))
for name in ("mask", "age"):
    config = resolve(name, "smoke", typed)
    assert from_dict(config.learned()).power == 2
    criterion = build_criterion(config, build_head(config.head, task_named(name), config.age_edges), [0, 1, 2])
    loss = criterion if name == "mask" else criterion.class_loss
    print(name, loss(torch.zeros(2, 4), torch.tensor([0, 3])).item(), config.class_share)
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code with the new loss."""
    folder = tmp_path_factory.mktemp("code")
    copy_code(folder)
    for name, before, added in (("loss.py", "\nLOSSES = (\n", LOSS), ("training/config.py", "    focal_gamma:", FIELD)):
        text = (folder / name).read_text(encoding="utf-8")
        assert text.count(before) == 1
        new = added if name == "loss.py" else added + before
        (folder / name).write_text(text.replace(before, new), encoding="utf-8")
    return folder


def test_its_flag_reaches_it_in_every_task(code: Path) -> None:
    """Of four equal logits: 1 - (1/4)^2. A task learned from values then has half its weight on classes."""
    assert run(code, "-c", SCRIPT).split() == ["mask", "0.9375", "0.5", "age", "0.9375", "0.5"]


def test_its_flag_is_in_the_help_with_default_and_range(code: Path) -> None:
    assert "power loss: its exponent (default: 1.0)" in " ".join(run(code, "train.py", "--help").split())
    refused = "from core.cli import UserError; import training.config as c\ntry: c.from_dict({'power': 99.0})\n"
    assert "--power 99.0: allowed is 0.1 to 10" in run(code, "-c", f"{refused}except UserError as error: print(error)")

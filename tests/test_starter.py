"""The starter model that comes with the project: small, whole, with a card, and at work on a drawn picture."""

import json
from pathlib import Path

from core.environment import ROOT

import pytest

from serving import load_model
from serving.loading import STARTER
from serving.model_folder import CARD, is_model_folder, read_model

pytestmark = pytest.mark.skipif(not is_model_folder(STARTER), reason="this checkout has no starter model")

MOST_BYTES = 12 * 2**20
SAMPLE = ROOT / "docs" / "images" / "sample_people.jpg"


def paths() -> list[Path]:
    return [path for path in STARTER.rglob("*") if path.is_file()]


def test_it_is_small_and_holds_nothing_else_than_a_model() -> None:
    about = read_model(STARTER)
    assert sum(path.stat().st_size for path in paths()) <= MOST_BYTES
    assert {path.relative_to(STARTER).as_posix() for path in paths()} == {*about["files"], CARD, "model.json"}
    assert about["tasks"] == ["mask", "gender", "age"]
    assert set(about["backbones"].values()) <= {"face_pair", "face_pair+face_gender"}


def test_its_terms_are_told() -> None:
    assert "research and non-commercial use" in read_model(STARTER)["terms"]
    assert "research and non-commercial use" in load_model().about


def test_its_card_has_scores_and_groups() -> None:
    card = (STARTER / CARD).read_text(encoding="utf-8")
    for words in ("| mask, eval photos |", "photos of real masks, from which nothing was learned", "**Weakest**"):
        assert words in card


def test_it_finds_the_people_of_the_sample_picture() -> None:
    faces = load_model()(SAMPLE)
    assert len(faces) >= 3
    assert json.dumps(faces.to_dict())


def test_no_path_of_the_machine_that_trained_it_is_in_it() -> None:
    assert not [path for path in STARTER.rglob("*.json") if '": "/' in path.read_text(encoding="utf-8")]

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stillmotion.core.errors import UserError
from stillmotion.data import sprites
from stillmotion.data.base import ClipSet, Splits
from stillmotion.models import files
from stillmotion.recipes.judge import default_folder
from stillmotion.recipes.judged_lab import JudgedLab, check_sure
from stillmotion.recipes.judged_lab import few as few_characters
from stillmotion.recipes.reproduce import Plan
from stillmotion.training.settings import Part

STANDARD, OTHER = Part(name="sprites"), Part(name="sprites", options={"version": "vdsm"})


def finish(folder: Path) -> Path:
    """As a folder looks once its model is saved."""
    (folder / files.INNER).mkdir(parents=True)
    (folder / files.INNER / files.CONFIG).write_text("{}", encoding="utf-8")
    return folder


def test_a_judge_that_errs_in_one_clip_of_a_hundred_is_refused(tmp_path: Path) -> None:
    facts = {"accuracy": {"body": {"value": 0.996}, "action": {"value": 0.99}}}
    with pytest.raises(UserError, match=r"more than 99.5 % of real clips, got .*action 99.00 %.*judge train sprites -o"):
        check_sure(facts, tmp_path, STANDARD)
    with pytest.raises(UserError, match="judge train sprites --data version=vdsm -o"):
        check_sure(facts, tmp_path, OTHER)
    facts["accuracy"]["action"]["value"] = 0.9951
    check_sure(facts, tmp_path, STANDARD)


def test_a_judge_without_figures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="more than 99.5 %"):
        check_sure({"accuracy": {}}, tmp_path, STANDARD)


def test_a_judge_of_the_usual_place_is_taken_where_there_is_one_of_this_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLMOTION_DATA", str(tmp_path / "root"))
    plan = Plan(quick=True, show=False)
    usual, others = finish(default_folder(OTHER)), finish(default_folder(STANDARD))
    assert usual != others
    assert JudgedLab(tmp_path / "new", plan, source=OTHER).judge_folder == usual
    assert JudgedLab(tmp_path / "new", plan).judge_folder == others
    # one that this reproduction trained was there first
    own = finish(tmp_path / "old" / "judge")
    assert JudgedLab(tmp_path / "old", plan, source=OTHER).judge_folder == own


def test_few_characters_are_of_all_kinds() -> None:
    labels = sprites._labels((6, 6, 6, 6))  # in the order of the published sets, which sort by body first and by hair last
    clips = ClipSet(torch.zeros(1), labels["body"], labels["body"], 8, labels)
    for count in (6, 24, 100):
        chosen = few_characters(Splits(clips, clips, clips), (None, None, count)).test
        assert len(chosen) == 9 * count
        assert all(len(torch.unique(chosen.labels[part])) > 3 for part in sprites.PARTS)
    assert few_characters(Splits(clips, clips, clips), (None, None, None)).train is clips

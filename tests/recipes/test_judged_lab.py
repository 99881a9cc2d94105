from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stillmotion.core.errors import UserError
from stillmotion.data import sprites
from stillmotion.data.base import ClipSet, Splits
from stillmotion.models import files
from stillmotion.recipes import judged_lab
from stillmotion.recipes.judge import default_folder
from stillmotion.recipes.judged_lab import JudgedLab, check_apart, check_sure
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


def test_a_judge_of_another_split_is_refused(tmp_path: Path) -> None:
    told = {"folder": str(tmp_path), "other_split": True}
    with pytest.raises(UserError, match=r"very split, .* may have seen the test clips\. Remove it .*judge train sprites --data version"):
        check_apart(told, OTHER)
    check_apart({**told, "other_split": False}, OTHER)


@pytest.mark.parametrize("quick", [True, False])
def test_a_kept_judge_is_taken_only_if_it_knows_the_same_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    facts = {"accuracy": {"body": {"value": 1.0}}, "data": {"name": "sprites", "options": {"seed": 3}}, "clips_sha256": "x"}
    monkeypatch.setattr(judged_lab, "load_judge", lambda folder: SimpleNamespace(facts=facts, sha256="y"))
    monkeypatch.setattr(judged_lab, "clips_sha256", lambda splits: "x")
    lab = JudgedLab(finish(tmp_path / "judge").parent, Plan(quick=quick, show=False))
    lab.__dict__["splits"] = None  # never composed
    if not quick:
        with pytest.raises(UserError, match="a judge of this very split"):
            _ = lab.judge
        facts["data"] = {"name": "sprites", "options": {"root": "elsewhere"}}
    assert lab.judge.sha256 == "y"
    assert lab.told_of_judge["other_split"] is quick


def test_the_same_clips_are_hashed_once_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = sprites._labels((2, 2, 2, 2))
    frames = torch.zeros(8 * 144, 1, 1, 1, dtype=torch.uint8)
    clips = ClipSet(frames, 8 * torch.arange(144), torch.full((144,), 8), 8, labels)
    hashed: list[ClipSet] = []
    keys: list[str] = []
    monkeypatch.setattr(judged_lab.labs, "fingerprint", lambda found: hashed.append(found) or "hash")
    monkeypatch.setattr(judged_lab, "measured_once", lambda run, key, work: keys.append(key) or {})
    lab = JudgedLab(tmp_path, Plan(show=False))
    lab.__dict__ |= {"splits": Splits(clips, clips, clips), "judge": SimpleNamespace(sha256="0123456789abcdef")}
    for run in ("a", "b"):
        lab.measure(tmp_path / run, ("swaps", "two factors"), 3)
        lab.measure_of(tmp_path / run, ("bound",), (None, 2, 0))
    assert [len(found) for found in hashed] == [27, 18]
    assert keys == 2 * ["swaps, two factors of test clips hash, judge 0123456789ab", "bound of validation clips hash, judge 0123456789ab"]


def test_few_characters_are_of_all_kinds() -> None:
    labels = sprites._labels((6, 6, 6, 6))  # in the order of the published sets, which sort by body first and by hair last
    clips = ClipSet(torch.zeros(1), labels["body"], labels["body"], 8, labels)
    for count in (6, 24, 100):
        chosen = few_characters(Splits(clips, clips, clips), (None, None, count)).test
        assert len(chosen) == 9 * count
        assert all(len(torch.unique(chosen.labels[part])) > 3 for part in sprites.PARTS)
    assert few_characters(Splits(clips, clips, clips), (None, None, None)).train is clips

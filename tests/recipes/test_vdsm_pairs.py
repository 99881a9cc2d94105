from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from oracles import two_factor_videos as tiny
from stillmotion.core.errors import UserError
from stillmotion.data.base import Splits
from stillmotion.recipes.vdsm_pairs import (
    CHANGED,
    HELD_OUT,
    LOOKS,
    aligned,
    decibel,
    film,
    footage,
    mirrored,
    pieces,
    reels,
    told,
    transfers,
)  # fmt: skip
from stillmotion.training.runs import load_part
from stillmotion.training.settings import Part


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Part:
    root = tiny.write(tmp_path_factory.mktemp("root"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLMOTION_DATA", str(root))
        plain = footage(HELD_OUT)
    return Part(name="videos", options={**plain.options, "size": 16, "steps": 6, "cache": str(root / "cache"), "progress": False})


@pytest.fixture(scope="module")
def splits(data: Part) -> Splits:
    return load_part(data, show=False)


def test_every_person_loses_one_action_and_every_action_two_or_three_persons() -> None:
    assert tuple(HELD_OUT) == tiny.PERSONS
    assert set(HELD_OUT.values()) == set(tiny.ACTIONS)
    assert sorted(Counter(HELD_OUT.values()).values()) == [2, 2, 2, 3]
    # what is held out must be knowable: who changes clothes for an action keeps it
    assert not set(CHANGED) & set(HELD_OUT.items())


def test_what_is_held_out_is_in_no_training_clip(splits: Splits) -> None:
    trained = {(reel.person, reel.action) for reel in reels(splits.train)}
    assert {(reel.person, reel.action) for reel in reels(splits.test)} == set(HELD_OUT.items())
    assert len(trained) == 27
    assert not trained & set(HELD_OUT.items())


def test_a_changed_clip_is_a_look_of_its_own_and_all_others_of_a_person_are_one(data: Part) -> None:
    train = load_part(Part(name="videos", options={**data.options, "pattern": LOOKS}), show=False).train
    named = [{factor: train.classes[factor][int(label)] for factor, label in zip(train.labels, row, strict=True)}
             for row in torch.stack([*train.labels.values()], 1)]  # fmt: skip
    assert {each["look"] for each in named} == {f"person-{person}" for person in tiny.PERSONS} | {f"person-{p}_{a}" for p, a in CHANGED}
    for each in named:
        changed = (each["person"], each["action"]) in CHANGED
        assert each["look"] == f"person-{each['person']}" + (f"_{each['action']}" if changed else "")


def test_clips_are_whole_but_for_the_end_that_validates(splits: Splits) -> None:
    held = next(reel for reel in reels(splits.test) if reel.person == "1")
    frames = film(splits.test, held).frames
    assert frames.shape == (1, tiny.LENGTH + 1, 3, 16, 16)
    assert (255 * frames[0, :, 2, 0, 0]).round().tolist() == [5 * t for t in range(tiny.LENGTH + 1)]
    assert (255 * frames[0, 0, :2, 0, 0]).round().tolist() == [45, 150]
    assert {reel.length for reel in reels(splits.train) if reel.person == "0"} == {tiny.LENGTH - 2}


def test_a_transfer_is_of_the_person_and_of_the_action_and_of_neither_too_much(splits: Splits) -> None:
    found = transfers(splits, HELD_OUT)
    for transfer in found:
        assert transfer.identity.person == transfer.held.person != transfer.motion.person
        assert transfer.motion.action == transfer.held.action != transfer.identity.action
        assert (transfer.identity.person, transfer.identity.action) not in CHANGED
    of_person = Counter(transfer.held.person for transfer in found)
    # three clips lend the identity, two where one shows other clothes; bending is left to six persons, the others' actions to seven
    assert of_person == {"0": 2 * 6, "1": 2 * 7, "2": 3 * 7, "3": 2 * 7, "4": 3 * 6, "5": 3 * 7, "6": 2 * 7, "7": 3 * 7, "8": 3 * 6}
    assert len(set(found)) == len(found)
    assert Counter(transfer.held.person for transfer in transfers(splits, HELD_OUT, most=1))["0"] == 2


def test_a_pair_that_is_not_held_out_cannot_be_made(splits: Splits) -> None:
    with pytest.raises(UserError, match="person 0, jumping-jack"):
        transfers(splits, {"0": "jumping-jack"})


def test_without_the_videos_it_is_said_where_they_should_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLMOTION_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"Weizmann videos in .*weizmann, got no such folder.*STILLMOTION_DATA"):
        footage(HELD_OUT)


@pytest.mark.data
def test_the_real_clips_have_these_names(real_data: Path) -> None:
    names = {path.stem for path in (real_data / "weizmann").glob("*.mp4")}
    assert names == {f"person-{person}_{action}" for person in tiny.PERSONS for action in tiny.ACTIONS}


def test_mirrored_clips_come_after_the_others_with_the_same_labels(splits: Splits) -> None:
    both, plain = mirrored(splits.train), splits.train.clips()
    count = len(splits.train)
    assert len(both) == 2 * count
    frames = both.clips()
    assert torch.equal(frames.frames[:count], plain.frames)
    assert torch.equal(frames.frames[count:], plain.frames.flip(-1))
    assert torch.equal(frames.labels["action"][count:], plain.labels["action"])


# Time


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_windows_cover_a_clip_and_end_with_it() -> None:
    frames = torch.arange(11.0).view(11, 1, 1, 1)
    assert pieces(frames, 4, 4)[:, :, 0, 0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [7, 8, 9, 10]]
    assert pieces(frames, 4, 2)[:, 0, 0, 0, 0].tolist() == [0, 2, 4, 6, 7]


def test_a_window_is_found_where_it_was_cut_out() -> None:
    real = noise(20, 3, 8, 8)
    errors, first = aligned(torch.stack([real[13:17], real[:4], real[16:]]), real)
    assert first.tolist() == [13, 0, 16]
    assert errors.max() < 1e-10


def test_the_best_fit_is_that_of_the_plain_search() -> None:
    real, window = noise(15, 3, 8, 8), noise(5, 3, 8, 8).flip(0)
    each = torch.tensor([float((window - real[first : first + 5]).square().mean()) for first in range(11)])
    errors, first = aligned(window[None], real)
    assert float(errors) == pytest.approx(float(each.min()), rel=1e-5)
    assert int(first) == int(each.argmin())


def test_a_tenth_of_the_range_is_twenty_decibel() -> None:
    real = noise(9, 3, 8, 8) * 0.8
    errors, _ = aligned((real[2:6] + 0.1)[None], real)
    assert float(decibel(errors)) == pytest.approx(20.0, abs=1e-3)
    with pytest.raises(UserError, match="at least 10 frames"):
        aligned(noise(1, 10, 3, 8, 8), real)


def test_a_clip_is_told_in_words(splits: Splits) -> None:
    assert told(reels(splits.test)[1]) == "person 1, wave one hand"

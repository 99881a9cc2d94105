"""What stands for held-out clips, seen by a judge that reads colours, made by a model that paints them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from oracles import two_factor_videos as tiny
from stillmotion.core.abilities import Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.data import videos
from stillmotion.data.base import Splits
from stillmotion.recipes.vdsm_pairs import HELD_OUT, PATTERN, Reel, film, reels, transfers
from stillmotion.recipes.vdsm_witness import KINDS, Maker, Witness, evidence, figures, lessons_of


class Painter(nn.Module, Swaps):
    """static: the red of a clip, path: green and blue of each frame; both are painted back."""

    name = "painter"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        colours = clips.frames.mean((-2, -1))
        return Codes(colours[:, 0, :1], None, colours[:, :, 1:], clips.mask)

    def decode(self, codes: Codes) -> Tensor:
        assert codes.static is not None
        assert codes.path is not None
        red = codes.static[:, None].expand(-1, codes.path.shape[1], -1)
        return torch.cat([red, codes.path], 2)[..., None, None].expand(-1, -1, -1, tiny.SIDE, tiny.SIDE)


class Forgetful(Painter):
    """Does not swap: it shows the clip of the movement."""

    def swap(self, identity: Codes, motion: Codes) -> Codes:
        return motion


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    root = tiny.write(tmp_path_factory.mktemp("root"))
    held = [{"person": person, "action": action} for person, action in HELD_OUT.items()]
    return videos.load(
        root / "weizmann", size=16, steps=6, pattern=PATTERN, hold_out=held, hold_out_tail=0.1, cache=root / "cache", progress=False
    )  # fmt: skip


@pytest.fixture
def witness(splits: Splits) -> Witness:
    return Witness(tiny.Eye(), splits)


def held(splits: Splits, person: str) -> Reel:
    return next(reel for reel in reels(splits.test) if reel.person == person)


def test_the_real_clip_is_right_and_as_near_as_can_be(witness: Witness, splits: Splits) -> None:
    reel = held(splits, "2")
    record = witness.record(film(splits.test, reel).frames[0], reel, splits.test)
    assert record["held"] == ["2", "jumping-jack"]
    assert record["action"] is record["person"] is True
    assert record["distance"] == 0
    assert record["psnr"] > 90
    assert record["sure"] == pytest.approx(float(torch.tensor([5.0] + [0] * 8).softmax(0)[0] * torch.tensor([5.0, 0, 0, 0]).softmax(0)[0]))
    assert len(record["action_windows"]) == 7  # of 22 frames, six at a time, three further on


def test_clips_that_have_nothing_in_common_are_one_apart_in_the_median(witness: Witness, splits: Splits) -> None:
    known = reels(splits.train)
    place = {reel: torch.tensor([float(reel.person), float(tiny.ACTIONS.index(reel.action))]) for reel in known}
    strange = [(place[a] - place[b]).norm() for a in known for b in known if a.person != b.person and a.action != b.action]
    assert witness.far == pytest.approx(float(torch.stack(strange).median()))


def test_a_wrong_colour_is_seen_where_it_is(witness: Witness, splits: Splits) -> None:
    reel = held(splits, "2")
    frames = film(splits.test, reel).frames[0].clone()
    frames[:, 0] += 25 / 255
    record = witness.record(frames, reel, splits.test)
    assert (record["action"], record["person"], any(record["person_windows"])) == (True, False, False)
    assert record["distance"] == pytest.approx(1 / witness.far)
    assert record["psnr"] == pytest.approx(-10 * torch.tensor((25 / 255) ** 2 / 3).log10().item(), abs=1e-2)


def test_most_windows_do_not_outvote_those_that_are_sure(witness: Witness, splits: Splits) -> None:
    reel = held(splits, "2")
    frames = film(splits.test, reel).frames[0].clone()
    frames[:8, 1] = 30 / 255  # another action for the first windows
    record = witness.record(frames, reel, splits.test)
    assert record["action"] is True
    assert record["action_windows"] == [False, False] + [True] * 5


def test_a_perfect_model_is_right_in_every_transfer(witness: Witness, splits: Splits) -> None:
    found = transfers(splits, HELD_OUT, most=2)
    testified = evidence(witness, Maker(Painter(), splits), found)  # type: ignore[arg-type]
    assert list(testified) == list(KINDS)
    assert len(testified["transfer"]) == len(found)
    assert len(testified["rebuilt"]) == len(testified["real"]) == 9
    assert testified["transfer"][0]["from"] == ["wave-one-hand", "1"]
    measured = figures(testified)
    for name in ("transfer_action", "transfer_person", "transfer_both", "transfer_window_person", "rebuilt_both", "real_both"):
        assert measured[f"{name}_accuracy"].value == 1.0
    assert measured["transfer_both_accuracy"].low == pytest.approx(1 - 1.96**2 / (9 + 1.96**2))  # as of nine clips, not of all transfers
    assert measured["transfer_psnr"].value > 40
    assert measured["transfer_feature_distance"].value == 0
    assert "real_psnr" not in measured
    # the clip that lends the identity shows another action
    assert measured["identity_source_person_accuracy"].value == 1.0
    assert measured["identity_source_action_accuracy"].value == 0.0


def test_a_model_that_does_not_swap_shows_the_wrong_person(witness: Witness, splits: Splits) -> None:
    found = transfers(splits, HELD_OUT, most=1)
    measured = figures(evidence(witness, Maker(Forgetful(), splits), found))  # type: ignore[arg-type]
    assert measured["transfer_action_accuracy"].value == 1.0
    assert measured["transfer_person_accuracy"].value == measured["transfer_both_accuracy"].value == 0.0


def test_a_transfer_is_as_long_as_the_clip_of_its_motion(splits: Splits) -> None:
    maker = Maker(Painter(), splits)  # type: ignore[arg-type]
    transfer = next(each for each in transfers(splits, HELD_OUT) if each.motion.person == "2")
    assert len(maker.transferred(transfer)) == transfer.motion.length
    assert len(maker.rebuilt(transfer.held)) == transfer.held.length


def test_the_judge_learns_from_training_clips_alone_and_from_their_mirror_images(splits: Splits) -> None:
    lessons = lessons_of(splits)
    assert len(lessons.train) == 2 * len(splits.train)
    assert lessons.test is splits.test
    trained = {(reel.person, reel.action) for reel in reels(splits.train)}
    labels = zip(lessons.train.labels["person"].tolist(), lessons.train.labels["action"].tolist(), strict=True)
    assert {(tiny.PERSONS[person], tiny.ACTIONS[action]) for person, action in labels} == trained

from __future__ import annotations

import numpy as np
import pytest
import torch

from oracles import few_sprites
from oracles.small_vdsm import noise, small_vdsm, some_clips
from stillmotion.data.base import ClipSet
from stillmotion.recipes.gallery import as_bytes, crossed, drawn, names_of, showcase, sources
from stillmotion.tasks.clips import swap
from stillmotion.tasks.codes import encode


@pytest.mark.data
def test_shown_clips_are_of_different_characters_in_different_actions(real_data: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLMOTION_DATA", str(real_data))
    shown = showcase(few_sprites.load().test, 5)
    assert len(set(shown.labels["character"].tolist())) == 5
    assert shown.labels["action_direction"].tolist() == [0, 4, 8, 3, 7]
    assert names_of(shown)[:2] == ("walk front", "spellcast left")


def test_an_identity_stands_in_a_row_and_a_movement_in_a_column() -> None:
    model, clips = small_vdsm(), some_clips(4, 4, 4)
    codes = encode(model, clips)
    grid = crossed(model, codes, clips.frames)
    assert grid.shape == (4, 4, 4, 3, 8, 8)
    assert not grid[0, 0].any()
    assert torch.equal(grid[0, 1:], clips.frames)
    assert torch.equal(grid[1:, 0], clips.frames)
    torch.testing.assert_close(grid[1, 3], swap(model, codes[0:1], codes[2:3])[0])


def test_new_clips_are_of_the_prior_and_of_what_is_remembered() -> None:
    model = small_vdsm()
    assert sources(model) == ("prior",)
    assert drawn("new", "New", model, 5, "Drawn.", count=3).row_labels == ("prior",) * 2
    with torch.no_grad():
        model.remember(model.encode(some_clips(4, 4), noise()))
    both = drawn("new", "New", model, 5, "Drawn.", count=3)
    assert both.row_labels == ("prior",) * 2 + ("aggregate posterior",) * 2
    assert both.frames.shape == (4, 3, 5, 3, 8, 8)
    assert not np.array_equal(both.frames[0], both.frames[1])


def test_names_are_those_of_action_and_direction() -> None:
    frames, labels = torch.zeros(2, 1, 3, 8, 8, dtype=torch.uint8), {"action_direction": torch.tensor([1, 0])}
    clips = ClipSet.whole(frames, labels, {"action_direction": ("a", "b")})
    assert names_of(clips) == ("b", "a")


def test_pixels_are_rounded_to_the_nearest_byte() -> None:
    assert as_bytes(torch.tensor([0.0, 0.0019, 0.0021, 1.0])).tolist() == [0, 0, 1, 255]

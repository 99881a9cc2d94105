from __future__ import annotations

import pytest
import torch
from torch import nn

from oracles.grey_model import GreyModel, grey_clips
from oracles.small_vdsm import small_vdsm, some_clips
from stillmotion.core.errors import MissingAbility, UserError
from stillmotion.tasks.clips import codes_of, generate, reconstruct, swap, swap_grid
from stillmotion.tasks.codes import encode


def test_a_model_that_keeps_everything_reconstructs_its_clips() -> None:
    clips = grey_clips(5, 5)
    assert torch.allclose(reconstruct(GreyModel(), clips), clips.frames)
    turned = reconstruct(GreyModel(), clips, poses=True)
    assert torch.allclose(turned[:, :, 0], 1 - clips.frames[:, :, 0])


def test_a_swap_takes_the_identity_of_one_and_the_movement_of_the_other() -> None:
    model, clips = GreyModel(), grey_clips(4, 4)
    clips.frames[1, :, :2] *= 3
    codes = encode(model, clips)
    swapped = swap(model, codes[0:1], codes[1:2])
    assert torch.allclose(swapped[0, :, 0], clips.frames[1, :, 0])
    assert torch.allclose(swapped[0, :, -1], clips.frames[0, :, -1])


def test_a_swap_with_itself_is_the_reconstruction() -> None:
    model, clips = small_vdsm(), some_clips(4, 3)
    codes = encode(model, clips)
    assert torch.equal(swap(model, codes, codes), reconstruct(model, clips))


def test_rows_of_the_grid_are_movements_and_columns_identities() -> None:
    model = GreyModel()
    clips = [grey_clips(length, blue=blue) for length, blue in ((6, 0.1), (4, 0.2), (5, 0.3))]
    for factor, clip in enumerate(clips, 1):
        clip.frames[:, :, :2] *= factor
    grid = swap_grid(model, codes_of(model, clips, 3))
    assert grid.shape == (3, 3, 4, 3, 2, 2)
    for row in range(3):
        for column in range(3):
            assert grid[row, column, :, 0, 0, 0].tolist() == pytest.approx([(row + 1) * t / 256 for t in (1, 2, 3, 4)])
            assert grid[row, column, :, -1, 0, 0].tolist() == pytest.approx([0.1 * (column + 1)] * 4)


def test_a_grid_of_no_clips_is_refused() -> None:
    with pytest.raises(UserError, match="at least one clip, got none"):
        swap_grid(GreyModel(), [])


def test_codes_of_clips_have_the_length_of_each() -> None:
    found = codes_of(GreyModel(), [grey_clips(7), grey_clips(2)], 4, poses=True)
    paths = [codes.path for codes in found if codes.path is not None]
    assert [path.shape[1] for path in paths] == [7, 2]
    assert paths[0][0, :, 0].tolist() == pytest.approx([1 - t / 256 for t in range(1, 8)])


def test_generated_clips_have_the_number_and_length_asked_for() -> None:
    model = small_vdsm()
    for count, steps in ((1, 1), (3, 2), (2, 40)):
        clips = generate(model, count, steps, seed=0)
        assert clips.shape == (count, steps, 3, 8, 8)
        assert clips.min() >= 0
        assert clips.max() <= 1


def test_the_seed_decides_what_is_generated_and_nothing_else() -> None:
    model = small_vdsm()
    state = torch.get_rng_state()
    one, same, other = (generate(model, 2, 5, seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("count", "steps"), [(0, 3), (2, 0), (-1, 3)])
def test_nothing_to_generate_is_refused(count: int, steps: int) -> None:
    with pytest.raises(UserError, match=f"at least one clip of at least one frame, got {count} clips of {steps} frames"):
        generate(GreyModel(), count, steps, 0)


def test_models_that_cannot_are_told_of_those_that_can() -> None:
    codes = encode(GreyModel(), grey_clips(2))
    with pytest.raises(MissingAbility, match="ability Generates, got Linear, which lacks it. Models that can: vdsm"):
        generate(nn.Linear(1, 1), 1, 1, 0)
    with pytest.raises(MissingAbility, match="ability Swaps, got Linear"):
        swap(nn.Linear(1, 1), codes, codes)

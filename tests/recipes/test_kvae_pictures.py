from __future__ import annotations

import pytest
import torch

from stillmotion.core.errors import UserError
from stillmotion.data.balls import box, render
from stillmotion.models.kvae import KVAE, KVAEConfig
from stillmotion.recipes.kvae_modes import FIRST, LAST, SIDE, mode_maps, places, weights_by_place
from stillmotion.recipes.kvae_overlays import EARLY, LATE, WAYS, generations, overlay
from stillmotion.recipes.kvae_paths import LABELS, centres, gap_in_motion, through_the_gap, trajectories

TEST = box(clips=1, validation=1, test=5).test


def kalman(dynamics: str = "lstm", seed: int = 0) -> KVAE:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return KVAE(KVAEConfig(width=4, dynamics=dynamics, modes=2))  # type: ignore[arg-type]


def test_later_frames_cover_earlier_ones_on_white() -> None:
    frames = torch.zeros(1, 3, 1, 2, 2)
    frames[0, 0, 0, 0] = 1
    frames[0, 2, 0, :, 1] = 1
    picture = overlay(frames)
    colour = {name: tuple(round(255 * part) for part in parts) for name, parts in (("early", EARLY), ("late", LATE))}
    assert tuple(picture[0, :, 0, 0].tolist()) == colour["early"]
    assert tuple(picture[0, :, 0, 1].tolist()) == colour["late"]
    assert tuple(picture[0, :, 1, 1].tolist()) == colour["late"]
    assert picture[0, :, 1, 0].tolist() == [255, 255, 255]
    assert picture.dtype == torch.uint8


def test_grey_frames_cover_in_part() -> None:
    picture = overlay(torch.full((1, 1, 1, 1, 1), 0.5))
    assert picture[0, :, 0, 0].tolist() == pytest.approx([round(255 * (1 + part) / 2) for part in EARLY], abs=1)


def test_generated_clips_stand_below_real_ones() -> None:
    pictures = generations({"box": kalman(), "pong": kalman()}, {"box": TEST, "pong": TEST}, count=3)
    assert pictures.frames.shape == (8, 3, 1, 3, 32, 32)
    assert pictures.row_labels[:4] == tuple(f"box, {way}" for way in WAYS)
    assert torch.equal(torch.from_numpy(pictures.frames[0, :, 0]), overlay(TEST.clips(slice(3)).frames))


def test_the_centre_of_light_is_the_centre_of_the_ball() -> None:
    where = torch.tensor([[[6.0, 20.0], [15.5, 9.25], [25.0, 25.0]]], dtype=torch.float64)
    found = centres(render(where).float() / 255)
    assert torch.allclose(found.double(), where, atol=0.1)
    assert bool(centres(torch.zeros(1, 2, 1, 8, 8)).isnan().all())


def test_trajectories_show_the_true_way_and_keep_what_was_seen() -> None:
    model = kalman()
    (first, second) = trajectories(model, TEST, count=2)
    assert first.name != second.name
    true = first.lines[0]
    assert true.label == LABELS[0]
    assert true.x == pytest.approx(TEST.truth()[0, :, 0].tolist())
    assert true.y == pytest.approx((32 - TEST.truth()[0, :, 1]).tolist())
    smoothed, filtered, rolled = through_the_gap(model, TEST.clips())
    real = TEST.clips().frames
    for frames in (smoothed, filtered):
        assert torch.equal(frames[:, :4], real[:, :4])
        assert torch.equal(frames[:, -4:], real[:, -4:])
    assert rolled.shape == real.shape
    assert gap_in_motion(model, TEST, count=2).frames.shape == (5, 2, 20, 1, 32, 32)


def test_the_map_of_a_system_is_its_weight_after_a_ball_in_each_place() -> None:
    model = kalman("mlp")
    weights = weights_by_place(model)
    assert weights.shape == (2, SIDE, SIDE)
    assert torch.allclose(weights.sum(0), torch.ones(SIDE, SIDE))
    row, column = 7, 30
    place = torch.tensor([[[FIRST + column / (SIDE - 1) * (LAST - FIRST), FIRST + row / (SIDE - 1) * (LAST - FIRST)]]])
    assert torch.allclose(places()[row, column], place[0, 0].double())
    with torch.no_grad():
        code = model.code_head(model.encoder(render(place).float() / 255)).chunk(2, -1)[0]
        expected = model.dynamics(torch.cat([code, code], 1))[0, 1]
    assert torch.allclose(weights[:, row, column], expected, atol=1e-5)


def test_maps_and_means_of_every_system() -> None:
    maps, table = mode_maps(kalman("mlp"))
    assert maps.frames.shape == (1, 2, 1, 1, SIDE, SIDE)
    sums = [sum(float(row[k]) for row in table.rows) for k in range(1, 5)]  # type: ignore[arg-type]
    assert sums == pytest.approx([1] * 4, abs=2e-3)


def test_a_network_that_looks_further_back_has_no_such_map() -> None:
    with pytest.raises(UserError, match="of the last code"):
        weights_by_place(kalman("lstm"))

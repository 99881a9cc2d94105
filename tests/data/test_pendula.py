"""Pendula: the physics against exact laws, and the readers against the truth behind the pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.ndimage import gaussian_filter
from scipy.special import ellipk
from torch import Tensor

from stillmotion.core.errors import UserError
from stillmotion.data import pendula


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def released(amplitude: list[float], speed: list[int], steps: int, start: list[float] | None = None) -> Tensor:
    begin = torch.zeros(len(amplitude)) if start is None else torch.tensor(start, dtype=torch.float64)
    return pendula.swing(torch.tensor(amplitude, dtype=torch.float64), torch.tensor(speed), start=begin, steps=steps)


def test_the_path_is_that_of_an_adaptive_integrator():
    ours = released([1.2, 0.3, 0.7], [1, 0, 1], 60, start=[2.5, 11.0, 0.0])
    for path, amplitude, period, start in zip(ours, (1.2, 0.3, 0.7), (7, 14, 7), (2.5, 11.0, 0.0), strict=True):
        pull = (2 * math.pi / period) ** 2
        exact = solve_ivp(lambda _, s, g=pull: [s[1], -g * math.sin(s[0])], (0, start + 59), [amplitude, 0.0],
                          t_eval=start + np.arange(60), rtol=1e-11, atol=1e-12, method="DOP853").y[0]
        np.testing.assert_allclose(path.numpy(), exact, atol=1e-6)


def test_energy_is_kept_over_sixty_frames():
    pull = np.array([(2 * math.pi / 7) ** 2])
    state = np.array([[1.2], [0.0]])
    before = -pull * math.cos(1.2)
    for _ in range(60 * pendula.SUBSTEPS):
        state = pendula._runge_kutta(state, pull, 1 / pendula.SUBSTEPS)
    np.testing.assert_allclose(state[1] ** 2 / 2 - pull * np.cos(state[0]), before, rtol=1e-7)


@pytest.mark.parametrize("speed", [0, 1])
@pytest.mark.parametrize("amplitude", [0.3, 0.8, 1.2])
def test_after_one_exact_period_the_pendulum_is_back(speed: int, amplitude: float):
    exact = 4 * math.sqrt(1 / float(pendula.gravity(torch.tensor([speed]))[0])) * ellipk(math.sin(amplitude / 2) ** 2)
    period = 1 / pendula.true_frequency(torch.tensor([speed]), torch.tensor([amplitude], dtype=torch.float64)).item()
    assert period == pytest.approx(exact, rel=1e-12)
    path = released([amplitude] * 3, [speed] * 3, 1, start=[period / 4, period / 2, period])[:, 0]
    assert path.tolist() == pytest.approx([0, -amplitude, amplitude], abs=1e-6)


def test_the_fast_pull_is_four_times_the_slow_one():
    slow, fast = pendula.gravity(torch.tensor([0, 1])).tolist()
    assert fast == pytest.approx(4 * slow)
    assert 1 / pendula.true_frequency(torch.tensor([0, 1]), torch.tensor([1e-6, 1e-6])) == pytest.approx([14, 7])


def test_draws_are_balanced_and_fill_the_ranges():
    swings = pendula.draw(1400, steps=3, generator=seeded(0))
    assert (swings.speed * 7 + swings.colour).bincount().tolist() == [100] * 14
    low, high = pendula.AMPLITUDES
    assert low <= swings.amplitude.min() < low + 0.01
    assert high - 0.01 < swings.amplitude.max() <= high
    start = swings.angle[:, 0] / swings.amplitude
    assert start.min() < -0.99
    assert start.max() > 0.99
    assert abs(start.mean()) < 0.1


def test_a_longer_draw_continues_a_shorter_one():
    short, long = (pendula.draw(20, steps=steps, generator=seeded(5)) for steps in (4, 9))
    assert torch.equal(short.angle, long.angle[:, :4])
    assert torch.equal(short.frequency, long.frequency)


@pytest.mark.parametrize("size", [32, 64])
def test_a_frame_shows_a_coloured_bob_where_the_angle_says(size: int):
    angle = torch.tensor([[-1.2, 0.0, 0.5]], dtype=torch.float64)
    swings = pendula.Swings(torch.tensor([2]), torch.tensor([0]), torch.tensor([1.2]), torch.tensor([0.07]), angle)
    frames = pendula.render(swings, size)[0].float() / 255
    for frame, theta in zip(frames, angle[0].tolist(), strict=True):
        x = (0.5 + pendula.LENGTH * math.sin(theta)) * size
        y = (12 / 64 + pendula.LENGTH * math.cos(theta)) * size
        torch.testing.assert_close(frame[:, int(y), int(x)], pendula.palette()[2], atol=0.003, rtol=0)
        coloured = (frame.amax(0) - frame.amin(0)).sum().item()
        assert coloured == pytest.approx(math.pi * (5 / 64 * size) ** 2, rel=0.02)  # at the largest amplitude too, none is cut off


def test_frames_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch):
    swings = pendula.draw(4, steps=3, generator=seeded(0))
    at_once = pendula.render(swings, 16)
    monkeypatch.setattr(pendula, "CHUNK", 5)
    assert torch.equal(pendula.render(swings, 16), at_once)


def blurred(frames: Tensor) -> Tensor:
    return torch.from_numpy(gaussian_filter(frames.numpy(), (0, 0, 0, 1.5, 1.5)))


@pytest.mark.parametrize("steps", [16, 40, 60])
def test_readers_know_the_truth_of_clean_blurred_and_dimmed_clips(steps: int):
    swings = pendula.draw(14, steps=steps, generator=seeded(steps))
    clean = pendula.render(swings).float() / 255
    noise = 0.02 * torch.randn(clean.shape, generator=seeded(9))
    for frames in (clean, blurred(clean), clean / 2, blurred(clean) / 2 + 0.02, (blurred(clean) + noise).clamp(0, 1)):
        assert torch.equal(pendula.read_colour(frames), swings.colour)
        assert torch.equal(pendula.read_speed(frames), swings.speed)
        assert (pendula.read_angle(frames) - swings.angle).abs().max() < 0.1
        torch.testing.assert_close(pendula.read_frequency(frames), swings.frequency, rtol=0.03, atol=0)


def test_readers_work_at_half_the_size():
    swings = pendula.draw(28, steps=16, generator=seeded(2))
    frames = pendula.render(swings, 32).float() / 255
    assert torch.equal(pendula.read_colour(frames), swings.colour)
    assert torch.equal(pendula.read_speed(frames), swings.speed)
    torch.testing.assert_close(pendula.read_frequency(frames), swings.frequency, rtol=0.03, atol=0)


@pytest.mark.parametrize("truth", [0.05, 0.0714, 0.13, 0.3])
def test_the_fit_finds_a_sinusoid_with_offset_and_gaps(truth: float):
    time = torch.arange(24, dtype=torch.float64)
    path = 0.2 + 0.6 * torch.sin(2 * math.pi * truth * time + 1)
    path[[3, 4, 17]] = math.nan
    found = pendula.fit(path[None])
    assert found.frequency.item() == pytest.approx(truth, rel=1e-3)
    assert found.amplitude.item() == pytest.approx(0.6, rel=1e-3)


def test_black_and_still_clips_read_as_unknown():
    black = torch.zeros(1, 16, 3, 64, 64)
    grey = torch.full((1, 16, 3, 64, 64), 0.4)
    swings = pendula.draw(1, steps=1, generator=seeded(0))
    still = (pendula.render(swings).float() / 255).expand(1, 16, -1, -1, -1)
    brief = torch.cat([black[:, 4:], still[:, :4]], 1)
    for frames, colour in ((black, -1), (grey, -1), (still, int(swings.colour)), (brief, int(swings.colour))):
        assert pendula.read_colour(frames).tolist() == [colour]
        assert pendula.read_speed(frames).tolist() == [-1]
        assert pendula.read_frequency(frames).isnan().all()
    assert pendula.read_angle(black).isnan().all()
    assert pendula.read_angle(brief).isnan().sum() == 12


def test_one_unreadable_clip_leaves_the_others_alone():
    swings = pendula.draw(3, steps=16, generator=seeded(4))
    frames = pendula.render(swings).float() / 255
    alone = pendula.read_frequency(frames)
    frames[1] = 0
    together = pendula.read_frequency(frames)
    assert torch.equal(together[[0, 2]], alone[[0, 2]])
    assert together[1].isnan()


@pytest.mark.parametrize("frames", [torch.zeros(2, 4, 1, 16, 16), torch.zeros(2, 3, 16, 16), torch.zeros(1, 4, 3, 8, 8, dtype=torch.uint8)])
def test_readers_refuse_other_tensors(frames: Tensor):
    for reader in (pendula.read_colour, pendula.read_angle, pendula.read_frequency, pendula.read_speed):
        with pytest.raises(UserError, match=r"float RGB frames \(B, T, 3, H, W\)"):
            reader(frames)


def test_load_is_deterministic_disjoint_and_labelled():
    once, again, other = (pendula.load(clips=28, validation=14, test=14, steps=3, size=16, seed=seed) for seed in (0, 0, 1))
    assert [len(part) for part in once] == [28, 14, 14]
    assert torch.equal(once.train.frames, again.train.frames)
    assert not torch.equal(once.train.frames, other.train.frames)
    clips = torch.cat([part.frames.view(-1, 3 * 3 * 16 * 16) for part in once])
    assert len(clips.unique(dim=0)) == 56
    assert once.test.frame_shape == (3, 16, 16)
    assert once.test.classes["speed"] == ("slow", "fast")
    assert (once.test.labels["speed"] * 7 + once.test.labels["colour"]).sort().values.tolist() == list(range(14))


def test_the_speed_moves_and_the_colour_stays():
    splits = pendula.load(clips=28, validation=14, test=14, steps=3, size=16)
    assert [part.moving for part in splits] == [("speed",)] * 3
    assert splits.train.subset(torch.tensor([1, 3])).moving == splits.train.spread(5).moving == ("speed",)
    train = splits.train
    mean = train.frames.view(28, 3, 3, -1).double().amax(3)  # the brightest of each channel, frame by frame
    for colour in range(7):
        seen = mean[train.labels["colour"] == colour].flatten(0, 1)
        assert float(seen.std(0).max()) < 25, "each frame alone tells the colour"


def test_a_set_made_with_the_same_seed_shares_nothing_with_a_loaded_one():
    made = pendula.make(14, steps=2, size=16, generator=seeded(3))
    loaded = pendula.load(clips=14, validation=1, test=1, steps=2, size=16, seed=3)
    assert not torch.equal(made.frames, loaded.train.frames)
    truth = pendula.draw(14, steps=2, generator=seeded(3))
    assert torch.equal(made.frames.view(14, 2, 3, 16, 16), pendula.render(truth, 16))
    assert torch.equal(made.labels["colour"], truth.colour)


@pytest.mark.parametrize(("bad", "message"), [({"clips": 0}, "0 clips"), ({"steps": 0}, "of 0 frames"), ({"size": 8}, "16 pixels, got 8")])
def test_numbers_too_small_are_refused(bad: dict[str, int], message: str):
    with pytest.raises(UserError, match=message):
        pendula.load(**{"clips": 1, "validation": 1, "test": 1, "steps": 1, "size": 16, **bad})

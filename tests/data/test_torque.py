"""The pendulum under torque: physics against an adaptive integrator, controls in line with what they do, the drawing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from stillmotion.core.errors import UserError
from stillmotion.data import torque


def test_the_path_is_that_of_an_adaptive_integrator_with_the_published_constants():
    data = torque.load(clips=12, validation=1, test=1, seed=3).train
    controls, truth = data.clips().controls, data.truth()
    assert controls is not None
    for states, pushes in zip(truth.numpy(), controls[..., 0].double().numpy(), strict=True):
        at = states[0]
        for frame in range(1, 15):
            push = pushes[frame]
            at = solve_ivp(lambda _, s, u=push: [s[1], 9.81 * math.sin(s[0]) - 0.5 * s[1] + u], (0, 0.1), at,
                           rtol=1e-10, atol=1e-12, method="DOP853").y[:, -1]
            np.testing.assert_allclose(states[frame], at, atol=3e-6)  # the controls are kept in float32


def test_without_torque_friction_takes_what_the_energy_loses():
    start = torch.tensor([[0.3, 0.0], [2.0, -3.0]], dtype=torch.float64)
    states = torque.swing(start, torch.zeros(2, 200, dtype=torch.float64))
    energy = states[..., 1] ** 2 / 2 + 9.81 * states[..., 0].cos()
    assert (energy.diff(dim=1) <= 1e-9).all()
    lost = 0.5 * torch.trapezoid(states[..., 1] ** 2, dx=0.1)
    torch.testing.assert_close(energy[:, 0] - energy[:, -1], lost, rtol=0.01, atol=0)
    assert (states[:, -1, 0] / math.pi).remainder(2).tolist() == pytest.approx([1, 1], abs=0.02), "it comes to rest hanging down"


def test_without_friction_energy_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torque, "FRICTION", 0.0)
    states = torque.swing(torch.tensor([[1.0, 2.0]], dtype=torch.float64), torch.zeros(1, 15, dtype=torch.float64))
    energy = states[..., 1] ** 2 / 2 + 9.81 * states[..., 0].cos()
    assert (energy - energy[:, :1]).abs().max() < 1e-6


def test_a_torque_acts_on_the_way_into_its_frame_and_not_before():
    start = torch.tensor([[2.5, 0.0]] * 2, dtype=torch.float64)
    push = torch.zeros(2, 8, dtype=torch.float64)
    push[1, 4] = 5
    still, pushed = torque.swing(start, push)
    assert torch.equal(still[:4], pushed[:4])
    assert (pushed[4, 1] - still[4, 1]).item() == pytest.approx(0.5, rel=0.05)
    assert pushed[4, 0] > still[4, 0]


def test_the_torque_of_the_first_frame_is_zero_and_has_no_effect():
    data = torque.load(clips=50, validation=1, test=1).train
    controls = data.clips().controls
    assert controls is not None
    assert controls.shape == (50, 15, 1)
    assert controls.dtype == torch.float32
    assert (controls[:, 0] == 0).all()
    start, push = data.truth()[:, 0], controls[..., 0].double()
    other = push.clone()
    other[:, 0] = 6
    assert torch.equal(torque.swing(start, push), torque.swing(start, other))


def test_balance_upright_and_hanging():
    still = torque.swing(torch.tensor([[0.0, 0.0], [math.pi, 0.0]], dtype=torch.float64), torch.zeros(2, 5, dtype=torch.float64))
    assert (still - still[:, :1]).abs().max() < 1e-12
    sideways = torque.swing(torch.tensor([[math.pi / 2, 0.0]], dtype=torch.float64), torch.full((1, 5), -9.81, dtype=torch.float64))
    assert (sideways - sideways[:, :1]).abs().max() < 1e-12


def test_draws_fill_their_ranges():
    data = torque.load(clips=4000, validation=1, test=1, steps=3).train
    first, controls = data.truth()[:, 0], data.clips().controls
    assert controls is not None
    assert torch.histc(first[:, 0], 8, -math.pi, math.pi).sub(500).abs().max() < 100
    assert first[:, 1].mean().item() == pytest.approx(0, abs=0.15)
    assert first[:, 1].std().item() == pytest.approx(2, rel=0.05)
    assert torch.histc(controls[:, 1:], 8, -6, 6).sub(1000).abs().max() < 150
    assert np.corrcoef(controls[:, 1, 0], controls[:, 2, 0])[0, 1] == pytest.approx(0, abs=0.06)


def test_the_bob_is_where_the_angle_says_to_a_twentieth_of_a_pixel():
    angle = torch.linspace(-4, 4, 200, dtype=torch.float64)[None]
    frames = torque.render(angle)[0, :, 0].double()
    share = frames / frames.sum((1, 2), keepdim=True)
    centres = torch.arange(16).double() + 0.5
    x, y = share.sum(1) @ centres, share.sum(2) @ centres
    assert (x - 8 - 5 * angle[0].sin()).abs().max() < 0.05
    assert (y - 8 + 5 * angle[0].cos()).abs().max() < 0.05
    upright, right = torque.render(torch.tensor([[0.0, math.pi / 2]], dtype=torch.float64))[0, :, 0]
    assert upright[2:4, 7:9].min() == upright.max(), "zero is up"
    assert right[7:9, 12:14].min() == right.max(), "and positive is clockwise"
    assert upright.max().item() == round(255 * math.exp(-0.25))


def test_frames_show_the_states_they_come_with():
    data = torque.load(clips=5, validation=1, test=1).train
    assert torch.equal(torque.render(data.truth()[..., 0]).flatten(0, 1), data.frames)
    assert data.state_names == ("angle", "velocity")
    assert not data.labels


def test_fewer_and_shorter_clips_are_the_beginning_of_more_and_longer_ones():
    small, large = torque.load(clips=20, validation=2, test=3, steps=5), torque.load(clips=50, validation=30, test=40, steps=9)
    for few, many in zip(small, large, strict=True):
        assert torch.equal(few.truth(), many.truth()[: len(few), :5])
        assert torch.equal(few.clips().controls, many.clips().controls[: len(few), :5])
    again, other = (torque.load(clips=20, validation=2, test=3, steps=5, seed=seed) for seed in (0, 1))
    assert torch.equal(small.test.frames, again.test.frames)
    assert not torch.equal(small.test.frames, other.test.frames)
    starts = torch.cat([part.truth()[:, 0] for part in (*small, *other)])
    assert len(starts.unique(dim=0)) == 50, "no clip is in two splits, or comes from two seeds"


def test_noise_is_normal_in_every_pixel_and_changes_nothing_else():
    plain, grainy = (torque.load(clips=100, validation=1, test=1, noise=noise).train for noise in (0.0, 0.02))
    assert torch.equal(plain.truth(), grainy.truth())
    assert torch.equal(plain.clips().controls, grainy.clips().controls)
    shown = 0.1 + 0.8 * torque.light(plain.truth()[..., 0])
    left = (grainy.clips().frames[:, :, 0].double() - shown).flatten() / 0.02
    assert left.mean().item() == pytest.approx(0, abs=0.01)
    assert left.std().item() == pytest.approx(math.sqrt(1 + (1 / 255 / 0.02) ** 2 / 12), rel=0.005), "the noise, and that of rounding"
    assert left.pow(4).mean().item() / left.var().item() ** 2 == pytest.approx(3, abs=0.05)
    pairs = left.view(100, 15, 256)
    assert np.corrcoef(pairs[:, 0].flatten(), pairs[:, 1].flatten())[0, 1] == pytest.approx(0, abs=0.02)
    few = torque.load(clips=20, validation=1, test=1, steps=5, noise=0.02).train
    assert torch.equal(few.clips().frames, grainy.clips(torch.arange(20)).frames[:, :5])


@pytest.mark.parametrize("noise", [-0.01, 0.04, math.nan])
def test_noise_that_would_be_cut_off_is_refused(noise: float):
    with pytest.raises(UserError, match=r"noise from 0 to 0\.03 of white"):
        torque.load(noise=noise)


def test_numbers_below_one_are_refused():
    with pytest.raises(UserError, match="at least 1 clip of 1 frame in each split"):
        torque.load(steps=0)

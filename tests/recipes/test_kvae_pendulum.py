from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from stillmotion.core.abilities import Model
from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.random import seed_of
from stillmotion.data.balls import box
from stillmotion.data.torque import load as torque
from stillmotion.metrics.figure import Figure
from stillmotion.models.files import build
from stillmotion.models.kvae import KVAE
from stillmotion.recipes.kvae import SWING_STEPS
from stillmotion.recipes.kvae_baselines import FRAMES, STEPS_ON_PENDULUM, baseline, pendulum
from stillmotion.recipes.kvae_bounds import Bounded, bound_figures, bound_margins, bound_tables, bound_terms, implied_scale, pixel_scale
from stillmotion.recipes.kvae_readout import PAPER, codes_of, r2, r2_figures, r2_paper, r2_table, residuals, states_of, targets_of
from stillmotion.recipes.kvae_swing import MODELS, NOISE

DATA = torque(clips=8, validation=1, test=3)


def untrained(key: str) -> Model:
    run = MODELS[key][1]("quick", seed=0)
    return build(run.model.name, run.model.options, 0).eval()


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("key", MODELS)
def test_the_parts_of_a_bound_add_up_to_minus_the_loss(key: str) -> None:
    model = untrained(key)
    found = bound_terms(model, DATA.test, draws=2)
    sums = torch.tensor([found[name] for name in found]).sum(0)
    for k in range(3):
        noise = torch.Generator().manual_seed(seed_of("bound", k))
        with torch.no_grad():
            loss = float(model.loss(DATA.test.clips(torch.tensor([k, k])), {}, noise).total)
        assert float(sums[k]) == pytest.approx(-loss, rel=1e-4)
    assert len(found) >= 2
    assert all(len(values) == 3 for values in found.values())


def test_the_bound_of_a_clip_does_not_depend_on_the_others() -> None:
    model = untrained("kvae")
    whole, alone = bound_terms(model, DATA.test, draws=3), bound_terms(model, DATA.test.subset(torch.arange(2)), draws=3)
    assert all(alone[name] == whole[name][:2] for name in whole)


def test_figures_are_per_clip_and_per_frame_beside_the_published_ones() -> None:
    models = [
        Bounded("kvae", "KVAE", ({"reconstruction": [30.0, 60.0], "code": [-3.0, -6.0]},), (0.1,)),
        Bounded("dvbf", "DVBF", tuple({"reconstruction": [11.0 * k] * 2, "prior": [-1.0 * k] * 2} for k in (1, 2)), (0.1, 0.2)),
    ]
    figures, paper = bound_figures(models, steps=15)
    assert figures["elbo_per_clip_kvae"].value == pytest.approx(40.5)
    assert figures["elbo_per_frame_kvae"].value == pytest.approx(2.7)
    assert figures["elbo_per_clip_dvbf"].value == pytest.approx(15)
    assert figures["elbo_per_clip_dvbf"].low < 10
    assert paper == {"elbo_per_frame_kvae": 810.08, "elbo_per_frame_dvbf": 798.56}
    bounds, parts = bound_tables(models, 15, 256)
    assert [row[1] for row in bounds.rows] == [2.7, 1.0]
    assert [(row[1], row[2]) for row in parts.rows[:3]] == [
        ("E log p(x | ·)", 3.0), ("-E log q(a | x)", -0.3), ("all but the pixels", -0.3),
    ]  # fmt: skip


def test_margins_are_those_of_the_same_clips() -> None:
    models = [
        Bounded("kvae", "KVAE", ({"reconstruction": [300.0, -600.0, 30.0], "code": [15.0, 15.0, -15.0]},), (0.1,)),
        Bounded("dvbf", "DVBF", ({"reconstruction": [285.0, -615.0, 30.0]},), (0.1,)),
    ]
    table, figures = bound_margins(models, [("kvae", "dvbf"), ("dvbf", "kvae")], steps=15)
    found = figures["elbo_per_frame_margin_kvae_dvbf"]
    assert found.value == pytest.approx(1.0)
    assert -1 <= found.low < found.high <= 2
    assert figures["elbo_per_frame_margin_dvbf_kvae"].value == pytest.approx(-1.0)
    assert table.rows[0][:3] == ("KVAE", "DVBF", 1.0)
    assert table.rows[0][4:] == ("67 %", 2.0)
    assert table.rows[1][4:] == ("33 %", -2.0)


def test_the_world_itself_stands_below_the_models() -> None:
    model = Bounded("kvae", "KVAE", ({"reconstruction": [30.0, 60.0], "code": [-3.0, -6.0]},), (0.1,))
    bounds, _ = bound_tables([model], 15, 256, Figure(813.2, 812.9, 813.5, 500))
    assert bounds.rows[-1] == ("log-likelihood of the world itself", 813.2, "812.90 to 813.50", 12198.0, None, None, None)


def test_every_model_sees_the_same_noisy_clips_in_float32() -> None:
    runs = [make("laptop", seed=3) for _, make in MODELS.values()]
    assert {run.data.model_dump_json() for run in runs} == {runs[0].data.model_dump_json()}
    assert runs[0].data.options["noise"] == NOISE
    assert {(run.precision, run.seed) for run in runs} == {("float32", 3)}


def test_the_published_bounds_of_all_four() -> None:
    models = [Bounded(key, key, ({"reconstruction": [1.0, 2.0]},), (0.1,)) for key in MODELS]
    assert list(bound_figures(models, 15)[1].values()) == [810.08, 807.02, 798.56, 784.70]


@pytest.mark.parametrize("scale", [0.01, 0.3])
def test_the_deviation_that_a_number_implies_gives_that_number(scale: float) -> None:
    errors = scale * torch.tensor([1.0, -1.0]).double().repeat(128)
    nats = torch.distributions.Normal(0.0, scale).log_prob(errors).sum()
    assert implied_scale(float(nats), 256) == pytest.approx(scale)


def test_the_pixel_scale_is_that_of_the_model() -> None:
    model = untrained("dmm")
    with torch.no_grad():
        model.get_submodule("pixels").get_parameter("log_scale").fill_(math.log(0.02))
    assert pixel_scale(model) == pytest.approx(0.02)


def test_least_squares_with_a_constant_finds_a_linear_map() -> None:
    states, weights = numbers(6, 5, 3), numbers(3, 2, seed=1)
    targets = states @ weights + torch.tensor([3.0, -1.0]).double()
    left = residuals(states[:4], targets[:4], states[4:], targets[4:])
    assert float(left.abs().max()) < 1e-10
    assert r2(left, targets[4:]).tolist() == pytest.approx([1, 1])


def test_r2_is_that_of_scikit_learn() -> None:
    states, targets = numbers(20, 5, 3), numbers(20, 5, 2, seed=1)
    targets[..., 0] += states[..., 0]
    left = residuals(states[:15], targets[:15], states[15:], targets[15:])
    flat = [part.flatten(0, 1).numpy() for part in (states[:15], targets[:15], states[15:], targets[15:])]
    guess = LinearRegression().fit(flat[0], flat[1]).predict(flat[2])
    assert r2(left, targets[15:]).tolist() == pytest.approx(r2_score(flat[3], guess, multioutput="raw_values").tolist())
    assert r2(targets[15:] - targets[15:].mean((0, 1)), targets[15:]).tolist() == pytest.approx([0, 0])


def test_figures_of_r2_are_means_over_seeds_with_an_interval() -> None:
    targets = numbers(30, 5, 3)
    half, full = 0.5**0.5 * (targets - targets.mean((0, 1))), torch.zeros_like(targets)
    figures = r2_figures("dvbf", [half, full], targets)
    assert list(figures) == ["r2_sin_dvbf", "r2_cos_dvbf", "r2_velocity_dvbf"]
    assert figures["r2_velocity_dvbf"].value == pytest.approx(0.75)
    assert figures["r2_velocity_dvbf"].low <= 0.75 <= figures["r2_velocity_dvbf"].high
    assert figures["r2_velocity_dvbf"].clips == 30


def test_the_published_r2() -> None:
    assert r2_paper("dvbf") == {"r2_sin_dvbf": 0.961, "r2_cos_dvbf": 0.982, "r2_velocity_dvbf": 0.916}
    assert PAPER["dmm"][2] == 0.035
    assert r2_paper("kvae") == {}
    table = r2_table({"dmm": "DMM"}, r2_figures("dmm", [torch.zeros(4, 5, 3)], numbers(4, 5, 3)))
    assert [row[0] for row in table.rows] == ["DMM", "DMM (paper)"]


def test_targets_are_sine_cosine_and_velocity() -> None:
    angle, velocity = DATA.test.truth().unbind(-1)
    expected = np.stack([np.sin(angle.numpy()), np.cos(angle.numpy()), velocity.numpy()], -1)
    assert np.allclose(targets_of(DATA.test).numpy(), expected)
    with pytest.raises(UserError, match="angle and velocity"):
        targets_of(box(clips=1, validation=1, test=1).test)


def test_states_are_those_of_the_smoother_and_codes_of_single_frames() -> None:
    model = untrained("kvae")
    assert isinstance(model, KVAE)
    clips, codes = DATA.test.clips(), codes_of(model, DATA.test)
    mask = torch.rand(clips.mask.shape, generator=torch.Generator().manual_seed(0)) > 0.4
    partial = Clips(clips.frames, mask, clips.controls)
    with torch.no_grad():
        assert torch.allclose(states_of(model, DATA.test), model.states(clips).mean)
        hidden = model.encode(partial).path
        system = model._filter(codes.float(), partial).system
        told = (system.C @ model.states(partial).mean[..., None])[..., 0]
    assert hidden is not None
    assert codes.shape == told.shape == (3, 15, 2)
    assert torch.allclose(told[~mask], hidden[~mask].double(), atol=1e-5)
    assert states_of(untrained("dvbf"), DATA.test).shape == (3, 15, 3)


@pytest.mark.parametrize("size", ["quick", "laptop", "paper"])
def test_every_model_of_the_table_can_be_built_and_reads_frames_alike(size: str) -> None:
    kalman = pendulum("conv", size)
    for key, (_, make) in MODELS.items():
        run = make(size, seed=1)
        model = build(run.model.name, run.model.options, 0)
        assert run.seed == 1
        assert model.frame_shape == (1, 16, 16)
        steps = sum(SWING_STEPS[size]) if key.startswith("kvae") else STEPS_ON_PENDULUM[size]
        assert sum(stage.steps for stage in run.stages) == steps
        for stage in run.stages:
            assert set(stage.trains) <= set(model.parameter_groups())
            assert set(stage.schedules) <= set(model.schedules)
            assert stage.objective in model.objectives()
        if key in ("kvae", "dmm_conv"):
            shared = {option: getattr(model.config, option) for option in FRAMES}
            assert shared == {option: getattr(build("kvae", kalman.model.options, 0).config, option) for option in FRAMES}


def test_pixels_count_in_full_at_the_end() -> None:
    sharpen, settle = pendulum("conv").stages[-2:]
    assert sharpen.schedules["reconstruction"](0.0) == pytest.approx(0.3)
    assert sharpen.schedules["reconstruction"](1.0) == 1
    assert settle.schedules["reconstruction"](0.0) == settle.schedules["reconstruction"](1.0) == 1


def test_a_rival_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match="rival of the Kalman VAE on torque: dmm, dvbf"):
        baseline("ae_rnn", "torque")

"""Muon against the singular value decomposition, against Adam where it must be Adam, and where it is meant to win."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from oracles.tiny_runs import disturb, kept, rows, same, tiny_clips, tiny_run, trainer
from stillmotion.core.terms import Terms
from stillmotion.training import loop
from stillmotion.training.loop import Interrupted
from stillmotion.training.muon import LENGTH, MOMENTUM, Muon, is_matrix, orthogonal
from stillmotion.training.settings import Run


def spread(count: int, height: int, width: int, least: float) -> Tensor:
    """Matrices with singular values from `least` to 1."""
    u = torch.linalg.qr(torch.randn(count, height, height))[0]
    v = torch.linalg.qr(torch.randn(count, width, width))[0]
    size = min(height, width)
    values = torch.logspace(math.log10(least), 0, size)
    return u[:, :, :size] * values @ v[:, :, :size].mT


@pytest.mark.parametrize(("height", "width"), [(6, 20), (20, 6), (9, 9)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_it_keeps_the_singular_vectors_and_levels_the_values(height: int, width: int, scale: float) -> None:
    torch.manual_seed(0)
    matrices = spread(3, height, width, 0.05)
    found = orthogonal(scale * matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    core = u.mT @ found @ v.mT
    values = core.diagonal(dim1=-2, dim2=-1)
    assert (core - torch.diag_embed(values)).abs().max() < 1e-3
    assert values.min() > 0.65
    assert values.max() < 1.2


def test_nothing_stays_nothing_and_many_matrices_are_each_one() -> None:
    torch.manual_seed(1)
    bank = torch.cat([torch.randn(4, 5, 8), torch.zeros(1, 5, 8)])
    found = orthogonal(bank)
    assert torch.equal(found[4], torch.zeros(5, 8))
    torch.testing.assert_close(found, torch.stack([orthogonal(each) for each in bank]))


def test_a_step_is_the_orthogonal_factor_of_nesterovs_momentum_in_the_length_that_is_told() -> None:
    torch.manual_seed(2)
    weight = nn.Parameter(torch.randn(12, 3, 2, 2))
    start, first, second = weight.detach().clone(), torch.randn_like(weight), torch.randn_like(weight)
    muon = Muon([weight], [weight], lr=0.1)
    expected, momentum = start.flatten(1).double(), torch.zeros(12, 12, dtype=torch.float64)
    for gradient in (first, second):
        weight.grad = gradient.clone()
        muon.step()
        momentum = MOMENTUM * momentum + (1 - MOMENTUM) * gradient.flatten(1)
        u, _, v = torch.linalg.svd(MOMENTUM * momentum + (1 - MOMENTUM) * gradient.flatten(1))
        expected = expected - 0.1 * LENGTH * math.sqrt(12) * u @ v
    moved, wanted = weight.detach().flatten(1) - start.flatten(1), expected.float() - start.flatten(1)
    assert nn.functional.cosine_similarity(moved.flatten(), wanted.flatten(), 0) > 0.97
    assert moved.norm() == pytest.approx(wanted.norm().item(), rel=0.15)


def test_what_is_no_matrix_is_moved_by_adam_to_the_last_bit() -> None:
    torch.manual_seed(3)
    mine, theirs = ([nn.Parameter(torch.full((4,), 0.5)), nn.Parameter(torch.ones(3, 2))] for _ in range(2))
    muon = Muon(mine, mine[1:], lr=0.01, betas=(0.8, 0.99), fused=True)
    adam = torch.optim.Adam(theirs[:1], lr=0.01, betas=(0.8, 0.99), fused=True)
    for _ in range(5):
        gradient = torch.randn(4)
        mine[0].grad, theirs[0].grad, mine[1].grad = gradient.clone(), gradient.clone(), torch.randn(3, 2)
        muon.step()
        adam.step()
    assert torch.equal(mine[0], theirs[0])
    assert not torch.equal(mine[1], theirs[1])
    before = mine[1].detach().clone()
    muon.step()  # without a new gradient nothing moves
    assert torch.equal(mine[1], before)


def test_biases_banks_and_what_has_one_row_are_no_matrices() -> None:
    shapes = {"weight": (3, 4), "bank": (5, 3, 4), "convolution": (8, 3, 4, 4), "layer.bias": (5, 9), "row": (1, 9), "vector": (9,)}
    assert [name for name, shape in shapes.items() if is_matrix(name, torch.zeros(shape))] == ["weight", "convolution"]


def learned(optimiser: str, steps: int) -> tuple[float, float]:
    """Of a linear map that two layers learn, the share of its 12 strong directions and of its 12 of a 33rd of their strength."""
    torch.manual_seed(4)
    u, v = (torch.linalg.qr(torch.randn(24, 24))[0] for _ in range(2))
    strength = torch.tensor([1.0] * 12 + [0.03] * 12)
    chain = [nn.Parameter(0.02 * torch.randn(24, 64)), nn.Parameter(0.02 * torch.randn(64, 24))]
    one = Muon(chain, chain, lr=0.001) if optimiser == "muon" else torch.optim.Adam(chain, lr=0.003)
    for _ in range(steps):
        x = torch.randn(16, 24)
        loss = (x @ chain[0] @ chain[1] - x @ (u * strength @ v.T).T - 0.05 * torch.randn(16, 24)).square().sum(1).mean()
        one.zero_grad()
        loss.backward()
        one.step()
    shares = (u.T @ (chain[0] @ chain[1]).detach().T @ v).diagonal() / strength
    return float(shares[:12].mean()), float(shares[12:].mean())


def test_weak_directions_are_not_learned_last() -> None:
    strong, weak = learned("adam", 100)
    assert strong > 0.95
    assert weak < 0.55
    assert learned("muon", 50)[1] > 0.85
    assert learned("muon", 400)[0] > 0.95


def test_a_stage_with_muon_goes_on_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "VALIDATION_CLIPS", 6)
    before = torch.get_num_threads()
    torch.set_num_threads(1)

    def stop(module: nn.Module, terms: Terms) -> None:
        one._stop = True

    plain = tiny_run()
    run: Run = plain.model_copy(update={"stages": tuple(stage.model_copy(update={"optimiser": "muon"}) for stage in plain.stages)})
    trainer(tmp_path / "whole", run, validation=tiny_clips(4, seed=1)).fit()
    one = trainer(tmp_path / "stopped", run, validation=tiny_clips(4, seed=1))
    disturb(one.model, 3, stop)
    with pytest.raises(Interrupted):
        one.fit()
    assert any(name.endswith("/momentum") for name in kept(tmp_path / "stopped"))
    one = trainer(tmp_path / "stopped", run, validation=tiny_clips(4, seed=1))
    one.fit()
    torch.set_num_threads(before)
    assert same(kept(tmp_path / "stopped"), kept(tmp_path / "whole"))
    assert rows(tmp_path / "stopped") == rows(tmp_path / "whole")

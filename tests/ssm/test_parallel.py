"""The derivative of the filter that is written out, against that of the loop, which autograd finds."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from oracles.systems import case
from stillmotion.core.errors import UserError
from stillmotion.ssm.inference import Form, kalman_filter, log_likelihood, smooth
from stillmotion.ssm.systems import Moments, System

FORMS: tuple[Form, ...] = ("loop", "scan")


def tensors(found: object) -> list[Tensor]:
    """All of a container of tensors and containers."""
    values = [getattr(found, part.name) for part in fields(found)]  # type: ignore[arg-type]
    return [one for value in values for one in ([value] if isinstance(value, Tensor) else tensors(value))]


@pytest.mark.parametrize("varying", [True, False])
@pytest.mark.parametrize("frames", [1, 2, 3, 45])
@pytest.mark.parametrize("run", [kalman_filter, smooth])
def test_gradients_of_all_by_all(varying: bool, frames: int, run: object) -> None:
    c = case(5, 3, frames, 3, 2, 1, varying=varying)
    gradients = []
    for form in FORMS:
        leaves = {part.name: getattr(c.system, part.name).clone().requires_grad_() for part in fields(System)}
        y = c.y.clone().requires_grad_()
        results = tensors(run(System(**leaves), y, c.mask, c.controls, form))  # type: ignore[operator]
        weights = [torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype) for value in results]
        total = torch.stack([(value * weight).sum() for value, weight in zip(results, weights, strict=True)]).sum()
        gradients.append(torch.autograd.grad(total, [*leaves.values(), y], allow_unused=True, materialize_grads=True))
    assert sum(bool((value != 0).any()) for value in gradients[0]) == (10 if frames > 1 else 6)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_the_gradient_of_the_likelihood_is_that_of_the_smoothed_moments() -> None:
    """Fisher: the gradient by the prior mean is its precision times how far the smoothed first state is from it."""
    c = case(6, 2, 80, 3, 2)
    mean = c.system.mean.clone().requires_grad_()
    (found,) = torch.autograd.grad(log_likelihood(replace(c.system, mean=mean), c.y, c.mask, form="scan").sum(), mean)
    apart = smooth(c.system, c.y, c.mask, form="loop").mean[:, 0] - c.system.mean
    torch.testing.assert_close(found, torch.linalg.solve(c.system.covariance, apart), rtol=1e-9, atol=1e-9)


def test_second_derivatives_are_refused_and_not_wrong() -> None:
    c = case(7, 1, 20, 2, 1)
    y = c.y.clone().requires_grad_()
    with pytest.raises(UserError, match='expected first derivatives of a scan, got create_graph=True. Take form="loop" for second ones'):
        torch.autograd.grad(log_likelihood(c.system, y, c.mask, form="scan").sum(), y, create_graph=True)
    small = case(7, 1, 3, 2, 1)
    assert torch.autograd.gradgradcheck(
        lambda y: log_likelihood(small.system, y, small.mask, form="loop"), small.y.clone().requires_grad_()
    )


def test_containers_are_looked_through() -> None:
    assert len(tensors(Moments(torch.zeros(2), torch.zeros(2, 2)))) == 2

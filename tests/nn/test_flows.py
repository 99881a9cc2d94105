"""Autoregressive flows against their Jacobian."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian

from stillmotion.nn.flows import AutoregressiveFlow


def flow(size: int, hidden: int = 9, *, backwards: bool = False) -> AutoregressiveFlow:
    """A flow far from the identity."""
    torch.manual_seed(0)
    net = AutoregressiveFlow(size, hidden, backwards=backwards).double()
    nn.init.normal_(net.second.weight)
    nn.init.normal_(net.second.bias)
    return net


def slopes(net: AutoregressiveFlow, z: Tensor) -> Tensor:
    result = jacobian(lambda x: net(x)[0], z)
    assert isinstance(result, Tensor)
    return result


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_log_determinant_is_that_of_the_jacobian(size: int) -> None:
    net = flow(size)
    for z in torch.randn(5, size, dtype=torch.float64):
        torch.testing.assert_close(net(z)[1], torch.linalg.slogdet(slopes(net, z)).logabsdet)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("size", [2, 5])
def test_each_output_depends_on_the_inputs_up_to_its_own(size: int, backwards: bool) -> None:
    net = flow(size, backwards=backwards)
    matrix = slopes(net, torch.randn(size, dtype=torch.float64))
    matrix = matrix.flip(0, 1) if backwards else matrix
    assert torch.equal(matrix.triu(1), torch.zeros_like(matrix))
    assert (matrix.tril() != 0).sum() == size * (size + 1) // 2


def test_two_flows_let_every_output_see_every_input() -> None:
    there, back, z = flow(4), flow(4, backwards=True), torch.randn(4, dtype=torch.float64)
    matrix = jacobian(lambda x: back(there(x)[0])[0], z)
    assert isinstance(matrix, Tensor)
    assert (matrix != 0).all()


@pytest.mark.parametrize("backwards", [False, True])
def test_a_new_flow_changes_next_to_nothing(backwards: bool) -> None:
    torch.manual_seed(0)
    z = torch.randn(3, 2, 6)
    bent, log_det = AutoregressiveFlow(6, 10, backwards=backwards)(z)
    torch.testing.assert_close(bent, z, atol=0.02, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros(3, 2), atol=0.02, rtol=0)


def test_leading_axes_are_a_batch() -> None:
    net, z = flow(3), torch.randn(4, 2, 3, dtype=torch.float64)
    bent, log_det = net(z)
    torch.testing.assert_close(bent[2, 1], net(z[2, 1])[0])
    torch.testing.assert_close(log_det[2, 1], net(z[2, 1])[1])

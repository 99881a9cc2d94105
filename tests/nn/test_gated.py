"""The transition and the combiner, equation by equation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.gated import SMALLEST_SCALE, Combiner, GatedTransition, positive


def affine(layer: nn.Linear, x: Tensor) -> Tensor:
    return torch.einsum("oi,...i->...o", layer.weight, x) + layer.bias


def test_scales_stay_above_zero_where_softplus_underflows() -> None:
    x = torch.tensor([-1000.0, -100.0, 0.0, 50.0])
    torch.testing.assert_close(positive(x), torch.log1p(x.double().exp().clamp(max=1e30)).float() + SMALLEST_SCALE)
    assert positive(x).log().isfinite().all()


def test_the_transition_follows_its_equations() -> None:
    torch.manual_seed(0)
    net, z, d = GatedTransition(3, 2, 5), torch.randn(4, 3), torch.randn(4, 2)
    nn.init.normal_(net.linear.weight)
    gate_in, _, gate_out, _ = net.gate
    proposal_in, _, proposal_out = net.proposal
    both = torch.cat([z, d], 1)
    gate = torch.sigmoid(affine(gate_out, affine(gate_in, both).clamp(min=0)))  # type: ignore[arg-type]
    proposal = affine(proposal_out, affine(proposal_in, both).clamp(min=0))  # type: ignore[arg-type]
    p = net(z, d)
    torch.testing.assert_close(p.mean, gate * proposal + (1 - gate) * affine(net.linear, z))
    torch.testing.assert_close(p.scale, F.softplus(affine(net.scale, proposal.clamp(min=0))) + SMALLEST_SCALE)


def test_with_its_gate_shut_a_new_transition_stays_where_it_is() -> None:
    net, z = GatedTransition(3, 2, 5), torch.randn(4, 3)
    last = net.gate[2]
    assert isinstance(last, nn.Linear)
    nn.init.constant_(last.bias, -200.0)
    torch.testing.assert_close(net(z, torch.randn(4, 2)).mean, z)


def test_with_its_gate_open_the_transition_is_the_proposal() -> None:
    net, z, d = GatedTransition(3, 2, 5), torch.randn(4, 3), torch.randn(4, 2)
    last = net.gate[2]
    assert isinstance(last, nn.Linear)
    nn.init.constant_(last.bias, 200.0)
    torch.testing.assert_close(net(z, d).mean, net.proposal(torch.cat([z, d], 1)))


def test_the_combiner_follows_its_equations() -> None:
    torch.manual_seed(0)
    net, z, h, d = Combiner(3, 4, 2, 5), torch.randn(6, 3), torch.randn(6, 7, 4), torch.randn(6, 2)
    prepared = net.prepare(h, d)
    for t in range(7):
        evidence = F.leaky_relu(affine(net.evidence, torch.cat([h[:, t], d], 1)), 0.01)
        both = 0.5 * (torch.tanh(affine(net.before, z)) + evidence)
        q = net(z, prepared[:, t])
        torch.testing.assert_close(q.mean, affine(net.mean, both))
        torch.testing.assert_close(q.scale, F.softplus(affine(net.scale, both)) + SMALLEST_SCALE)

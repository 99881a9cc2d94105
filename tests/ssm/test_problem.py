"""What is refused at the door, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from oracles.systems import case
from stillmotion.core.errors import UserError
from stillmotion.ssm.inference import kalman_filter, smooth
from stillmotion.ssm.problem import covariance

C = case(0, 2, 5, 3, 2, 1)
EYE = torch.eye(3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"A": C.system.A[:, :4]}, "expected 5 frames in A, as in the observations, got 4"),
        ({"A": C.system.A[..., :2]}, r"A of shape \(3, 3\) in its last axes, got \(2, 5, 3, 2\)"),
        ({"C": C.system.C[..., :2]}, r"C of shape \(2, 3\)"),
        ({"R": EYE}, r"R of shape \(2, 2\)"),
        ({"mean": torch.zeros(2)}, r"A of shape \(2, 2\)"),
        ({"b": torch.zeros(4)}, r"b of shape \(3,\)"),
        ({"B": torch.zeros(2, 1)}, "B with 3 rows"),
        ({"B": None}, "controls and their effect B together"),
        ({"B": torch.zeros(3, 2)}, "expected 2 controls per frame, as many as B has columns, got 1"),
        ({"Q": -EYE}, "expected Q to be a covariance .*no negative eigenvalue"),
        ({"Q": torch.tensor([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]])}, "Q to be a covariance"),
        ({"Q": torch.diag(torch.tensor([1e9, 1.0, -1.0]))}, "Q to be a covariance"),
        ({"R": torch.tensor([[1.0, 0.5], [0.0, 1.0]])}, "R to be a covariance"),
        ({"covariance": torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])}, "the first covariance to be a covariance"),
        ({"covariance": EYE * torch.nan}, "finite numbers in the first covariance, got NaN"),
        ({"mean": torch.zeros(3, 3)}, "axes of clips that broadcast"),
    ],
)
def test_systems_that_do_not_fit(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        kalman_filter(replace(C.system, **change), C.y, C.mask, C.controls)


@pytest.mark.parametrize(
    ("y", "mask", "controls", "says"),
    [
        (C.y[:0], None, C.controls, "none of them zero"),
        (C.y[0, 0], None, C.controls, "observations of shape"),
        (C.y, C.mask[:, :4], C.controls, r"a mask of shape \(2, 5\) or \(2, 5, 2\), got \(2, 4, 2\)"),
        (C.y, C.mask.double(), C.controls, "a mask of truth values"),
        (torch.full_like(C.y, torch.nan), None, C.controls, "finite observations, got NaN or infinity where the mask says observed"),
        (C.y, None, None, "controls and their effect B together, got only one of them"),
        (C.y, None, torch.zeros(2, 4, 1), "5 frames in controls, as in the observations, got 4"),
        (C.y, None, torch.zeros(2, 1, 1), "5 frames in controls"),
    ],
)
def test_clips_that_do_not_fit(y: Tensor, mask: Tensor | None, controls: Tensor | None, says: str) -> None:
    with pytest.raises(UserError, match=says):
        kalman_filter(C.system, y, mask, controls)


def test_clips_without_any_observation_tell_what_was_known_before() -> None:
    nothing = torch.zeros_like(C.mask)
    found = smooth(C.system, C.y * torch.nan, nothing, C.controls)
    torch.testing.assert_close(found.mean[:, 0], C.system.mean)
    torch.testing.assert_close(found.covariance[:, 0], C.system.covariance)
    assert (found.filtered.log_likelihood == 0).all()


def test_covariances_are_left_as_they_are_and_rounded_ones_mended() -> None:
    regular = C.system.Q.movedim((-2, -1), (0, 1))
    torch.testing.assert_close(covariance(regular, "Q"), regular, rtol=1e-15, atol=1e-15)
    v = torch.tensor([0.6, -0.8, 0.3])
    rounded = (v[:, None] * v + 1e-8 * torch.eye(3).flip(0))[:, :, None]
    mended = covariance(rounded.double(), "Q")[:, :, 0]
    assert float(torch.linalg.eigvalsh(rounded[:, :, 0].double()).min()) < -1e-9
    assert float(torch.linalg.eigvalsh(mended).min()) > -1e-16
    torch.testing.assert_close(mended, rounded[:, :, 0].double(), rtol=0, atol=1e-7)


def test_mending_lets_gradients_through() -> None:
    singular = torch.diag(torch.tensor([1.0, 0.0]))[:, :, None].requires_grad_()
    covariance(singular, "Q").sum().backward()
    torch.testing.assert_close(singular.grad, torch.ones(2, 2, 1))

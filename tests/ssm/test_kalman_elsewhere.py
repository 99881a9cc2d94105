"""Filter and smoother against three independent implementations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import simdkalman
import torch
from pykalman import KalmanFilter
from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

from oracles.systems import Case, case
from stillmotion.ssm.inference import Form, smooth

FORMS: tuple[Form, ...] = ("loop", "scan")


def close(found: torch.Tensor, right: np.ndarray) -> None:
    np.testing.assert_allclose(found.numpy(), right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("noise", "frames"), [(0.1, 40), (1e-6, 40), (10.0, 3)])
def test_statsmodels(form: Form, noise: float, frames: int) -> None:
    """Everything varies over time and any entry may be missing. Theirs leads out of a frame what ours leads into it."""
    c = case(1, 1, frames, 4, 3, noise=noise)
    s = c.system
    theirs = KalmanSmoother(k_endog=3, k_states=4, k_posdef=4)
    theirs.bind(torch.where(c.mask[0], c.y[0], torch.nan).numpy().T.copy(order="F"))
    shifted = {name: np.moveaxis(np.roll(getattr(s, name)[0].numpy(), -1, 0), 0, -1) for name in ("A", "Q", "b")}
    theirs["design"], theirs["obs_cov"] = (np.moveaxis(getattr(s, name)[0].numpy(), 0, -1) for name in ("C", "R"))
    theirs["transition"], theirs["state_cov"], theirs["state_intercept"] = shifted["A"], shifted["Q"], shifted["b"]
    theirs["selection"], theirs["obs_intercept"] = np.eye(4), s.d[0].numpy().T  # type: ignore[index]
    theirs.initialize_known(s.mean[0].numpy(), s.covariance[0].numpy())
    # steady states are a shortcut of theirs that ends at a tolerance
    theirs.tolerance = 0
    right, found = theirs.smooth(), smooth(s, c.y, c.mask, form=form)
    close(found.filtered.mean[0], right.filtered_state.T)
    close(found.filtered.covariance[0], np.moveaxis(right.filtered_state_cov, -1, 0))
    close(found.filtered.log_likelihood[0], right.llf_obs)
    close(found.mean[0], right.smoothed_state.T)
    close(found.covariance[0], np.moveaxis(right.smoothed_state_cov, -1, 0))
    close(found.lag_one[0], np.moveaxis(right.smoothed_state_autocov, -1, 0)[: frames - 1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("noise", [0.1, 1e-6])
def test_pykalman(form: Form, noise: float) -> None:
    """Time-varying matrices and constants; whole frames missing."""
    c = case(2, 1, 50, noise=noise)
    Q, R = c.system.Q[:, :1], c.system.R[:, :1]
    s = replace(c.system, Q=Q, R=R)
    rows = c.mask[0].any(-1)
    theirs = KalmanFilter(
        s.A[0, 1:].numpy(), s.C[0].numpy(), Q[0, 0].numpy(), R[0, 0].numpy(), s.b[0, 1:].numpy(), s.d[0].numpy(),  # type: ignore[index]
        s.mean[0].numpy(), s.covariance[0].numpy(),
    )  # fmt: skip
    y = np.ma.array(c.y[0].numpy())
    y[~rows.numpy()] = np.ma.masked
    found = smooth(s, c.y, rows[None], form=form)
    for ours, right in zip((found.filtered.mean, found.filtered.covariance), theirs.filter(y), strict=True):
        close(ours[0], right)
    for ours, right in zip((found.mean, found.covariance), theirs.smooth(y), strict=True):
        close(ours[0], right)
    assert float(found.filtered.log_likelihood.sum()) == pytest.approx(theirs.loglikelihood(y), rel=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_simdkalman(form: Form) -> None:
    """Many clips at once with one static system, one observed entry and missing frames."""
    c: Case = case(3, 6, 30, 3, 1, varying=False, constants=False)
    s = c.system
    theirs = simdkalman.KalmanFilter(s.A.numpy(), s.Q.numpy(), s.C.numpy(), s.R.numpy())
    y = torch.where(c.mask, c.y, torch.nan)[..., 0].numpy()
    right = theirs.compute(y, 0, s.mean.numpy(), s.covariance.numpy(), filtered=True, likelihoods=True, log_likelihood=True)
    found = smooth(s, c.y, c.mask, form=form)
    close(found.mean, right.smoothed.states.mean)
    close(found.covariance.expand(6, -1, -1, -1), right.smoothed.states.cov)
    close(found.filtered.mean, right.filtered.states.mean)

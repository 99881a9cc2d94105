from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.metrics.pooled import all_codes, pool, pooled

CLIPS, STEPS = 5, 6


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gaussian(*shape: int, seed: int) -> Gaussian:
    return Gaussian(noise(*shape, seed=seed), torch.full(shape, 0.5))


def codes() -> Codes:
    static, dynamic, path = gaussian(CLIPS, 3, seed=1), gaussian(CLIPS, 4, seed=2), gaussian(CLIPS, STEPS, 2, seed=3)
    mask = torch.arange(STEPS) < torch.tensor([6, 4, 1, 2, 6])[:, None]
    return Codes(static.mean + 9, dynamic.mean + 9, path.mean + 9, mask, static, dynamic, path)


def by_hand(path: Tensor, mask: Tensor) -> Tensor:
    rows = []
    for clip, there in zip(path.double().numpy(), mask.numpy(), strict=True):
        kept = clip[there]
        steps = np.abs(np.diff(kept, axis=0)).mean(0) if len(kept) > 1 else np.zeros(clip.shape[1])
        rows.append(np.concatenate([kept.mean(0), kept.std(0), steps]))
    return torch.tensor(np.stack(rows)).float()


def test_a_path_is_pooled_as_by_hand_over_the_frames_that_are_there() -> None:
    known = codes()
    assert known.path is not None
    assert known.mask is not None
    expected = by_hand(known.path, known.mask)
    known.path[~known.mask] = torch.nan
    assert torch.allclose(pool(known.path, known.mask), expected, atol=1e-5)
    assert (expected[2, 2:] == 0).all()


def test_without_a_mask_all_frames_count() -> None:
    path = noise(CLIPS, STEPS, 2)
    assert torch.allclose(pool(path), by_hand(path, torch.ones(CLIPS, STEPS, dtype=torch.bool)), atol=1e-5)


def test_paths_of_one_frame_have_no_deviation_and_no_step() -> None:
    assert torch.equal(pool(torch.ones(2, 1, 3)), torch.tensor([1.0, 1, 1, 0, 0, 0, 0, 0, 0]).expand(2, 9))


def test_a_step_over_a_missing_frame_is_none() -> None:
    path = torch.tensor([0.0, 1, 50, 3, 5]).view(1, 5, 1)
    mask = torch.tensor([[True, True, False, True, True]])
    assert pool(path, mask)[0, 2] == pytest.approx((1 + 2) / 2)


def test_posterior_means_are_taken_without_a_generator() -> None:
    known = codes()
    found = pooled(known)
    assert known.static_posterior is not None
    assert known.dynamic_posterior is not None
    assert torch.equal(found["static"], known.static_posterior.mean)
    assert torch.equal(found["dynamic"], known.dynamic_posterior.mean)
    assert known.path_posterior is not None
    assert torch.equal(found["path"], pool(known.path_posterior.mean, known.mask))


def test_samples_have_the_spread_of_the_posterior() -> None:
    wide = Gaussian(torch.full((4000, 2), 3.0), torch.tensor([0.1, 2.0]).expand(4000, 2))
    found = pooled(Codes(static=wide.mean, static_posterior=wide), torch.Generator().manual_seed(0))["static"]
    assert found.mean(0).tolist() == pytest.approx([3, 3], abs=0.12)
    assert found.std(0).tolist() == pytest.approx([0.1, 2.0], rel=0.05)


def test_samples_are_those_of_their_generator() -> None:
    first, again, other = (all_codes(pooled(codes(), torch.Generator().manual_seed(seed))) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_a_code_without_a_posterior_is_taken_as_it_is() -> None:
    static, path = noise(CLIPS, 3), noise(CLIPS, STEPS, 2)
    found = pooled(Codes(static, None, path), torch.Generator().manual_seed(0))
    assert torch.equal(found["static"], static)
    assert torch.equal(found["dynamic"], pool(path))


def test_the_path_stands_for_a_movement_that_has_no_code_of_its_own() -> None:
    known = codes()
    assert set(pooled(known)) == {"static", "dynamic", "path"}
    assert set(pooled(Codes(path=known.path, mask=known.mask))) == {"dynamic"}
    assert set(pooled(Codes(static=known.static))) == {"static"}


def test_all_codes_stand_side_by_side() -> None:
    found = pooled(codes())
    together = all_codes(found)
    assert together.shape == (CLIPS, 3 + 4 + 6)
    assert torch.equal(together[:, 3:7], found["dynamic"])


def test_codes_without_any_part_are_refused() -> None:
    with pytest.raises(UserError, match="expected codes with a static, a dynamic or a path part, got codes without any"):
        pooled(Codes(mask=torch.ones(2, 3, dtype=torch.bool)))

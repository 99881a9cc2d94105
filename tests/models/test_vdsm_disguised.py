"""VDSM: what its poses are read from in training."""

from __future__ import annotations

import torch

from oracles.small_vdsm import noise, small_vdsm, some_clips
from stillmotion.core.clips import Clips
from stillmotion.nn.recolour import coarsen


@torch.no_grad()
def test_coarse_frames_touch_poses_alone_and_training_alone() -> None:
    model, clips = small_vdsm(coarse=4), some_clips(4, 4)
    plain = small_vdsm()
    expected = plain.pose_loss(clips, {}, noise()).values
    torch.testing.assert_close(model.eval().pose_loss(clips, {}, noise()).values, expected)
    trained = model.train().pose_loss(clips, {}, noise()).values
    torch.testing.assert_close(trained["static_kl"], expected["static_kl"])
    blurred = Clips(coarsen(clips.frames, 4), clips.mask)
    torch.testing.assert_close(trained["path_kl"], plain.pose_loss(blurred, {}, noise()).values["path_kl"])
    assert not torch.allclose(trained["path_kl"], expected["path_kl"], rtol=1e-4)


@torch.no_grad()
def test_recolouring_touches_poses_alone_and_training_alone() -> None:
    model, clips = small_vdsm(recolour=1.0), some_clips(4, 4)
    plain = small_vdsm()
    expected = plain.pose_loss(clips, {}, noise()).values
    torch.testing.assert_close(model.eval().pose_loss(clips, {}, noise()).values, expected)
    trained = model.train().pose_loss(clips, {}, noise()).values
    torch.testing.assert_close(trained["static_kl"], expected["static_kl"])
    assert not torch.allclose(trained["path_kl"], expected["path_kl"], rtol=1e-4)
    scrambled = model.pose_loss(clips, {"scrambled": 1.0}, noise()).values
    torch.testing.assert_close(scrambled["static_kl"], expected["static_kl"])
    assert not torch.allclose(scrambled["path_kl"], trained["path_kl"], rtol=1e-4)
    torch.testing.assert_close(model.encode_frames(clips).path, plain.encode_frames(clips).path)

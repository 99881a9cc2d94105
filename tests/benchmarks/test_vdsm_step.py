from __future__ import annotations

import json

import pytest
import torch
from benchmarks.profile import GROUPS, profile
from benchmarks.vdsm_step import PAPER, Size, Stepper, build, main, thaw
from torch import Tensor

from stillmotion.models.vdsm import VDSM
from stillmotion.models.vdsm_config import VDSMConfig
from stillmotion.nn.blended import BlendedDecoder

CONFIG = VDSMConfig(
    size=16, static=5, pose=3, dynamic=4, encoder_channels=(4, 6, 8), decoder_channels=(6, 5), rnn_layers=2, rnn_size=8,
    transition_hidden=6,
)
TINY = Size(CONFIG, 3, {"poses": 4, "sequence": 3})


def in_product_order(kernels: Tensor, layer: int) -> Tensor:
    """Kernels (experts, in, out, 4, 4), element by element in the order of the blended decoder."""
    experts, fan_in, width = kernels.shape[:3]
    out = torch.empty(experts, fan_in, 16, width)
    for row in range(4):
        for column in range(4):
            a, p, b, q = row // 2, row % 2, column // 2, column % 2
            place = 4 * row + column if layer == 0 else 8 * a + 4 * b + 2 * p + q
            out[:, :, place] = kernels[..., row, column]
    return out.flatten(2)


def gradients(model: VDSM, objective: str) -> tuple[float, dict[str, Tensor]]:
    step = Stepper(model, TINY, objective, ours=False)
    thaw(model, step.parameters)
    loss = step()
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return loss, {name: gradient.clone() for name, gradient in found.items()}


@pytest.mark.parametrize("objective", ["poses", "sequence"])
def test_the_baseline_computes_the_same_losses_and_gradients(objective: str) -> None:
    """Both in float32: `ours=False` turns off nothing but autocast and the fused optimiser."""
    model, plain = build(TINY, ours=True), build(TINY, ours=False)
    (loss, ours), (plain_loss, theirs) = gradients(model, objective), gradients(plain, objective)
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    assert ours.keys() == theirs.keys()
    assert ("decoder.weights.0" in ours) == (objective == "poses")
    for name, gradient in ours.items():
        other = theirs[name]
        if name.startswith("decoder.weights"):
            other = in_product_order(other, int(name.rsplit(".", 1)[1]))
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()) + 1e-6)


def test_ours_as_it_is_timed_stays_near_the_baseline() -> None:
    low, plain = Stepper(build(TINY, ours=True), TINY, "poses", ours=True), Stepper(build(TINY, ours=False), TINY, "poses", ours=False)
    assert low() == pytest.approx(plain(), rel=2e-2)


def test_the_size_is_the_papers() -> None:
    with torch.device("meta"):
        decoder = BlendedDecoder(PAPER.config.static, 70, PAPER.config.decoder_channels, (3, 64, 64))
    assert sum(weight.numel() for weight in decoder.weights) == 40 * 16 * (70 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3)
    assert (PAPER.batch, PAPER.frames) == (20, {"poses": 16, "sequence": 8})


def test_the_profile_finds_every_part() -> None:
    model = build(TINY, ours=True)
    step = Stepper(model, TINY, "sequence", ours=True)
    thaw(model, step.parameters)
    step()
    shares = profile(model, step)
    assert tuple(shares) == GROUPS
    assert sum(shares.values()) == pytest.approx(100, abs=0.5)
    assert all(share > 0 for share in shares.values())
    assert "forward" not in vars(model)


def test_quick_prints_one_json_object_last(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--quick"], TINY)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) > 10
    figures = json.loads(lines[-1])
    assert figures["ratio"] == pytest.approx(figures["baseline_seconds"] / figures["seconds"], rel=0.05)
    assert figures["frames_per_second"] == pytest.approx(12 / figures["seconds"], rel=0.05)
    assert figures["peak_mb"] > 50
    assert {"ratio_sequence", "ratio_memory_kept", "ratio_memory_kept_sequence"} <= figures.keys()
    assert {"baseline_peak_mb", "threads", "precision", "torch"} <= figures.keys()

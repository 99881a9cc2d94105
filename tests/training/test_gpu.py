"""What a CUDA device computes is what the CPU computes. Only run with `-m gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from oracles.small_vdsm import small_vdsm, some_clips
from oracles.tiny_runs import three_stage_run, tiny_clips
from stillmotion.models import files
from stillmotion.tasks.clips import generate, reconstruct
from stillmotion.tasks.codes import encode
from stillmotion.training.loop import Trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("objective", ["poses", "paths", "sequence"])
@pytest.mark.parametrize("lengths", [(5, 5), (5, 3)])
def test_losses_are_those_of_the_cpu(objective: str, lengths: tuple[int, ...]) -> None:
    model, clips = small_vdsm(), some_clips(*lengths)
    expected = model(clips, {}, None, objective).values
    found = model.cuda()(clips.to("cuda"), {}, None, objective).values
    for name, value in expected.items():
        torch.testing.assert_close(found[name].cpu(), value, rtol=1e-2, atol=1e-2)


def test_a_run_trains_is_saved_and_used(tmp_path: Path) -> None:
    run = three_stage_run(batch=5).model_copy(update={"precision": "bfloat16", "device": "cuda"})  # so many frames that they are read once
    model = files.build(run.model.name, run.model.options, run.seed).cuda()
    Trainer(model, run, tiny_clips(), tiny_clips(4, seed=1), tmp_path, show=False).fit()
    Trainer(model, run, tiny_clips(), None, tmp_path, show=False).fit()  # resumes at the end: Adam's moments find their device
    model.eval().remember(encode(model, tiny_clips()))  # type: ignore[operator]
    files.save(model, tmp_path / "model")
    again = files.load(tmp_path / "model").model
    assert all(torch.equal(value.cpu(), again.state_dict()[name]) for name, value in model.state_dict().items())
    assert reconstruct(model, tiny_clips()).isfinite().all()
    assert generate(model, 2, 7, seed=0).shape == (2, 7, 3, 8, 8)

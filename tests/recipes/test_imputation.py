from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from stillmotion.core.clips import Clips
from stillmotion.data.balls import box
from stillmotion.models.files import build
from stillmotion.recipes.bench import Bench
from stillmotion.recipes.imputation import imputation


class Filler:
    """Fills in with a constant, or with the truth that it knows."""

    name = "filler"

    def __init__(self, value: float | None) -> None:
        self.value, self.asked = value, list[tuple[Tensor, bool]]()

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        self.asked.append((clips.mask, past_only))
        there = clips.mask[:, :, None, None, None]
        return clips.frames if self.value is None else torch.where(there, clips.frames, self.value)


def bench(filler: Any) -> Bench:
    made = Bench(build("kvae", {"width": 4}, 0), box(clips=8, validation=4, test=40))
    made.model.impute = filler.impute  # type: ignore[assignment]
    return made


def test_the_truth_is_without_error_and_black_frames_are_wrong_where_the_ball_is() -> None:
    assert {figure.value for figure in imputation(bench(Filler(None))).values()} == {0.0}
    black, white = imputation(bench(Filler(0.0))), imputation(bench(Filler(1.0)))
    frames = box(clips=8, validation=4, test=40).test.clips().frames
    ball = float((frames[:, 4:13] > 0.5).double().mean())
    for way in ("smooth", "filter"):
        assert abs(black[f"imputation_{way}_n9"].value - ball) < 1e-9
        assert abs(white[f"imputation_{way}_n9"].value - (1 - ball)) < 1e-9
    assert {figure.clips for name, figure in black.items() if "_n" in name} == {40}


def test_frames_are_hidden_as_in_the_paper() -> None:
    filler = Filler(0.0)
    names = list(imputation(bench(filler)))
    assert names[:2] == ["imputation_smooth_p20", "imputation_filter_p20"]
    assert names[-1] == "imputation_filter_n15"
    masks = cast(list[Tensor], [mask for mask, _ in filler.asked])
    assert all(bool(mask[:, :4].all()) for mask in masks)
    last = masks[-1]
    assert (~last).sum(1).tolist() == [15] * len(last)
    assert {past for _, past in filler.asked} == {False, True}
    drawn = torch.cat([mask[:, 4:] for mask, past in filler.asked if not past][:3])
    assert abs(float((~drawn).double().mean()) - 0.2) < 0.08

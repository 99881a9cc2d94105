"""A run as data: what is written is what is read, and nothing else is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from oracles.tiny_runs import kept, tiny_run, trainer
from stillmotion.training.settings import Feed, Run, Stage


def changed(*path: str | int, value: Any) -> dict[str, Any]:
    """The settings of a run with one of them changed."""
    whole = tiny_run().model_dump(mode="json")
    place: Any = whole
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return whole


def test_a_run_survives_json_with_its_schedules_and_bounds() -> None:
    run = tiny_run(seed=7, on_nan="lower-lr")
    again = Run.model_validate(json.loads(json.dumps(run.model_dump(mode="json"))))
    assert again.model_dump(mode="json") == run.model_dump(mode="json")
    assert again.stages == run.stages
    assert [again.stages[0].schedules["path_kl"](x) for x in (0, 0.5, 1)] == pytest.approx([0.1, 0.55, 1])


@pytest.mark.parametrize("path", [("colour",), ("stages", 0, "step"), ("stages", 1, "feed", "size"), ("model", "config"), ("data", "x")])
def test_an_unknown_key_is_refused_wherever_it_is(path: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        Run.model_validate(changed(*path, value=1))


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("stages", 0, "steps"), 0, "steps"), (("stages", 0, "learning_rate"), 0, "learning_rate"),
        (("stages", 0, "feed", "batch"), 0, "batch"),
        (("stages", 0, "clip_norm"), -1, "clip_norm"), (("precision",), "float64", "precision"), (("on_nan",), "ignore", "on_nan"),
        (("checkpoint_seconds",), 0, "checkpoint_seconds"), (("log_every",), 0, "log_every"), (("stages",), [], "stages"),
        (("stages", 1, "name"), "poses", "names of their own"),
    ],
)
def test_a_value_that_cannot_be_is_refused(path: tuple[str | int, ...], value: object, match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        Run.model_validate(changed(*path, value=value))


@pytest.mark.parametrize("settings", [{"clips_per_group": 2}, {"group_by": "kind"}])
def test_groups_need_both_a_factor_and_a_number(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="need one another"):
        Feed(**settings)
    assert Feed(group_by="kind", clips_per_group=2).group_by == "kind"


def test_labels_and_groups_exclude_one_another() -> None:
    with pytest.raises(ValidationError, match="labelled and group_by exclude one another"):
        Feed(labelled=True, group_by="kind", clips_per_group=2)
    assert Feed(labelled=True).labelled
    assert not Feed().labelled


def test_betas_are_those_of_adam_unless_they_are_given() -> None:
    assert Stage(name="one", steps=1).betas == (0.9, 0.999)
    whole = changed("stages", 0, "betas", value=[0.5, 0.99])
    assert Run.model_validate(json.loads(json.dumps(whole))).stages[0].betas == (0.5, 0.99)
    for wrong in ([0.5], [0.5, 0.9, 0.99], "0.5"):
        with pytest.raises(ValidationError, match="betas"):
            Run.model_validate(changed("stages", 0, "betas", value=wrong))


def test_betas_reach_the_optimiser(tmp_path: Path) -> None:
    """After one step Adam's moments are (1 - beta) of the gradient and of its square."""
    moments = []
    for betas in ((0.9, 0.999), (0.5, 0.99)):
        run = tiny_run(steps=1)
        run = run.model_copy(update={"stages": (run.stages[0].model_copy(update={"betas": betas}),)})
        folder = tmp_path / str(betas[0])
        trainer(folder, run).fit()
        moments.append({name: value for name, value in kept(folder).items() if name.startswith("adam/")})
    for name, value in moments[0].items():
        factor = {"exp_avg": 5.0, "exp_avg_sq": 10.0}.get(name.rsplit("/", 1)[-1])
        if factor is not None:
            torch.testing.assert_close(moments[1][name], factor * value, rtol=1e-4, atol=1e-12)
    assert any(value.any() for value in moments[0].values())


def test_frames_that_the_clips_of_a_group_cannot_share_are_refused() -> None:
    with pytest.raises(ValidationError, match="shared evenly among the clips of a group: 7 of 2 clips are not"):
        Feed(group_by="kind", clips_per_group=2, frames=7)
    assert Feed(group_by="kind", clips_per_group=2, frames=8).frames == 8


def test_hidden_frames_are_those_of_whole_single_clips() -> None:
    for other in ({"group_by": "kind", "clips_per_group": 2}, {"frames": 3}):
        with pytest.raises(ValidationError, match="hidden and gaps exclude group_by and frames"):
            Feed.model_validate({"hidden": 0.2, **other})
        with pytest.raises(ValidationError, match="hidden and gaps exclude group_by and frames"):
            Feed.model_validate({"gaps": 0.2, **other})
    with pytest.raises(ValidationError, match="less than 1"):
        Feed(hidden=1.0)
    assert Feed(gaps=1.0).gaps == 1, "a clip that lacks nearly all frames is one of those that are to be filled in"

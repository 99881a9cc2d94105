from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.random import Noise
from stillmotion.core.registry import DATA, resolve
from stillmotion.models.vdsm import VDSM
from stillmotion.models.vdsm_config import VDSMConfig
from stillmotion.recipes.sources import run_for
from stillmotion.recipes.vdsm import LAMBDA_Z_RELEASED, Size, as_released, digits, mug, of, pendula, sprites, videos
from stillmotion.training.settings import Part, Run

RECIPES: dict[str, Any] = {
    "pendula": pendula, "digits": digits, "sprites": sprites, "mug": mug, "videos": lambda size: videos(size, data={"folder": "x"}),
}  # fmt: skip
EVERY = [(name, size) for name in RECIPES for size in get_args(Size)]


def on_meta(run: Run) -> VDSM:
    """The model of a run, built without its numbers."""
    with torch.device("meta"):
        return VDSM(VDSMConfig.model_validate(run.model.options))


def check(run: Run) -> VDSM:
    model = on_meta(run)
    groups, objectives = model.parameter_groups(), model.objectives()
    for stage in run.stages:
        assert set(stage.trains) <= groups.keys()
        assert stage.objective in objectives
        assert set(stage.schedules) <= set(VDSM.schedules)
    written = run.model_dump(mode="json")
    assert Run.model_validate(written).model_dump(mode="json") == written
    return model


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_every_recipe_in_every_size_is_a_run_whose_model_can_be_built(name: str, size: Size) -> None:
    run = RECIPES[name](size)
    assert check(run).frame_shape == (3, 64, 64)
    assert [stage.name for stage in run.stages] == ["poses", "paths", "sequence"]
    assert run.recipe == f"vdsm/{name}"
    assert callable(resolve(DATA, run.data.name))


@pytest.mark.parametrize(("name", "size"), EVERY)
def test_as_released_has_two_stages_of_as_many_steps_and_the_quirks(name: str, size: Size) -> None:
    run = RECIPES[name](size)
    released = as_released(run)
    model = check(released)
    assert [(stage.name, stage.optimiser) for stage in released.stages] == [("poses", "adam"), ("sequence", "adam")]
    assert sum(stage.steps for stage in released.stages) == sum(stage.steps for stage in run.stages)
    assert released.stages[1].trains == ("f_s", "sequence", "flows")
    assert released.stages[0].schedules["path_kl"] == LAMBDA_Z_RELEASED
    config = model.config
    assert (config.encoder_slope, config.average, config.dynamic_prior, config.prior_scale) == (1.0, "codes", "released", "deviation")
    assert (config.transition_hidden, config.recolour) == (config.rnn_size, 0.0)
    assert config.static == on_meta(run).config.static
    feed, before = released.stages[1].feed, run.stages[-1].feed
    assert not config.crossed
    assert not config.pooled
    assert (config.likelihood, config.mean_slope, config.coarse, config.dynamic) == ("bernoulli", 0.01, 1, 50)
    assert (feed.group_by, feed.clips_per_group, feed.batch) == (None, 1, before.batch * before.clips_per_group)


def test_stage_two_of_digits_sees_a_quarter_of_the_clips_on_a_laptop_and_the_published_number_at_full_size() -> None:
    assert [stage.feed.batch for stage in digits("laptop").stages] == [40, 32, 10]
    assert [stage.feed.batch for stage in digits("paper").stages] == [20, 32, 30]


def test_the_paper_size_is_the_published_one() -> None:
    run = sprites("paper")
    published = {"static": 40, "pose": 30, "dynamic": 50, "decoder_channels": (512, 256, 128, 64), "rnn_layers": 3, "rnn_size": 512}
    config = on_meta(run).config
    assert {name: getattr(config, name) for name in published} == published
    assert [stage.learning_rate for stage in run.stages if stage.name != "paths"] == [8e-4, 1e-3]
    feed = run.stages[0].feed
    assert (feed.batch, feed.group_by, feed.clips_per_group, feed.frames) == (20, "character", 2, None)
    temperature, static = (run.stages[0].schedules[name] for name in ("temperature", "static_kl"))
    assert [temperature(at) for at in (0, 0.5, 1)] == pytest.approx([1, 10, 10])
    assert [static(at) for at in (0, 1 / 3, 1)] == pytest.approx([0.1, 1, 1])


def test_mug_at_the_paper_size_is_the_published_one() -> None:
    run = mug("paper")
    published = {"static": 15, "pose": 30, "dynamic": 50, "decoder_channels": (512, 256, 128, 64), "rnn_layers": 3, "rnn_size": 512}
    config = on_meta(run).config
    assert {name: getattr(config, name) for name in published} == published
    told = [(stage.steps, stage.learning_rate, stage.feed.batch, stage.feed.group_by) for stage in run.stages if stage.name != "paths"]
    assert told == [(250 * 50, 1e-3, 20, None), (200 * 50, 1e-3, 20, None)]


@pytest.mark.parametrize("name", ["pendula", "mug", "videos"])
def test_the_weight_of_the_poses_falls_and_never_below_one(name: str) -> None:
    fall = RECIPES[name]("laptop").stages[0].schedules["path_kl"]
    values = [fall(k / 100) for k in range(101)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(2.0 if name in ("videos", "mug") else 1.0)


def test_poses_of_sprites_are_soon_read_off_scrambled_colours_alone() -> None:
    poses, _, sequence = sprites("laptop").stages
    share = poses.schedules["scrambled"]
    assert (share(0.0), share(0.2), share(1.0), sequence.schedules["scrambled"](0.0)) == (0, 1, 1, 1)
    assert not any("scrambled" in stage.schedules for stage in (*sprites("paper").stages, *as_released(sprites("laptop")).stages))


def test_both_versions_of_sprites_are_trained_alike_but_for_more_steps_of_the_standard_one() -> None:
    for size in ("quick", "laptop", "paper"):
        own, standard = sprites(size, data={"version": "vdsm"}), sprites(size, data={"version": "standard"})
        assert sprites(size) == standard.model_copy(update={"data": sprites(size).data})
        more = {"steps": own.stages[0].steps + (2000 if size == "laptop" else 0)}
        stages = (own.stages[0].model_copy(update=more), *own.stages[1:])
        assert own.model_copy(update={"data": standard.data, "stages": stages}) == standard


@pytest.mark.parametrize(("name", "movement"), [("sprites", (4, 4)), ("digits", (1, 0.1))])
def test_what_differs_by_little_is_told_cheaply_and_what_repeats_dearly(name: str, movement: tuple[float, float]) -> None:
    poses, paths, sequence = RECIPES[name]("laptop").stages
    assert [stage.optimiser for stage in (poses, paths, sequence)] == ["muon", "adam", "adam"]
    assert (poses.schedules["static_kl"](1.0), sequence.schedules["static_kl"](1.0)) == (0.25, 0.25)
    assert (paths.schedules["dynamic_kl"](1.0), sequence.schedules["dynamic_kl"](0.0)) == movement
    assert sequence.trains == ("static_heads", "sequence", "flows")


def test_poses_that_have_no_reason_to_tell_who_is_seen_need_not_be_dear_from_the_start() -> None:
    weight = sprites("laptop", data={"version": "vdsm"}).stages[0].schedules["path_kl"]
    assert min(weight(k / 100) for k in range(101)) == weight(0.0) == weight(1.0) == 2


def test_where_a_digit_is_must_be_told_precisely_in_the_end() -> None:
    weight = digits("laptop").stages[0].schedules["path_kl"]
    assert [weight(k / 10) for k in range(11)] == sorted((weight(k / 10) for k in range(11)), reverse=True)
    assert (weight(0.0), weight(1.0)) == (2, 0.5)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
@pytest.mark.parametrize("grey", [False, True])
def test_a_folder_gives_a_model_for_its_frame_size_and_colour(tmp_path: Path, size: int, grey: bool) -> None:
    run = run_for(str(tmp_path), reading={"size": size, "steps": 8, "grey": grey, "fps": None})
    assert run.data.options == {"folder": str(tmp_path), "size": size, "steps": 8, "seed": 0} | ({"grey": True} if grey else {})
    model = check(run)
    shape = (1 if grey else 3, size, size)
    assert model.frame_shape == shape
    narrow = {name: [4] * len(run.model.options[name]) for name in ("encoder_channels", "decoder_channels")}
    small = VDSM(VDSMConfig.model_validate(run.model.options | narrow | {"rnn_size": 4, "static": 2}))
    clips = Clips(torch.rand(1, 2, *shape), torch.ones(1, 2, dtype=torch.bool))
    assert small.decode(small.encode(clips)).shape == (1, 2, *shape)
    assert model.config.likelihood == "gaussian"


def test_a_small_model_for_32_pixels_really_computes(tmp_path: Path) -> None:
    run = run_for(str(tmp_path), reading={"size": 32})
    small = {"decoder_channels": [8] * len(run.model.options["decoder_channels"]), "rnn_size": 8, "static": 2}
    model = VDSM(VDSMConfig.model_validate(run.model.options | small))
    clips = Clips(torch.rand(1, 3, 3, 32, 32), torch.ones(1, 3, dtype=torch.bool))
    for stage in run.stages:
        weights = {name: schedule(0.5) for name, schedule in stage.schedules.items()}
        assert model(clips, weights, Noise(), stage.objective).total.isfinite()


@pytest.mark.parametrize("size", [4, 48, 65])
def test_frame_sizes_that_no_model_has_are_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match=str(size)):
        on_meta(run_for(str(tmp_path), reading={"size": size}))


def test_a_zero_is_not_taken_for_nothing(tmp_path: Path) -> None:
    run = run_for(str(tmp_path), reading={"steps": 0, "stride": 0, "fps": 0.0})
    assert run.data.options == {"folder": str(tmp_path), "seed": 0, "steps": 0, "stride": 0, "fps": 0.0}


def test_windows_of_a_clip_are_grouped_in_the_first_stage_alone_and_clips_of_a_class_are_crossed_in_both(tmp_path: Path) -> None:
    plain, grouped = run_for(str(tmp_path)), run_for(str(tmp_path), group_by="person")
    assert [run.model.options.get("crossed", False) for run in (plain, grouped)] == [False, True]
    feeds = [[(stage.feed.group_by, stage.feed.batch) for stage in run.stages if stage.name != "paths"] for run in (plain, grouped)]
    assert feeds == [[("clip", 10), (None, 10)], [("person", 10), ("person", 5)]]
    assert not any("scrambled" in stage.schedules for stage in plain.stages)
    shares = [stage.schedules["scrambled"] for stage in grouped.stages if stage.name != "paths"]
    assert [(share(0.0), share(0.4), share(1.0)) for share in shares] == [(0, 0.5, 0.5), (0.5, 0.5, 0.5)]
    check(grouped)
    check(as_released(grouped))


def test_what_is_given_for_a_folder_reaches_the_reader(tmp_path: Path) -> None:
    held = {"hold_out_tail": 0.2, "hold_out_clip_per": "person", "hold_out": [{"person": "3"}]}
    labels = {"pattern": "(?P<person>.)", "labels_from": None}
    run = run_for(str(tmp_path), labels=labels, held=held, root=tmp_path / "root", seed=7)
    expected = {"folder": str(tmp_path), "seed": 7, "cache": str(tmp_path / "root" / "videos"), "pattern": "(?P<person>.)"}
    assert run.data.options == expected | held
    assert run.seed == 7


@pytest.mark.parametrize(("source", "root", "options"), [
    ("digits", None, {}), ("vdsm/digits", None, {}), ("sprites", Path("there"), {"root": "there"}), ("pendula", Path("there"), {}),
])  # fmt: skip
def test_built_in_sets_by_name(source: str, root: Path | None, options: dict[str, str]) -> None:
    run = run_for(source, "quick", root=root, seed=3)
    assert run.recipe == f"vdsm/{source.removeprefix('vdsm/')}"
    assert run.data.options == options
    assert run.seed == 3


def test_data_without_settings_for_a_vdsm_is_refused() -> None:
    with pytest.raises(UserError, match="videos, or one of pendula, digits, sprites, mug for a VDSM, got 'box'"):
        of(Part(name="box"), "quick")

"""The open questions of VDSM: what each changes, and the table of their answers, with tiny models on a few characters."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Normal, kl_divergence

from oracles import few_sprites
from oracles.finished_runs import quickly
from oracles.small_vdsm import TINY, small_config
from stillmotion.core.registry import DATA
from stillmotion.metrics.exhibits import Table
from stillmotion.metrics.figure import Figure
from stillmotion.metrics.protocols import PROTOCOLS, better, protocol_of, unit_of
from stillmotion.models.vdsm import VDSM
from stillmotion.models.vdsm_config import VDSMConfig
from stillmotion.recipes import measures, vdsm, vdsm_questions
from stillmotion.recipes.override import override
from stillmotion.recipes.reproduce import REPRODUCTIONS, Plan, Reproduced
from stillmotion.recipes.vdsm import LAMBDA_Z_RELEASED
from stillmotion.recipes.vdsm_questions import COLUMNS, QUESTIONS, Lab, Question, alike, bound, of_run, table
from stillmotion.training.runs import read_run
from stillmotion.training.settings import Part, Run

PLAN = Plan(quick=True, seeds=1, show=False, command="test")
ASKED = ("uncrossed", "at_once")


def base(size: vdsm.Size = "laptop") -> Run:
    return vdsm.sprites(size, data={"version": "vdsm"})


def tiny_sprites(size: vdsm.Size, *, data: dict[str, Any], seed: int = 0) -> Run:
    few = {"feed": {"batch": 3}}
    return override(vdsm.sprites(size, data=data, seed=seed), {"model": TINY, "stages": {"poses": few, "paths": few, "sequence": few}})


@pytest.fixture(scope="module")
def place(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the reproduction went; few characters, tiny networks, two questions, a judge of two steps."""
    with pytest.MonkeyPatch.context() as patch, quickly():
        patch.setenv("STILLMOTION_DATA", str(real_data))
        patch.setitem(DATA, "sprites", few_sprites.PLACE)
        patch.setattr(measures, "MOST_PAIRS", 30)
        patch.setattr(vdsm_questions, "SOURCE", Part(name="sprites"))
        patch.setattr(vdsm_questions, "sprites", tiny_sprites)
        patch.setattr(vdsm_questions, "QUESTIONS", {key: QUESTIONS[key] for key in ASKED})
        patch.setitem(vdsm_questions.CHARACTERS, "quick", (6, 2))
        patch.setattr(vdsm_questions, "SHARE", 1 / 30)
        yield tmp_path_factory.mktemp("questions")


@pytest.fixture(scope="module")
def found(place: Path) -> Reproduced:
    return vdsm_questions.reproduce(place, PLAN)


# what each question changes


@pytest.mark.parametrize("key", QUESTIONS)
def test_every_question_makes_another_run_that_can_be_trained(key: str) -> None:
    for size in ("quick", "laptop", "paper"):
        start = base(size)
        name, run = QUESTIONS[key].other(start)
        assert name in QUESTIONS[key].answers
        assert not alike(run, start)
        assert sum(stage.steps for stage in run.stages) == sum(stage.steps for stage in start.stages)
        assert run.data == start.data
        assert (run.seed == start.seed) == (key != "again")
        with torch.device("meta"):
            model = VDSM(VDSMConfig.model_validate(run.model.options))
        for stage in run.stages:
            assert set(stage.trains) <= model.parameter_groups().keys()
            assert set(stage.schedules) <= set(model.schedules)
        written = run.model_dump(mode="json")
        assert Run.model_validate(written).model_dump(mode="json") == written


def changed(key: str, *, size: vdsm.Size = "laptop") -> Run:
    return QUESTIONS[key].other(base(size))[1]


@pytest.mark.parametrize(("key", "option", "value"), [
    ("encoder", "encoder_slope", 1.0), ("prior_scale", "prior_scale", "deviation"), ("decoder_input", "decoder_input", "mixture"),
    ("decoder_static", "decoder_input", "static"),
    ("dynamic_prior", "dynamic_prior", "released"), ("single_decoder", "single_decoder", True), ("iaf", "posterior", "iaf"),
    ("dynamic_input", "dynamic_input", "means"), ("mean_slope", "mean_slope", 0.01), ("recolour", "recolour", 0.0),
    ("dynamic", "dynamic", 50),
])  # fmt: skip
def test_questions_of_the_model_change_one_option_and_nothing_else(key: str, option: str, value: object) -> None:
    run, start = changed(key), base()
    plain, other = (VDSMConfig.model_validate(each.model.options).model_dump() for each in (start, run))
    assert {name: other[name] for name in other if other[name] != plain[name]} == {option: value}
    assert run.stages == start.stages


def test_questions_of_the_stages_change_what_they_say() -> None:
    start, frozen, weights, single = base(), changed("frozen"), changed("lambda_z"), changed("single_groups")
    assert frozen.stages[:2] == start.stages[:2]
    assert frozen.stages[2].trains == ("f_s", "sequence", "flows")
    assert [stage.schedules["path_kl"] for stage in weights.stages][::2] == [LAMBDA_Z_RELEASED, vdsm.LAMBDA_Z_SEQUENCE]
    assert weights.stages[0].schedules["temperature"] == start.stages[0].schedules["temperature"]
    feed = single.stages[0].feed
    assert (feed.group_by, feed.clips_per_group, feed.frames, feed.batch) == (None, 1, 4, 20)
    feed = single.stages[2].feed
    assert (feed.group_by, feed.clips_per_group, feed.batch, feed.frames) == (None, 1, 10, None)
    assert single.stages[1] == start.stages[1]
    assert changed("falling").stages[0].schedules["path_kl"] == vdsm.FALLING
    assert changed("falling").stages[1:] == start.stages[1:]
    assert changed("falling", size="paper").stages[0].schedules["path_kl"] == vdsm.PRESSED
    for stage, whole in zip(start.stages, changed("static_kl").stages, strict=True):
        priced = {"static_kl": stage.schedules["static_kl"].times(4)} if "static_kl" in stage.schedules else {}
        assert whole == stage.model_copy(update={"schedules": {**stage.schedules, **priced}})
    optimisers = [(run.stages[0].optimiser, run.stages[1:]) for run in (changed("optimiser"), start)]
    assert optimisers == [("adam", start.stages[1:]), ("muon", start.stages[1:])]


def test_another_seed_changes_nothing_else_and_is_none_of_those_asked_for() -> None:
    run, start = changed("again"), base()
    assert run.seed not in range(100)
    assert run.model_copy(update={"seed": start.seed}) == start


def test_without_stage_one_a_single_stage_trains_everything() -> None:
    run, start = changed("at_once"), base()
    (stage,) = run.stages
    assert (stage.objective, stage.steps) == ("sequence", sum(each.steps for each in start.stages))
    model = VDSM(small_config())
    grouped = {id(parameter) for name in stage.trains for parameter in model.parameter_groups()[name]}
    assert grouped == {id(parameter) for parameter in model.parameters()}
    assert stage.schedules["temperature"] == start.stages[0].schedules["temperature"]
    assert {name: stage.schedules[name] for name in ("static_kl", "scrambled")} == {
        name: start.stages[0].schedules[name] for name in ("static_kl", "scrambled")
    }
    assert stage.schedules["dynamic_kl"] == start.stages[1].schedules["dynamic_kl"]
    assert stage.schedules["path_kl"] == start.stages[2].schedules["path_kl"]


def test_without_the_stage_of_paths_stage_two_has_its_steps() -> None:
    run, start = changed("paths"), base()
    poses, sequence = run.stages
    assert poses == start.stages[0]
    assert sequence == start.stages[2].model_copy(update={"steps": start.stages[1].steps + start.stages[2].steps})


def test_uncrossed_runs_see_as_many_clips_in_stage_two() -> None:
    start, run, first = base(), changed("uncrossed"), changed("crossed_at_first")
    feed = start.stages[2].feed
    assert (feed.group_by, feed.clips_per_group, feed.batch, feed.frames) == ("character", 2, 5, None)
    assert (run.model.options["crossed"], first.model.options["crossed"]) == (False, True)
    for other in (run, first):
        feed = other.stages[2].feed
        assert (feed.group_by, feed.clips_per_group, feed.batch, feed.frames) == (None, 1, 10, None)
        assert other.stages[:2] == start.stages[:2]
    name, back = QUESTIONS["uncrossed"].other(run)
    assert name == "crossed"
    assert alike(back, start)


def test_the_answer_that_the_base_run_gives_is_not_tried() -> None:
    linear = override(base(), {"model": {"encoder_slope": 1.0}})
    name, run = QUESTIONS["encoder"].other(linear)
    assert name == "real"
    assert run.model.options["encoder_slope"] == 0.2
    with_defaults = override(base(), {"model": VDSMConfig.model_validate(base().model.options).model_dump(mode="json")})
    assert alike(base(), with_defaults)
    settled = Question("x", {"as it is": vdsm_questions.unchanged})
    assert settled.other(base()) == ("as it is", base())


# what is trained once


def test_runs_that_differ_after_stage_one_share_it() -> None:
    shared = {key for key in QUESTIONS if alike(vdsm_questions.stage_one(changed(key)), vdsm_questions.stage_one(base()))}
    assert shared == {"dynamic_prior", "dynamic_input", "frozen", "pose_head", "dynamic_kl", "crossed_at_first", "paths"}


@pytest.mark.data
@pytest.mark.parametrize("key", ["dynamic_prior", "dynamic_input", "frozen", "crossed_at_first"])
def test_a_run_that_shares_stage_one_ends_as_if_it_had_been_trained_alone(
    key: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vdsm_questions, "QUESTIONS", {key: QUESTIONS[key]})
    lab = Lab(tmp_path, PLAN, source=Part(name="sprites"))
    run = QUESTIONS[key].other(vdsm_questions.base_run(lab))[1]
    alone, branched = lab.train("alone", run), vdsm_questions._train(lab, key, 0)
    weights = [load_file(next((folder / "model").glob("*.safetensors"))) for folder in (alone, branched)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    rows = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (alone, branched)]
    assert [(row["step"], row["terms"]) for row in rows[0]] == [(row["step"], row["terms"]) for row in rows[1]]
    first = tmp_path / "runs" / "base_0_poses"
    assert sum(row["stage"] == "poses" for row in rows[1]) == len((first / "metrics.jsonl").read_text().splitlines())
    assert list(lab.trained) == ["alone", f"{key}_0"]


@pytest.mark.data
def test_a_torn_copy_of_stage_one_is_made_anew(place: Path, tmp_path: Path) -> None:
    lab = Lab(tmp_path, PLAN, source=Part(name="sprites"))
    torn = tmp_path / "runs" / "base_0" / "checkpoints" / "checkpoints.json"
    torn.parent.mkdir(parents=True)
    torn.write_text("[{", encoding="utf-8")
    assert (vdsm_questions._train(lab, "base", 0) / "model").is_dir()


# the table


def test_columns_show_means_and_the_better_probe() -> None:
    def one(value: float) -> Figure:
        return Figure(value, value, value, 9)

    parts = vdsm_questions.ATTRIBUTES
    figures = {f"consistency_{part}": one(k / 10) for k, part in enumerate(parts)}
    figures |= {"leak_static_to_action_mean": one(0.4), "leak_static_to_action_mean_mlp": one(0.5)}
    figures |= {"elbo_sequence_validation": one(-1234.5)}
    figures |= {"chance_action": one(1 / 3)} | {f"chance_{part}": one(0.2) for part in parts}
    shown = table({"base": figures}, {"base": ("base run", "")})
    row = dict(zip(shown.head, shown.rows[0], strict=True))
    assert row["consistency, attributes %"] == "15.00"
    assert row["s tells action, means %"] == "50.00"
    assert row["bound, nats"] == "-1234.50"
    assert row["swap, stays %"] is None
    assert "chance 33.33 %" in shown.note
    assert "chance 20.00 %" in shown.note


def test_names_of_figures_keep_their_protocol() -> None:
    for names in COLUMNS.values():
        for name in names:
            named = of_run("at_once", name)
            assert named is not None
            assert named != name
            assert protocol_of(name) in PROTOCOLS
            assert (protocol_of(named), unit_of(named), better(named)) == (protocol_of(name), unit_of(name), better(name))
    assert of_run("iaf", "leak_static_to_action_mean_mlp") == "leak_iaf_static_to_action_mean_mlp"
    assert of_run("iaf", "probe_path_action_mean") is None
    assert of_run("iaf", "chance_body") is None


def test_what_is_reproduced_is_registered() -> None:
    assert REPRODUCTIONS["vdsm/questions"] == "stillmotion.recipes.vdsm_questions:reproduce"


@pytest.mark.data
def test_every_question_has_a_row_and_every_cell_is_measured(found: Reproduced, place: Path) -> None:
    shown, runs = found.page.exhibits
    assert isinstance(shown, Table)
    assert isinstance(runs, Table)
    assert [row[:2] for row in shown.rows] == [("base run", ""), ("static codes", "not crossed"), ("stage one", "left out")]
    assert all(cell is not None for row in shown.rows for cell in row)
    assert [row[0] for row in runs.rows] == ["base_0", "uncrossed_0", "at_once_0"]
    assert found.figures["consistency_uncrossed_body"].clips == found.figures["elbo_base_sequence_validation"].clips == 2 * 9
    assert {"chance_action", "leak_uncrossed_path_to_hair_sample", "swap_at_once_dynamic_accuracy"} <= found.figures.keys()
    assert found.judge is not None
    assert read_run(place / "runs" / "uncrossed_0").model.options["crossed"] is False


@pytest.mark.data
def test_validation_clips_are_measured_and_never_test_clips(found: Reproduced, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(place, PLAN, source=Part(name="sprites"))
    seen: list[set[int]] = []

    def look(run: Path, names: object, splits: Any) -> dict[str, Any]:
        seen.append(set(splits.validation.labels["character"].tolist()) | set(splits.test.labels["character"].tolist()))
        return {}

    monkeypatch.setattr(lab, "_measured", look)
    (place / "elsewhere").mkdir(exist_ok=True)
    lab.compare(place / "elsewhere")
    assert seen == [set(few_sprites.load().validation.labels["character"].tolist())]


@pytest.mark.data
def test_what_was_trained_and_measured_is_not_done_again(found: Reproduced, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(vdsm_questions, "bound", fail)
    assert vdsm_questions.reproduce(place, PLAN).figures == found.figures


@pytest.mark.data
def test_a_question_that_the_base_run_answers_trains_nothing(found: Reproduced, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vdsm_questions, "QUESTIONS", {"settled": Question("x", {"as it is": vdsm_questions.unchanged})})
    again = vdsm_questions.reproduce(place, PLAN)
    assert not (place / "runs" / "settled_0").exists()
    assert again.figures["elbo_settled_sequence_validation"] == again.figures["elbo_base_sequence_validation"]


@pytest.mark.data
def test_the_bound_is_that_of_whole_clips_with_all_terms(place: Path) -> None:
    clips = few_sprites.load().validation
    model = VDSM(VDSMConfig.model_validate(TINY)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # every frame is grey, and q of everything is N(0, softplus(0)^2), which from z_2 on is p too
    q, unit = Normal(torch.zeros(1), torch.tensor([math.log(2) + 1e-4])), Normal(torch.zeros(1), torch.ones(1))
    static = kl_divergence(q, Normal(torch.zeros(1), torch.tensor([TINY["static"] ** -0.5])))
    divergence = TINY["static"] * static + (TINY["dynamic"] + TINY["pose"]) * kl_divergence(q, unit)
    figure = bound(model, clips)
    assert figure.clips == len(clips)
    assert figure.low <= figure.value <= figure.high
    assert figure.value == pytest.approx(-(clips.frames[:8].numel() * math.log(2) + divergence.item()), rel=1e-6)

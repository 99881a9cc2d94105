"""The judge of a data set: what it learns, what is written beside it, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from oracles.tiny_runs import rows
from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.registry import DATA
from stillmotion.data.base import ClipSet, Splits
from stillmotion.metrics.judge import Verdicts, read_all
from stillmotion.metrics.judge_files import load_judge
from stillmotion.recipes import judge as module
from stillmotion.recipes.held_out import clips_sha256
from stillmotion.recipes.judge import NARROW, complete, default_folder, examined, judge_run, judgeable, placeless, train_judge, what
from stillmotion.testing.references import ExactJudge, World, toy_world
from stillmotion.testing.toys import toy
from stillmotion.training import journal, loop
from stillmotion.training.loop import Interrupted
from stillmotion.training.runs import read_run
from stillmotion.training.settings import Part, Run

TOY = Part(name="toy")
CHANNELS = (4, 4, 8, 8)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(journal, "_board", lambda folder: None)
    monkeypatch.setattr(loop, "VALIDATION_CLIPS", 4)
    monkeypatch.setattr(module, "keep_freed_memory", lambda: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def toys() -> Splits:
    g = torch.Generator().manual_seed(5)
    return Splits(toy(300, 5, g), toy(40, 5, g), toy(250, 5, g))


def lessons(steps: int, splits: Splits | None = None, **changes: Any) -> Run:
    run = judge_run(TOY, splits or toys(), channels=CHANNELS, steps=steps, device="cpu", **{"seed": 0, **changes})
    return run.model_copy(update={"precision": "float32"})


def test_it_learns_the_toy_in_seconds_and_says_so(tmp_path: Path) -> None:
    train_judge(lessons(80), toys(), tmp_path, command="stillmotion judge train toy", show=False)
    loaded = load_judge(tmp_path)
    fresh = toy(300, 5, torch.Generator().manual_seed(77))
    verdicts = read_all(loaded.judge, fresh)
    for factor, labels in fresh.labels.items():
        assert float((verdicts.top(factor) == labels).float().mean()) >= 0.95
    facts = loaded.facts
    assert (facts["split"], facts["clips"], facts["seed"], facts["command"]) == ("test", 250, 0, "stillmotion judge train toy")
    assert facts["data"] == {"name": "toy", "options": {}}
    assert facts["clips_sha256"] == clips_sha256(toys())
    assert facts["minutes"] >= 0
    assert {"commit", "machine"} <= facts.keys()
    asked = read_all(loaded.judge, toys().test)
    for factor, labels in toys().test.labels.items():
        told = facts["accuracy"][factor]
        assert told["value"] == pytest.approx(float((asked.top(factor) == labels).double().mean()))
        assert told["low"] <= told["value"] <= told["high"]
        assert told["clips"] == 250
        nll = -asked.probabilities(factor).gather(1, labels[:, None]).log().mean()
        assert facts["calibration"][factor]["nll"] == pytest.approx(float(nll), abs=1e-4)
        assert 0 <= facts["calibration"][factor]["ece"] <= 1


def test_one_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lessons(6)
    train_judge(run, toys(), tmp_path / "whole", command="", show=False)
    update, calls = loop.Trainer._update, []

    def stopping(self: loop.Trainer, *arguments: Any) -> Any:
        calls.append(0)
        self._stop = len(calls) == 3
        return update(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Trainer, "_update", stopping)
        with pytest.raises(Interrupted):
            train_judge(run, toys(), tmp_path / "stopped", command="", show=False)
    assert not (tmp_path / "stopped" / "model").exists()
    train_judge(run, toys(), tmp_path / "stopped", command="", show=False)
    whole, stopped = (load_judge(tmp_path / name) for name in ("whole", "stopped"))
    assert whole.sha256 == stopped.sha256
    assert whole.facts["accuracy"] == stopped.facts["accuracy"]
    assert rows(tmp_path / "whole") == rows(tmp_path / "stopped")


def test_seeds_make_judges_of_their_own(tmp_path: Path) -> None:
    found = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_judge(lessons(2, seed=seed), toys(), tmp_path / name, command="", show=False)
        found[name] = load_judge(tmp_path / name).sha256
    assert found["a"] == found["b"] != found["c"]


def test_a_finished_one_is_only_examined_again(tmp_path: Path) -> None:
    train_judge(lessons(2), toys(), tmp_path, command="", show=False)
    before = load_judge(tmp_path)
    train_judge(lessons(2), toys(), tmp_path, command="", show=False)
    after = load_judge(tmp_path)
    assert (after.sha256, after.facts["accuracy"]) == (before.sha256, before.facts["accuracy"])


def test_the_folder_of_another_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    train_judge(lessons(2), toys(), tmp_path, command="", show=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    for other in (lessons(3), lessons(2, seed=1)):
        with pytest.raises(UserError, match=r"stopped run of this very judge, got .*, which holds another run\. Choose another folder"):
            train_judge(other, toys(), tmp_path, command="", show=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_a_stopped_judge_goes_on_where_its_folder_of_videos_was_moved(tmp_path: Path) -> None:
    def of(folder: str) -> Run:
        return lessons(2).model_copy(update={"data": Part(name="videos", options={"folder": folder})})

    train_judge(of("/there/clips"), toys(), tmp_path, command="", show=False)
    train_judge(of("/here/clips"), toys(), tmp_path, command="", show=False)
    assert read_run(tmp_path).data.options == {"folder": "/here/clips"}
    with pytest.raises(UserError, match="which holds another run"):
        train_judge(of("/here/others"), toys(), tmp_path, command="", show=False)


def test_data_is_told_without_its_place_and_judges_of_two_places_are_two() -> None:
    one, other = (Part(name="videos", options={"folder": f"/{place}/clips", "cache": "/c", "size": 8}) for place in ("there", "here"))
    assert placeless(one) == placeless(other) == Part(name="videos", options={"folder": "clips", "size": 8})
    assert placeless(Part(name="sprites", options={"root": "/r", "version": "vdsm"})).options == {"version": "vdsm"}
    assert default_folder(one) != default_folder(other)


def test_the_run_says_how_it_is_trained() -> None:
    run = judge_run(TOY, toys())
    (stage,) = run.stages
    assert (stage.learning_rate, stage.betas, stage.feed.batch, stage.feed.labelled) == (1e-3, (0.5, 0.999), 32, True)
    assert stage.decay is not None
    assert (stage.decay(0.0), stage.decay(0.3), stage.decay(1.0)) == (1.0, 1.0, 0.05)
    assert (stage.steps, run.model.options["channels"]) == (NARROW.steps, NARROW.channels)
    assert (run.model.options["size"], run.model.options["colours"]) == (8, 3)
    assert judge_run(Part(name="sprites"), toys()).model.options["channels"] == (32, 64, 128, 256)


def test_factors_of_movement_can_be_told_by_changes_alone_where_they_are_known() -> None:
    factor = next(iter(judgeable(toys())))
    assert judge_run(TOY, toys(), changes=(factor,)).model.options["changes"] == (factor,)
    assert "changes" not in judge_run(TOY, toys()).model.options
    with pytest.raises(UserError, match="that a judge can learn: .*, got 'gait'"):
        judge_run(TOY, toys(), changes=("gait",))


# what can be learned


def cut(clips: ClipSet, **labels: list[int]) -> ClipSet:
    values = {name: torch.tensor(value) for name, value in labels.items()}
    return replace(clips.subset(torch.arange(4)), labels=values, classes={name: tuple("abcd") for name in values})


def test_factors_without_classes_in_common_are_left_out() -> None:
    clips = toys().train
    train = cut(clips, kind=[0, 1, 0, 1], same=[0, 0, 0, 0], who=[0, 1, 0, 1], unknown=[-1, -1, -1, 2])
    held = cut(clips, kind=[1, 2, -1, 0], same=[0, 1, 0, 1], who=[2, 3, 2, 3], unknown=[0, 1, 2, 3])
    assert judgeable(Splits(train, held, held)) == {"kind": tuple("abcd")}


def test_the_held_out_clips_are_those_of_the_test_and_else_of_the_validation() -> None:
    clips = toys().train
    train, seen, unseen = cut(clips, who=[0, 1, 0, 1]), cut(clips, who=[0, 1, 1, 0]), cut(clips, who=[2, 3, 2, 3])
    none = train.subset(torch.zeros(0, dtype=torch.long))
    assert judgeable(Splits(train, unseen, seen)).keys() == judgeable(Splits(train, seen, none)).keys() == {"who"}
    with pytest.raises(UserError, match=r"labels that a judge can learn, got labels: who\. Name factors with --pattern"):
        judgeable(Splits(train, seen, unseen))


def test_clips_without_labels_have_no_judge() -> None:
    bare = replace(toys().train, labels={}, classes={})
    with pytest.raises(UserError, match="got labels: none"):
        judge_run(TOY, Splits(bare, bare, bare))


def test_a_judge_is_not_measured_by_the_clips_it_was_trained_on() -> None:
    none = toys().test.subset(torch.zeros(0, dtype=torch.long))
    with pytest.raises(UserError, match=r"clips that a judge is not trained on.*got none.*--hold-out"):
        judge_run(TOY, Splits(toys().train, none, none))


def sixty_four() -> tuple[World, ClipSet]:
    world = toy_world(5)
    return world, world.clips


def test_an_exact_judge_is_right_and_clips_of_classes_never_trained_on_do_not_count() -> None:
    world, clips = sixty_four()
    held = replace(clips, labels={**clips.labels, "colour": torch.where(clips.labels["colour"] == 3, -1, clips.labels["colour"])})
    some = clips.subset(clips.labels["start"] != 7)
    found = examined(ExactJudge(world), Splits(some, clips, held), seed=0)  # type: ignore[arg-type]
    assert (found["split"], found["clips"]) == ("test", 64)
    assert {factor: (told["value"], told["clips"]) for factor, told in found["accuracy"].items()} == {
        "colour": (1.0, 48), "direction": (1.0, 64), "start": (1.0, 56),
    }  # fmt: skip
    assert all(told == {"ece": 0.0, "nll": 0.0} for told in found["calibration"].values())


class Flawed(ExactJudge):
    """Takes the last colour for the first one."""

    def read(self, clips: Clips) -> Verdicts:
        seen = super().read(clips)
        colour = seen.logits["colour"].clone()
        colour[colour.argmax(1) == 3, 0] = 99.0
        return Verdicts({**seen.logits, "colour": colour}, seen.features)


def test_accuracy_and_calibration_resample_held_out_identities_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors come identity by identity: as independent clips they would seem known to a third of what they are."""
    world, clips = sixty_four()
    who = clips.labels["colour"]
    train = replace(clips, labels={**clips.labels, "who": who}, moving=("direction",))
    held = replace(train, labels={**clips.labels, "who": who + 4})
    given: list[Any] = []
    plain = module.calibration
    monkeypatch.setattr(module, "calibration", lambda *all_of_it: given.append(all_of_it[3]) or plain(*all_of_it))
    together = examined(Flawed(world), Splits(train, train, held), seed=0)["accuracy"]["colour"]  # type: ignore[arg-type]
    apart = examined(Flawed(world), Splits(train, train, train), seed=0)["accuracy"]["colour"]  # type: ignore[arg-type]
    assert together["value"] == apart["value"] == 0.75
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])
    assert torch.equal(given[0], who + 4)
    assert given[1] is None


# where it is kept


def test_the_folder_depends_on_the_clips_and_their_split_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLMOTION_DATA", str(tmp_path))

    def folder(name: str = "sprites", **options: Any) -> Path:
        return default_folder(Part(name=name, options=options))

    plain = folder()
    assert plain.name.startswith("sprites-")
    assert plain == folder(root="elsewhere") == folder(version="standard") == folder(seed=0, validation=100, root=str(tmp_path))
    others = [folder(seed=1), folder(version="vdsm"), folder(validation=50), folder("digits"), folder("nowhere"), folder("nowhere", a=1)]
    assert len({plain, *others}) == 7
    clips = folder("videos", folder="clips", size=32)
    assert clips == folder("videos", size=32, folder="clips", cache="x", progress=False)
    assert clips != folder("videos", folder="clips", size=32, hold_out=[{"person": "1"}])
    tails = [folder("videos", folder="clips", hold_out=held) for held in ([{"a": "1", "b": "2"}], [{"b": "2", "a": "1"}])]
    assert tails[0] == tails[1]


def test_what_the_data_is_leaves_out_where_it_lies() -> None:
    part = Part(name="sprites", options={"version": "vdsm", "root": "x"})
    assert what(part) == {"name": "sprites", "options": {"version": "vdsm"}}
    assert complete(part) == {"name": "sprites", "options": {"version": "vdsm", "seed": 0, "validation": 100}}
    assert complete(Part.model_validate(complete(part))) == complete(part)
    assert complete(Part(name="sprites", options={"nonsense": 1})) == {"name": "sprites", "options": {"nonsense": 1}}


@pytest.mark.parametrize("name", [name for name in DATA if name != "videos"])
def test_every_data_set_is_complete_as_json_has_it(name: str) -> None:
    found = complete(Part(name=name))
    assert json.loads(json.dumps(found)) == found
    assert "root" not in found["options"]


def test_the_run_of_a_judge_can_be_read_back(tmp_path: Path) -> None:
    run = lessons(2)
    train_judge(run, toys(), tmp_path, command="stillmotion judge train x", show=False)
    assert read_run(tmp_path).model_dump(mode="json") == run.model_dump(mode="json")
    assert json.loads((tmp_path / "run.json").read_text())["command"] == "stillmotion judge train x"

"""The reproductions on pendula and digits with models that were not trained, on few clips of few pixels."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from oracles.finished_runs import quickly
from oracles.untrained import PLAN, small_recipe, untrained
from stillmotion.core.registry import resolve
from stillmotion.data import digits
from stillmotion.metrics.exhibits import Curves, Pictures, Table, read_page, write_page
from stillmotion.metrics.judge_files import load_judge
from stillmotion.recipes import lab as labs
from stillmotion.recipes import vdsm_rollouts, vdsm_worlds
from stillmotion.recipes.cells import told
from stillmotion.recipes.lab import Lab
from stillmotion.recipes.own_judge import accuracy, doubt
from stillmotion.recipes.reproduce import REPRODUCTIONS, Reproduced
from stillmotion.recipes.vdsm_grids import long_strip
from stillmotion.recipes.vdsm_worlds import DIGITS, DIGITS_QUICK, JUDGED, _digit_judge, reproduce_digits, reproduce_pendula

FEW = {"clips": 20, "validation": 5, "test": 10}


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, quickly():
        patch.setattr(labs, "train_once", untrained)
        patch.setattr(vdsm_worlds, "pendula", small_recipe("pendula"))
        patch.setattr(vdsm_worlds, "PENDULA_QUICK", {"clips": 14, "validation": 14, "test": 14})
        patch.setitem(vdsm_worlds.CLIPS, "quick", 14)
        patch.setattr(vdsm_worlds, "digits", small_recipe("digits", source="sklearn", steps=5))
        patch.setattr(vdsm_worlds, "DIGITS_QUICK", FEW)
        yield


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp(name) for name in ("pendula", "digits")}


@pytest.fixture(scope="module")
def swinging(small: None, places: dict[str, Path]) -> Reproduced:
    return reproduce_pendula(places["pendula"], PLAN)


@pytest.fixture(scope="module")
def moving(small: None, places: dict[str, Path]) -> Reproduced:
    return reproduce_digits(places["digits"], PLAN)


def table(found: Reproduced, name: str) -> Table:
    exhibit = next(exhibit for exhibit in found.page.exhibits if exhibit.name == name)
    assert isinstance(exhibit, Table)
    return exhibit


def pictures(found: Reproduced) -> dict[str, Pictures]:
    return {exhibit.name: exhibit for exhibit in found.page.exhibits if isinstance(exhibit, Pictures)}


def test_pendula_are_shown_at_both_lengths_rolled_on_and_swapped(swinging: Reproduced) -> None:
    assert [exhibit.name for exhibit in swinging.page.exhibits] == [
        "frequencies", "astray", "rolled_40", "swapped_40", "rolled_60", "swapped_60", "worst", "runs",
    ]  # fmt: skip
    shown = pictures(swinging)
    assert shown["rolled_40"].frames.shape == (6, 1, 40, 3, 16, 16)
    assert shown["swapped_60"].frames.shape == (9, 1, 60, 3, 16, 16)
    assert shown["swapped_60"].row_labels == ("identity of", "motion of", "swapped") * 3
    assert all(grid.strip for grid in shown.values())
    curves = next(exhibit for exhibit in swinging.page.exhibits if isinstance(exhibit, Curves))
    assert (len(curves.lines[0].x), curves.marks[0].x) == (60, 16.0)


def test_the_table_of_frequencies_holds_the_figures_in_per_cent(swinging: Reproduced) -> None:
    rows = {str(row[0]): row[1:] for row in table(swinging, "frequencies").rows}
    assert list(rows) == [
        *(f"frequency within {bound} %, frames {span}" for bound in (5, 2) for span in ("1 to 16", "1 to 40", "1 to 60", "17 to 60")),
        "colour, frames 1 to 60", "frequency within 5 % and colour",
    ]  # fmt: skip
    for bound in (5, 2):
        cells = rows[f"frequency within {bound} %, frames 1 to 60"]
        names = [f"{way}_frequency_within_{bound}_percent_60" for way in ("rollout", "swap", "real")]
        assert list(cells[:3]) == [told(swinging.figures, name) for name in names]
        assert cells[3] == told(swinging.figures, f"rollout_by_speed_alone_within_{bound}_percent")
        assert all(str(cell).count(" to ") == 1 for cell in cells)
    assert rows["frequency within 5 % and colour"] == (None, told(swinging.figures, "swap_both_accuracy"), None, None)
    # the readers know real clips, and an untrained model is no pendulum
    assert swinging.figures["real_colour_accuracy"].value == 1.0
    assert swinging.figures["swap_both_accuracy"].value < 0.5
    assert (swinging.judge, dict(swinging.paper)) == (None, {})


def test_digits_are_swapped_judged_and_shown(moving: Reproduced, places: dict[str, Path]) -> None:
    assert [exhibit.name for exhibit in moving.page.exhibits] == ["swaps", "mixed", "worst", "runs"]
    shown = pictures(moving)
    assert shown["mixed"].frames.shape == (7, 7, 5, 3, 16, 16)
    assert shown["worst"].frames.shape[:2] == (3, 6)
    assert all("seen as" in label for label in shown["worst"].column_labels)
    assert moving.figures["swap_digit_accuracy"].clips == FEW["test"]
    rows = {str(row[0]): row[1:] for row in table(moving, "swaps").rows}
    assert rows["real"] == (told(moving.figures, "real_digit_accuracy"), None, None, None, None)
    assert None not in rows["swapped"]
    assert moving.judge is not None
    assert moving.judge["accuracy"].keys() == {"digit"}
    assert moving.judge["other_split"] is False
    assert moving.judge["folder"] == str(places["digits"] / "judge")


def test_a_judge_that_is_not_sure_is_told_of(moving: Reproduced) -> None:
    assert "Of the digit that is not more than 99.5 %, as it should be" in moving.page.summary
    facts = {"accuracy": {name: {"value": value} for name, value in (("body", 0.9951), ("hair", 0.995), ("action", 0.9))}}
    assert doubt(facts).startswith(" Of the hair and action that is not more than 99.5 %")
    assert doubt({"accuracy": {"body": {"value": 0.9951}}}) == ""


def test_pages_can_be_written_and_read(swinging: Reproduced, moving: Reproduced, tmp_path: Path) -> None:
    for found in (swinging, moving):
        write_page(found.page, tmp_path)
        assert [exhibit.name for exhibit in read_page(tmp_path).exhibits] == [exhibit.name for exhibit in found.page.exhibits]


def test_what_was_measured_is_not_measured_again(
    swinging: Reproduced, moving: Reproduced, places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labs, "train_once", lambda run, place, plan: place)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(vdsm_rollouts, "measured", fail)
    monkeypatch.setattr(vdsm_worlds.vdsm_digits, "measured", fail)
    monkeypatch.setattr("stillmotion.recipes.own_judge.train_judge", fail)
    assert reproduce_pendula(places["pendula"], PLAN).figures == swinging.figures
    assert reproduce_digits(places["digits"], PLAN).figures == moving.figures


# The judge of digits


def test_the_judge_sees_more_clips_of_the_same_images() -> None:
    defaults = {name: parameter.default for name, parameter in inspect.signature(digits.load).parameters.items()}
    assert {name: defaults[name] for name in DIGITS} == DIGITS  # what the model is trained on where nothing else is said
    assert {DIGITS[name] / DIGITS_QUICK[name] for name in DIGITS} == {20.0}
    plain: dict[str, object] = {"size": 16, "steps": 2, "source": "sklearn"}
    model = digits.load(**FEW, **plain)  # type: ignore[arg-type]
    taught_on = digits.load(**{name: JUDGED["laptop"] * count for name, count in FEW.items()}, **plain)  # type: ignore[arg-type]
    for one, other in ((model.test, taught_on.train), (model.train, taught_on.test), (model.validation, taught_on.train)):
        assert not torch.isin(one.labels["image"], other.labels["image"]).any()
    assert torch.isin(model.test.labels["image"], _pool(plain, "test")).all()


def _pool(plain: dict[str, object], split: str) -> torch.Tensor:
    """Nearly all images of a split: of so many clips that each is shown."""
    many = digits.load(**{name: 100 * count for name, count in FEW.items()}, **plain)  # type: ignore[arg-type]
    images: torch.Tensor = getattr(many, split).labels["image"]
    return images


def test_a_judge_is_taught_once(small: None, tmp_path: Path) -> None:
    judge, facts = _digit_judge(Lab(tmp_path, PLAN))
    assert list(judge.judge.classes) == ["digit"]
    assert facts["sha256"] == load_judge(tmp_path / "judge").sha256
    assert facts["data"]["options"]["clips"] == FEW["clips"]
    again, _ = _digit_judge(Lab(tmp_path, PLAN))
    assert again.sha256 == judge.sha256


def test_how_sure_a_judge_is_is_told_in_per_cent() -> None:
    assert accuracy({"accuracy": {"digit": {"value": 0.98765, "low": 0.981, "high": 0.9931}}}, "digit") == "98.77 % (98.1 to 99.3)"


# Pictures


def test_long_strips_are_halved_where_frames_are_large() -> None:
    clips = torch.zeros(2, 7, 3, 64, 64)
    clips[1, :, 0, 10:12, 20:22] = 1
    shown = long_strip("a", "A", list(clips), ("one", "two"))
    assert shown.frames.shape == (2, 1, 7, 3, 32, 32)
    assert shown.frames[1, 0, 0, 0, 5, 10] == 255
    assert shown.frames.sum() == 7 * 255


@pytest.mark.parametrize("name", ["pendula", "digits"])
def test_what_is_reproduced_is_registered(name: str) -> None:
    assert resolve(REPRODUCTIONS, f"vdsm/{name}") is getattr(vdsm_worlds, f"reproduce_{name}")


@pytest.mark.slow
@pytest.mark.parametrize("work", [reproduce_pendula, reproduce_digits])
def test_a_quick_reproduction_goes_through(work: object, tmp_path: Path) -> None:
    assert callable(work)
    found = work(tmp_path, PLAN)
    assert all(abs(figure.value) < 1e6 for figure in found.figures.values())

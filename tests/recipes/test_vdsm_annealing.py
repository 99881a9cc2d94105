from __future__ import annotations

import math

import pytest

from stillmotion.metrics.exhibits import Curves, Line
from stillmotion.recipes.override import override
from stillmotion.recipes.vdsm import as_released, sprites
from stillmotion.recipes.vdsm_annealing import annealing
from stillmotion.training.settings import Run

RUN = sprites("paper")
LAST = {stage.name: stage.steps - 1 for stage in as_released(RUN).stages}


def curves(name: str, run: Run = RUN) -> Curves:
    return next(found for found in annealing(run) if found.name == f"annealing_{name}")


def line(name: str, stage: str, *, published: bool = False) -> Line:
    return next(each for each in curves(name).lines if (each.label, each.published) == (stage, published))


def at(drawn: Line, share: float) -> float:
    """The value at a share of a stage."""
    return drawn.y[round(share * (len(drawn.y) - 1))]


def half_cosine(share: float, until: float) -> float:
    """From 0.1 to 1, by hand."""
    return 0.1 + 0.9 * (1 - math.cos(math.pi * min(share / until, 1))) / 2


def test_each_weight_has_a_figure_of_the_supplement() -> None:
    names = ["temperature", "static_kl", "dynamic_kl", "path_kl"]
    assert [found.name for found in annealing(RUN)] == [f"annealing_{name}" for name in names]
    assert [found.y_label for found in annealing(RUN)] == ["temperature", "lambda_s", "lambda_d", "lambda_z"]


def test_lambda_z_of_the_first_stage_as_released_is_the_spline_that_is_cut() -> None:
    drawn = line("path_kl", "poses", published=True)
    known = {0: 30, 0.1: 20.7, 0.2: 13.0, 0.3: 7.1, 0.4: 2.8, 0.5: 0.2, 0.6: 0.005, 0.7: 0.005, 0.8: 0.4, 0.9: 0.8, 1: 1.0}
    assert [at(drawn, share) for share in known] == pytest.approx(list(known.values()), abs=0.05)
    cut = [share for share in range(101) if at(drawn, share / 100) == 0.005]
    assert (cut[0], cut[-1]) == pytest.approx((52, 73), abs=1)


def test_lambda_z_of_the_second_stage_as_released_dips() -> None:
    drawn = line("path_kl", "sequence", published=True)
    known = {0: 0.1, 0.1: 0.23, 0.2: 0.32, 0.45: 0.41, 0.7: 0.32, 0.8: 0.4, 0.9: 0.64, 1: 1.0}
    # the released knots are epochs, the last of which is E - 1: at 90 % that makes 0.01
    assert [at(drawn, share) for share in known] == pytest.approx(list(known.values()), abs=0.015)


def test_ours_of_lambda_z_never_falls_below_one_in_the_first_stage_and_never_falls_in_the_second() -> None:
    poses, sequence = (line("path_kl", stage) for stage in ("poses", "sequence"))
    assert (poses.y[0], poses.y[-1], min(poses.y)) == (30, 1, 1)
    assert list(poses.y) == sorted(poses.y, reverse=True)
    assert list(sequence.y) == sorted(sequence.y)
    assert set(line("path_kl", "paths").y) == {0.1}


def test_temperature_rises_over_half_of_the_first_stage_and_stays() -> None:
    for published in (False, True):
        drawn = line("temperature", "poses", published=published)
        assert [at(drawn, share) for share in (0, 0.25, 0.5, 1)] == pytest.approx([1, 5.5, 10, 10])
        assert set(line("temperature", "sequence", published=published).y) == {10}
    assert [each.label for each in curves("temperature").lines if not each.published] == ["poses", "sequence"]


def test_lambda_s_rises_over_a_third_of_both_stages_and_lambda_d_over_all_of_the_second() -> None:
    for published in (False, True):
        for stage in ("poses", "sequence"):
            drawn = line("static_kl", stage, published=published)
            assert [at(drawn, share) for share in (0, 0.1, 0.2, 0.5, 1)] == pytest.approx(
                [half_cosine(share, 1 / 3) for share in (0, 0.1, 0.2, 0.5, 1)]
            )
        drawn = line("dynamic_kl", "sequence", published=published)
        assert [at(drawn, share) for share in (0, 0.5, 1)] == pytest.approx([0.1, 0.55, 1])
    assert [each.label for each in curves("dynamic_kl").lines] == ["paths", "sequence", "sequence"]


def test_steps_are_those_of_the_run_and_both_have_as_many() -> None:
    first, _, last = RUN.stages
    ours = [each for each in curves("path_kl").lines if not each.published]
    theirs = [each for each in curves("path_kl").lines if each.published]
    assert [each.x[0] for each in ours] == [0, first.steps, sum(stage.steps for stage in RUN.stages) - last.steps]
    assert [each.x[0] for each in theirs] == [0, first.steps]
    assert ours[-1].x[-1] == theirs[-1].x[-1] == sum(stage.steps for stage in RUN.stages) - 1
    assert [(mark.label, mark.x) for mark in curves("path_kl").marks] == [("paths", ours[1].x[0]), ("sequence", ours[2].x[0])]
    assert theirs[0].x[-1] == LAST["poses"]


def test_other_schedules_are_drawn_as_they_are() -> None:
    falls = {"poses": {"schedules": {"path_kl": {"points": [[0, 5.0], [1, 3.0]]}}}}
    changed = override(RUN, {"stages": falls, "model": {"temperature": 7.0}})
    drawn = {each.label: each for each in curves("path_kl", changed).lines if not each.published}
    assert (drawn["poses"].y[0], drawn["poses"].y[100], drawn["poses"].y[-1]) == (5, 4, 3)
    last = next(each for each in curves("temperature", changed).lines if each.label == "sequence")
    assert set(last.y) == {7}

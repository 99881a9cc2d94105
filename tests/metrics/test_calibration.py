from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from saying import at_random, drawn, knowing_nothing, of_logits, saying, seeded, with_nan
from sklearn.metrics import log_loss
from torchmetrics.classification import MulticlassCalibrationError

from stillmotion.core.errors import UserError
from stillmotion.metrics.calibration import calibration


def test_a_judge_that_is_sure_and_right_has_no_error() -> None:
    labels = {"hair": drawn(30)}
    found = calibration(saying(hair=labels["hair"]), labels, seeded())
    assert set(found) == {"judge_ece_hair", "judge_nll_hair"}
    assert {(figure.value, figure.clips) for figure in found.values()} == {(0.0, 30)}


def test_a_judge_that_is_sure_and_wrong_has_every_error() -> None:
    found = calibration(of_logits(hair=torch.tensor([[50.0, 0.0]] * 8)), {"hair": torch.ones(8, dtype=torch.long)}, seeded())
    assert found["judge_ece_hair"].value == pytest.approx(1.0)
    assert found["judge_nll_hair"].value == pytest.approx(50.0)


def test_a_judge_that_knows_nothing_and_says_so_is_calibrated() -> None:
    found = calibration(knowing_nothing(40), {"hair": torch.arange(40) % 4}, seeded())
    assert found["judge_ece_hair"].value == pytest.approx(0.0, abs=1e-12)
    assert found["judge_nll_hair"].value == pytest.approx(math.log(4))


def test_labels_drawn_from_the_verdicts_leave_a_small_error() -> None:
    verdicts = at_random(4000)
    labels = torch.multinomial(verdicts.probabilities("hair"), 1, generator=seeded(5)).flatten()
    honest = calibration(verdicts, {"hair": labels}, seeded())["judge_ece_hair"]
    sharpened = calibration(of_logits(hair=3 * verdicts.logits["hair"]), {"hair": labels}, seeded())["judge_ece_hair"]
    assert honest.value < 0.03
    assert sharpened.low > 0.1


@given(st.integers(0, 10**6), st.floats(0.1, 2.0), st.integers(1, 300))
@settings(max_examples=25, deadline=None)
def test_both_are_those_of_other_libraries(seed: int, scale: float, clips: int) -> None:
    verdicts, labels = of_logits(hair=scale * at_random(clips, seed=seed).logits["hair"]), drawn(clips, seed=seed + 1)
    found = calibration(verdicts, {"hair": labels}, seeded())
    rows = verdicts.probabilities("hair")
    # torchmetrics gives confidences of exactly one a bin of their own
    rows = rows * (1 - 1e-9)
    oracle = MulticlassCalibrationError(4, n_bins=15, norm="l1", validate_args=False)(rows, labels)
    assert found["judge_ece_hair"].value == pytest.approx(oracle.item(), abs=1e-6)
    assert found["judge_nll_hair"].value == pytest.approx(log_loss(labels.numpy(), rows.numpy(), labels=range(4)), abs=1e-6)


def test_shuffled_labels_are_found_out() -> None:
    labels = torch.arange(400) % 4
    verdicts = of_logits(hair=5 * torch.nn.functional.one_hot(labels, 4).float())
    shuffled = calibration(verdicts, {"hair": labels[torch.randperm(400, generator=seeded())]}, seeded())
    confidence = math.exp(5) / (math.exp(5) + 3)
    assert shuffled["judge_ece_hair"].low < confidence - 0.25 < shuffled["judge_ece_hair"].high


def test_clips_of_unknown_class_do_not_count() -> None:
    verdicts, labels, known = at_random(60), drawn(60), torch.arange(60) % 2 == 0
    found = calibration(verdicts, {"hair": labels.where(known, -1)}, seeded(), clusters=torch.arange(60) // 3)
    alone = calibration(verdicts[known], {"hair": labels[known]}, seeded())
    for name, figure in found.items():
        assert (figure.value, figure.clips) == (pytest.approx(alone[name].value), 30)
        assert figure.low <= figure.value <= figure.high


def test_each_factor_has_its_own_error() -> None:
    labels = {"hair": drawn(50), "action": drawn(50, seed=2)}
    verdicts = of_logits(hair=saying(hair=labels["hair"]).logits["hair"], action=at_random(50).logits["action"])
    found = calibration(verdicts, labels, seeded())
    alone = calibration(of_logits(action=verdicts.logits["action"]), labels, seeded())
    assert found["judge_ece_hair"].value == 0.0
    assert found["judge_ece_action"].value == alone["judge_ece_action"].value > 0.05
    assert found["judge_ece_action"].low > 0.05


def test_the_order_of_the_clips_does_not_matter() -> None:
    verdicts, labels, order = at_random(50), drawn(50), torch.randperm(50, generator=seeded())
    there, here = calibration(verdicts[order], {"hair": labels[order]}, seeded()), calibration(verdicts, {"hair": labels}, seeded())
    assert {k: f.value for k, f in there.items()} == pytest.approx({k: f.value for k, f in here.items()}, rel=1e-12)


def test_nothing_to_measure_and_verdicts_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="clips of known hair or action"):
        calibration(at_random(3), {"hair": torch.full((3,), -1)}, seeded())
    with pytest.raises(UserError, match="finite verdicts on hair"):
        calibration(with_nan(at_random(3), "hair"), {"hair": drawn(3)}, seeded())

"""Abilities, the registry, and the errors for what is not there."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from stillmotion.core import registry
from stillmotion.core.abilities import ABILITIES, Decodes, Encodes, Imputes, Model, Swaps, require
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import FileRefused, MissingAbility, NotFinite, UserError
from stillmotion.core.terms import Terms


class Doubling(Model, Swaps):
    """Codes are frames; twice the loss is a second objective."""

    name = "doubling"
    frame_shape = (1, 8, 8)

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        return Terms({"sum": clips.frames.sum()}, dict(weights))

    def objectives(self) -> Mapping[str, object]:  # type: ignore[override]
        return {"loss": self.loss, "negative": lambda clips, weights, generator: Terms({"sum": -clips.frames.sum()})}

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        return Codes(static=clips.frames.mean(1).flatten(1), path=clips.frames.flatten(2), mask=clips.mask)

    def decode(self, codes: Codes) -> torch.Tensor:
        assert codes.path is not None
        return codes.path.unflatten(2, self.frame_shape)


def test_a_model_has_the_abilities_it_inherits() -> None:
    model = Doubling()
    assert require(model, Swaps) is model
    assert require(model, Encodes) is model
    assert [ability.__name__ for ability in ABILITIES if isinstance(model, ability)] == ["Encodes", "Decodes", "Swaps"]


def test_a_missing_ability_names_the_model_the_ability_and_those_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute:
        name = "mute"

    here = f"{__name__}:"
    monkeypatch.setattr(registry, "MODELS", {"doubling": here + "Doubling", "blind": here + "Blind"})
    with pytest.raises(MissingAbility, match=r"the ability Decodes, got mute, which lacks it. Models that can: doubling\.$"):
        require(Mute(), Decodes)


class Blind:
    """A registered class without any ability."""


def test_an_ability_that_no_model_has_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "MODELS", {"blind": f"{__name__}:Blind"})
    with pytest.raises(MissingAbility, match=r"Imputes, got doubling, .*No registered model can\.$"):
        require(Doubling(), Imputes)


def test_forward_is_the_entrance_to_every_objective() -> None:
    model, clips = Doubling(), Clips.of(torch.ones(2, 3, 1, 8, 8))
    assert model(clips, {"sum": 0.5}, None).total.item() == 2 * 3 * 64 * 0.5
    assert model(clips, {}, None, "negative").total.item() == -2 * 3 * 64
    with pytest.raises(KeyError):
        model(clips, {}, None, "missing")


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match=r"frames of shape \(1, 8, 8\) for this doubling model, got frames of shape \(1, 8, 16\). Prepare"):
        Doubling().check(Clips.of(torch.zeros(1, 2, 1, 8, 16)))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"expected one of a, b, got 'c'. Check the spelling"):
        registry.resolve({"b": "math:pi", "a": "math:e"}, "c")


def test_a_name_resolves_to_its_object() -> None:
    assert registry.resolve({"clips": "stillmotion.core.clips:Clips"}, "clips") is Clips


@pytest.mark.parametrize("name", registry.MODELS)
def test_every_registered_model_is_a_model_of_that_name(name: str) -> None:
    model = registry.resolve(registry.MODELS, name)
    assert issubclass(model, Model)
    assert model.name == name


@pytest.mark.parametrize("name", registry.JUDGES)
def test_every_registered_judge_is_trained_like_a_model_and_is_none(name: str) -> None:
    judge = registry.resolve(registry.JUDGES, name)
    assert issubclass(judge, Model)
    assert judge.name == name
    assert name not in registry.MODELS
    assert not any(issubclass(judge, ability) for ability in ABILITIES)


def test_errors_keep_their_parts() -> None:
    error = UserError("a", "b", "Do c.")
    assert (error.expected, error.got, error.remedy) == ("a", "b", "Do c.")
    assert str(error) == "expected a, got b. Do c."
    assert str(UserError("a", "b")) == "expected a, got b"
    assert isinstance(error, ValueError)
    assert issubclass(FileRefused, UserError)


def test_not_a_number_names_step_and_terms() -> None:
    error = NotFinite(12, ["path_kl", "static_kl"])
    assert (error.step, error.names) == (12, ["path_kl", "static_kl"])
    assert "not a finite number at step 12: path_kl, static_kl" in str(error)

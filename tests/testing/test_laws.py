"""Every registered model under every law, and every law on models that break it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from stillmotion.core.abilities import EncodesFrames, Generates, Imputes, Model, Predicts, Remembers, Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.random import normal
from stillmotion.core.registry import MODELS
from stillmotion.core.terms import Terms
from stillmotion.testing import CASES, LAWS, Case, Lesson, case_of, check_all
from stillmotion.testing.laws import check_learning


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("name", MODELS)
def test_every_registered_model_keeps_every_law(name: str, law: str) -> None:
    case = case_of(name)
    if not LAWS[law].binds(case.model()):
        pytest.skip(f"{name} lacks {', '.join(ability.__name__ for ability in LAWS[law].needs)}")
    LAWS[law].check(case)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_learning_is_no_luck(name: str, seed: int) -> None:
    check_learning(case_of(name), seed)


def test_a_model_without_a_case_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(CASES, "vdsm")
    with pytest.raises(AssertionError, match=r"vdsm is registered but .* add CASES\['vdsm'\] = Case\(build=\.\.\., lessons=\.\.\.\)"):
        case_of("vdsm")


class Nothing(BaseModel):
    """The options of a model that has none."""


class Faded(Model, EncodesFrames, Swaps, Generates, Remembers, Predicts, Imputes):
    """A lawful toy model: s is the colour of the light of a clip, z its brightness by column, a picture is their product."""

    name = "faded"
    config_type = Nothing
    schedules = ()
    frame_shape = (3, 8, 8)

    def __init__(self, config: BaseModel | None = None) -> None:
        super().__init__()
        self.config = config or Nothing()
        self.gain, self.pace = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        codes = self.encode(clips, generator)
        assert codes.static is not None
        error = (self.decode(codes) - clips.frames).square().flatten(2).sum(2)
        return Terms({"error": self.average(error, clips.mask).mean(), "pace": self.pace.square()}, dict(weights))

    def average(self, values: Tensor, mask: Tensor) -> Tensor:
        share = (mask / mask.sum(1, keepdim=True)).view(*mask.shape, *[1] * (values.ndim - 2))
        return (values * share).sum(1)

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        self.check(clips)
        light = self.average(clips.frames.mean((3, 4)), clips.mask)
        static = light / light.amax(1, keepdim=True).clamp(min=1e-6) * torch.exp(self.gain)
        if generator is not None:
            static = static + 0.01 * normal(tuple(static.shape), generator, static)
        posterior = Gaussian(static, torch.full_like(static, 0.01))
        return Codes(static=static, path=clips.frames.amax((2, 3)), mask=clips.mask, static_posterior=posterior)

    def encode_frames(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        return self.encode(clips, generator)

    def decode(self, codes: Codes) -> Tensor:
        assert codes.static is not None
        assert codes.path is not None
        return (codes.static[:, None, :, None, None] * codes.path[:, :, None, None, :]).clamp(0, 1).expand(-1, -1, -1, 8, -1)

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        static, path = normal((count, 3), generator, self.gain), normal((count, steps, 8), generator, self.gain)
        return Codes(static=static, path=path, mask=torch.ones(count, steps, dtype=torch.bool))

    def remember(self, codes: Codes) -> None:
        self.kept = codes

    @property
    def remembers(self) -> bool:
        return hasattr(self, "kept")

    def recombine(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        assert self.kept.static is not None
        static = self.kept.static[torch.randint(len(self.kept.static), (count,), generator=generator)]
        return replace(self.generate(count, steps, generator), static=static)

    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        assert codes.path is not None
        rows = torch.arange(steps).clamp(max=codes.path.shape[1] - 1)
        return replace(codes, path=codes.path[:, rows])

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        filled = clips.frames.clone()
        for clip, mask in zip(filled, clips.mask, strict=True):
            for t in (~mask).nonzero()[:, 0].tolist():
                clip[t] = self.source(clip, mask, t, past_only)
        return filled

    def source(self, clip: Tensor, mask: Tensor, t: int, past_only: bool) -> Tensor:
        there = mask & (torch.arange(len(mask)) < t) if past_only else mask
        return clip[there].mean(0)


def case(model: type[Model]) -> Case:
    return Case(model, (Lesson(steps=3, learning_rate=0.01),))


def test_a_lawful_model_breaks_no_law(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "faded", f"{__name__}:Faded")
    assert all(law.binds(Faded()) for law in LAWS.values())
    check_all(case(Faded))


class Maskless(Faded):
    def average(self, values: Tensor, mask: Tensor) -> Tensor:
        return values.mean(1)


class Mixing(Faded):
    """Looks at the other clips of its batch."""

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        codes = super().encode(clips, generator)
        assert codes.static is not None
        return replace(codes, static=codes.static - 0.1 * codes.static.mean(0))


class NotANumber(Faded):
    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        terms = super().loss(clips, weights, generator)
        return Terms({**terms.values, "root": self.pace.abs().sqrt()})  # finite at 0, its slope is not


class Divided(Faded):
    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        terms = super().loss(clips, weights, generator)
        return Terms({**terms.values, "inverse": 1 / self.pace})


class PerClip(Faded):
    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        return Terms({"error": clips.frames.mean((1, 2, 3, 4))})


class Loud(Faded):
    """Decodes beyond [0, 1]."""

    def decode(self, codes: Codes) -> Tensor:
        return 3 * super().decode(codes)


class Idle(Faded):
    def __init__(self, config: BaseModel | None = None) -> None:
        super().__init__(config)
        self.spare = nn.Parameter(torch.zeros(()))


class Ungrouped(Faded):
    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        return {"all": [self.gain]}


class Backwards(Faded):
    def swap(self, identity: Codes, motion: Codes) -> Codes:
        return super().swap(identity=motion, motion=identity)


class Foreseeing(Faded):
    def source(self, clip: Tensor, mask: Tensor, t: int, past_only: bool) -> Tensor:
        return clip[mask].mean(0)


class Peeking(Faded):
    def source(self, clip: Tensor, mask: Tensor, t: int, past_only: bool) -> Tensor:
        return clip.mean(0)


class Overwriting(Faded):
    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        return 0.9 * super().impute(clips, generator, past_only)


class Restless(Faded):
    """Draws anew in a swap."""

    def swap(self, identity: Codes, motion: Codes) -> Codes:
        codes = super().swap(identity, motion)
        assert codes.path is not None
        return replace(codes, path=0.9 * codes.path)


class Global(Faded):
    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        codes = super().encode(clips, generator)
        assert codes.static is not None
        return replace(codes, static=codes.static + 0.01 * torch.randn_like(codes.static))


class Rankless(Faded):
    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        codes = super().encode(clips)
        assert codes.static is not None
        noise = 0 if generator is None else torch.randn(codes.static.shape, generator=generator)
        return replace(codes, static=codes.static + noise)


class Contextual(Faded):
    def encode_frames(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        codes = super().encode_frames(clips)
        assert codes.path is not None
        return replace(codes, path=codes.path.cumsum(1))


class Short(Faded):
    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        return super().generate(count, min(steps, 8), generator)


class Stuck(Faded):
    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        return super().generate(count, steps, torch.Generator().manual_seed(0))


class Forgetful(Faded):
    def recombine(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        codes = super().recombine(count, steps, generator)
        assert codes.static is not None
        return replace(codes, static=codes.static + 100)


class Late(Faded):
    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        codes = super().predict(codes, steps)
        assert codes.path is not None
        return replace(codes, path=codes.path.roll(1, 1))


class Stubborn(Faded):
    """Reconstructs well and keeps its own colour in a swap."""

    def swap(self, identity: Codes, motion: Codes) -> Codes:
        return motion


class Blank(Faded):
    def decode(self, codes: Codes) -> Tensor:
        return 0 * super().decode(codes) + 0.5


BROKEN: list[tuple[type[Model], str, str]] = [
    (Maskless, "padding", "error of loss"),
    (Mixing, "batch", "off by"),
    (NotANumber, "gradients", "gradient of pace in loss is not finite"),
    (Divided, "shapes", r"loss is not finite: \['inverse'\]"),
    (PerClip, "shapes", "must be scalars"),
    (Loud, "shapes", r"must lie in \[0, 1\]"),
    (Idle, "gradients", "no objective reaches spare"),
    (Ungrouped, "groups", "no parameter group holds pace"),
    (Backwards, "swap", "the static code of a swap"),
    (Restless, "swap", "a swap with itself"),
    (Foreseeing, "imputation", "before another future"),
    (Peeking, "imputation", "over other hidden frames"),
    (Overwriting, "imputation", "frames that are there"),
    (Global, "noise", "draws from the global generator"),
    (Rankless, "ranks", "over two ranks"),
    (Contextual, "frames_alone", "frames in another order"),
    (Short, "generation", "3 clips of 12 frames"),
    (Stuck, "generation", "two seeds generate the same clips"),
    (Stubborn, "swap", "the static code of a swap"),
    (Forgetful, "memory", "scales off every remembered one"),
    (Late, "prediction", "the first frames of a prediction"),
    (Stubborn, "learning", "of swapped clips have the colour"),
    (Blank, "learning", "of the error of the mean clip"),
]


@pytest.mark.parametrize(("model", "law", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_model_is_caught_by_the_law_it_breaks(model: type[Model], law: str, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        LAWS[law].check(case(model))


def test_a_model_that_forgets_its_weights_in_files_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from stillmotion.models import vdsm

    whole = vdsm.VDSM.state_dict

    def partial(self: nn.Module, *args: object, **kwargs: object) -> dict[str, Tensor]:
        state = whole(self, *args, **kwargs)  # type: ignore[arg-type]
        return {name: torch.zeros_like(value) if name.startswith("pose_head") else value for name, value in state.items()}

    monkeypatch.setattr(vdsm.VDSM, "state_dict", partial)
    with pytest.raises(AssertionError, match="after loading"):
        LAWS["files"].check(case_of("vdsm"))


def test_check_all_stops_at_the_first_law_that_is_broken() -> None:
    with pytest.raises(AssertionError, match="no parameter group holds pace"):
        check_all(case(Ungrouped))


def test_a_law_binds_models_that_have_what_it_needs() -> None:
    class Bare(Model):
        name = "bare"
        frame_shape = (3, 8, 8)

        def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
            return Terms({"zero": torch.zeros(())})

    bound = [name for name, law in LAWS.items() if law.binds(Bare())]
    assert bound == ["shapes", "batch", "padding", "noise", "ranks", "gradients", "groups", "files"]

"""The law book: what must hold for every model, whatever its story. Each law raises AssertionError and says what was broken.

    from stillmotion.core.registry import MODELS
    from stillmotion.testing import Case, Lesson, check_all
    MODELS["mine"] = "my_package.mine:MyModel"
    check_all(Case(build=lambda: MyModel(small_config), lessons=(Lesson(steps=300),)))
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from stillmotion.core.abilities import Decodes, Encodes, EncodesFrames, Generates, Imputes, Model, Predicts, Remembers, Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.random import Noise
from stillmotion.testing.cases import Case, taught
from stillmotion.testing.comparing import claim, compare_to_singles, parts_of, readings, same
from stillmotion.testing.toys import FRAME_SHAPE, colour_of, toy

A = TypeVar("A")

LARGEST_ERROR = 0.6
"""Squared error of reconstructions after the lessons, relative to answering every clip with the mean clip."""
SMALLEST_ACCURACY = 0.7
"""Share of swapped clips in the colour of their identity; chance is 0.25."""


@torch.no_grad()
def check_shapes(case: Case) -> None:
    """Terms are finite scalars; codes and frames have the documented axes; frames lie in [0, 1]."""
    model, clips = case.model(), _clips(3, 5)
    claim(tuple(model.frame_shape) == FRAME_SHAPE, f"a case is built for frames {FRAME_SHAPE}, this model takes {model.frame_shape}")
    for name in model.objectives():
        terms = model(clips, {}, _noise(), name)
        claim(len(terms.values) > 0, f"{name} has no terms")
        claim(all(value.ndim == 0 for value in terms.values.values()), f"the terms of {name} must be scalars, means over clips")
        claim(not terms.not_finite(), f"{name} is not finite: {terms.not_finite()}")
    for name, codes in readings(model, clips):
        for part, axes in (("static", 2), ("dynamic", 2), ("path", 3)):
            value = getattr(codes, part)
            claim(value is None or value.ndim == axes, f"{part} of {name} must have {axes} axes")
            claim(value is None or value.shape[0] == 3, f"{part} of {name} must have one row for each clip")
        claim(codes.path is None or codes.path.shape[1] == 5, f"the path of {name} must have one state for each frame")
        if isinstance(model, Decodes):
            frames = model.decode(codes)
            claim(frames.shape == clips.frames.shape, f"decoded frames have shape {tuple(frames.shape)}, not {tuple(clips.frames.shape)}")
            claim(bool((frames >= 0).all() and (frames <= 1).all()), "decoded frames must lie in [0, 1]")


def check_batch(case: Case) -> None:
    """A batch gives what its clips give one by one."""
    compare_to_singles(case.model(), _clips(4, 5))


def check_padding(case: Case) -> None:
    """Clips that are padded, with anything at all behind the mask, give what they give without the padding."""
    whole, lengths = _clips(4, 5), torch.tensor([5, 3, 2, 4])
    mask = torch.arange(5) < lengths[:, None]
    garbage = 3 * torch.rand(whole.frames.shape, generator=_noise()) - 1
    frames = torch.where(mask[:, :, None, None, None], whole.frames, garbage)
    compare_to_singles(case.model(), Clips(frames, mask))


@torch.no_grad()
def check_noise(case: Case) -> None:
    """The generator that is handed in decides the noise, alone; a training step neither reads nor moves the global one."""
    model, clips = case.model().train(), _clips(3, 4)
    for name in model.objectives():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            before = torch.get_rng_state()
            first = model(clips, {}, _noise(7), name).total
            claim(torch.equal(before, torch.get_rng_state()), f"{name} draws from the global generator")
            torch.manual_seed(2)
            same(f"{name} twice with one seed", model(clips, {}, _noise(7), name).total, first, 0.0)
            same(f"{name} twice without a generator", model.eval()(clips, {}, None, name).total, model(clips, {}, None, name).total, 0.0)
            model.train()


@torch.no_grad()
def check_ranks(case: Case) -> None:
    """Two processes with half of the clips each see what one process with all of them sees."""
    model, clips = case.model().train(), _clips(4, 5)
    for name in model.objectives():
        halves = []
        for rank in (0, 1):
            noise = _noise(7)
            noise.rank, noise.world = rank, 2
            halves.append(model(clips[2 * rank : 2 * rank + 2], {}, noise, name).total)
        same(f"{name} over two ranks", torch.stack(halves).mean(), model(clips, {}, _noise(7), name).total)


def check_gradients(case: Case) -> None:
    """Every objective gives finite gradients, and every parameter is reached by one of them."""
    model, clips = case.model().train(), _clips(3, 4)
    reached = set()
    for name in model.objectives():
        model.zero_grad(set_to_none=True)
        model(clips, {}, _noise(), name).total.backward()
        for parameter, value in model.named_parameters():
            if value.grad is not None:
                claim(bool(value.grad.isfinite().all()), f"the gradient of {parameter} in {name} is not finite")
                reached.add(parameter)
    idle = [parameter for parameter, _ in model.named_parameters() if parameter not in reached]
    claim(not idle, f"no objective reaches {', '.join(idle)}")


def check_groups(case: Case) -> None:
    """The parameter groups hold parameters of the model, and every one of them."""
    model = case.model()
    grouped = {id(parameter) for group in model.parameter_groups().values() for parameter in group}
    missing = [name for name, parameter in model.named_parameters() if id(parameter) not in grouped]
    claim(not missing, f"no parameter group holds {', '.join(missing)}")
    claim(grouped <= {id(parameter) for parameter in model.parameters()}, "a group holds parameters that the model does not have")


@torch.no_grad()
def check_files(case: Case) -> None:
    """A model that is saved and loaded is the same model, to the last bit. It must be registered: files name their model."""
    from stillmotion.models.files import load, save

    model, clips = case.model(), _clips(3, 4)
    with tempfile.TemporaryDirectory() as folder:
        copy = load(save(model, folder)).model
    claim(not copy.training, "a loaded model must be in evaluation mode")
    for name in model.objectives():
        same(f"{name} after loading", copy.eval()(clips, {}, _noise(), name).total, model(clips, {}, _noise(), name).total, 0.0)
    for (name, mine), (_, other) in zip(readings(model, clips), readings(copy, clips), strict=True):
        for part, value in parts_of(mine):
            same(f"{part} of {name} after loading", getattr(other, part), value, 0.0)


@torch.no_grad()
def check_frames_alone(case: Case) -> None:
    """Poses are read off single frames: neither the other frames nor their order matters."""
    model, clips = _able(case.model(), EncodesFrames), _clips(2, 5)
    path, order = _path(model.encode_frames(clips)), torch.tensor([3, 0, 4, 1, 2])
    same("poses of frames in another order", _path(model.encode_frames(Clips(clips.frames[:, order], clips.mask))), path[:, order])
    same("the pose of a lone frame", _path(model.encode_frames(Clips(clips.frames[:, 2:3], clips.mask[:, 2:3]))), path[:, 2:3])


@torch.no_grad()
def check_generation(case: Case) -> None:
    """New clips have the number and the length that were asked for, and come from the generator alone."""
    model = _able(case.model(), Generates)
    for count, steps in ((1, 1), (3, 12)):
        codes = model.generate(count, steps, _noise(3))
        claim(_path(codes).shape[:2] == (count, steps), f"{count} clips of {steps} frames have a path of shape {_path(codes).shape}")
        for part, value in parts_of(codes):
            same(f"generated {part} twice with one seed", getattr(model.generate(count, steps, _noise(3)), part), value, 0.0)
        if isinstance(model, Decodes):
            shape = tuple(model.decode(codes).shape)
            claim(shape == (count, steps, *FRAME_SHAPE), f"generated frames have shape {shape}")
    one, other = (_path(model.generate(2, 3, _noise(seed))) for seed in (3, 4))
    claim(not torch.equal(one, other), "two seeds generate the same clips")


@torch.no_grad()
def check_memory(case: Case) -> None:
    """What is recombined comes from the clips that are remembered, has the length that was asked for, and differs by seed."""
    model, clips = case.model(), _clips(4, 5)
    codes, memory = _able(model, Encodes).encode(clips), _able(model, Remembers)
    memory.remember(codes)
    drawn = memory.recombine(6, 9, _noise(3))
    claim(_path(drawn).shape[:2] == (6, 9), f"6 clips of 9 frames have a path of shape {_path(drawn).shape}")
    for part, posterior in (("static", codes.static_posterior), ("dynamic", codes.dynamic_posterior)):
        value = getattr(drawn, part)
        if value is not None and posterior is not None:
            distance = ((value[:, None] - posterior.mean) / posterior.scale).abs().amax(-1).amin(1)
            claim(bool((distance < 8).all()), f"a recombined {part} code is {distance.max():.0f} scales off every remembered one")
    claim(not torch.equal(_path(memory.recombine(2, 3, _noise(3))), _path(memory.recombine(2, 3, _noise(4)))), "two seeds recombine alike")


@torch.no_grad()
def check_prediction(case: Case) -> None:
    """A path that is rolled on begins with the path of the clip and has the length that was asked for."""
    model, clips = case.model(), _clips(2, 4)
    codes = _able(model, Encodes).encode(clips)
    path = _path(_able(model, Predicts).predict(codes, 11))
    claim(path.shape[1] == 11, f"a prediction of 11 frames has {path.shape[1]}")
    same("the first frames of a prediction", path[:, :4], _path(codes))


@torch.no_grad()
def check_imputation(case: Case) -> None:
    """Frames that are there are kept; what is filled in depends on them alone, and with `past_only` on the earlier ones alone."""
    model, whole = _able(case.model(), Imputes), _clips(2, 6)
    mask = torch.tensor([[1, 1, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1]]).bool()
    found = model.impute(Clips(whole.frames, mask))
    claim(found.shape == whole.frames.shape, f"frames of shape {tuple(whole.frames.shape)} are imputed to {tuple(found.shape)}")
    same("frames that are there", found[mask], whole.frames[mask], 0.0)
    claim(bool(((found >= 0) & (found <= 1)).all()), "imputed frames leave [0, 1]")
    other = torch.where(mask[:, :, None, None, None], whole.frames, 1 - whole.frames)
    same("what is imputed over other hidden frames", model.impute(Clips(other, mask)), found)
    later = whole.frames.clone()
    later[0, 4:] = 1 - later[0, 4:]
    past, changed = (model.impute(Clips(frames, mask), past_only=True)[0, 2:4] for frames in (whole.frames, later))
    same("what is imputed from the past before another future", changed, past)


@torch.no_grad()
def check_swap(case: Case) -> None:
    """A swap keeps the identity of one clip and the movement of another; with itself it is the reconstruction."""
    model, clips = _able(case.model(), Swaps), _clips(4, 5)
    codes = model.encode(clips)
    same("a swap with itself", model.decode(model.swap(codes, codes)), model.decode(codes))
    swapped = model.swap(identity=codes[0:2], motion=codes[2:4])
    same("the static code of a swap", swapped.static, codes[0:2].static)
    same("the path of a swap", swapped.path, codes[2:4].path)
    same("the dynamic code of a swap", swapped.dynamic, codes[2:4].dynamic)


def check_learning(case: Case, seed: int = 0) -> None:
    """After its lessons a model reconstructs the toy, and swapped clips take the colour of their identity."""
    train = toy(256, 5, _noise(seed)).clips()
    model, test = taught(case, train, seed), toy(64, 5, _noise(seed + 1000)).clips()
    with torch.no_grad():
        codes = _able(model, Encodes).encode(test)
        error = (_able(model, Decodes).decode(codes) - test.frames).square().mean() / (train.frames.mean(0) - test.frames).square().mean()
        claim(error.item() < LARGEST_ERROR, f"reconstructions have {error:.2f} of the error of the mean clip, {LARGEST_ERROR} is allowed")
        if isinstance(model, Swaps):
            other = torch.arange(64).roll(1)
            colours = colour_of(model.decode(model.swap(codes[other], codes)))
            right = (colours == test.labels["colour"][other]).float().mean().item()
            claim(right > SMALLEST_ACCURACY, f"{right:.2f} of swapped clips have the colour of their identity, chance is 0.25")


class Law(NamedTuple):
    """A check and the abilities without which it says nothing."""

    check: Callable[[Case], None]
    needs: tuple[type, ...] = ()

    def binds(self, model: object) -> bool:
        """Whether the model has all of them."""
        return all(isinstance(model, ability) for ability in self.needs)


LAWS: dict[str, Law] = {
    "shapes": Law(check_shapes),
    "batch": Law(check_batch),
    "padding": Law(check_padding),
    "noise": Law(check_noise),
    "ranks": Law(check_ranks),
    "gradients": Law(check_gradients),
    "groups": Law(check_groups),
    "files": Law(check_files),
    "frames_alone": Law(check_frames_alone, (EncodesFrames,)),
    "generation": Law(check_generation, (Generates,)),
    "memory": Law(check_memory, (Encodes, Remembers)),
    "prediction": Law(check_prediction, (Encodes, Predicts)),
    "imputation": Law(check_imputation, (Imputes,)),
    "swap": Law(check_swap, (Swaps,)),
    "learning": Law(check_learning, (Encodes, Decodes)),
}


def check_all(case: Case) -> None:
    """Every law that binds the model of the case, in turn; stops at the first that is broken."""
    model = case.model()
    for law in LAWS.values():
        if law.binds(model):
            law.check(case)


def _clips(count: int, steps: int) -> Clips:
    return toy(count, steps, _noise()).clips()


def _noise(seed: int = 0) -> Noise:
    noise = Noise()
    noise.manual_seed(seed)
    return noise


def _able(model: Model, ability: type[A]) -> A:
    if not isinstance(model, ability):
        raise AssertionError(f"this law is for models with the ability {ability.__name__}")
    return model


def _path(codes: Codes) -> Tensor:
    if codes.path is None:
        raise AssertionError("these codes must have a path")
    return codes.path

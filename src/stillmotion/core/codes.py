"""What a model says of a clip: what stays, what moves, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion.core.errors import UserError
from stillmotion.core.random import normal


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian: mean and scale (standard deviation) of one shape."""

    mean: Tensor
    scale: Tensor

    @classmethod
    def along(cls, each: Sequence[Gaussian]) -> Gaussian:
        """Of the Gaussians (B, D) of T frames one, (B, T, D)."""
        return cls(torch.stack([one.mean for one in each], 1), torch.stack([one.scale for one in each], 1))

    @classmethod
    def joined(cls, each: Sequence[Gaussian], dim: int = 0) -> Gaussian:
        """One after another, as torch.cat does it."""
        return cls(torch.cat([one.mean for one in each], dim), torch.cat([one.scale for one in each], dim))

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """A reparametrised draw of the shape of `mean`; the mean itself where there is no generator."""
        if generator is None:
            return self.mean
        return self.mean + self.scale * normal(tuple(self.mean.shape), generator, self.mean)

    def on_grid(self, step: float) -> Gaussian:
        """The mean on the nearest multiple of `step`, to which gradients see straight through; the same Gaussian where `step` is 0."""
        if not step:
            return self
        return Gaussian(self.mean + (step * (self.mean / step).round() - self.mean).detach(), self.scale)

    def detach(self) -> Gaussian:
        """The same one, that teaches nothing to what it was read from."""
        return Gaussian(self.mean.detach(), self.scale.detach())


@dataclass(frozen=True)
class Codes:
    """The codes of B clips, each with its posterior where there is one.

    static: (B, S), who and what; the same in every frame.
    dynamic: (B, D), the action of a clip as a whole.
    path: (B, T, Z), the state of each frame.
    mask: (B, T) bool, the frames of `path` that count.
    controls: (B, T', U), what acts on the way into each frame; predictions read them as far as they reach.
    """

    static: Tensor | None = None
    dynamic: Tensor | None = None
    path: Tensor | None = None
    mask: Tensor | None = None
    static_posterior: Gaussian | None = None
    dynamic_posterior: Gaussian | None = None
    path_posterior: Gaussian | None = None
    controls: Tensor | None = None

    def controls_until(self, steps: int, width: int | None = None) -> Tensor | None:
        """Controls of exactly `steps` frames, (B, steps, U): zeros where they end.

        width: the U that is wanted, any by default. Raises UserError where the codes carry another.
        """
        if self.controls is None:
            return None
        if width is not None and self.controls.shape[2] != width:
            raise UserError(f"codes with {width} controls in each frame", f"{self.controls.shape[2]}", "Give Codes.controls (B, T, U).")
        return F.pad(self.controls[:, :steps], (0, 0, 0, max(0, steps - self.controls.shape[1])))

    def with_static_of(self, other: Codes) -> Codes:
        """These movements on the other's identity. Raises UserError where the numbers of clips differ."""
        if self.static is None or other.static is None:
            raise UserError("codes with a static part", "codes without one")
        if self.static.shape[0] != other.static.shape[0]:
            raise UserError(f"as many identities as movements ({self.static.shape[0]})", f"{other.static.shape[0]}")
        return replace(self, static=other.static, static_posterior=other.static_posterior)

    def __getitem__(self, index: Tensor | slice) -> Codes:
        return self._each(lambda value: value[index])

    def to(self, device: torch.device | str) -> Codes:
        """The same codes on another device."""
        return self._each(lambda value: value.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Codes:
        def changed(value: Any) -> Any:
            if isinstance(value, Gaussian):
                return Gaussian(change(value.mean), change(value.scale))
            return None if value is None else change(value)

        return Codes(**{name: changed(value) for name, value in vars(self).items()})

    @staticmethod
    def cat(parts: list[Codes]) -> Codes:
        """Codes of several batches as one; their paths must be of one length."""

        def join(values: list[Any]) -> Any:
            if any(value is None for value in values):
                return None
            if isinstance(values[0], Gaussian):
                return Gaussian.joined(values)
            return torch.cat(values)

        return Codes(**{name: join([getattr(part, name) for part in parts]) for name in vars(parts[0])})

"""What a model can do. A model offers `loss`; the rest it declares by inheriting from the abilities below."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes
from stillmotion.core.errors import MissingAbility, UserError
from stillmotion.core.terms import Terms

Objective = Callable[[Clips, Mapping[str, float], torch.Generator | None], Terms]
Reading = Callable[[Clips], Tensor]


class Model(nn.Module, ABC):
    """A trainable model of sequences.

    A subclass sets `name` (as registered), `config_type` (a pydantic model: everything needed to build it again), `schedules`
    (the names of the weights that its losses read), `config` and `frame_shape` (C, H, W), the frames it takes.
    """

    name: ClassVar[str]
    config_type: ClassVar[Any]
    schedules: ClassVar[tuple[str, ...]]
    config: Any
    frame_shape: tuple[int, ...]

    @abstractmethod
    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """The training loss of a batch.

        weights: values of the schedules at this step, by name. generator: source of the noise of the posterior samples; without
        one the posterior means are used and the loss is deterministic.
        """

    def objectives(self) -> Mapping[str, Objective]:
        """Losses by name, for models that are trained by more than one."""
        return {"loss": self.loss}

    def readings(self) -> Mapping[str, Reading]:
        """For each objective that reads its frames by parameters that it never changes: what it takes in their place.

        By name of the objective, a function of clips to rows (B, T, D), each told by its own frame alone. Clips whose frames are these
        rows give the same loss, so that a stage can read every frame once instead of at every step.
        """
        return {}

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Named groups of parameters, for stages that train a part of the model."""
        return {"all": list(self.parameters())}

    def forward(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None, objective: str = "loss") -> Terms:
        """The loss called `objective`: the one entrance through which data-parallel wrappers must go."""
        return self.objectives()[objective](clips, weights, generator)

    def check(self, clips: Clips) -> None:
        """Raises UserError if the frames of the clips are not of the size this model takes."""
        if tuple(clips.frames.shape[2:]) != tuple(self.frame_shape):
            raise UserError(
                f"frames of shape {tuple(self.frame_shape)} for this {self.name} model",
                f"frames of shape {tuple(clips.frames.shape[2:])}",
                "Prepare the clips with the size and colour the model was trained on (see its config.json).",
            )


class Encodes(ABC):
    @abstractmethod
    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        """Codes of whole clips: posterior means, or samples where a generator is given."""


class EncodesFrames(ABC):
    @abstractmethod
    def encode_frames(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        """Codes with a path of poses, each read off its own frame alone; a single frame suffices."""


class Decodes(ABC):
    @abstractmethod
    def decode(self, codes: Codes) -> Tensor:
        """Mean frames (B, T, C, H, W) in [0, 1] of the codes' static part and path."""


class Generates(ABC):
    @abstractmethod
    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """Codes of `count` new clips of `steps` frames, drawn from the priors."""


class Remembers(ABC):
    """Keeps posteriors of training clips, so that new clips can be drawn from the aggregate posterior too.

    A prior that the posteriors do not fill makes clips that no decoder was trained for; the aggregate posterior has no such holes.
    """

    @abstractmethod
    def remember(self, codes: Codes) -> None:
        """Keeps the posteriors of these clips (as many as the model has room for) as a part of its weights."""

    @property
    @abstractmethod
    def remembers(self) -> bool:
        """Whether there is anything to draw from."""

    @abstractmethod
    def recombine(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """Codes of `count` new clips of `steps` frames: an identity and a movement, drawn apart from what is remembered."""


class Swaps(Encodes, Decodes):
    def swap(self, identity: Codes, motion: Codes) -> Codes:
        """Codes with the static part of `identity` and the movement of `motion`."""
        return motion.with_static_of(identity)


class Predicts(ABC):
    @abstractmethod
    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        """The same clips, their path rolled on to `steps` frames in all."""


class Imputes(ABC):
    @abstractmethod
    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        """Frames (B, T, C, H, W) with those that the mask lacks filled in: by means, or one draw where there is a generator.

        past_only: from the frames before each alone (filtering), not from those after it too (smoothing).
        """


ABILITIES: tuple[type, ...] = (Encodes, EncodesFrames, Decodes, Generates, Remembers, Swaps, Predicts, Imputes)

A = TypeVar("A")


def require(model: object, ability: type[A]) -> A:
    """The model, known to have the ability. Raises MissingAbility, which names the models that have it."""
    if isinstance(model, ability):
        return model
    from stillmotion.core.registry import MODELS, resolve

    able = [name for name in MODELS if issubclass(resolve(MODELS, name), ability)]
    raise MissingAbility(getattr(model, "name", type(model).__name__), ability.__name__, able)

"""A run as data: what is trained on what, in which stages. Validated, written to the run folder, read back to resume."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stillmotion.training.schedules import Schedule

Count = Annotated[int, Ge(1)]
Share = Annotated[float, Ge(0), Lt(1)]


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Feed(Settings):
    """How batches are drawn.

    batch: groups per step and process. clips_per_group: how many clips of one class of the factor `group_by` are joined, frame after
    frame, to one group; without `group_by` a group is one clip. The factor `clip`, which needs no label, joins windows of one long
    clip. frames: a random choice of that many frames of the group, equally many of each of its clips, in order; all of them by default.
    So the model can tell the clips of a group apart (`Clips.joined`): they take up equal stretches of its frames. labelled: batches
    carry the labels of their clips; for judges, which are supervised, and for nothing else. hidden: each frame after the first three of
    a clip is hidden from the model with this probability, the same frames at every turn and in every stage (Kalman VAE: training with
    missing frames).
    gaps: in every batch each clip draws a share between none and this, and each of its frames after the first three is hidden with that
    probability, other ones at every turn: so that a model that is to fill in gaps of any length meets all of them.
    """

    batch: Count = 20
    group_by: str | None = None
    clips_per_group: Count = 1
    frames: Count | None = None
    labelled: bool = False
    hidden: Share = 0.0
    gaps: Annotated[float, Ge(0), Le(1)] = 0.0

    @model_validator(mode="after")
    def _together(self) -> Feed:
        if (self.group_by is None) != (self.clips_per_group == 1):
            raise ValueError(f"group_by and clips_per_group above 1 need one another, got {self.group_by} and {self.clips_per_group}")
        if self.frames is not None and self.frames % self.clips_per_group:
            raise ValueError(f"frames are shared evenly among the clips of a group: {self.frames} of {self.clips_per_group} clips are not")
        if (self.hidden or self.gaps) and (self.group_by is not None or self.frames is not None):
            raise ValueError("hidden frames belong to whole single clips: hidden and gaps exclude group_by and frames")
        if self.labelled and self.group_by is not None:
            raise ValueError("labels belong to single clips: labelled and group_by exclude one another")
        return self


class Stage(Settings):
    """One objective, the parameter groups that it trains, and for how long."""

    name: str
    objective: str = "loss"
    trains: tuple[str, ...] = ("all",)
    steps: Count
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    betas: tuple[Share, Share] = (0.9, 0.999)
    optimiser: Literal["adam", "muon"] = "adam"
    """muon: orthogonal steps for matrices, Adam for the rest. For what shows in few pixels, which Adam learns late."""
    decay: Schedule | None = None
    """Factor on the learning rate over the stage."""
    clip_norm: Annotated[float, Gt(0)] | None = None
    schedules: dict[str, Schedule] = Field(default_factory=dict)
    feed: Feed = Feed()


class Part(Settings):
    """A registered data set or model by name, and its options."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class Run(Settings):
    """A complete run."""

    recipe: str
    data: Part
    model: Part
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_seconds: Annotated[float, Gt(0)] = 60.0
    log_every: Count = 10
    validate_every: Count = 200
    on_nan: Literal["stop", "lower-lr"] = "stop"

    @model_validator(mode="after")
    def _apart(self) -> Run:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages need names of their own, got {', '.join(names)}")
        return self

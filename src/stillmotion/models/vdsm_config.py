"""The options of VDSM."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from stillmotion.objectives.pixels import Likelihood

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]


class VDSMConfig(BaseModel):
    """Everything that is needed to build a VDSM. The defaults are the paper's for Sprites (supplement, tables 1 and 2)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = 64
    channels: Literal[1, 3] = 3
    static: Count = 40
    pose: Count = 30
    dynamic: Count = 50
    encoder_channels: tuple[Count, ...] = (32, 32, 64, 64, 256)
    encoder_slope: Annotated[float, Ge(0)] = 0.2
    decoder_channels: tuple[Count, ...] = (512, 256, 128, 64)
    rnn_layers: Count = 3
    rnn_size: Count = 512
    rnn_dropout: Annotated[float, Ge(0), Lt(1)] = 0.2
    transition_hidden: Count = 64
    likelihood: Likelihood = "bernoulli"
    pixel_scale: Positive = 0.05
    temperature: Positive = 10.0
    """The final inverse temperature of the softmax over experts, used wherever no schedule says otherwise (D3)."""
    prior_scale: Literal["variance", "deviation"] = "variance"
    """Whether 1/N_s is the variance of p(s), or its standard deviation as in the released code."""
    dynamic_prior: Literal["unit", "released"] = "unit"
    """p(d) = N(0, 1) as in the paper, or a standard deviation of 1/kappa_d as in the released code (D6)."""
    decoder_input: Literal["mixture", "static", "units"] = "mixture"
    """What the decoder sees beside the pose (D4): s_hat as in the released code, s as in the paper, or s in units of its prior's scale."""
    pooled: bool = False
    """Whether s is read from the mean and the maximum over all places of the last maps of the encoder, as a classifier would, in place of
    features that know places; see the model's page."""
    average: Literal["encodings", "codes"] = "encodings"
    """What is averaged over frames: encodings before f_s as in the paper, or f_s of each frame as in the released code (D5)."""
    single_decoder: bool = False
    """The ablation of supplement section 6: one expert; s_hat stays as an input of the decoder."""
    mean_slope: Annotated[float, Ge(0)] = 1.0
    """Slope below zero of the last activation before the means of s and d: 1 is none, as in the paper; 0.01 as released (D26)."""
    posterior: Literal["gaussian", "iaf"] = "gaussian"
    flows: Count = 2
    flow_hidden: Count = 100
    recolour: Annotated[float, Ge(0)] = 0.0
    """Strength of the random recolouring of the frames that poses are read from, in training. 0 is the paper; see the model's page."""
    coarse: Count = 1
    """In training, poses are read off frames without what is finer than squares of so many pixels; see the model's page."""
    crossed: bool = False
    """Whether, in training, the static code that decodes a clip is read from the other clips of its group; see the model's page."""
    dynamic_input: Literal["means", "samples"] = "means"
    """What q(d | x) reads of the poses: their means as in the released code, or samples, in which traces below their noise are lost."""
    static_grid: Annotated[float, Ge(0)] = 0.0
    dynamic_grid: Annotated[float, Ge(0)] = 0.0
    """The means of q(s | x) and q(d | x) are multiples of this, in scales of their priors, and tell nothing finer. 0 is the paper."""

    BEFORE: ClassVar[dict[str, Any]] = {"mean_slope": 0.01}
    """What options were before they could be chosen, in files that do not have them."""

    @field_validator("coarse")
    @classmethod
    def _whole_squares(cls, coarse: int, known: ValidationInfo) -> int:
        size = known.data.get("size", coarse)
        if size % coarse:
            raise ValueError(f"the frame size {size} is no multiple of it")
        return coarse

    @classmethod
    def as_released(cls, **changes: object) -> VDSMConfig:
        """The quirks of the released code that are worth keeping, all at once (D2, D5, D6, D9, D26; the priors of section 1.4)."""
        quirks = {
            "encoder_slope": 1.0, "mean_slope": 0.01, "average": "codes", "dynamic_prior": "released", "prior_scale": "deviation",
            "transition_hidden": changes.get("rnn_size", 512),
        }
        return cls.model_validate(quirks | changes)

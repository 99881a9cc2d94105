"""DVBF: the deep variational Bayes filter. All that is random is the noise of the transitions; the states follow from it.

Karl, Soelch, Bayer and van der Smagt, ICLR 2017. Legend, paper's letters to names here: z_t state; w_t noise of the transition; u_t
controls; alpha weights of the M systems; (A, B, C)^i their matrices; c inverse temperature.

Story: w_t ~ N(0, I); z_1 = f_1(w_1); z_t = f(z_{t-1}, u_t, w_t); x_t ~ p(x_t | z_t). Locally linear (DVBF-LL): f is A z_{t-1} + B u_t
+ C w_t, where (A, B, C) is the mean of M systems in weights alpha(z_{t-1}, u_t). Inference: q(w_1 | x_1 ... x_T) by a net that reads
the clip both ways, and q(w_t | z_{t-1}, x_t, u_t). Since z is a function of w, a frame can only be explained by a state that the
transition reaches: that is how velocities, which no frame shows, get into z.
Bound: E_q [log p(x | z)] - sum_t KL(q(w_t) || N(0, I)). Departures from the paper, D1 to D6, are remarked where they happen and listed
on the model's page (docs/models/dvbf.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.core.abilities import Decodes, Encodes, Generates, Imputes, Model, Predicts
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.core.masks import total, until_last
from stillmotion.core.precision import full_precision
from stillmotion.core.random import normal
from stillmotion.core.terms import Terms
from stillmotion.nn.frames import FrameDecoder, FrameEncoder
from stillmotion.nn.frames import Kind as Network
from stillmotion.nn.recurrent import read_along, read_both_ways
from stillmotion.objectives.pixels import Likelihood, Pixels

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
FLOOR = 1e-3
"""The least standard deviation of q(w)."""
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class DVBFConfig(BaseModel):
    """Everything that is needed to build a DVBF. The defaults of states, systems and layers are the published ones for the pendulum."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = 32
    channels: Literal[1, 3] = 1
    state: Count = 3
    """Entries of z, and of w."""
    controls: Annotated[int, Ge(0)] = 0
    """Numbers of control in each frame."""
    transition: Literal["locally_linear", "general"] = "locally_linear"
    modes: Count = 16
    """Systems of the locally linear transition."""
    hidden: Count = 128
    """Units of the layer in the recognition network, the first state and the general transition."""
    rnn_size: Count = 64
    """Units of the recurrent nets, each way."""
    recognition: Literal["frame", "future"] = "frame"
    """future: q(w_t) reads the frames from t on, so that noise in a gap is told by what comes after it (D6)."""
    network: Network = "conv"
    width: Count = 32
    likelihood: Likelihood = "bernoulli"
    pixel_scale: Positive = 0.1
    """Standard deviation of Gaussian pixels, at the start where it is learned."""
    learned_scale: bool = False


class LocallyLinear(nn.Module):
    """z (B, n), u (B, U) and w (B, n) to the next z: M linear systems, mixed in weights that z and u decide (DVBF-LL)."""

    def __init__(self, state: int, controls: int, modes: int) -> None:
        super().__init__()
        # D1: random matrices would let states explode within a clip; with a small C the states of frames unfold too late, or never
        self.A = nn.Parameter(torch.eye(state) + 0.01 * torch.randn(modes, state, state))
        self.B = nn.Parameter(0.01 * torch.randn(modes, state, controls)) if controls else None
        self.C = nn.Parameter(torch.eye(state) + 0.01 * torch.randn(modes, state, state))
        self.weights = nn.Linear(state + controls, modes)

    def forward(self, z: Tensor, u: Tensor, w: Tensor) -> Tensor:
        alpha = self.weights(torch.cat([z, u], 1)).softmax(1)
        systems = torch.cat([self.A, *([] if self.B is None else [self.B]), self.C], 2)
        by_each = F.linear(torch.cat([z, u, w], 1), systems.flatten(0, 1)).view(-1, *systems.shape[:2])
        mixed: Tensor = (alpha[:, None] @ by_each)[:, 0]
        return mixed


class General(nn.Module):
    """z (B, n), u (B, U) and w (B, n) to the next z: z and a step that a network makes of all three."""

    def __init__(self, state: int, controls: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * state + controls, hidden), nn.ReLU(), nn.Linear(hidden, state))

    def forward(self, z: Tensor, u: Tensor, w: Tensor) -> Tensor:
        step: Tensor = self.net(torch.cat([z, u, w], 1))
        return z + step


@dataclass(frozen=True)
class Walk:
    """What inference makes of clips. path: (B, T, n), states. noise: q(w), (B, T, n). known: (B, T), where q(w) is not the prior."""

    path: Tensor
    noise: Gaussian
    known: Tensor


class DVBF(Model, Encodes, Decodes, Generates, Predicts, Imputes):
    name: ClassVar[str] = "dvbf"
    config_type: ClassVar[Any] = DVBFConfig
    schedules: ClassVar[tuple[str, ...]] = ("inverse_temperature",)

    def __init__(self, config: DVBFConfig) -> None:
        super().__init__()
        self.config, self.frame_shape = config, (config.channels, config.size, config.size)
        n, controls, hidden = config.state, config.controls, config.hidden
        self.encoder = FrameEncoder(self.frame_shape, config.network, config.width)
        self.decoder = FrameDecoder(n, self.frame_shape, config.network, config.width)
        self.pixels = Pixels(config.likelihood, config.pixel_scale, config.learned_scale)
        # D3: an LSTM, where the paper has a plain recurrent net with fast dropout
        self.clip_reader = nn.LSTM(self.encoder.features, config.rnn_size, batch_first=True, bidirectional=True)
        self.first_head = nn.Linear(2 * config.rnn_size, 2 * n)
        self.first_state = nn.Sequential(nn.Linear(n, hidden), nn.ReLU(), nn.Linear(hidden, n))
        seen, self.future_reader = self.encoder.features, None
        if config.recognition == "future":
            self.future_reader = nn.LSTM(self.encoder.features + controls, config.rnn_size, batch_first=True)
            seen = config.rnn_size + 1
        self.evidence = nn.Linear(seen + controls, hidden)
        self.before = nn.Linear(n, hidden, bias=False)
        self.noise_head = nn.Linear(hidden, 2 * n)
        # D2: point estimates of the matrices, with no prior of their own
        linear = config.transition == "locally_linear"
        self.transition = LocallyLinear(n, controls, config.modes) if linear else General(n, controls, hidden)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """The scale of the pixels is apart: while it is wide, states that predict the next ones are worth more than sharp frames."""
        pixels = list(self.pixels.parameters())
        states = [value for name, value in self.named_parameters() if not name.startswith("pixels.")]
        return {"all": states + pixels, "states": states, "pixels": pixels}

    # training

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Minus the bound in nats per clip: -log p(x | z), -log p(w) and log q(w), the last two as means over w in closed form (D4).

        The paper trains c log p(x | z) + c log p(w) - log q(w), with c rising to 1. Here all of it is divided by c (D5): the optimum
        is the same, and gradients and their clipping do not change by a factor of a hundred while c rises.
        Raises UserError for an inverse temperature that is not positive.
        """
        c = weights.get("inverse_temperature", 1.0)
        if c <= 0:
            raise UserError("an inverse temperature above 0", f"{c:g}", "Begin the schedule at 0.01, as the paper does.")
        walk = self._infer(clips, generator)
        decoded = self.decoder(walk.path)
        with full_precision(walk.path):
            constant, q = self.config.state * HALF_LOG_2PI, walk.noise
            prior = 0.5 * (q.mean.square() + q.scale.square()).sum(-1) + constant
            posterior = -(q.scale.log() + 0.5).sum(-1) - constant
            kl = torch.where(walk.known, prior + posterior, 0.0)
            values = {
                "reconstruction": total(self.pixels.nll(decoded, clips.frames), clips.mask).mean(),
                "prior": total(prior, walk.known).mean(),
                "posterior": total(posterior, walk.known).mean(),
            }
            watched = {"first_kl": kl[:, 0].mean().detach(), "noise_kl": kl[:, 1:].sum(1).mean().detach()}
        return Terms(values, {"posterior": 1 / c}, watched)

    # inference

    def _infer(self, clips: Clips, generator: torch.Generator | None) -> Walk:
        self.check(clips)
        features = self.encoder(clips.frames)
        with full_precision(features):
            return self._walk(features.float(), clips.mask, self._controls(clips), generator)

    def _walk(self, features: Tensor, mask: Tensor, controls: Tensor, generator: torch.Generator | None) -> Walk:
        """Noise and states in turn, frame by frame: means, or draws where there is a generator."""
        known = mask if self.future_reader is None else until_last(mask)
        known = torch.cat([mask.any(1, keepdim=True), known[:, 1:]], 1)
        evidence, shape, everywhere = self._evidence(features, mask, controls), (*mask.shape, self.config.state), bool(known.all())
        draws = None if generator is None else normal(shape, generator, features)
        posteriors: list[Gaussian] = []
        path: list[Tensor] = []
        for t in range(shape[1]):
            q = self._noise(path[-1], evidence[:, t]) if t else self._first_noise(features, mask)
            q = q if everywhere else _or_prior(q, known[:, t, None])
            w = q.mean if draws is None else q.mean + q.scale * draws[:, t]
            path.append(self.transition(path[-1], controls[:, t], w) if t else self.first_state(w))
            posteriors.append(q)
        noise = Gaussian.along(posteriors)
        return Walk(torch.stack(path, 1), noise, known)

    def _first_noise(self, features: Tensor, mask: Tensor) -> Gaussian:
        """q(w_1 | x_1 ... x_T)."""
        return _gaussian(self.first_head(read_both_ways(self.clip_reader, features, _never_empty(mask))))

    def _noise(self, z: Tensor, evidence: Tensor) -> Gaussian:
        """q(w_t | z_{t-1}, x_t, u_t)."""
        return _gaussian(self.noise_head(F.relu(self.before(z) + evidence)))

    def _evidence(self, features: Tensor, mask: Tensor, controls: Tensor) -> Tensor:
        """What frames and controls add to the recognition of w, (B, T, hidden), for all frames at once."""
        if self.future_reader is None:
            return self.evidence(torch.cat([features, controls], 2))  # type: ignore[no-any-return]
        backwards = torch.cat([features, controls], 2).flip(1)
        ahead = read_along(self.future_reader, backwards, _never_empty(mask).flip(1)).flip(1)
        wait = _until_next(mask)[..., None].to(features).log1p()
        return self.evidence(torch.cat([ahead, wait, controls], 2))  # type: ignore[no-any-return]

    def _controls(self, clips: Clips) -> Tensor:
        """(B, T, U), without entries where the model takes none."""
        wanted, frames = self.config.controls, tuple(clips.mask.shape)
        if not wanted:
            return clips.frames.new_zeros(*frames, 0)
        got = None if clips.controls is None else tuple(clips.controls.shape)
        if clips.controls is None or got != (*frames, wanted):
            remedy = "Give them as Clips.controls (B, T, U)."
            raise UserError(f"controls of shape {(*frames, wanted)} for this dvbf model", f"{got or 'none'}", remedy)
        return clips.controls

    # abilities

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        """The state of every frame as its path; where nothing is known of the noise, the transition alone leads on."""
        path = self._infer(clips, generator).path
        return Codes(path=path, mask=clips.mask, controls=clips.controls if self.config.controls else None)

    def decode(self, codes: Codes) -> Tensor:
        return self.pixels.mean(self.decoder(_path_of(codes)))

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        if bool(clips.mask.all()):
            self.check(clips)
            return clips.frames
        path = self._forecasts(clips, generator) if past_only else self._infer(clips, generator).path
        filled = self.pixels.mean(self.decoder(path))
        return torch.where(clips.mask[:, :, None, None, None], clips.frames, filled)

    def _forecasts(self, clips: Clips, generator: torch.Generator | None) -> Tensor:
        """States (B, T, n) of missing frames, each from the frames before it; of the others, zeros.

        The first state is read off the whole clip. So every gap is walked anew, from the frames before it: all gaps at once, each as
        a clip of its own.
        """
        self.check(clips)
        features, controls, mask = self.encoder(clips.frames), self._controls(clips), clips.mask
        begins = ~mask & F.pad(mask[:, :-1], (1, 0), value=True)
        clip, start = begins.nonzero().unbind(1)
        past = mask[clip] & (torch.arange(mask.shape[1], device=mask.device) < start[:, None])
        with full_precision(features):
            walked = self._walk(features.float()[clip], past, controls[clip], generator).path
        gap = (begins.flatten().cumsum(0) - 1).view_as(mask)  # in the order of `nonzero`
        of, at = (~mask).nonzero().unbind(1)
        path = walked.new_zeros(*mask.shape, walked.shape[2])
        path[of, at] = walked[gap[of, at], at]
        return path

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """All noise from its prior; controls are zero."""
        with full_precision(self.before.weight):
            z = self.first_state(normal((count, self.config.state), generator, self.before.weight))
            path = self._roll(z, z.new_zeros(count, steps - 1, self.config.controls), generator)
        return Codes(path=torch.cat([z[:, None], path], 1), mask=torch.ones(count, steps, dtype=torch.bool, device=z.device))

    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        """The same path, and the states after it, with noise zero, or drawn where there is a generator.

        Controls that the codes do not carry are taken for zero. Raises UserError for controls of another width.
        """
        path, given = _path_of(codes), _path_of(codes).shape[1]
        if steps > given:
            controls = codes.controls_until(steps, self.config.controls) if self.config.controls else None
            after = path.new_zeros(len(path), steps - given, self.config.controls) if controls is None else controls[:, given:]
            with full_precision(path):
                path = torch.cat([path, self._roll(path[:, -1], after, generator)], 1)
        mask = torch.ones(len(path), steps, dtype=torch.bool, device=path.device)
        return Codes(path=path[:, :steps], mask=mask, controls=codes.controls)

    def _roll(self, z: Tensor, controls: Tensor, generator: torch.Generator | None) -> Tensor:
        """States (B, T, n) after z (B, n), one for each of the controls (B, T, U)."""
        noise = z.new_zeros(*controls.shape[:2], z.shape[1])
        noise = noise if generator is None else normal(tuple(noise.shape), generator, noise)
        path = [z]
        for u, w in zip(controls.unbind(1), noise.unbind(1), strict=True):
            path.append(self.transition(path[-1], u, w))
        return torch.stack(path, 1)[:, 1:]


def _gaussian(parameters: Tensor) -> Gaussian:
    mean, raw = parameters.chunk(2, -1)
    return Gaussian(mean, F.softplus(raw) + FLOOR)


def _or_prior(q: Gaussian, known: Tensor) -> Gaussian:
    """q where something is known, N(0, I) elsewhere."""
    return Gaussian(torch.where(known, q.mean, 0.0), torch.where(known, q.scale, 1.0))


def _never_empty(mask: Tensor) -> Tensor:
    """All frames where a clip has none: recurrent nets must be given something, and what they make of it is not used."""
    return mask | ~mask.any(1, keepdim=True)


def _until_next(mask: Tensor) -> Tensor:
    """Frames from each to the next that is there, (B, T): 0 where it is there itself; to the end where none follows."""
    frames = mask.shape[1]
    places = torch.arange(frames, device=mask.device).expand_as(mask)
    return torch.where(mask, places, frames).flip(1).cummin(1).values.flip(1) - places


def _path_of(codes: Codes) -> Tensor:
    if codes.path is None:
        raise UserError("codes with a path", "codes without", "Encode clips, or generate codes, first.")
    return codes.path

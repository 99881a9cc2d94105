"""DMM: the deep Markov model, or deep Kalman filter. A state that moves by a network shows itself in every frame.

Krishnan, Shalit and Sontag 2015 (DKF) and 2017 (AAAI). Legend, the papers' letters to names here: z_t state; u_t controls that act on
the way into frame t; h_t output of a recurrent net, h_left that has read x_1 ... x_t and h_right that has read x_T ... x_t.

Story: p(z_1) prod_t p(z_t | z_{t-1}, u_t) prod_t p(x_t | z_t). Inference: prod_t q(z_t | z_{t-1}, h_t), where posterior is
`smoothing` (h_right: the state before and all frames to come are all that matters for z_t), `both` (h_left too), `filtering` (h_left
alone), or one of the `mean_field`s, which do not see z_{t-1}. All Gaussian and diagonal, or bent by flows.
Bound: E_q sum_t [log p(x_t | z_t) - KL(q(z_t | z_{t-1}, h_t) || p(z_t | z_{t-1}, u_t))].
Departures from the papers and from two public codes, D1 to D8, are remarked where they happen and listed on the model's page
(docs/models/dmm.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.core.abilities import Decodes, Encodes, Generates, Imputes, Model, Predicts
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.core.masks import total, until_last
from stillmotion.core.precision import full_precision
from stillmotion.core.random import uniform
from stillmotion.core.terms import Terms
from stillmotion.nn.flows import AutoregressiveFlow
from stillmotion.nn.frames import FrameDecoder, FrameEncoder
from stillmotion.nn.frames import Kind as Network
from stillmotion.nn.gated import GatedTransition, positive
from stillmotion.nn.recurrent import read_along
from stillmotion.objectives.divergences import kl, log_density
from stillmotion.objectives.pixels import Likelihood, Pixels

Posterior = Literal["smoothing", "both", "filtering", "mean_field", "mean_field_past", "mean_field_future"]
Recurrence = Literal["lstm", "gru", "rnn"]
LOOKS_BACK = ("both", "filtering", "mean_field", "mean_field_past")
LOOKS_AHEAD = ("both", "smoothing", "mean_field", "mean_field_future")
RECURRENT: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": partial(nn.RNN, nonlinearity="relu")}

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]


class DMMConfig(BaseModel):
    """Everything that is needed to build a DMM. Frames are read and drawn as in the Kalman VAE, with the same defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = 32
    channels: Literal[1, 3] = 1
    state: Count = 4
    controls: Annotated[int, Ge(0)] = 0
    """Numbers of control in each frame."""
    network: Network = "conv"
    width: Count = 32
    posterior: Posterior = "smoothing"
    rnn: Recurrence = "lstm"
    """rnn: the plain one, with ReLU, as in Pyro's example."""
    rnn_size: Count = 64
    transition: Literal["gated", "mlp"] = "gated"
    transition_hidden: Count = 64
    first: Literal["unit", "learned"] = "unit"
    """p(z_1): N(0, I), or where the transition leads from a learned state (D3)."""
    flows: Annotated[int, Ge(0)] = 0
    """Inverse autoregressive flows on each q(z_t | z_{t-1}, h_t)."""
    flow_hidden: Count = 100
    hide: Annotated[float, Ge(0), Le(1)] = 0.0
    """The most of a clip's frames that inference does not see in training, so that it learns to do without (D6); 0 is the papers."""
    likelihood: Likelihood = "bernoulli"
    pixel_scale: Positive = 0.1
    """Standard deviation of Gaussian pixels, at the start where it is learned."""
    learned_scale: bool = False


class DenseTransition(nn.Module):
    """p(z_t | z_{t-1}, u_t) by two layers with ReLU and one linear layer for mean and scale (DKF, section 5)."""

    def __init__(self, state: int, condition: int, hidden: int) -> None:
        super().__init__()
        layers = [nn.Linear(state + condition, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2 * state)]
        self.net = nn.Sequential(*layers)

    def forward(self, state: Tensor, condition: Tensor) -> Gaussian:
        mean, scale = self.net(torch.cat([state, condition], -1)).chunk(2, -1)
        return Gaussian(mean, positive(scale))


class DMM(Model, Encodes, Decodes, Generates, Predicts, Imputes):
    name: ClassVar[str] = "dmm"
    config_type: ClassVar[Any] = DMMConfig
    schedules: ClassVar[tuple[str, ...]] = ("path_kl",)

    def __init__(self, config: DMMConfig) -> None:
        super().__init__()
        self.config, self.frame_shape = config, (config.channels, config.size, config.size)
        self.encoder = FrameEncoder(self.frame_shape, config.network, config.width)
        self.decoder = FrameDecoder(config.state, self.frame_shape, config.network, config.width)
        self.pixels = Pixels(config.likelihood, config.pixel_scale, config.learned_scale)
        # D7: the linear step of the gated transition starts as the identity and sees z alone
        kind = GatedTransition if config.transition == "gated" else DenseTransition
        self.transition = kind(config.state, config.controls, config.transition_hidden)
        if config.first == "learned":
            self.origin = nn.Parameter(torch.zeros(config.state))
        self.looks_back, self.looks_ahead = config.posterior in LOOKS_BACK, config.posterior in LOOKS_AHEAD
        inputs, both = self.encoder.features + 1 + config.controls, self.looks_back and self.looks_ahead
        # D8: no dropout, and it starts from zeros
        self.rnn = RECURRENT[config.rnn](inputs, config.rnn_size, batch_first=True, bidirectional=both)
        self.chained = not config.posterior.startswith("mean_field")
        if self.chained:
            self.start = nn.Parameter(torch.zeros(config.state))  # D2: learned, as in Pyro; Krishnan's code draws it at random
            self.before = nn.Linear(config.state, config.rnn_size)
        self.mean, self.scale = (nn.Linear(config.rnn_size, config.state) for _ in range(2))
        flows = (AutoregressiveFlow(config.state, config.flow_hidden, backwards=k % 2 == 1) for k in range(config.flows))
        self.flows = nn.ModuleList(flows)

    # training

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Minus the bound, in nats per clip.

        A frame that the mask lacks has no reconstruction; its state has a divergence as long as there are frames to come.
        """
        features, controls = self._features(clips), self._controls(clips)
        with full_precision(features):
            path, divergence, _ = self._infer(features, self._shown(clips.mask, generator), controls, generator)
        logits = self.decoder(path)
        with full_precision(features):
            reconstruction = total(self.pixels.nll(logits, clips.frames), clips.mask)
            values = {"reconstruction": reconstruction.mean(), "path_kl": total(divergence, until_last(clips.mask)).mean()}
        return Terms(values, {name: weights[name] for name in self.schedules if name in weights})

    def _shown(self, mask: Tensor, generator: torch.Generator | None) -> Tensor:
        """The frames that inference sees, (B, T): in training with `hide`, a share of them between nothing and it is kept back.

        What comes out is a bound still, of a posterior that uses less than it could.
        """
        if not self.training or not self.config.hide or generator is None:
            return mask
        share = self.config.hide * uniform((len(mask), 1), generator, self.mean.weight)
        hidden: Tensor = uniform(tuple(mask.shape), generator, self.mean.weight) < share
        return mask & ~hidden

    # inference

    def _features(self, clips: Clips) -> Tensor:
        self.check(clips)
        features: Tensor = self.encoder(clips.frames)
        return features.to(torch.float32)

    def _controls(self, clips: Clips) -> Tensor:
        """(B, T, U), of width 0 for a model without controls."""
        wanted = (*clips.mask.shape, self.config.controls)
        if not self.config.controls:
            return clips.frames.new_zeros(wanted)
        if clips.controls is None or tuple(clips.controls.shape) != wanted:
            got = "none" if clips.controls is None else f"shape {tuple(clips.controls.shape)}"
            raise UserError(f"controls of shape (B, T, U) = {wanted} for this dmm model", got, "Give one row for each frame of each clip.")
        return _into(clips.controls)

    def _infer(
        self, features: Tensor, seen: Tensor, controls: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Gaussian]:
        """Path (B, T, Z) from the posterior, its divergence from the prior (B, T), and the Gaussian of each state, before flows."""
        evidence, blind = self._evidence(features, seen, controls), self._blind(seen)
        z: Tensor | None = None
        path, divergences, posteriors = [], [], []
        for t, push in enumerate(controls.unbind(1)):
            p, q, unseen = self._prior(z, push), self._posterior(z, evidence[:, t]), blind[:, t, None]
            q = Gaussian(torch.where(unseen, p.mean, q.mean), torch.where(unseen, p.scale, q.scale))
            z, divergence = self._draw(q, p, unseen, generator)
            path.append(z)
            divergences.append(divergence)
            posteriors.append(q)
        every = Gaussian.along(posteriors)
        return torch.stack(path, 1), torch.stack(divergences, 1), every

    def _evidence(self, features: Tensor, seen: Tensor, controls: Tensor) -> Tensor:
        """What the recurrent net says at each frame, (B, T, rnn_size), or twice as wide where it reads both ways.

        D6: it steps through gaps too, told that nothing is there. So it counts for itself how far away the next frame is, and reads the
        controls in between. Frames after the last are skipped: they are padding, or the prior's.
        """
        there = seen[..., None]
        x = torch.cat([torch.where(there, features, 0.0), there.to(features), controls], -1)
        # a clip with nothing in it has no last frame; what is read of it then is not used
        reach = until_last(seen) | (torch.arange(seen.shape[1], device=seen.device) == 0)
        if self.looks_back:
            return read_along(self.rnn, x, reach)
        return read_along(self.rnn, x.flip(1), reach.flip(1)).flip(1)

    def _blind(self, seen: Tensor) -> Tensor:
        """Where no frame tells more of the state than the one before it does, (B, T): there the posterior is the prior, exactly (D6)."""
        return ~(until_last(seen) if self.looks_ahead else seen)

    def _prior(self, z: Tensor | None, push: Tensor) -> Gaussian:
        """p(z_t | z_{t-1}, u_t) for z (B, Z), or p(z_1) where there is none before."""
        if z is None and self.config.first == "unit":
            zeros = push.new_zeros(len(push), self.config.state)
            return Gaussian(zeros, torch.ones_like(zeros))
        before = self.origin.expand(len(push), -1) if z is None else z
        moved: Gaussian = self.transition(before, push)
        return moved

    def _posterior(self, z: Tensor | None, evidence: Tensor) -> Gaussian:
        """q(z_t | z_{t-1}, h_t): the mean of tanh(W z_{t-1} + b) and of each direction's h_t, through two linear maps (D5).

        D1: softplus gives the standard deviation, as in Pyro; in Krishnan's code it gives the variance.
        """
        parts = list(evidence.chunk(evidence.shape[-1] // self.config.rnn_size, -1))
        if self.chained:
            before = self.start.expand(len(evidence), -1) if z is None else z
            parts.append(torch.tanh(self.before(before)))
        joined = torch.stack(parts).mean(0)
        return Gaussian(self.mean(joined), positive(self.scale(joined)))

    def _draw(self, q: Gaussian, p: Gaussian, unseen: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """A draw from q and KL(q || p): in closed form, or by the draw itself where flows bend q. They do not bend what is unseen."""
        z = q.sample(generator)
        if not self.flows:
            return z, kl(q, p)
        bent, log_q = z, log_density(z, q)
        for flow in self.flows:
            bent, log_det = flow(bent)
            log_q = log_q - torch.where(unseen[:, 0], 0.0, log_det)
        z = torch.where(unseen, z, bent)
        return z, log_q - log_density(z, p)

    def _roll(self, z: Tensor | None, controls: Tensor, generator: torch.Generator | None) -> Tensor:
        """The states after z, or from the first on, under controls (B, steps, U): means, or one draw where there is a generator."""
        path = []
        for push in controls.unbind(1):
            z = self._prior(z, push).sample(generator)
            path.append(z)
        return torch.stack(path, 1)

    def _from_past(self, features: Tensor, seen: Tensor, controls: Tensor, generator: torch.Generator | None) -> Tensor:
        """States (B, T, Z) of missing frames, each gap the prior rolled on from the posterior of the frames before it; else zeros.

        A posterior that looks ahead must be asked anew for each gap. So each gap becomes a clip of its own that ends where it begins,
        and after the end of a clip the posterior is the prior.
        """
        path = features.new_zeros(*seen.shape, self.config.state)
        begins = ~seen & F.pad(seen[:, :-1], (1, 0), value=True)
        if begins.any():
            clip, start = begins.nonzero().unbind(1)
            before = seen[clip] & (torch.arange(seen.shape[1], device=seen.device) < start[:, None])
            rolled = self._infer(features[clip], before, controls[clip], generator)[0]
            of, at = (~seen).nonzero().unbind(1)
            gap = begins.flatten().cumsum(0).view_as(seen) - 1  # in the order of `nonzero`
            path[of, at] = rolled[gap[of, at], at]
        return path

    # abilities

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        """The state of every frame as its path; of frames that the mask lacks, what the posterior makes of the others."""
        features, controls = self._features(clips), self._controls(clips)
        with full_precision(features):
            path, _, posterior = self._infer(features, clips.mask, controls, generator)
        kept = clips.controls if self.config.controls else None
        return Codes(path=path, mask=clips.mask, path_posterior=None if self.flows else posterior, controls=kept)

    def decode(self, codes: Codes) -> Tensor:
        return self.pixels.mean(self.decoder(_path_of(codes)))

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        features, controls = self._features(clips), self._controls(clips)
        with full_precision(features):
            if past_only:
                path = self._from_past(features, clips.mask, controls, generator)
            else:
                path = self._infer(features, clips.mask, controls, generator)[0]
        filled = self.pixels.mean(self.decoder(path))
        return torch.where(clips.mask[:, :, None, None, None], clips.frames, filled)

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """From p(z_1) on by the transition, draw by draw, all controls zero."""
        with full_precision(self.mean.weight):
            path = self._roll(None, self.mean.weight.new_zeros(count, steps, self.config.controls), generator)
        return Codes(path=path, mask=torch.ones(path.shape[:2], dtype=torch.bool, device=path.device))

    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        """The same path, and the states after it by the transition: means, or one draw where there is a generator.

        Controls that the codes do not carry are taken for zero. Raises UserError for controls of another width.
        """
        path = _path_of(codes)
        given = path.shape[1]
        if steps > given:
            controls = codes.controls_until(steps, self.config.controls) if self.config.controls else None
            controls = path.new_zeros(len(path), steps, self.config.controls) if controls is None else controls
            with full_precision(path):
                path = torch.cat([path, self._roll(path[:, -1], controls[:, given:], generator)], 1)
        mask = torch.ones(len(path), steps, dtype=torch.bool, device=path.device)
        return Codes(path=path[:, :steps], mask=mask, controls=codes.controls)


def _into(controls: Tensor) -> Tensor:
    """D4: the controls of a frame lead into it; into the first frame nothing leads."""
    return torch.cat([torch.zeros_like(controls[:, :1]), controls[:, 1:]], 1)


def _path_of(codes: Codes) -> Tensor:
    if codes.path is None:
        raise UserError("codes with a path", "codes without", "Encode clips, or generate codes, first.")
    return codes.path

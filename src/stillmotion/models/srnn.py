"""SRNN: the stochastic recurrent network. A deterministic memory of the frames so far, and a random state on top of it.

Fraccaro, Sønderby, Paquet and Winther, NIPS 2016. Legend, paper's letters to names here: d_t memory, z_t state, u_t controls; phi_t
features of frame t; a_t evidence, what frame t and those after it say of z_t.

Story: d_t = GRU(d_{t-1}; phi_{t-1}, u_t), z_t ~ p(z_t | z_{t-1}, d_t), x_t ~ p(x_t | z_t, d_t). Inference: a_t = GRU(a_{t+1}; d_t, phi_t)
backwards in time and q(z_t | z_{t-1}, a_t), whose mean is a correction of the mean that the story expects. Bound:
sum_t E_q [log p(x_t | z_t, d_t) - KL(q(z_t | z_{t-1}, a_t) || p(z_t | z_{t-1}, d_t))].

Where frame t-1 is missing, d_t is fed the features of the model's own mean frame. That frame is told from the frames before it alone, as
though the clip ended there, so that d_t never knows what comes after; the bound is then one for the model that reads its own mean frame in
a gap. Departures D1 to D5 are remarked where they happen and listed on the model's page (docs/models/srnn.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from stillmotion.core.abilities import Decodes, Encodes, Generates, Imputes, Model, Predicts
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.core.masks import total, until_last
from stillmotion.core.precision import full_precision
from stillmotion.core.terms import Terms
from stillmotion.nn.frames import FrameDecoder, FrameEncoder
from stillmotion.nn.frames import Kind as Network
from stillmotion.nn.gated import positive
from stillmotion.nn.recurrent import read_along
from stillmotion.objectives.divergences import kl
from stillmotion.objectives.pixels import Likelihood, Pixels

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]


class SRNNConfig(BaseModel):
    """Everything that is needed to build an SRNN. The frames' part is that of the Kalman VAE."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = 32
    channels: Literal[1, 3] = 1
    state: Count = 8
    memory: Count = 64
    """Units of both recurrent nets, forwards d and backwards a."""
    hidden: Count = 64
    """Features of a frame, and the hidden units of the nets that tell z."""
    controls: Annotated[int, Ge(0)] = 0
    network: Network = "conv"
    width: Count = 32
    likelihood: Likelihood = "bernoulli"
    pixel_scale: Positive = 0.1
    """Standard deviation of Gaussian pixels, at the start where it is learned."""
    learned_scale: bool = False
    posterior: Literal["smoothing", "filtering"] = "smoothing"
    """filtering: a_t is told of each frame as though the clip ended there."""
    residual: bool = True
    """Whether the posterior's mean is a correction of the prior's, or stands for itself."""


class GaussianNet(nn.Module):
    """A Gaussian of `outputs` numbers from `inputs`, through one hidden layer with ReLU (D2)."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 2 * outputs))

    def forward(self, *parts: Tensor) -> Gaussian:
        mean, scale = self.net(torch.cat(parts, -1)).chunk(2, -1)
        return Gaussian(mean, positive(scale))


class Here(NamedTuple):
    """What goes from one frame to the next: z (B, S), the mean it was drawn around, d (B, D), and the features (B, F) of its frame."""

    z: Tensor
    mean: Tensor
    d: Tensor
    features: Tensor


class Path(NamedTuple):
    """States of all frames (B, T, S) and the two beliefs of them, each given the state before."""

    z: Tensor
    prior: Gaussian
    posterior: Gaussian


class SRNN(Model, Encodes, Decodes, Generates, Predicts, Imputes):
    name: ClassVar[str] = "srnn"
    config_type: ClassVar[Any] = SRNNConfig
    schedules: ClassVar[tuple[str, ...]] = ("path_kl",)

    def __init__(self, config: SRNNConfig) -> None:
        super().__init__()
        self.config, self.frame_shape = config, (config.channels, config.size, config.size)
        # D5: both recurrent nets read features of frames, the same ones
        self.encoder = FrameEncoder(self.frame_shape, config.network, config.width)
        self.feature_head = nn.Linear(self.encoder.features, config.hidden)
        self.forwards = nn.GRU(config.hidden + config.controls, config.memory, batch_first=True)
        self.backwards = nn.GRU(config.memory + config.hidden, config.memory, batch_first=True)
        self.transition = GaussianNet(config.state + config.memory, config.hidden, config.state)
        self.correction = GaussianNet(config.state + config.memory, config.hidden, config.state)
        self.decoder = FrameDecoder(config.state + config.memory, self.frame_shape, config.network, config.width)
        self.pixels = Pixels(config.likelihood, config.pixel_scale, config.learned_scale)
        # D3: what there is before the first frame is learned
        self.first_state = nn.Parameter(torch.zeros(config.state))
        self.first_features = nn.Parameter(torch.zeros(config.hidden))

    # training

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Minus the bound in nats per clip, the divergence of the path weighted by `path_kl`.

        A frame that the mask lacks is not decoded. Its state still counts where a later frame depends on it.
        """
        features = self._features(clips)
        with full_precision(features):
            d = self._memory(clips, features)
            path = self._infer(clips, features, d, generator)
            divergence = total(kl(path.posterior, path.prior), until_last(clips.mask))
        decoded = self.decoder(torch.cat([path.z, d], -1))
        with full_precision(features):
            reconstruction = total(self.pixels.nll(decoded, clips.frames), clips.mask)
            values = {"reconstruction": reconstruction.mean(), "path_kl": divergence.mean()}
        return Terms(values, {name: weights[name] for name in self.schedules if name in weights})

    # story

    def _begin(self, clips: int) -> Here:
        """Before the first frame."""
        z = self.first_state.expand(clips, -1)
        return Here(z, z, z.new_zeros(clips, self.config.memory), self.first_features.expand(clips, -1))

    def _next(
        self, here: Here, u: Tensor, features: Tensor | None = None, there: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Here:
        """The frame after `here`, from the past alone: what its own features say where it is there, the story's belief elsewhere.

        u: controls (B, U). features: (B, F); without them no clip has the frame. there: (B,) bool. A frame that is not there is told
        by the model itself (D4).
        """
        inputs = torch.cat([here.features, u], -1)
        d = self.forwards(inputs[:, None], here.d[None].contiguous())[0][:, 0]
        belief = self.transition(here.z, d)
        if features is not None and there is not None:
            alone = self._alone(d[:, None], features[:, None])[:, 0]
            belief = _choose(there, self._posterior(belief, here, d, alone), belief)
        z = belief.sample(generator)
        if features is None or there is None:
            features = self._own(z, d)
        elif not bool(there.all()):
            features = torch.where(there[:, None], features, self._own(z, d))
        return Here(z, belief.mean, d, features)

    def _own(self, z: Tensor, d: Tensor) -> Tensor:
        """Features (B, F) of the mean frames that the model itself makes of states."""
        return self._features_of(self.pixels.mean(self.decoder(torch.cat([z, d], -1)[:, None])))[:, 0]

    def _walk(self, clips: Clips, features: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """z (B, T, S) and d (B, T, D) frame by frame, each from itself and the frames before it (filtering)."""
        here, found, controls = self._begin(len(clips)), [], self._controls(clips)
        for t in range(features.shape[1]):
            here = self._next(here, controls[:, t], features[:, t], clips.mask[:, t], generator)
            found.append(here)
        return torch.stack([each.z for each in found], 1), torch.stack([each.d for each in found], 1)

    def _memory(self, clips: Clips, features: Tensor) -> Tensor:
        """d (B, T, D): at once where every frame is there, else with the model's own frames in the gaps."""
        if not bool(clips.mask.all()):
            return self._walk(clips, features)[1]
        before = torch.cat([self._begin(len(clips)).features[:, None], features[:, :-1]], 1)
        d: Tensor = self.forwards(torch.cat([before, self._controls(clips)], -1))[0]
        return d

    def _roll(self, here: Here, controls: Tensor, generator: torch.Generator | None) -> Tensor:
        """Paths (B, steps, S + D) after `here`, one frame for each of the controls (B, steps, U)."""
        found = []
        for t in range(controls.shape[1]):
            here = self._next(here, controls[:, t], generator=generator)
            found.append(torch.cat([here.z, here.d], -1))
        return torch.stack(found, 1)

    # inference

    def _features(self, clips: Clips) -> Tensor:
        self.check(clips)
        return self._features_of(clips.frames)

    def _features_of(self, frames: Tensor) -> Tensor:
        """(B, T, F) of frames (B, T, C, H, W)."""
        features = self.encoder(frames)
        with full_precision(features):
            return torch.relu(self.feature_head(features.float()))

    def _alone(self, d: Tensor, features: Tensor) -> Tensor:
        """a (B, T, A) of each frame as though the clip ended there."""
        steps = torch.cat([d, features], -1).flatten(0, 1)[:, None]
        a: Tensor = self.backwards(steps)[0]
        return a.view(*d.shape[:2], -1)

    def _evidence(self, clips: Clips, features: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """a (B, T, A) and the frames of whose states it says anything, (B, T) bool."""
        if self.config.posterior == "filtering":
            return self._alone(d, features), clips.mask
        reversed_steps = torch.cat([d, features], -1).flip(1)
        # frames that are missing are skipped: what is known of their states is what the later ones say. A clip without any is read
        # whole, since the net must be given something; what it makes of that is not used
        read = clips.mask | ~clips.mask.any(1, keepdim=True)
        return read_along(self.backwards, reversed_steps, read.flip(1)).flip(1), until_last(clips.mask)

    def _posterior(self, prior: Gaussian, here: Here, d: Tensor, a: Tensor) -> Gaussian:
        """q(z_t | z_{t-1}, a_t), after `here`."""
        correction: Gaussian = self.correction(here.z, a)
        if not self.config.residual:
            return correction
        # D1: the correction starts from what the story expects after the mean of the state before, not after its draw
        expected = prior.mean if here.mean is here.z else self.transition(here.mean, d).mean
        return Gaussian(expected + correction.mean, correction.scale)

    def _infer(self, clips: Clips, features: Tensor, d: Tensor, generator: torch.Generator | None) -> Path:
        """States from one to the next, drawn where there is a generator. Nothing is known of a state after the last frame but the story."""
        a, known = self._evidence(clips, features, d)
        here, priors, posteriors, states = self._begin(len(clips)), [], [], []
        for t in range(d.shape[1]):
            prior = self.transition(here.z, d[:, t])
            q = _choose(known[:, t], self._posterior(prior, here, d[:, t], a[:, t]), prior)
            here = here._replace(z=q.sample(generator), mean=q.mean)
            priors.append(prior)
            posteriors.append(q)
            states.append(here.z)
        return Path(torch.stack(states, 1), Gaussian.along(priors), Gaussian.along(posteriors))

    def _controls(self, clips: Clips) -> Tensor:
        """(B, T, U), zeros for the first frame, into which nothing leads; U may be 0."""
        wanted, u, steps = self.config.controls, clips.controls, clips.frames.shape[:2]
        if not wanted:
            return clips.frames.new_zeros(*steps, 0)
        if u is None or u.shape != (*steps, wanted):
            got = "none" if u is None else f"shape {tuple(u.shape)}"
            raise UserError(f"{wanted} controls in each frame for this srnn model", got, f"Give Clips.controls {(*steps, wanted)}.")
        return torch.cat([torch.zeros_like(u[:, :1]), u[:, 1:]], 1)

    def _states(self, clips: Clips, generator: torch.Generator | None, past_only: bool = False) -> Tensor:
        """[z, d] of every frame, (B, T, S + D)."""
        features = self._features(clips)
        with full_precision(features):
            if past_only:
                return torch.cat(self._walk(clips, features, generator), -1)
            d = self._memory(clips, features)
            return torch.cat([self._infer(clips, features, d, generator).z, d], -1)

    # abilities

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        """State and memory [z_t, d_t] of every frame as its path: a frame is decoded from both, and a clip goes on from both."""
        path = self._states(clips, generator)
        return Codes(path=path, mask=clips.mask, controls=clips.controls if self.config.controls else None)

    def decode(self, codes: Codes) -> Tensor:
        if codes.path is None:
            raise UserError("codes with a path", "codes without", "Encode clips, or generate codes, first.")
        return self.pixels.mean(self.decoder(codes.path))

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        """With `past_only`, or a filtering posterior, missing frames are those that the model fed to itself.

        Without, their states are told by the frames after them too; their memory d never is.
        """
        filled = self.decoder(self._states(clips, generator, past_only or self.config.posterior == "filtering"))
        return torch.where(clips.mask[:, :, None, None, None], clips.frames, self.pixels.mean(filled))

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """States drawn one after the other; the memory reads the mean frame of each. Controls are zero."""
        with full_precision(self.first_state):
            controls = self.first_state.new_zeros(count, steps, self.config.controls)
            path = self._roll(self._begin(count), controls, generator)
        return Codes(path=path, mask=torch.ones(path.shape[:2], dtype=torch.bool, device=path.device))

    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        """The same path, and the frames after it: means, or one draw where there is a generator.

        The memory goes on from the model's own picture of the last frame: codes do not carry frames. Controls that they do not carry
        either are taken for zero. Raises UserError for controls of another width.
        """
        if codes.path is None:
            raise UserError("codes with a path", "codes without", "Encode clips first.")
        path, given = codes.path, codes.path.shape[1]
        if steps > given:
            with full_precision(path):
                z, d = path[:, -1, : self.config.state], path[:, -1, self.config.state :]
                carried = codes.controls_until(steps, self.config.controls) if self.config.controls else None
                controls = path.new_zeros(len(path), steps, self.config.controls) if carried is None else carried
                path = torch.cat([path, self._roll(Here(z, z, d, self._own(z, d)), controls[:, given:], generator)], 1)
        mask = torch.ones(len(path), steps, dtype=torch.bool, device=path.device)
        return Codes(path=path[:, :steps], mask=mask, controls=codes.controls)


def _choose(there: Tensor, yes: Gaussian, no: Gaussian) -> Gaussian:
    """One belief or the other, clip by clip."""
    pick = there[:, None]
    return Gaussian(torch.where(pick, yes.mean, no.mean), torch.where(pick, yes.scale, no.scale))

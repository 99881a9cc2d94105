"""KVAE: the Kalman variational auto-encoder. A VAE reads a code off each frame, and a locally linear system moves it.

Fraccaro, Kamronn, Paquet and Winther, NIPS 2017. Legend, paper's letters to names here: a_t code of frame t; z_t state; u_t controls;
alpha_t weights of the K systems, from the dynamics network; (A, B, C)^k their matrices; Q, R, Sigma noise of state, code, first state.

Story: z_1 ~ N(0, Sigma); z_t ~ N(A_t z_{t-1} + B_t u_t, Q); a_t ~ N(C_t z_t, R); x_t ~ p(x_t | a_t), where (A, B, C)_t is the mean of
the K systems in weights alpha_t = alpha(a_1 ... a_{t-1}). Inference: q(a_t | x_t) of each frame alone; z given the codes is exact.
Bound (equation 6): E_q [log p(x | a) - log q(a | x) + log p(a | u)], since log p(a, z | u) - log p(z | a, u) is log p(a | u) whatever
z is: neither smoother nor draws of z are needed. Departures from the paper and the released code (D1, D2, D4, D5) are remarked where
they happen and listed on the model's page (docs/models/kvae.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from stillmotion.core.abilities import Decodes, Encodes, EncodesFrames, Generates, Imputes, Model, Objective, Predicts
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.core.masks import total, until_last
from stillmotion.core.precision import full_precision
from stillmotion.core.random import normal
from stillmotion.core.terms import Terms
from stillmotion.nn.dynamics import DynamicsNetwork
from stillmotion.nn.dynamics import Kind as Dynamics
from stillmotion.nn.frames import FrameDecoder, FrameEncoder
from stillmotion.nn.frames import Kind as Network
from stillmotion.objectives.divergences import log_density
from stillmotion.objectives.pixels import Likelihood, Pixels
from stillmotion.ssm.inference import kalman_filter, observe, sample, smooth
from stillmotion.ssm.mixture import FilteredMixture, Mixture, Past, filter_mixture, mix, roll
from stillmotion.ssm.systems import Moments, Smoothed, System

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
Carry = tuple[Tensor, ...]
NOTHING: Carry = ()


class KVAEConfig(BaseModel):
    """Everything that is needed to build a KVAE. The defaults are the released ones, for a ball in a box."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = 32
    channels: Literal[1, 3] = 1
    code: Count = 2
    state: Count = 4
    controls: Annotated[int, Ge(0)] = 0
    """Numbers of control in each frame. The release always has one, fed zeros; without controls there is no B."""
    modes: Count = 3
    network: Network = "conv"
    width: Count = 32
    dynamics: Dynamics = "lstm"
    dynamics_size: Count = 50
    window: Count = 5
    """Codes that the dynamics network `window` sees."""
    likelihood: Likelihood = "bernoulli"
    pixel_scale: Positive = 0.1
    """Standard deviation of Gaussian pixels, at the start where it is learned."""
    learned_scale: bool = False
    state_noise: Positive = 0.08
    code_noise: Positive = 0.03
    first_variance: Positive = 20.0
    code_variance: Positive = 0.03
    """The most that the variance of q(a | x) can be."""
    learned_noise: bool = False
    """Q and R, which are diagonal, are learned, starting from state_noise and code_noise. The published ones are fixed: where frames tell a
    code far more sharply than R, most of the bound is paid for R. Stages must train the group `noises`."""
    bound: Literal["exact", "time_factorised"] = "exact"
    """time_factorised: states drawn from their smoothed marginals, each frame by itself, as the released code does (D1): a looser bound."""


class KVAE(Model, EncodesFrames, Encodes, Decodes, Generates, Predicts, Imputes):
    name: ClassVar[str] = "kvae"
    config_type: ClassVar[Any] = KVAEConfig
    schedules: ClassVar[tuple[str, ...]] = ("reconstruction",)
    log_state_noise: Tensor
    log_code_noise: Tensor
    first_mean: Tensor
    first_covariance: Tensor

    def __init__(self, config: KVAEConfig) -> None:
        super().__init__()
        self.config, self.frame_shape = config, (config.channels, config.size, config.size)
        self.encoder = FrameEncoder(self.frame_shape, config.network, config.width)
        self.code_head = nn.Linear(self.encoder.features, 2 * config.code)
        self.decoder = FrameDecoder(config.code, self.frame_shape, config.network, config.width)
        self.pixels = Pixels(config.likelihood, config.pixel_scale, config.learned_scale)
        n, modes = config.state, config.modes
        self.A = nn.Parameter(torch.eye(n).repeat(modes, 1, 1))
        self.C = nn.Parameter(0.05 * torch.randn(modes, config.code, n))
        self.B = nn.Parameter(0.05 * torch.randn(modes, n, config.controls)) if config.controls else None
        # D4: a linear layer between the LSTM and the softmax, as in the code; the paper takes the softmax of the LSTM's own state
        self.dynamics = DynamicsNetwork(config.code, modes, config.dynamics, config.dynamics_size, config.window)
        for name, variance, count in (("state", config.state_noise, n), ("code", config.code_noise, config.code)):
            value = torch.full((count,), math.log(variance))
            if config.learned_noise:
                self.register_parameter(f"log_{name}_noise", nn.Parameter(value))
            else:
                self.register_buffer(f"log_{name}_noise", value, persistent=False)
        self.register_buffer("first_mean", torch.zeros(n), persistent=False)
        self.register_buffer("first_covariance", config.first_variance * torch.eye(n), persistent=False)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """The dynamics network is left out at first: one of the systems would win before the others were of any use.

        A learned scale of the pixels is apart too: sharp frames weigh so much that codes settle before the systems can follow them. So
        are learned noises: as long as codes can shrink, noises shrink with them and nothing is gained.
        """
        frames = (self.encoder, self.code_head, self.decoder)
        vae = [parameter for module in frames for parameter in module.parameters()]
        systems = [self.A, self.C, *([] if self.B is None else [self.B]), self.dynamics.start]
        dynamics = [value for value in self.dynamics.parameters() if value is not self.dynamics.start]
        more = {"pixels": list(self.pixels.parameters())}
        if self.config.learned_noise:
            more["noises"] = [value for name, value in self.named_parameters() if name in ("log_state_noise", "log_code_noise")]
        return {"vae": vae, "systems": systems, "dynamics": dynamics, **{name: group for name, group in more.items() if group}}

    @property
    def Q(self) -> Tensor:
        """Noise of a state, (n, n)."""
        return self.log_state_noise.exp().diag()

    @property
    def R(self) -> Tensor:
        """Noise of a code, (A, A)."""
        return self.log_code_noise.exp().diag()

    # training

    def objectives(self) -> Mapping[str, Objective]:
        return {"loss": self.loss, "sequence": self.sequence}

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Minus the bound (equation 6), in nats per clip. A frame that the mask lacks has no part in it."""
        q, mask = self._read(clips), clips.mask
        with full_precision(q.mean):
            a = q.sample(generator)
            code, dynamics = total(log_density(a, q), mask), self._log_prior(a, clips, generator)
        decoded = self.decoder(a)
        with full_precision(a):
            reconstruction = total(self.pixels.nll(decoded, clips.frames), mask)
            values = {"reconstruction": reconstruction.mean(), "code": code.mean(), "dynamics": -dynamics.mean()}
        # with a weight of 1 from the start codes settle in a geometry that no linear system can follow (section 3.1 of the supplement)
        return Terms(values, {name: weights[name] for name in self.schedules if name in weights})

    def sequence(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Ours, to end with: `dynamics` alone, of codes that hold still. So systems and their network learn on at little cost."""
        with torch.no_grad():
            q = self._read(clips)
        with full_precision(q.mean):
            return Terms({"dynamics": -self._log_prior(q.sample(generator), clips, generator).mean()})

    def _log_prior(self, a: Tensor, clips: Clips, generator: torch.Generator | None) -> Tensor:
        """log p(a | u) of the frames that are there, (B,), or the looser bound on it."""
        mixed = self._filter(a, clips)
        if self.config.bound == "exact" or generator is None:
            return mixed.filtered.log_likelihood.sum(1).to(a)
        smoothed = smooth(mixed.system, a.double(), clips.mask, self._controls(clips))
        return self._time_factorised(mixed.system, smoothed, a.double(), clips, generator).to(a)

    def _time_factorised(self, system: System, smoothed: Smoothed, a: Tensor, clips: Clips, generator: torch.Generator) -> Tensor:
        """D1: log p(a, z | u) - sum_t log q(z_t) with z_t drawn from the marginals of the smoother, each frame by itself."""
        root = torch.linalg.cholesky(smoothed.covariance)
        noise = normal(tuple(smoothed.mean.shape), generator, smoothed.mean)
        z = smoothed.mean + (root @ noise[..., None])[..., 0]
        entropy = root.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * z.shape[-1] * (1 + math.log(2 * math.pi))
        step = (system.A[:, 1:] @ z[:, :-1, :, None])[..., 0]
        if system.B is not None and clips.controls is not None:
            step = step + (system.B[:, 1:] @ clips.controls[:, 1:, :, None].double())[..., 0]
        q, r, first = (0.5 * self.log_state_noise).exp(), (0.5 * self.log_code_noise).exp(), self.config.first_variance**0.5
        moves = log_density(z[:, 1:], Gaussian(step, q.to(step).expand_as(step)))
        codes = log_density(a, Gaussian((system.C @ z[..., None])[..., 0], r.to(a).expand_as(a)))
        start = log_density(z[:, 0], Gaussian(torch.zeros_like(z[:, 0]), torch.full_like(z[:, 0], first)))
        states = entropy + torch.cat([start[:, None], moves], 1)
        return total(codes, clips.mask) + total(states, until_last(clips.mask))

    # inference

    def _read(self, clips: Clips) -> Gaussian:
        """q(a_t | x_t) of each frame by itself."""
        self.check(clips)
        features = self.encoder(clips.frames)
        with full_precision(features):
            mean, scale = self.code_head(features.float()).chunk(2, -1)
            # at most `code_variance`, which as released is R
            return Gaussian(mean, (self.config.code_variance * torch.sigmoid(scale)).sqrt())

    def _mixture(self, controls: Tensor | None) -> Mixture:
        """The systems; without controls, without their effect."""
        B = None if controls is None else self.B
        return Mixture(self.A, self.C, self.Q, self.R, self.first_mean, self.first_covariance, B)

    def _filter(self, a: Tensor, clips: Clips) -> FilteredMixture:
        """The filter of codes (B, T, A).

        The dynamics network sees the code of a frame that is there, and of others the mean that was predicted (D5).
        """
        controls = self._controls(clips)
        mixture = self._mixture(controls)
        if not bool(clips.mask.all()):
            return filter_mixture(mixture, a.double(), partial(self._weights, clips=len(a)), NOTHING, clips.mask, controls)[0]
        alpha = self.dynamics(a)
        system = mix(mixture, alpha).to(torch.float64)  # as cheap as float32 at these sizes, and never too little
        filtered = kalman_filter(system, a.double(), None, controls)
        return FilteredMixture(filtered, alpha, system, Past(a[:, -1], filtered.mean[:, -1], filtered.covariance[:, -1]))

    def _weights(self, t: int, past: Past | None, carry: Carry, clips: int) -> tuple[Tensor, Carry]:
        return self.dynamics.step(None if past is None else past.code, carry, clips)

    def _controls(self, clips: Clips) -> Tensor | None:
        """D2: u_t moves the state into frame t, in filter and bound alike."""
        if not self.config.controls:
            return None
        wanted = (*clips.mask.shape, self.config.controls)
        if clips.controls is None or tuple(clips.controls.shape) != wanted:
            got = "none" if clips.controls is None else f"shape {tuple(clips.controls.shape)}"
            raise UserError(f"controls of shape {wanted} for this kvae model", got, "Give them as Clips.controls (B, T, U).")
        return clips.controls

    def _codes_of(self, clips: Clips, q: Gaussian, generator: torch.Generator | None, past_only: bool = False) -> tuple[Tensor, Gaussian]:
        """The code of each frame, as means or as one draw of them all, and what is known of each by itself.

        q(a | x) of frames that are there; of others what the system makes of the rest, or, past_only, of the frames before alone
        (filtering). Draws in a gap are of one path: neighbours hang together.
        """
        mixed = self._filter(q.mean, clips)
        states = mixed.filtered.predicted if past_only else self._smoothed(mixed.system, q, clips)
        known = observe(mixed.system, states)
        there, scale = clips.mask[:, :, None], known.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        posterior = Gaussian(torch.where(there, q.mean, known.mean.to(q.mean)), torch.where(there, q.scale, scale.to(q.scale)))
        if generator is None or bool(clips.mask.all()):
            return posterior.sample(generator), posterior
        if past_only:
            z = self._forwards(mixed, clips, generator)
        else:
            z = sample(mixed.system, q.mean.double(), generator, 1, clips.mask, self._controls(clips))[0]
        codes = (mixed.system.C @ z[..., None])[..., 0]
        codes = codes + (0.5 * self.log_code_noise).exp() * normal(tuple(codes.shape), generator, codes)
        return torch.where(there, q.sample(generator), codes.to(q.mean)), posterior

    def _forwards(self, mixed: FilteredMixture, clips: Clips, generator: torch.Generator) -> Tensor:
        """States (B, T, n), of which those in gaps are draws that go on from the filtered state before the gap."""
        system, filtered, controls = mixed.system, mixed.filtered, self._controls(clips)
        noise = normal(tuple(filtered.mean.shape), generator, filtered.mean)
        known = filtered.mean + (torch.linalg.cholesky(filtered.covariance) @ noise[..., None])[..., 0]
        step = (0.5 * self.log_state_noise).exp() * normal(tuple(filtered.mean.shape), generator, filtered.mean)
        path = [known[:, 0]]  # nothing is seen before the first frame: what is known of it is its prior
        for t in range(1, known.shape[1]):
            z = (system.A[:, t] @ path[-1][..., None])[..., 0] + step[:, t]
            if system.B is not None and controls is not None:
                z = z + (system.B[:, t] @ controls[:, t, :, None].double())[..., 0]
            path.append(torch.where(clips.mask[:, t, None], known[:, t], z))
        return torch.stack(path, 1)

    def _smoothed(self, system: System, q: Gaussian, clips: Clips) -> Moments:
        smoothed = smooth(system, q.mean.double(), clips.mask, self._controls(clips))
        return Moments(smoothed.mean, smoothed.covariance)

    # abilities

    def states(self, clips: Clips) -> Moments:
        """What all frames that are there say of the state z_t of each: mean (B, T, n) and covariance (B, T, n, n), float64."""
        q = self._read(clips)
        with full_precision(q.mean):
            return self._smoothed(self._filter(q.mean, clips).system, q, clips)

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        """The code of every frame as its path; of frames that the mask lacks, what all others say of it (smoothing)."""
        q = self._read(clips)
        with full_precision(q.mean):
            path, posterior = self._codes_of(clips, q, generator)
            return Codes(path=path, mask=clips.mask, path_posterior=posterior, controls=self._controls(clips))

    def encode_frames(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        q = self._read(clips)
        return Codes(path=q.sample(generator), mask=clips.mask, path_posterior=q, controls=self._controls(clips))

    def decode(self, codes: Codes) -> Tensor:
        if codes.path is None:
            raise UserError("codes with a path", "codes without", "Encode clips, or generate codes, first.")
        return self.pixels.mean(self.decoder(codes.path))

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        q, hidden = self._read(clips), ~clips.mask
        with full_precision(q.mean):
            codes = self._codes_of(clips, q, generator, past_only)[0][hidden]
        frames = clips.frames.clone()
        frames[hidden] = self.pixels.mean(self.decoder(codes))
        return frames

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """z_1 from its prior, then state by state with all noises; the dynamics network is fed what comes out."""
        with full_precision(self.A):
            alpha, carry = self.dynamics.step(None, NOTHING, count)
            first = mix(self._mixture(None), alpha)
            z = self.config.first_variance**0.5 * normal((count, self.config.state), generator, self.A)
            noise = (0.5 * self.log_code_noise).exp() * normal((count, self.config.code), generator, self.A)
            a = (first.C @ z[..., None])[..., 0] + noise
            path = a[:, None]
            if steps > 1:
                past = Past(a, z, torch.zeros(count, *self.Q.shape).to(z))
                path = torch.cat([path, self._roll(past, steps - 1, carry, generator)], 1)
        return Codes(path=path, mask=torch.ones(path.shape[:2], dtype=torch.bool, device=path.device))

    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        """The same path, and the frames after it: the mean of each state, or one draw where there is a generator.

        Controls that the codes do not carry are taken for zero.
        """
        if codes.path is None:
            raise UserError("codes with a path", "codes without", "Encode clips first.")
        path, given = codes.path, codes.path.shape[1]
        if steps > given:
            with full_precision(path):
                mask = torch.ones(path.shape[:2], dtype=torch.bool, device=path.device) if codes.mask is None else codes.mask
                controls = codes.controls_until(steps) if self.config.controls else None
                weights = partial(self._weights, clips=len(path))
                before = None if controls is None else controls[:, :given]
                mixed, carry = filter_mixture(self._mixture(controls), path.double(), weights, NOTHING, mask, before)
                after = None if controls is None else controls[:, given:]
                path = torch.cat([path, self._roll(mixed.past, steps - given, carry, generator, after)], 1)
        mask = torch.ones(len(path), steps, dtype=torch.bool, device=path.device)
        return Codes(path=path[:, :steps], mask=mask, controls=codes.controls)

    def _roll(
        self, past: Past, steps: int, carry: Carry, generator: torch.Generator | None, controls: Tensor | None = None
    ) -> Tensor:
        """Codes (B, steps, A) after `past`."""
        weights = partial(self._weights, clips=len(past.code))
        codes: Tensor = roll(self._mixture(controls), past, steps, weights, carry, generator, controls).codes
        return codes.to(self.A)

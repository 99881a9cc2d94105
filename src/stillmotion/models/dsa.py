"""DSA: the disentangled sequential autoencoder. One static code for the whole clip, one state for each frame, dynamics that are learned.

Li and Mandt, ICML 2018, as a report (Leplae-Arthur and Nichani) took it up. Legend, letters to names here: f static code; z_t path;
beta the weights of the two divergences, `static_kl` and `path_kl`.

Story: f ~ N(0, I); z_t ~ p(z_t | z_1 ... z_{t-1}), Gaussian by an LSTM that is fed z_{t-1}, with z_0 = 0; x_t ~ p(x_t | z_t, f).
Inference: q(f | x) prod_t q(z_t | x_t) (`factorised`), or q(f | x) prod_t q(z_t | x_1 ... x_T, f) (`full`).
Departures D1 to D10, from the report, its code and another public port, are remarked where they happen and listed on the model's page
(docs/models/dsa.md); D6, D9 and D10 are of scripts, judges and loaders alone, and stand only there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from annotated_types import Ge, Gt, Lt
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.core.abilities import Generates, Imputes, Model, Objective, Predicts, Reading, Remembers, Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.core.masks import total, until_last
from stillmotion.core.precision import full_precision
from stillmotion.core.random import noise_of, normal, uniform
from stillmotion.core.terms import Terms
from stillmotion.nn.backbones import Backbone, BackboneDecoder, BackboneEncoder
from stillmotion.nn.gated import positive
from stillmotion.nn.recolour import disguise
from stillmotion.nn.recurrent import read_along, read_both_ways
from stillmotion.objectives.divergences import kl, kl_to_mixture, kl_to_prior
from stillmotion.objectives.pixels import Likelihood, Pixels

MEMORY = 256
"""Training clips whose posteriors are kept."""
MEMORY_STEPS = 16
"""Frames of each that are kept; a longer movement is rolled on by the dynamics."""

STRETCH = 5.0
"""The means of the mixture p(z_1) are that much larger than their parameters, and so learn that much faster: they have a way to go to
where states are.
"""

CYCLE_NOISE = 0.05
"""Standard deviation of the noise on frames that are read again."""

FIRST_SCALE = -2.0
"""Scales of both posteriors before training, ahead of softplus: about 0.13, as in the Kalman VAE."""

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
State = tuple[Tensor, Tensor]


class DSAConfig(BaseModel):
    """Everything that is needed to build a DSA. The defaults are those of the lighter stack that later papers share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = 64
    channels: Literal[1, 3] = 3
    static: Count = 256
    path: Count = 32
    backbone: Backbone = "light"
    width: Positive = 1.0
    """Factor on the channels of the backbone."""
    decoder_width: Positive | None = None
    """The same for the decoder, where it has another one."""
    modulated: bool = False
    """Whether the codes scale and shift the channels in all of the decoder. False is all papers; see the model's page."""
    rnn: Count = 256
    """Units of every LSTM and RNN in each direction, and of the hidden layer of q(z_t | x_t). Report and paper: 512."""
    prior_cells: Literal[1, 2] = 2
    """LSTM cells of the dynamics, one on the other. Report and paper: 1."""
    starts: Count = 1
    """Gaussians that p(z_1) is a mixture of. 1 is the paper: one Gaussian for the first frames of all movements, and what lies between."""
    first_pixel: Annotated[float, Gt(0), Lt(1)] | None = None
    """Pixels before training; None is as the layers are drawn, a grey."""
    posterior: Literal["factorised", "full"] = "factorised"
    likelihood: Likelihood = "gaussian"
    pixel_scale: Positive = 1.0
    """Standard deviation of Gaussian pixels, at the start where it is learned. 1: half the squared error, as in the report."""
    learned_scale: bool = False
    recolour: Annotated[float, Ge(0)] = 0.0
    """Strength of the random recolouring of the frames that the path is read from, in training. 0 is the paper; see the model's page."""


class Path(NamedTuple):
    """A path z (B, T, Z), what it was drawn from, and the divergence (B, T) from what the dynamics say given the states before."""

    z: Tensor
    posterior: Gaussian
    divergence: Tensor


class DSA(Model, Swaps, Generates, Remembers, Predicts, Imputes):
    name: ClassVar[str] = "dsa"
    config_type: ClassVar[Any] = DSAConfig
    schedules: ClassVar[tuple[str, ...]] = ("static_kl", "path_kl", "path_match", "scrambled", "cycle")
    identities: Tensor
    movements: Tensor
    lengths: Tensor

    def __init__(self, config: DSAConfig) -> None:
        super().__init__()
        self.config, self.frame_shape = config, (config.channels, config.size, config.size)
        static, path, rnn = config.static, config.path, config.rnn
        self.encoder = BackboneEncoder(self.frame_shape, config.backbone, config.width)
        features = self.encoder.features
        # D4: one size for all recurrent nets; the report's code has 3 units where its text has 512
        self.static_rnn = nn.LSTM(features, rnn, batch_first=True, bidirectional=True)
        self.static_head = nn.Linear(2 * rnn, 2 * static)
        if config.posterior == "full":
            self.clip_rnn = nn.LSTM(features + static, rnn, batch_first=True, bidirectional=True)
            self.path_rnn = nn.RNN(2 * rnn, rnn, batch_first=True)
        else:
            # D5: the hidden layer of the report's text, which its code lacks
            self.path_hidden = nn.Sequential(nn.Linear(features, rnn), nn.LeakyReLU(0.2))
        self.path_head = nn.Linear(rnn, 2 * path)
        # as wide as their priors from the start, codes would be drowned in their own noise: a mean picture, and nothing in the codes
        for head in (self.static_head, self.path_head):
            nn.init.constant_(head.bias[head.out_features // 2 :], FIRST_SCALE)
        self.prior_rnn = nn.LSTM(path, rnn, config.prior_cells, batch_first=True)
        self.prior_head = nn.Linear(rnn, 2 * path)
        if config.starts > 1:
            self.start_weights = nn.Parameter(torch.zeros(config.starts))
            self.start_means = nn.Parameter(normal((config.starts, path), noise_of("starts"), torch.zeros(0)) / STRETCH)
            self.start_scales = nn.Parameter(torch.zeros(config.starts, path))
        width = config.decoder_width or config.width
        self.decoder = BackboneDecoder(path + static, self.frame_shape, config.backbone, width, config.modulated, config.first_pixel)
        self.pixels = Pixels(config.likelihood, config.pixel_scale, config.learned_scale)
        self.register_buffer("identities", torch.zeros(2, MEMORY, static))  # mean and scale of q(f) of remembered clips
        self.register_buffer("movements", torch.zeros(2, MEMORY, MEMORY_STEPS, path))
        self.register_buffer("lengths", torch.zeros(MEMORY, dtype=torch.long))

    # training

    def objectives(self) -> Mapping[str, Objective]:
        return {"loss": self.loss, "path": self.path_loss, "dynamics": self.dynamics_loss}

    def readings(self) -> Mapping[str, Reading]:
        return {"dynamics": self._states} if self.config.posterior == "factorised" else {}

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        dynamics = [parameter for name, parameter in self.named_parameters() if name.startswith(("prior_", "start_"))]
        return {"all": list(self.parameters()), "dynamics": dynamics}

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Minus the bound, in nats per clip, with beta on either divergence. A frame that the mask lacks has no part in it.

        D8: beta is a weight like any other here; the report's code has no trace of it.
        """
        features = self._features(clips)
        pale = self._pale(clips, weights, generator)
        with full_precision(features):
            static = self._static(features, clips.mask)
            f = static.sample(generator)
            told, plain = self._told(clips.mask), self._posterior(features, clips.mask, f)
            path = self._follow(plain if pale is None else self._posterior(pale, clips.mask, f), told, generator)
            divergences = {"static_kl": kl_to_prior(static)}
            if pale is not None:
                # the path is decoded as the disguised frames tell it; to read the same off the frames as they are is learned from that
                divergences["path_match"] = total(kl(path.posterior.detach(), plain), told)
        if weights.get("cycle"):
            divergences["cycle"] = self._cycle(clips, f, static, path, generator)
        return self._terms(clips, f, path, weights, **divergences)

    def _cycle(self, clips: Clips, f: Tensor, static: Gaussian, path: Path, generator: torch.Generator | None) -> Tensor:
        """Ours: what is lost of the codes, in nats per clip, when each f is decoded with the path of the clip before it and read again.

        KL(q(f | x) || q(f | x')) + sum_t KL(q(z'_t | .) || q(z_t | x')), x' the frames that f and the other path z' make, of every second
        clip of the batch, for the sake of time. Else no f is ever decoded with a path but its own, and may look different from each side.
        Noise is added to x', lest codes hide in it.
        """
        own = torch.arange(0, len(f), 2, device=f.device)
        other = own - 1
        mask, static, f = clips.mask[other], Gaussian(static.mean[own], static.scale[own]), f[own]
        frames = self.pixels.mean(self._logits(f, path.z[other]))
        if generator is not None:
            frames = frames + CYCLE_NOISE * normal(tuple(frames.shape), generator, frames)
        features = self._features(Clips(frames, mask))
        with full_precision(features):
            moved = Gaussian(path.posterior.mean[other], path.posterior.scale[other])
            strayed = total(kl(moved, self._posterior(features, mask, f)), self._told(mask))
            return strayed + kl(static, self._static(features, mask))

    def path_loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Ours, to begin with: the path alone, f being 0 for all clips. So it learns to say what there is to see of a movement.

        Where f may speak from the start, it says what stays within a clip, the direction of a movement too, and then the path need not.
        """
        pale = self._pale(clips, weights, generator)
        features = self._features(clips) if pale is None else pale
        with full_precision(features):
            f = features.new_zeros(len(features), self.config.static)
            path = self._follow(self._posterior(features, clips.mask, f), self._told(clips.mask), generator)
        return self._terms(clips, f, path, weights)

    def dynamics_loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Ours, to end with: the divergence of the path alone, for the sake of its dynamics, which are then at home in what is fixed.

        In place of the frames, clips may hold what q(z_t | x_t) says of each.
        """
        told = self._told(clips.mask)
        states = self._states(clips) if clips.frames.ndim == 5 else clips.frames
        with full_precision(states):
            path = self._follow(Gaussian(*states.detach().chunk(2, -1)), told, generator)
            path_kl = total(path.divergence, told).mean()
        return Terms({"path_kl": path_kl}, {name: weights[name] for name in ("path_kl",) if name in weights})

    def _states(self, clips: Clips) -> Tensor:
        """Mean and scale of the posterior of each state, (B, T, 2 Z); the full one is told the mean of f."""
        features = self._features(clips)
        with full_precision(features):
            q = self._posterior(features, clips.mask, self._static(features, clips.mask).mean)
        return torch.cat([q.mean, q.scale], -1)

    def _pale(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Tensor | None:
        """The features of recoloured frames, in training and where that is asked for."""
        frames = disguise(clips.frames, self.config.recolour, weights, generator if self.training else None)
        return None if frames is None else self._features(replace(clips, frames=frames))

    def _terms(self, clips: Clips, f: Tensor, path: Path, weights: Mapping[str, float], **divergences: Tensor) -> Terms:
        logits = self._logits(f, path.z)
        with full_precision(logits):
            reconstruction = total(self.pixels.nll(logits, clips.frames), clips.mask)
            path_kl = total(path.divergence, self._told(clips.mask))
        values = {"reconstruction": reconstruction, **divergences, "path_kl": path_kl}
        means = {name: value.mean() for name, value in values.items()}
        return Terms(means, {name: weights[name] for name in values if name in weights and name in self.schedules})

    # inference

    def _features(self, clips: Clips) -> Tensor:
        self.check(clips)
        features: Tensor = self.encoder(clips.frames)
        return features.float()

    def _static(self, features: Tensor, mask: Tensor) -> Gaussian:
        """q(f | x); of a clip of which no frame is there, the prior."""
        some = mask.any(1, keepdim=True)
        q = _gaussian(self.static_head(read_both_ways(self.static_rnn, features, mask | ~some)))
        return Gaussian(torch.where(some, q.mean, 0.0), torch.where(some, q.scale, 1.0))

    def _told(self, mask: Tensor) -> Tensor:
        """The frames (B, T) whose state has a posterior of its own; that of all others is what the dynamics say, and costs nothing.

        factorised: the frames that are there. full: all up to the last one that is there, after which no posterior could know more.
        """
        return mask if self.config.posterior == "factorised" else until_last(mask)

    def _posterior(self, features: Tensor, mask: Tensor, f: Tensor) -> Gaussian:
        """q(z_t | x_t), or q(z_t | x_1 ... x_T, f)."""
        if self.config.posterior == "factorised":
            hidden = self.path_hidden(features)
        else:
            seen = mask | ~mask.any(1, keepdim=True)
            both = torch.cat([features, f[:, None].expand(-1, features.shape[1], -1)], -1)
            # every frame in between has its turn in the RNN: without, all states of a gap would be told alike
            hidden, _ = self.path_rnn(read_along(self.clip_rnn, both, seen))
        return _gaussian(self.path_head(hidden))

    def _follow(self, q: Gaussian, told: Tensor, generator: torch.Generator | None) -> Path:
        """The path drawn from q, and from the dynamics where q does not tell.

        D1: the dynamics are always fed the very path that is drawn here. Run freely, on draws of their own, as in one of the public
        ports, they say nothing of q's path, and what is called a divergence is none.
        """
        if bool(told.all()):
            z = q.sample(generator)
            return Path(z, q, self._strayed(q, _gaussian(self.prior_head(self.prior_rnn(_before(z))[0]))))
        noise = torch.zeros_like(q.mean) if generator is None else normal(tuple(q.mean.shape), generator, q.mean)
        p, state = self._first(q.mean[:, 0], generator)
        path, posteriors, priors = [], [], []
        for t, there in enumerate(told[..., None].unbind(1)):
            own = Gaussian(torch.where(there, q.mean[:, t], p.mean), torch.where(there, q.scale[:, t], p.scale))
            z = own.mean + own.scale * noise[:, t]
            path.append(z)
            posteriors.append(own)
            priors.append(p)
            p, state = self._step(z, state)
        posterior = Gaussian.along(posteriors)
        return Path(torch.stack(path, 1), posterior, self._strayed(posterior, Gaussian.along(priors)))

    def _strayed(self, q: Gaussian, p: Gaussian) -> Tensor:
        """The divergence (B, T) of a path from the dynamics; from a mixture of starts its upper bound."""
        if self.config.starts == 1:
            return kl(q, p)
        first = kl_to_mixture(Gaussian(q.mean[:, 0], q.scale[:, 0]), *self._starts())
        rest = kl(Gaussian(q.mean[:, 1:], q.scale[:, 1:]), Gaussian(p.mean[:, 1:], p.scale[:, 1:]))
        return torch.cat([first[:, None], rest], 1)

    def _starts(self) -> tuple[Tensor, Gaussian]:
        """Logits (K,) of the weights, and Gaussians (K, Z), of the mixture p(z_1)."""
        return self.start_weights, Gaussian(STRETCH * self.start_means, positive(self.start_scales))

    def _first(self, like: Tensor, generator: torch.Generator | None) -> tuple[Gaussian, State]:
        """p(z_1) for as many clips as `like` (B, Z) has, and the state of the LSTM; of a mixture one Gaussian, drawn or the likeliest."""
        p, state = self._step(torch.zeros_like(like), None)
        if self.config.starts == 1:
            return p, state
        logits, starts = self._starts()
        weights = logits.softmax(0)
        if generator is None:
            pick = weights.argmax().expand(len(like))
        else:
            pick = torch.searchsorted(weights.cumsum(0), uniform((len(like),), generator, weights)).clamp(max=len(weights) - 1)
        return Gaussian(starts.mean[pick], starts.scale[pick]), state

    def _step(self, z: Tensor, state: State | None) -> tuple[Gaussian, State]:
        """p(z_{t+1} | z_1 ... z_t) from z_t and the state of the LSTM."""
        output, after = self.prior_rnn(z[:, None], state)
        return _gaussian(self.prior_head(output[:, 0])), after

    def _read(self, features: Tensor, mask: Tensor, generator: torch.Generator | None) -> Codes:
        with full_precision(features):
            static = self._static(features, mask)
            f = static.sample(generator)
            path = self._follow(self._posterior(features, mask, f), self._told(mask), generator)
        return Codes(f, None, path.z, mask, static, path_posterior=path.posterior)

    # decoding

    def _logits(self, f: Tensor, z: Tensor) -> Tensor:
        """Logits (B, T, C, H, W) from f, of a clip (B, S) or of each frame (B, T, S), and z (B, T, Z)."""
        each = f if f.ndim == 3 else f[:, None].expand(-1, z.shape[1], -1)
        logits: Tensor = self.decoder(torch.cat([z, each], -1))
        return logits

    def decode(self, codes: Codes) -> Tensor:
        if codes.static is None or codes.path is None:
            raise UserError("codes with a static part and a path", "codes without", "Encode clips, or generate codes, first.")
        return self.pixels.mean(self._logits(codes.static, codes.path))

    # abilities

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        """f and the path. The state of a frame that the mask lacks is what the dynamics say, or in between what the full posterior does."""
        return self._read(self._features(clips), clips.mask, generator)

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """f and the path from their priors, the path draw by draw. D7: from the dynamics; the report's code scores draws of N(0, I)."""
        like = self.prior_head.bias
        f = normal((count, self.config.static), generator, like)
        with full_precision(like):
            p, state = self._first(torch.zeros(count, self.config.path).to(like), generator)
            z = p.sample(generator)
            path = torch.cat([z[:, None], self._roll(z, state, steps - 1, generator)], 1)
        return Codes(f, path=path, mask=torch.ones(path.shape[:2], dtype=torch.bool, device=path.device))

    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        """The same path, and after it the dynamics run freely: by the mean of each state, or by draws where there is a generator."""
        if codes.path is None:
            raise UserError("codes with a path", "codes without", "Encode clips first.")
        path, more = codes.path, steps - codes.path.shape[1]
        if more > 0:
            with full_precision(path):
                _, state = self.prior_rnn(_before(path))
                path = torch.cat([path, self._roll(path[:, -1], state, more, generator)], 1)
        mask = torch.ones(len(path), steps, dtype=torch.bool, device=path.device)
        return replace(codes, path=path[:, :steps], mask=mask, path_posterior=None)

    def _roll(self, z: Tensor, state: State, steps: int, generator: torch.Generator | None) -> Tensor:
        """The `steps` states (B, steps, Z) after z."""
        path = [z.new_zeros(len(z), 0, z.shape[1])]
        for _ in range(steps):
            p, state = self._step(z, state)
            z = p.sample(generator)
            path.append(z[:, None])
        return torch.cat(path, 1)

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        features = self._features(clips)
        f, z = self._from_the_past(features, clips.mask, generator) if past_only else self._from_all(features, clips.mask, generator)
        return torch.where(clips.mask[:, :, None, None, None], clips.frames, self.pixels.mean(self._logits(f, z)))

    def _from_all(self, features: Tensor, mask: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        codes = self._read(features, mask, generator)
        assert codes.static is not None
        assert codes.path is not None
        return codes.static[:, None].expand(-1, mask.shape[1], -1), codes.path

    def _from_the_past(self, features: Tensor, mask: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """f (B, T, S) and z (B, T, Z) of missing frames, all of a gap as the frames before it have them. Of others they mean nothing."""
        begins = ~mask & F.pad(mask[:, :-1], (1, 0), value=True)
        frame = torch.arange(mask.shape[1], device=mask.device)
        f = features.new_zeros(*mask.shape, self.config.static)
        z = features.new_zeros(*mask.shape, self.config.path)
        for t in begins.any(0).nonzero().flatten():
            known = self._from_all(features, mask & (frame < t), generator)
            gap = (begins[:, t, None] & (frame >= t))[..., None]
            f, z = (torch.where(gap, new, old) for new, old in zip(known, (f, z), strict=True))
        return f, z

    # memory

    def remember(self, codes: Codes) -> None:
        """Keeps q(f | x) of the clips, and of their paths the posteriors of up to MEMORY_STEPS frames."""
        if codes.static_posterior is None or codes.path_posterior is None:
            raise UserError("codes of whole clips with their posteriors", "codes without")
        static, path = codes.static_posterior, codes.path_posterior
        clips, steps = path.mean.shape[:2]
        pick = torch.linspace(0, clips - 1, MEMORY).round().long()
        there = torch.ones(clips, steps, dtype=torch.bool) if codes.mask is None else codes.mask
        self.identities.copy_(torch.stack([static.mean[pick], static.scale[pick]]))
        self.movements.copy_(_fitted(torch.stack([path.mean[pick], path.scale[pick]]), MEMORY_STEPS))
        self.lengths.copy_(until_last(there).sum(1).clamp(max=MEMORY_STEPS)[pick])

    @property
    def remembers(self) -> bool:
        return bool(self.lengths.any())

    def recombine(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """f of one remembered clip and the path of another, drawn from their posteriors; beyond what is kept, the dynamics go on."""
        if not self.remembers:
            raise UserError("a model that remembers training clips", "one that does not", "Call remember first.")
        who, how = (torch.randint(MEMORY, (count,), generator=generator, device=generator.device) for _ in range(2))
        f = Gaussian(*self.identities[:, who]).sample(generator)
        q = Gaussian(*_fitted(self.movements[:, how], steps))
        told = torch.arange(steps, device=f.device) < self.lengths[how, None]
        with full_precision(f):
            path = self._follow(q, told, generator).z
        return Codes(f, path=path, mask=torch.ones_like(told))


def _gaussian(numbers: Tensor) -> Gaussian:
    """Means and scales. D2, D3: as they come from a linear layer; the ports bend them, by a LeakyReLU or so that no mean passes -1."""
    mean, scale = numbers.chunk(2, -1)
    return Gaussian(mean, positive(scale))


def _before(z: Tensor) -> Tensor:
    """What the dynamics are fed on the way into each frame: z_0 = 0, z_1 ... z_{T-1}."""
    return F.pad(z[:, :-1], (0, 0, 1, 0))


def _fitted(movements: Tensor, steps: int) -> Tensor:
    """Cut, or filled up with zeros, to `steps` frames on the third axis."""
    kept = movements[:, :, :steps]
    return F.pad(kept, (0, 0, 0, steps - kept.shape[2]))

"""VDSM: unsupervised video disentanglement with a state-space model and a mixture-of-experts decoder.

Vowels, Camgoz and Bowden, CVPR 2021. Legend, paper's letters to names here:
  s static code (identity), s_hat its softmax = shares of the experts; d dynamic code (action); z_t path (pose of frame t);
  h_t output of the sequence decoder; kappa_s, kappa_z, kappa_d the sizes of s, z, d; N_s number of experts; lambda_* loss weights.

Story: p(s) p(d) p(z_1) prod_t p(z_t | z_{t-1}, d) prod_t p(x_t | z_t, s), where the decoder of x_t is a blend of N_s experts in the
shares s_hat. Inference: q(s | x) q(d | x) q(z_1 | x, d) prod_t q(z_t | z_{t-1}, x, d), all diagonal Gaussians.
Stage one (`poses`) learns s and a free pose of each frame; stage two (`sequence`) freezes the frame encoder and the decoder but for the
heads of s and z, and learns d and the dynamics. Between them `paths`, which is ours, teaches the sequence model the poses of stage one.
Departures from the paper and from its released code are remarked where they happen,
D1 to D26, and listed on the model's page (docs/models/vdsm.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.core.abilities import EncodesFrames, Generates, Imputes, Model, Objective, Predicts, Reading, Remembers, Swaps
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.core.gaps import bridge
from stillmotion.core.groups import apart, from_others, halves
from stillmotion.core.masks import average, total, until_last
from stillmotion.core.precision import full_precision
from stillmotion.core.random import normal
from stillmotion.core.terms import Terms
from stillmotion.models.vdsm_config import VDSMConfig
from stillmotion.nn.blended import BlendedDecoder
from stillmotion.nn.encoders import AntialiasedEncoder
from stillmotion.nn.flows import AutoregressiveFlow
from stillmotion.nn.gated import Combiner, GatedTransition, positive
from stillmotion.nn.recolour import disguise
from stillmotion.nn.recurrent import SequenceDecoder, SequenceEncoder
from stillmotion.objectives.divergences import kl, kl_to_prior, log_density
from stillmotion.objectives.pixels import Pixels

MEMORY = 256
"""Training clips whose posteriors are kept."""
START_SCALE = 0.2
"""Scale of q(s) at the start, in scales of p(s)."""
REFILLS = 5
"""Times that gaps are filled by the path that was told and read again; more change next to nothing."""


class VDSM(Model, EncodesFrames, Swaps, Generates, Remembers, Predicts, Imputes):
    """The model of section 3 of the paper. Codes: static (B, kappa_s), dynamic (B, kappa_d), path (B, T, kappa_z)."""

    name: ClassVar[str] = "vdsm"
    config_type: ClassVar[Any] = VDSMConfig
    schedules: ClassVar[tuple[str, ...]] = ("temperature", "static_kl", "dynamic_kl", "path_kl", "path_match", "scrambled")
    identities: Tensor
    movements: Tensor
    horizon: Tensor

    def __init__(self, config: VDSMConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_shape = (config.channels, config.size, config.size)
        features, static, pose, dynamic = config.encoder_channels[-1], config.static, config.pose, config.dynamic
        # D1: strides and widths as in the released code, the only reading under which the supplement's layers fit together.
        # D2: a real LeakyReLU; the released slope of 1 (`inplace=True` passed as the slope) makes the encoder linear.
        self.encoder = AntialiasedEncoder(self.frame_shape, config.encoder_channels, config.encoder_slope)
        self.pooled_head = nn.Linear(2 * config.encoder_channels[-2], features) if config.pooled else None
        self.pose_head = nn.Linear(features, 2 * pose)
        self.static_hidden = nn.Linear(features, 128)
        self.static_head = nn.Linear(128, 2 * static)
        self.static_mean, self.static_scale = nn.Linear(static, static), nn.Linear(static, static)  # f_s
        self.experts = 1 if config.single_decoder else static
        self.decoder = BlendedDecoder(self.experts, pose + static, config.decoder_channels, self.frame_shape)
        self.pixels = Pixels(config.likelihood, config.pixel_scale)
        size, layers, rate = config.rnn_size, config.rnn_layers, config.rnn_dropout
        self.sequence_encoder = SequenceEncoder(pose, size, layers, rate)
        self.dynamic_head = nn.Linear(2 * layers * size, 2 * dynamic)
        self.sequence_decoder = SequenceDecoder(dynamic, size, layers, rate)
        self.start = nn.Parameter(torch.zeros(pose))  # z_0
        self.combiner = Combiner(pose, size, dynamic, size)  # D11
        self.transition = GatedTransition(pose, dynamic, config.transition_hidden)  # D9, D10
        count = config.flows if config.posterior == "iaf" else 0
        self.flows = nn.ModuleList(AutoregressiveFlow(pose, config.flow_hidden, backwards=k % 2 == 1) for k in range(count))
        self.static_prior = static**-0.5 if config.prior_scale == "variance" else 1 / static
        self.dynamic_prior = 1.0 if config.dynamic_prior == "unit" else 1 / dynamic
        self.register_buffer("identities", torch.zeros(2, MEMORY, static))  # mean and scale of q(s) of remembered clips
        self.register_buffer("movements", torch.zeros(2, MEMORY, dynamic))
        self.register_buffer("horizon", torch.zeros((), dtype=torch.int64))  # frames of the remembered clips
        # A posterior of s as wide as softplus(0) would pick experts at random until its divergence has narrowed it, and by then the
        # experts have learned to be alike: it starts narrow.
        nn.init.constant_(self.static_scale.bias, math.log(math.expm1(START_SCALE * self.static_prior)))
        nn.init.zeros_(self.static_scale.weight)

    # training

    def objectives(self) -> Mapping[str, Objective]:
        return {"poses": self.pose_loss, "paths": self.path_loss, "sequence": self.loss}

    def readings(self) -> Mapping[str, Reading]:
        return {"paths": self._pose_rows}

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """D8: the paper freezes encoder and decoder in stage two but for the last layers of s and z (`heads`); the code all but f_s."""
        f_s = [*self.static_mean.parameters(), *self.static_scale.parameters()]
        static_heads = [*self.static_head.parameters(), *f_s]
        heads = [*self.pose_head.parameters(), *static_heads]
        pooled = [] if self.pooled_head is None else list(self.pooled_head.parameters())
        frames = [*self.encoder.parameters(), *pooled, *self.static_hidden.parameters()]
        modules = (self.sequence_encoder, self.dynamic_head, self.sequence_decoder, self.combiner, self.transition)
        sequence = [self.start, *(parameter for module in modules for parameter in module.parameters())]
        decoder, flows = list(self.decoder.parameters()), list(self.flows.parameters())
        parts = {"encoder": frames, "decoder": decoder, "sequence": sequence, "flows": flows}
        return {**parts, "heads": heads, "static_heads": static_heads, "f_s": f_s}

    def pose_loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Stage one (equation 7): a group of frames that share an identity, each with a pose of its own, N(0, 1) a priori.

        D25: the static divergence counts once per group, as in the code; equation 7 divides it among the frames. Crossed, it is the mean
        of the divergences of the group's codes, and a group of one clip is crossed between the halves of its time.
        """
        clips, count = self._crossed(halves(clips) if self.config.crossed and clips.joined == 1 else clips)
        static, poses, match = self._taught(clips, count, weights, generator)
        with full_precision(static.mean):
            s, z = static.sample(generator), poses.sample(generator)
            of_frames = {"path_kl": total(kl_to_prior(poses), clips.mask), **match}
            added_up = {name: count * value for name, value in of_frames.items()}
            divergences = {"static_kl": kl_to_prior(static, self.static_prior), **added_up}
        return self._terms(clips, s, z, weights, divergences, count)

    def path_loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Between the stages, and ours: the sequence model learns to tell the poses of stage one, without decoding a frame.

        The term `path_match` is sum_t KL(q(z_t | x_t) of stage one || q(z_t | z_{t-1}, x, d)) along the model's own samples. Pixels
        say little to a path that is still far off; poses say at once how far, at a fraction of the time. Encoder and pose head are done
        with, and what recolouring could teach them, they know: in place of the frames, clips may hold what the head says of each.
        """
        rows = self._pose_rows(clips) if clips.frames.ndim == 5 else clips.frames
        with full_precision(rows):
            target = _pose(rows.detach())
            dynamic = self._dynamic(self._told(target, generator), clips.mask, generator)
            _, divergence, path = self._path(dynamic.sample(generator), clips.mask.shape[1], generator, bend=False)
            values = {
                "path_match": total(kl(target, path), clips.mask), "dynamic_kl": kl_to_prior(dynamic, self.dynamic_prior),
                "path_kl": total(divergence, until_last(clips.mask)),
            }
        return Terms({name: value.mean() for name, value in values.items()}, {name: weights[name] for name in values if name in weights})

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Stage two (equation 4): the whole sequence model. Crossed, the clips of a group are so many sequences, each in full."""
        clips, count = self._crossed(clips)
        static, poses, match = self._taught(clips, count, weights, generator)
        with full_precision(static.mean):
            dynamic = self._dynamic(self._told(poses, generator), clips.mask, generator)
            s, d = static.sample(generator), dynamic.sample(generator)
            z, divergence, _ = self._path(d, clips.mask.shape[1], generator)
            path_kl = total(divergence, until_last(clips.mask))
            static_kl, dynamic_kl = kl_to_prior(static, self.static_prior), kl_to_prior(dynamic, self.dynamic_prior)
            divergences = {"static_kl": static_kl, "dynamic_kl": dynamic_kl, "path_kl": path_kl, **match}
        return self._terms(clips, s, z, weights, divergences)

    def _crossed(self, clips: Clips) -> tuple[Clips, int]:
        """The clips of all groups one by one, and how many a group has, where static codes are crossed; else the groups as they are."""
        return (apart(clips), clips.joined) if self.config.crossed else (clips, 1)

    def _terms(
        self, clips: Clips, s: Tensor, z: Tensor, weights: Mapping[str, float], divergences: Mapping[str, Tensor], count: int = 1
    ) -> Terms:
        """The terms of a loss. count: of clips whose frames are added up to a group."""
        logits = self._logits(s, z, weights.get("temperature", self.config.temperature))
        with full_precision(logits):
            values = {"reconstruction": count * total(self.pixels.nll(logits, clips.frames), clips.mask), **divergences}
        factors = {name: weights[name] for name in divergences if name in weights}
        return Terms({name: value.mean() for name, value in values.items()}, factors)

    # inference

    def _read(self, clips: Clips, count: int = 1) -> tuple[Gaussian, Gaussian]:
        """q(s | x) of the clips, and the pose of each frame read off it alone.

        count: clips of a group stand one after another, and q(s | x) of each is read from the others.
        """
        self.check(clips)
        features, lasting = self._features(clips.frames)
        with full_precision(features):
            static = self._static(*from_others(lasting.float(), clips.mask, count))
            return static, _pose(self.pose_head(features.float()))

    def _features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Of each frame what its pose is read from, and what s is read from."""
        if self.pooled_head is None:
            features = self.encoder(frames)
            return features, features
        features, pooled = self.encoder.with_pooled(frames)
        return features, F.leaky_relu(self.pooled_head(pooled), self.config.encoder_slope)

    def _taught(
        self, clips: Clips, count: int, weights: Mapping[str, float], generator: torch.Generator | None
    ) -> tuple[Gaussian, Gaussian, dict[str, Tensor]]:
        """In training: q(s | x), the poses as disguised frames tell them, if that is asked for, and what teaches to tell them without."""
        static, plain = self._read(clips, count)
        config, draws = self.config, generator if self.training else None
        disguised = disguise(clips.frames, config.recolour, weights, draws, config.coarse)
        if disguised is None:
            return static, plain, {}
        features = self.encoder(disguised)
        with full_precision(features):
            poses = _pose(self.pose_head(features.float()))
            return static, poses, {"path_match": total(kl(poses.detach(), plain), clips.mask)}

    def _pose_rows(self, clips: Clips) -> Tensor:
        """What the pose head says of each frame, (B, T, 2 Z)."""
        self.check(clips)
        features = self.encoder(clips.frames)
        with full_precision(features):
            rows: Tensor = self.pose_head(features.float())
        return rows

    def _static(self, features: Tensor, mask: Tensor) -> Gaussian:
        """q(s | x). The scale passes through a softplus twice, as in the released code."""
        mean, scale = self.static_head(F.leaky_relu(self.static_hidden(features), 0.01)).chunk(2, -1)
        scale = F.softplus(scale)
        if self.config.average == "encodings":
            mean, scale = average(mean, mask), average(scale, mask)
        mean, scale = F.leaky_relu(self.static_mean(mean), self.config.mean_slope), positive(self.static_scale(scale))
        if self.config.average == "codes":
            mean, scale = average(mean, mask), average(scale, mask)
        return Gaussian(mean, scale).on_grid(self.config.static_grid * self.static_prior)

    def _dynamic(self, poses: Tensor, mask: Tensor, generator: torch.Generator | None) -> Gaussian:
        """q(d | x), from values of the poses."""
        mean, scale = self.dynamic_head(self.sequence_encoder(poses, mask, generator if self.training else None)).chunk(2, -1)
        return Gaussian(F.leaky_relu(mean, self.config.mean_slope), positive(scale)).on_grid(self.config.dynamic_grid * self.dynamic_prior)

    def _told(self, poses: Gaussian, generator: torch.Generator | None) -> Tensor:
        """What q(d | x) reads of the poses; without a generator their means."""
        return poses.sample(generator) if self.config.dynamic_input == "samples" else poses.mean

    def _path(
        self, d: Tensor, steps: int, generator: torch.Generator | None, bend: bool = True
    ) -> tuple[Tensor, Tensor, Gaussian]:
        """Path z (B, T, Z) from the posterior, its divergence from the prior (B, T), and the Gaussian of each step, before flows.

        D7: the divergence of z_1 is weighted as a whole; the released code weights log q(z_1) and forgets log p(z_1).
        """
        outputs = self.sequence_decoder(d, steps, generator if self.training else None)
        prepared = self.combiner.prepare(outputs, d)
        z = self.start.expand(d.shape[0], -1)
        path, divergences, posteriors = [], [], []
        for t, evidence in enumerate(prepared.unbind(1)):
            q = self.combiner(z, evidence)
            p = self.transition(z, d) if t else Gaussian(torch.zeros_like(z), torch.ones_like(z))
            z, divergence = self._draw(q, p, generator, self.flows if bend else ())
            path.append(z)
            divergences.append(divergence)
            posteriors.append(q)
        both = Gaussian.along(posteriors)
        return torch.stack(path, 1), torch.stack(divergences, 1), both

    @staticmethod
    def _draw(q: Gaussian, p: Gaussian, generator: torch.Generator | None, flows: Iterable[nn.Module]) -> tuple[Tensor, Tensor]:
        """A draw from q and KL(q || p): in closed form, or by the draw itself where flows bend q."""
        z = q.sample(generator)
        flows = list(flows)
        if not flows:
            return z, kl(q, p)
        log_q = log_density(z, q)
        for flow in flows:
            z, log_det = flow(z)
            log_q = log_q - log_det
        return z, log_q - log_density(z, p)

    # decoding

    def _logits(self, s: Tensor, z: Tensor, temperature: float) -> Tensor:
        """Logits (B, T, C, H, W). D3: the temperature multiplies, as in the code: it rises while the mixture becomes more peaked."""
        with full_precision(s):
            mixture = torch.softmax(temperature * s, -1)
            beside = {"mixture": mixture, "static": s, "units": s / self.static_prior}[self.config.decoder_input]
            code = torch.cat([beside[:, None].expand(-1, z.shape[1], -1), z], -1)
            shares = torch.ones_like(mixture[:, :1]) if self.config.single_decoder else mixture
        logits: Tensor = self.decoder(shares, code)
        return logits

    def decode(self, codes: Codes) -> Tensor:
        """Means of the pixels, (B, T, C, H, W) in [0, 1]. Raises UserError for codes without a static part or a path."""
        if codes.static is None or codes.path is None:
            raise UserError("codes with a static part and a path", "codes without", "Encode clips, or generate codes, first.")
        return self.pixels.mean(self._logits(codes.static, codes.path, self.config.temperature))

    # abilities

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        """Codes of whole clips through the sequence model: means, for which q(d | x) reads the means of the poses whatever it reads in
        training; draws with a generator. Raises UserError for clips of one frame, which have no motion.
        """
        if clips.mask.shape[1] < 2:
            raise UserError("clips of at least 2 frames", "T = 1", "For single frames use encode_frames (pose swap).")
        static, poses = self._read(clips)
        with full_precision(static.mean):
            dynamic = self._dynamic(self._told(poses, generator), clips.mask, None)
            d = dynamic.sample(generator)
            path, _, posterior = self._path(d, clips.mask.shape[1], generator)
        return Codes(static.sample(generator), d, path, clips.mask, static, dynamic, None if self.flows else posterior)

    def encode_frames(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        static, poses = self._read(clips)
        return Codes(static.sample(generator), None, poses.sample(generator), clips.mask, static, None, poses)

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """Codes of `count` new clips of `steps` frames: s, d and z_1 from their priors, then the transition network, sample by sample."""
        like = self.start
        s = self.static_prior * normal((count, self.config.static), generator, like)
        d = self.dynamic_prior * normal((count, self.config.dynamic), generator, like)
        path = [normal((count, self.config.pose), generator, like)]
        while len(path) < steps:
            path.append(self.transition(path[-1], d).sample(generator))
        return Codes(s, d, torch.stack(path[:steps], 1), torch.ones(count, steps, dtype=torch.bool, device=like.device))

    def remember(self, codes: Codes) -> None:
        """Keeps the posteriors of s and d of MEMORY of these clips, and their number of frames. Raises UserError for codes without."""
        if codes.static_posterior is None or codes.dynamic_posterior is None or codes.path is None:
            raise UserError("codes of whole clips with their posteriors", "codes without")
        self.horizon.fill_(codes.path.shape[1])
        pick = torch.linspace(0, len(codes.static_posterior.mean) - 1, MEMORY).round().long()
        for memory, posterior in ((self.identities, codes.static_posterior), (self.movements, codes.dynamic_posterior)):
            memory.copy_(torch.stack([posterior.mean[pick], posterior.scale[pick]]))

    @property
    def remembers(self) -> bool:
        return bool(self.identities.any())

    def recombine(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """Codes of `count` new clips of `steps` frames: s and d from the aggregate posterior of the remembered clips, each on its own; the
        path as the posterior draws it from d. Raises UserError where none are remembered.
        """
        if not self.remembers:
            raise UserError("a model that remembers training clips", "one that does not", "Call remember first.")
        s, d = (
            Gaussian(*memory[:, torch.randint(MEMORY, (count,), generator=generator, device=generator.device)]).sample(generator)
            for memory in (self.identities, self.movements)
        )
        window = int(self.horizon)
        path, _ = self._onward(self._path(d, min(steps, window), generator)[0], None, steps, window, generator)
        return Codes(s, d, path, torch.ones(path.shape[:2], dtype=torch.bool, device=path.device))

    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        """`steps` frames of the path of the posterior, which needs nothing but d; see `_onward` for those beyond the clip and the training.

        The path of a clip that is longer than those of the training is kept, and goes on from there. Raises UserError for codes of single
        frames.
        """
        if codes.dynamic is None or codes.static is None or codes.path is None:
            raise UserError("codes of whole clips", "codes without a dynamic part", "Use encode, not encode_frames.")
        known, horizon, told = codes.path.shape[1], int(self.horizon), None
        window = horizon or known
        if known > window:
            path = codes.path[:, :steps]
        else:
            path, _, told = self._path(codes.dynamic, min(steps, window), generator)
        path, told = self._onward(path, told, steps, window, generator)
        mask = torch.ones(path.shape[:2], dtype=torch.bool, device=path.device)
        bent = None if self.flows else told  # flows leave no Gaussian to tell
        return Codes(codes.static, codes.dynamic, path, mask, codes.static_posterior, codes.dynamic_posterior, bent)

    def _onward(
        self, path: Tensor, told: Gaussian | None, steps: int, window: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Gaussian | None]:
        """A path for any number of steps from its beginning, and the Gaussians before flows, where those of the beginning are given.

        The sequence decoder is at home in as many frames as it was trained on, no further. Each frame after these is told by the
        `window` frames before it, read as if they were a clip.
        """
        there = torch.ones(len(path), window, dtype=torch.bool, device=path.device)
        while path.shape[1] < steps:
            further, _, new = self._path(self._dynamic(path[:, -window:], there, None).mean, window + 1, generator)
            path = torch.cat([path, further[:, -1:]], 1)
            told = told and Gaussian.joined([told, Gaussian(new.mean[:, -1:], new.scale[:, -1:])], 1)
        return path, told

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        """Identity, action and the path that follows from them, of the frames that are there; the priors' where there are none."""
        if not past_only:
            return torch.where(clips.mask[:, :, None, None, None], clips.frames, self._imagine(clips, generator))
        frames, missing = clips.frames.clone(), ~clips.mask
        for start in range(missing.shape[1]):
            opens = missing[:, start] & (clips.mask[:, start - 1] if start else True)
            if bool(opens.any()):
                seen = clips.mask[opens] & (torch.arange(missing.shape[1], device=missing.device) < start)
                told = self._imagine(Clips(clips.frames[opens], seen), generator)
                # a later gap is told anew, from all that lies before it
                frames[opens, start:] = torch.where(missing[opens, start:, None, None, None], told[:, start:], frames[opens, start:])
        return frames

    def _imagine(self, clips: Clips, generator: torch.Generator | None) -> Tensor:
        """All frames as the sequence model tells them from those that are there."""
        static, poses = self._read(clips)
        with full_precision(static.mean):
            unseen = ~clips.mask.any(1, keepdim=True)
            static = _unless(unseen, static, self.static_prior)
            dynamic = _unless(unseen, self._dynamic_across_gaps(poses, clips.mask), self.dynamic_prior)
            s, d = static.sample(generator), dynamic.sample(generator)
            path, _, _ = self._path(d, clips.mask.shape[1], generator)
        return self.pixels.mean(self._logits(s, path, self.config.temperature))

    def _dynamic_across_gaps(self, poses: Gaussian, mask: Tensor) -> Gaussian:
        """q(d | x) of poses some of which are missing.

        They are filled by the path that follows, and read again: each time the path bends to what is there. It starts from straight lines
        across the gaps, which are right for short ones, and from poses with the gaps cut out, which keep the shape of a swing but not its
        time; of the two, each clip takes the one whose path ends nearer to its poses.
        """
        if bool(mask.all()):
            return self._dynamic(poses.mean, mask, None)
        lines, cut = torch.ones_like(mask), mask | ~mask.any(1, keepdim=True)
        means, there = torch.cat([poses.mean] * 2), torch.cat([mask] * 2)
        dynamic = self._dynamic(torch.cat([bridge(poses.mean, mask), poses.mean]), torch.cat([lines, cut]), None)
        for _ in range(REFILLS):
            path, _, _ = self._path(dynamic.mean, mask.shape[1], None)
            dynamic = self._dynamic(torch.where(there[..., None], means, path), torch.ones_like(there), None)
        path, _, _ = self._path(dynamic.mean, mask.shape[1], None)
        first, second = (total(log_density(way, poses), mask) for way in path.chunk(2))
        pick = torch.arange(len(mask), device=mask.device) + len(mask) * (second > first)
        return Gaussian(dynamic.mean[pick], dynamic.scale[pick])


def _pose(rows: Tensor) -> Gaussian:
    """q(z_t | x_t) from what the pose head says, (..., 2 Z)."""
    mean, scale = rows.chunk(2, -1)
    return Gaussian(mean, positive(scale))


def _unless(unseen: Tensor, posterior: Gaussian, scale: float) -> Gaussian:
    """The posteriors, and N(0, scale^2) for the clips of which no frame was seen, (B, 1) bool."""
    return Gaussian(torch.where(unseen, 0.0, posterior.mean), torch.where(unseen, scale, posterior.scale))

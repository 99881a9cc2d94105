"""VAE-RNN: a variational auto-encoder of frames, and an LSTM that goes on from code to code. A baseline of the Kalman VAE.

Fraccaro, Kamronn, Paquet and Winther, NIPS 2017, section 5.1, who tell it in two sentences and released no code. Legend: a_t code of
frame t; m_t, s what the LSTM expects of it from the codes before, mean and scale.

Story: a_1 ~ N(0, I), a_t ~ N(m_t, s) with m_t = LSTM(a_1 ... a_{t-1}), x_t ~ p(x_t | a_t); q(a_t | x_t) of each frame alone. The frames
are learned first as though they had no order (`frames`: every code is N(0, I)), then, on posteriors that stay as they are, their sequence
(`sequence`). `loss` is minus the bound of the whole story. In place of a code that is missing the LSTM is fed what it expects itself. It
looks forward only. Departures are listed on the model's page (docs/models/vae_rnn.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from stillmotion.core.abilities import Decodes, Encodes, EncodesFrames, Generates, Imputes, Model, Objective, Predicts
from stillmotion.core.clips import Clips
from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.core.masks import total
from stillmotion.core.precision import full_precision
from stillmotion.core.terms import Terms
from stillmotion.nn.code_rnn import CodeRNN
from stillmotion.nn.frames import FrameDecoder, FrameEncoder
from stillmotion.nn.frames import Kind as Network
from stillmotion.nn.gated import positive
from stillmotion.objectives.divergences import kl, kl_to_prior, log_density
from stillmotion.objectives.pixels import Likelihood, Pixels

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]
FIRST_SCALE = -2.0
"""Scales of q(a | x) before training, ahead of softplus: about 0.13, as in the Kalman VAE."""


class VAERNNConfig(BaseModel):
    """Everything that is needed to build a VAE-RNN. The frames' part is that of the Kalman VAE, so that only the dynamics differ."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = 32
    channels: Literal[1, 3] = 1
    code: Count = 2
    network: Network = "conv"
    width: Count = 32
    dynamics_size: Count = 50
    """Units of the LSTM (D1)."""
    likelihood: Likelihood = "bernoulli"
    pixel_scale: Positive = 0.1
    """Standard deviation of Gaussian pixels, at the start where it is learned."""
    learned_scale: bool = False


class VAERNN(Model, EncodesFrames, Encodes, Decodes, Generates, Predicts, Imputes):
    name: ClassVar[str] = "vae_rnn"
    config_type: ClassVar[Any] = VAERNNConfig
    schedules: ClassVar[tuple[str, ...]] = ("path_kl",)

    def __init__(self, config: VAERNNConfig) -> None:
        super().__init__()
        self.config, self.frame_shape = config, (config.channels, config.size, config.size)
        self.encoder = FrameEncoder(self.frame_shape, config.network, config.width)
        self.code_head = nn.Linear(self.encoder.features, 2 * config.code)
        # as wide as the prior from the start, codes would be drowned in their own noise: black frames and nothing in the codes
        nn.init.constant_(self.code_head.bias[config.code :], FIRST_SCALE)
        self.decoder = FrameDecoder(config.code, self.frame_shape, config.network, config.width)
        self.pixels = Pixels(config.likelihood, config.pixel_scale, config.learned_scale)
        self.rnn = CodeRNN(config.code, config.dynamics_size, standard=True)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """The two halves, which are trained one after the other."""
        frames = (self.encoder, self.code_head, self.decoder, self.pixels)
        return {"frames": [value for module in frames for value in module.parameters()], "sequence": list(self.rnn.parameters())}

    # training

    def objectives(self) -> Mapping[str, Objective]:
        return {"loss": self.loss, "frames": self.frames, "sequence": self.sequence}

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Minus the bound of the whole story, in nats per clip: the LSTM is the prior of each code after the codes drawn before it.

        Frames that the mask lacks have no part in it. The LSTM is fed its own means there. With gaps it is therefore minus the bound of
        the model that reads its own mean where a frame is missing, and not of the story with the codes of the gap integrated out.
        """
        q = self._read(clips)
        with full_precision(q.mean):
            a = q.sample(generator)
            divergence = total(kl(q, self.rnn(a, clips.mask).expected), clips.mask).mean()
        return self._terms({"reconstruction": self._reconstruction(a, clips), "path_kl": divergence}, weights)

    def frames(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Minus the bound of a VAE of the frames that are there, every code N(0, I), in nats per clip."""
        q = self._read(clips)
        with full_precision(q.mean):
            a, divergence = q.sample(generator), total(kl_to_prior(q), clips.mask).mean()
        return self._terms({"reconstruction": self._reconstruction(a, clips), "path_kl": divergence}, weights)

    def sequence(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """-log p(a) of codes drawn for the frames that are there, in nats per clip; the frames' part is held still."""
        with torch.no_grad():  # nothing of the frames' part is trained here, and most of the time would go there
            q = self._read(clips)
        with full_precision(q.mean):
            # D2: draws, as in the bound, and not the means that are fed to the LSTM when frames are filled in
            a = q.sample(generator)
            # D3: a squared error in units of a scale that is learned, which makes it nats
            return Terms({"dynamics": -total(log_density(a, self.rnn(a, clips.mask).expected), clips.mask).mean()})

    def _terms(self, values: dict[str, Tensor], weights: Mapping[str, float]) -> Terms:
        return Terms(values, {name: weights[name] for name in self.schedules if name in weights})

    def _reconstruction(self, a: Tensor, clips: Clips) -> Tensor:
        decoded = self.decoder(a)
        with full_precision(a):
            return total(self.pixels.nll(decoded, clips.frames), clips.mask).mean()

    # inference

    def _read(self, clips: Clips) -> Gaussian:
        """q(a_t | x_t) of each frame by itself."""
        self.check(clips)
        features = self.encoder(clips.frames)
        with full_precision(features):
            mean, scale = self.code_head(features.float()).chunk(2, -1)
            return Gaussian(mean, positive(scale))

    # abilities

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        """The code of every frame as its path; of frames that the mask lacks, what the LSTM expects after those before.

        Its scale there is that of a single step: the LSTM does not tell how doubt grows along a gap, its draws do.
        """
        q, there = self._read(clips), clips.mask[:, :, None]
        with full_precision(q.mean):
            expected = self.rnn(q.mean, clips.mask).expected
            posterior = Gaussian(torch.where(there, q.mean, expected.mean), torch.where(there, q.scale, expected.scale))
            path = self.rnn(q.sample(generator), clips.mask, generator).filled
        return Codes(path=path, mask=clips.mask, path_posterior=posterior)

    def encode_frames(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        q = self._read(clips)
        return Codes(path=q.sample(generator), mask=clips.mask, path_posterior=q)

    def decode(self, codes: Codes) -> Tensor:
        if codes.path is None:
            raise UserError("codes with a path", "codes without", "Encode clips, or generate codes, first.")
        return self.pixels.mean(self.decoder(codes.path))

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        """Missing frames decoded from the codes that the LSTM expects. It never sees what comes after: `past_only` changes nothing."""
        q = self._read(clips)
        with full_precision(q.mean):
            a = self.rnn(q.mean, clips.mask, generator).filled
        return torch.where(clips.mask[:, :, None, None, None], clips.frames, self.pixels.mean(self.decoder(a)))

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """The first code from N(0, I), the others from the LSTM with its noise."""
        with full_precision(self.code_head.weight):
            path = self.rnn.draw(count, steps, generator)
        return Codes(path=path, mask=torch.ones(path.shape[:2], dtype=torch.bool, device=path.device))

    def predict(self, codes: Codes, steps: int, generator: torch.Generator | None = None) -> Codes:
        """The same path, and what the LSTM makes of it, fed with its own codes; draws of them where there is a generator.

        The path is read whole: `encode` has filled its gaps, as `encode_frames` has not.
        """
        if codes.path is None:
            raise UserError("codes with a path", "codes without", "Encode clips first.")
        with full_precision(codes.path):
            path = self.rnn.roll_on(codes.path, steps, generator)
        return Codes(path=path, mask=torch.ones(path.shape[:2], dtype=torch.bool, device=path.device))

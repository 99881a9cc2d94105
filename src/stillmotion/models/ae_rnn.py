"""AE-RNN: an auto-encoder of frames, and an LSTM that goes on from code to code. A baseline of the Kalman VAE for missing frames.

Fraccaro, Kamronn, Paquet and Winther, NIPS 2017, section 5.1, who tell it in two sentences and released no code. Legend: a_t code of
frame t; m_t, s what the LSTM expects of it from the codes before, mean and scale.

Story: a_t = enc(x_t), x_t ~ p(x_t | a_t); apart from that, a_1 ~ N(m_1, s_1), a_t ~ N(m_t, s) with m_t = LSTM(a_1 ... a_{t-1}). Frames
are learned first (`frames`), then, on codes that stay as they are, their sequence (`sequence`). In place of a code that is missing the
LSTM is fed what it expects itself. It looks forward only. Departures are listed on the model's page (docs/models/ae_rnn.md).
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
from stillmotion.core.codes import Codes
from stillmotion.core.errors import UserError
from stillmotion.core.masks import total
from stillmotion.core.precision import full_precision
from stillmotion.core.random import normal
from stillmotion.core.terms import Terms
from stillmotion.nn.code_rnn import CodeRNN
from stillmotion.nn.frames import FrameDecoder, FrameEncoder
from stillmotion.nn.frames import Kind as Network
from stillmotion.objectives.divergences import log_density
from stillmotion.objectives.pixels import Likelihood, Pixels

Count = Annotated[int, Ge(1)]
Positive = Annotated[float, Gt(0)]


class AERNNConfig(BaseModel):
    """Everything that is needed to build an AE-RNN. The frames' part is that of the Kalman VAE, so that only the dynamics differ."""

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


class AERNN(Model, EncodesFrames, Encodes, Decodes, Generates, Predicts, Imputes):
    name: ClassVar[str] = "ae_rnn"
    config_type: ClassVar[Any] = AERNNConfig
    schedules: ClassVar[tuple[str, ...]] = ("code_noise",)

    def __init__(self, config: AERNNConfig) -> None:
        super().__init__()
        self.config, self.frame_shape = config, (config.channels, config.size, config.size)
        self.encoder = FrameEncoder(self.frame_shape, config.network, config.width)
        self.code_head = nn.Linear(self.encoder.features, config.code)
        self.decoder = FrameDecoder(config.code, self.frame_shape, config.network, config.width)
        self.pixels = Pixels(config.likelihood, config.pixel_scale, config.learned_scale)
        # D2: codes of an auto-encoder have no prior; what is known of the first one is learned beside the LSTM
        self.rnn = CodeRNN(config.code, config.dynamics_size, standard=False)

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """The two halves, which are trained one after the other."""
        frames = (self.encoder, self.code_head, self.decoder, self.pixels)
        return {"frames": [value for module in frames for value in module.parameters()], "sequence": list(self.rnn.parameters())}

    # training

    def objectives(self) -> Mapping[str, Objective]:
        return {"loss": self.loss, "frames": self.frames, "sequence": self.sequence}

    def loss(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """Both halves at once: neither moves the other, since the sequence is told of codes that hold still. No bound on log p(x)."""
        a = self._read(clips)
        return Terms({"reconstruction": self._reconstruction(a, clips), "dynamics": self._dynamics(a, clips)})

    def frames(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """-log p(x_t | a_t) of the frames that are there, in nats per clip; `code_noise` is the scale of noise on the codes.

        D4: noise that fades is to let the coarse order of the codes be found first. It helps little: codes that fold are hard to follow.
        """
        a, noise = self._read(clips), weights.get("code_noise", 0.0)
        if noise and generator is not None:
            a = a + noise * normal(tuple(a.shape), generator, a)
        return Terms({"reconstruction": self._reconstruction(a, clips)})

    def sequence(self, clips: Clips, weights: Mapping[str, float], generator: torch.Generator | None) -> Terms:
        """-log p(a) of the codes of the frames that are there, in nats per clip; gaps are fed with what the LSTM expects."""
        with torch.no_grad():  # nothing of the frames' part is trained here, and most of the time would go there
            a = self._read(clips)
        return Terms({"dynamics": self._dynamics(a, clips)})

    def _reconstruction(self, a: Tensor, clips: Clips) -> Tensor:
        decoded = self.decoder(a)
        with full_precision(a):
            return total(self.pixels.nll(decoded, clips.frames), clips.mask).mean()

    def _dynamics(self, a: Tensor, clips: Clips) -> Tensor:
        # codes that could move would all move to one point, where nothing is easier than to expect them
        a = a.detach()
        with full_precision(a):
            # D3: a squared error in units of a scale that is learned, which makes it nats
            return -total(log_density(a, self.rnn(a, clips.mask).expected), clips.mask).mean()

    # inference

    def _read(self, clips: Clips) -> Tensor:
        """The code of each frame by itself, (B, T, A)."""
        self.check(clips)
        features = self.encoder(clips.frames)
        with full_precision(features):
            code: Tensor = self.code_head(features.float())
        return code

    def _filled(self, clips: Clips, generator: torch.Generator | None) -> Tensor:
        """The codes of the frames that are there; of the others what the LSTM expects, or a draw of it."""
        a = self._read(clips)
        with full_precision(a):
            filled: Tensor = self.rnn(a, clips.mask, generator).filled
        return filled

    # abilities

    def encode(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        """The code of every frame as its path; of frames that the mask lacks, what the LSTM expects after those before."""
        return Codes(path=self._filled(clips, generator), mask=clips.mask)

    def encode_frames(self, clips: Clips, generator: torch.Generator | None = None) -> Codes:
        return Codes(path=self._read(clips), mask=clips.mask)

    def decode(self, codes: Codes) -> Tensor:
        if codes.path is None:
            raise UserError("codes with a path", "codes without", "Encode clips, or generate codes, first.")
        return self.pixels.mean(self.decoder(codes.path))

    def impute(self, clips: Clips, generator: torch.Generator | None = None, past_only: bool = False) -> Tensor:
        """Missing frames decoded from the codes that the LSTM expects. It never sees what comes after: `past_only` changes nothing."""
        filled = self.pixels.mean(self.decoder(self._filled(clips, generator)))
        return torch.where(clips.mask[:, :, None, None, None], clips.frames, filled)

    def generate(self, count: int, steps: int, generator: torch.Generator) -> Codes:
        """The first code from the Gaussian that was fitted to first codes, the others from the LSTM with its noise."""
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

"""A recurrent net as a density of code sequences: it expects the next code, and lives on its own expectations where codes are missing."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.core.codes import Gaussian
from stillmotion.nn.gated import positive


class Read(NamedTuple):
    """expected: of the code of each frame, from the frames before it, (B, T, A). filled: the codes, and where there is none, the net's."""

    expected: Gaussian
    filled: Tensor


class CodeRNN(nn.Module):
    """p(a_1) and p(a_t | a_1 ... a_{t-1}) of codes in R^A: an LSTM reads the codes so far, a linear layer makes the next mean of its state.

    The scale of a step is learned, one number for each dimension of the code: codes have no unit of their own. The first code is
    standard normal (`standard`), or has a learned Gaussian.
    """

    def __init__(self, code: int, size: int, standard: bool) -> None:
        super().__init__()
        self.rnn = nn.LSTM(code, size, batch_first=True)
        self.head = nn.Linear(size, code)
        self.step_scale = nn.Parameter(torch.zeros(code))
        self.start = None if standard else nn.Parameter(torch.zeros(2, code))

    def forward(self, codes: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Read:
        """Reads codes (B, T, A). In place of those that the mask (B, T) lacks the net is fed what it expected itself.

        With a generator it is fed a draw of it instead; whatever stands in `codes` there changes nothing.
        """
        if bool(mask.all()):
            return Read(self._expect_all(codes), codes)
        now, state = self._first(len(codes)), None
        expected, filled = [now], [torch.where(mask[:, 0, None], codes[:, 0], now.sample(generator))]
        for t in range(1, codes.shape[1]):
            hidden, state = self.rnn(filled[-1][:, None], state)
            now = self._after(hidden[:, 0])
            expected.append(now)
            filled.append(torch.where(mask[:, t, None], codes[:, t], now.sample(generator)))
        means, scales = (torch.stack([getattr(each, part) for each in expected], 1) for part in ("mean", "scale"))
        return Read(Gaussian(means, scales), torch.stack(filled, 1))

    def roll_on(self, codes: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        """The same codes (B, T, A), all of them as they are, and those that follow, (B, steps, A): after its end a sequence is a gap."""
        given = codes.shape[1]
        if steps <= given:
            return codes[:, :steps]
        there = torch.arange(steps, device=codes.device).expand(len(codes), steps) < given
        read = self(F.pad(codes, (0, 0, 0, steps - given)), there, generator)
        return torch.cat([codes, read.filled[:, given:]], 1)

    def draw(self, count: int, steps: int, generator: torch.Generator) -> Tensor:
        """New codes (count, steps, A), each drawn from what is expected after those before."""
        nothing = self.step_scale.new_zeros(count, steps, len(self.step_scale))
        drawn: Tensor = self(nothing, torch.zeros(count, steps, dtype=torch.bool, device=nothing.device), generator).filled
        return drawn

    def _expect_all(self, codes: Tensor) -> Gaussian:
        """What is expected of each frame where all codes are there, in one pass."""
        first = self._first(len(codes))
        if codes.shape[1] == 1:
            return Gaussian(first.mean[:, None], first.scale[:, None])
        later = self._after(self.rnn(codes[:, :-1])[0])
        return Gaussian.joined([Gaussian.along([first]), later], 1)

    def _first(self, clips: int) -> Gaussian:
        zeros = self.step_scale.new_zeros(clips, len(self.step_scale))
        if self.start is None:
            return Gaussian(zeros, zeros + 1)
        return Gaussian(zeros + self.start[0], zeros + positive(self.start[1]))

    def _after(self, hidden: Tensor) -> Gaussian:
        mean = self.head(hidden)
        return Gaussian(mean, positive(self.step_scale).expand_as(mean))

"""Which of K linear systems moves the state: networks that read the codes of the frames before (Kalman VAE, section 3.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["lstm", "mlp", "window"]
Carry = tuple[Tensor, ...]


class DynamicsNetwork(nn.Module):
    """Codes of the frames so far to the weights of K systems in the next one, (B, K), each row a distribution.

    lstm: reads all codes. mlp: the last one, through two layers with ReLU. window: the last `window` of them, likewise. Before the first
    frame stands a learned code.
    """

    def __init__(self, code: int, modes: int, kind: Kind, size: int, window: int) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(code))
        self.kind, self.window = kind, window if kind == "window" else 1
        if kind == "lstm":
            self.rnn = nn.LSTM(code, size, batch_first=True)
            self.head: nn.Module = nn.Linear(size, modes)
        else:
            inputs = code * self.window
            self.head = nn.Sequential(nn.Linear(inputs, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU(), nn.Linear(size, modes))

    def forward(self, codes: Tensor) -> Tensor:
        """The weights of all T frames at once, (B, T, K), from their codes (B, T, A): frame t sees the codes before t."""
        before = torch.cat([self.start.expand(codes.shape[0], self.window, -1), codes[:, :-1]], 1)
        if self.kind == "lstm":
            return self.head(self.rnn(before)[0]).softmax(-1)  # type: ignore[no-any-return]
        return self.head(before.unfold(1, self.window, 1).mT.flatten(2)).softmax(-1)  # type: ignore[no-any-return]

    def step(self, code: Tensor | None, carry: Carry, clips: int) -> tuple[Tensor, Carry]:
        """The weights of one frame, (B, K), from the code of the frame before (None for the first) and what was carried; `begin` first."""
        code = self.start.expand(clips, -1) if code is None else code
        if self.kind == "lstm":
            seen, state = self.rnn(code[:, None], carry or None)
            return self.head(seen[:, 0]).softmax(-1), state
        recent = torch.cat([carry[0][:, 1:], code[:, None]], 1) if carry else self.start.expand(clips, self.window, -1)
        return self.head(recent.flatten(1)).softmax(-1), (recent,)

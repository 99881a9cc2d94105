"""Recurrent nets written out equation by equation (Hochreiter and Schmidhuber 1997, in the gate order of torch: i, f, g, o)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lstm_step(x: Tensor, hidden: Tensor, cell: Tensor, weights: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """One step: x (I,), hidden and cell (H,); weights: from the input, from the hidden state, and both biases."""
    w_x, w_h, b_x, b_h = weights
    i, f, g, o = (w_x @ x + b_x + w_h @ hidden + b_h).chunk(4)
    cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def read_both_ways(xs: Tensor, layers: nn.ModuleList, hidden: Tensor, cell: Tensor) -> Tensor:
    """Final hidden states (2 * layers * H,) of stacked bidirectional LSTMs over one sequence (T, I)."""
    finals = []
    for layer in layers:
        outputs = []
        for suffix, order in (("", list(range(len(xs)))), ("_reverse", list(range(len(xs)))[::-1])):
            names = (f"weight_ih_l0{suffix}", f"weight_hh_l0{suffix}", f"bias_ih_l0{suffix}", f"bias_hh_l0{suffix}")
            w_x, w_h, b_x, b_h = (getattr(layer, name) for name in names)
            h, c, out = hidden, cell, {}
            for t in order:
                h, c = lstm_step(xs[t], h, c, (w_x, w_h, b_x, b_h))
                out[t] = h
            finals.append(h)
            outputs.append(torch.stack([out[t] for t in range(len(xs))]))
        xs = torch.cat(outputs, 1)
    return torch.cat(finals)


def write(start: Tensor, cells: nn.ModuleList, hidden: list[Tensor], memory: list[Tensor], steps: int) -> Tensor:
    """Outputs (steps, H) of stacked LSTM cells fed with their own last output, the first time with `start`."""
    x, outputs = start, []
    for _ in range(steps):
        for depth, cell in enumerate(cells):
            weights = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
            x, memory[depth] = lstm_step(x, hidden[depth], memory[depth], weights)  # type: ignore[arg-type]
            hidden[depth] = x
        outputs.append(x)
    return torch.stack(outputs)

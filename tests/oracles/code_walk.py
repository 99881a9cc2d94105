"""What a CodeRNN expects of one sequence of codes, its LSTM written out step by step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from oracles.recurrences import lstm_step
from stillmotion.nn.code_rnn import CodeRNN

FLOOR = 1e-4


class Walk(NamedTuple):
    """Expected means and scales, and the codes with their gaps filled, (T, A) each."""

    mean: Tensor
    scale: Tensor
    filled: Tensor


def walk(net: CodeRNN, codes: Tensor, seen: list[bool], draws: Tensor | None = None) -> Walk:
    """codes: (T, A), anything where they are not seen. draws: noise (T, A) of the codes that the net makes; without it they are means."""
    weights = (net.rnn.weight_ih_l0, net.rnn.weight_hh_l0, net.rnn.bias_ih_l0, net.rnn.bias_hh_l0)
    hidden = cell = torch.zeros(net.rnn.hidden_size)
    mean, scale = torch.zeros(codes.shape[1]), torch.ones(codes.shape[1])
    if net.start is not None:
        mean, scale = net.start[0], (1 + net.start[1].exp()).log() + FLOOR
    means, scales, filled = [], [], []
    for t, there in enumerate(seen):
        code = codes[t] if there else mean if draws is None else mean + scale * draws[t]
        means.append(mean)
        scales.append(scale)
        filled.append(code)
        hidden, cell = lstm_step(code, hidden, cell, weights)
        mean, scale = net.head.weight @ hidden + net.head.bias, (1 + net.step_scale.exp()).log() + FLOOR
    return Walk(torch.stack(means), torch.stack(scales), torch.stack(filled))

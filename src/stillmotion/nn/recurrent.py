"""Recurrent nets over masked sequences, all in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stillmotion.core.random import uniform


def dropout(x: Tensor, rate: float, generator: torch.Generator | None) -> Tensor:
    """Dropout with the noise of `generator` (first axis: clips); the identity without a generator."""
    if rate == 0 or generator is None:
        return x
    return x * (uniform(tuple(x.shape), generator, x) >= rate) / (1 - rate)


class SequenceEncoder(nn.Module):
    """A stacked bidirectional LSTM that reads a sequence to one vector (VDSM, section 3.3).

    Input (B, T, inputs) and mask (B, T); output (B, 2 * layers * size), the final hidden states of all layers and directions. Frames
    that the mask lacks are deleted, wherever they are. The initial states are learned: one vector each, shared by all.
    """

    def __init__(self, inputs: int, size: int, layers: int, rate: float = 0.0) -> None:
        super().__init__()
        widths = [inputs, *[2 * size] * (layers - 1)]
        self.layers = nn.ModuleList(nn.LSTM(width, size, batch_first=True, bidirectional=True) for width in widths)
        self.hidden, self.cell = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))
        self.rate = rate

    def forward(self, x: Tensor, mask: Tensor, generator: torch.Generator | None = None) -> Tensor:
        x, lengths = compact(x, mask)
        start = tuple(state.expand(2, x.shape[0], -1).contiguous() for state in (self.hidden, self.cell))
        finals = []
        for depth, layer in enumerate(self.layers):
            x = dropout(x, self.rate if depth else 0.0, generator)
            x, final = _run(layer, x, lengths, start)
            finals.append(final)
        return torch.cat(finals).transpose(0, 1).flatten(1)


class SequenceDecoder(nn.Module):
    """A stacked LSTM that is fed its own output (VDSM, section 3.3).

    Input (B, inputs), from which two linear maps make the initial states of all layers; output (B, steps, size) for any number of
    steps. The first input is learned.
    """

    def __init__(self, inputs: int, size: int, layers: int, rate: float = 0.0) -> None:
        super().__init__()
        self.cells = nn.ModuleList(nn.LSTMCell(size, size) for _ in range(layers))
        self.first = nn.Parameter(torch.zeros(size))
        self.hidden, self.cell = nn.Linear(inputs, layers * size), nn.Linear(inputs, layers * size)
        self.rate = rate

    def forward(self, code: Tensor, steps: int, generator: torch.Generator | None = None) -> Tensor:
        layers = len(self.cells)
        hidden = list(self.hidden(code).chunk(layers, 1))
        memory = list(self.cell(code).chunk(layers, 1))
        x = self.first.expand(code.shape[0], -1)
        if layers == 1 and code.device.type == "cpu":  # the library of a GPU wants weights in one piece, and warns of others
            return _fed_back(self.cells[0], x, hidden[0], memory[0], steps)
        outputs = []
        for _ in range(steps):
            for depth, cell in enumerate(self.cells):
                x = dropout(x, self.rate if depth else 0.0, generator)
                hidden[depth], memory[depth] = cell(x, (hidden[depth], memory[depth]))
                x = hidden[depth]
            outputs.append(x)
        return torch.stack(outputs, 1)


def _fed_back(cell: Any, x: Tensor, hidden: Tensor, memory: Tensor, steps: int) -> Tensor:
    """Outputs (B, steps, size) of an LSTM cell that is fed `x` (B, size) and from then on its own last output.

    An input that is the hidden state meets the sum of both matrices there: after the first step this is an LSTM that hears nothing, in half
    the products, and with one product for the gradient of the matrix in place of one for each step.
    """
    hidden, memory = cell(x, (hidden, memory))
    if steps == 1:
        return hidden[:, None]
    matrix = cell.weight_ih + cell.weight_hh
    weights = (matrix.new_zeros(len(matrix), 1), matrix, cell.bias_ih, cell.bias_hh)
    nothing = x.new_zeros(len(x), steps - 1, 1)
    later, _, _ = torch.lstm(nothing, (hidden[None], memory[None]), weights, True, 1, 0.0, True, False, True)
    return torch.cat([hidden[:, None], later], 1)


def read_both_ways(layer: nn.LSTM, x: Tensor, mask: Tensor) -> Tensor:
    """(B, 2 * size): the state of a bidirectional LSTM after its last frame forwards, joined to that after its first backwards.

    Frames that the mask lacks are deleted, wherever they are.
    """
    x, lengths = compact(x, mask)
    _, final = _run(layer, x, lengths, None)
    return final.transpose(0, 1).flatten(1)


def read_along(layer: nn.RNNBase, x: Tensor, mask: Tensor) -> Tensor:
    """The outputs of a recurrent layer at every frame, (B, T, size) or (B, T, 2 * size) in both directions, from x (B, T, inputs).

    Frames that the mask lacks are skipped: there each direction keeps what it had before it, zeros at its start.
    """
    packed, lengths = compact(x, mask)
    outputs, _ = _run(layer, packed, lengths, None)
    if lengths is None:
        return outputs
    seen = mask.cumsum(1)  # frames up to each
    ways = outputs.chunk(2 if layer.bidirectional else 1, -1)
    places = [seen - 1, seen - mask.long()]  # the last read forwards, and the last read backwards
    known = [seen > 0, places[1] < lengths[:, None]]
    read = []
    for way, place, there in zip(ways, places, known, strict=False):
        index = place.clamp(0, x.shape[1] - 1)[..., None].expand(*place.shape, way.shape[-1])
        read.append(torch.where(there[..., None], way.gather(1, index), 0.0))
    return torch.cat(read, -1)


def compact(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
    """The frames that are there moved to the front, and their number; None for the number where nothing is missing."""
    if mask.all():
        return x, None
    order = (~mask).long().argsort(dim=1, stable=True)
    return x.gather(1, order[..., None].expand_as(x)), mask.sum(1)


def _run(layer: nn.Module, x: Tensor, lengths: Tensor | None, start: tuple[Tensor, ...] | None) -> tuple[Tensor, Tensor]:
    """Outputs of all frames, and the last hidden states of all directions."""
    if lengths is None:
        outputs, last = layer(x, start)
    else:
        packed, last = layer(pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False), start)
        outputs = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])[0]
    return outputs, last[0] if isinstance(last, tuple) else last

"""Recurrent nets: masked is deleted, and every number as the equations have it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from oracles import recurrences
from stillmotion.nn.recurrent import SequenceDecoder, SequenceEncoder, compact, dropout, read_along, read_both_ways


def encoder(layers: int = 2, rate: float = 0.0) -> SequenceEncoder:
    torch.manual_seed(0)
    net = SequenceEncoder(3, 4, layers, rate)
    nn.init.normal_(net.hidden)
    nn.init.normal_(net.cell)
    return net


def decoder(layers: int = 2, rate: float = 0.0) -> SequenceDecoder:
    torch.manual_seed(0)
    net = SequenceDecoder(3, 4, layers, rate)
    nn.init.normal_(net.first)
    return net


patterns = st.lists(st.lists(st.booleans(), min_size=6, max_size=6).filter(any), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(patterns)
def test_frames_behind_the_mask_are_as_good_as_deleted(rows: list[list[bool]]) -> None:
    net, mask = encoder(), torch.tensor(rows)
    x = torch.randn(*mask.shape, 3)
    together = net(x.masked_fill(~mask[..., None], 1e6), mask)
    for row, kept in enumerate(mask):
        alone = x[row, kept][None]
        torch.testing.assert_close(together[row], net(alone, torch.ones(alone.shape[:2], dtype=torch.bool))[0])


@settings(max_examples=40, deadline=None)
@given(patterns)
def test_compact_keeps_what_is_there_in_its_order(rows: list[list[bool]]) -> None:
    mask = torch.tensor(rows)
    x = torch.arange(mask.numel()).view(*mask.shape, 1).float()
    packed, lengths = compact(x, mask)
    for row in range(len(mask)):
        count = int(mask[row].sum())
        assert packed[row, :count, 0].tolist() == x[row, mask[row], 0].tolist()
        assert lengths is None or int(lengths[row]) == count
    assert (lengths is None) == bool(mask.all())


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("steps", [1, 5])
def test_the_encoder_reads_both_ways_from_learned_states(layers: int, steps: int) -> None:
    net, x = encoder(layers), torch.randn(2, steps, 3)
    expected = torch.stack([recurrences.read_both_ways(clip, net.layers, net.hidden, net.cell) for clip in x])
    out = net(x, torch.ones(2, steps, dtype=torch.bool))
    assert out.shape == (2, 2 * layers * 4)
    torch.testing.assert_close(out, expected)


def test_from_zero_states_one_layer_is_the_lstm_of_torch() -> None:
    net, x = encoder(1), torch.randn(2, 5, 3)
    nn.init.zeros_(net.hidden)
    nn.init.zeros_(net.cell)
    lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    lstm.load_state_dict(net.layers[0].state_dict())
    _, (final, _) = lstm(x)
    torch.testing.assert_close(net(x, torch.ones(2, 5, dtype=torch.bool)), torch.cat([final[0], final[1]], 1))


@pytest.mark.parametrize("layers", [1, 3])
def test_the_decoder_is_fed_its_own_output(layers: int) -> None:
    net, code = decoder(layers), torch.randn(2, 3)
    out = net(code, 5)
    for clip in range(2):
        hidden = list((net.hidden.weight @ code[clip] + net.hidden.bias).chunk(layers))
        memory = list((net.cell.weight @ code[clip] + net.cell.bias).chunk(layers))
        torch.testing.assert_close(out[clip], recurrences.write(net.first, net.cells, hidden, memory, 5))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_one_layer_in_one_call_is_the_cell_step_by_step_with_its_gradients(dtype: torch.dtype, close: float, steps: int) -> None:
    net, code = decoder(1).to(dtype), torch.randn(3, 3, dtype=dtype, requires_grad=True)
    x, hidden, memory = net.first.expand(3, -1), net.hidden(code), net.cell(code)
    outputs = []
    for _ in range(steps):
        hidden, memory = net.cells[0](x, (hidden, memory))
        x = hidden
        outputs.append(x)
    ours, theirs = net(code, steps), torch.stack(outputs, 1)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, theirs, rtol=close, atol=close)
    weight, wanted = torch.randn_like(theirs), [code, *net.parameters()]
    for one, other in zip(
        torch.autograd.grad((ours * weight).sum(), wanted), torch.autograd.grad((theirs * weight).sum(), wanted), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=close, atol=close)


def test_a_longer_run_of_the_decoder_begins_like_a_shorter_one() -> None:
    net, code = decoder(), torch.randn(2, 3)
    torch.testing.assert_close(net(code, 9)[:, :4], net(code, 4))


def test_dropout_without_a_generator_or_a_rate_changes_nothing() -> None:
    x = torch.randn(3, 5)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, torch.Generator()) is x


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    kept = dropout(torch.ones(40000), 0.2, torch.Generator().manual_seed(0))
    assert set(kept.unique().tolist()) == {0.0, 1.25}
    assert abs(float((kept == 0).float().mean()) - 0.2) < 0.01


@pytest.mark.parametrize("rate", [0.0, 0.9])
def test_dropout_works_between_layers_alone(rate: float) -> None:
    x, mask, code = torch.randn(2, 5, 3), torch.ones(2, 5, dtype=torch.bool), torch.randn(2, 3)

    def same(layers: int) -> list[bool]:
        encode, decode = encoder(layers, rate), decoder(layers, rate)
        g = torch.Generator().manual_seed(0)
        return [torch.equal(encode(x, mask), encode(x, mask, g)), torch.equal(decode(code, 5), decode(code, 5, g))]

    assert same(1) == [True, True]
    assert same(2) == [rate == 0, rate == 0]


# one layer, read both ways


def both_ways() -> nn.LSTM:
    torch.manual_seed(1)
    return nn.LSTM(3, 4, batch_first=True, bidirectional=True)


@settings(max_examples=40, deadline=None)
@given(patterns)
def test_read_both_ways_deletes_the_frames_that_are_not_there(rows: list[list[bool]]) -> None:
    layer, mask, zero = both_ways(), torch.tensor(rows), torch.zeros(4)
    x = torch.randn(*mask.shape, 3)
    read = read_both_ways(layer, x.masked_fill(~mask[..., None], 1e6), mask)
    assert read.shape == (len(rows), 8)
    for row, kept in enumerate(mask):
        torch.testing.assert_close(read[row], recurrences.read_both_ways(x[row, kept], nn.ModuleList([layer]), zero, zero))


def test_read_both_ways_joins_the_ends_of_the_output() -> None:
    layer, x = both_ways(), torch.randn(2, 5, 3)
    out, _ = layer(x)
    expected = torch.cat([out[:, -1, :4], out[:, 0, 4:]], 1)
    torch.testing.assert_close(read_both_ways(layer, x, torch.ones(2, 5, dtype=torch.bool)), expected)


def test_read_both_ways_learns_from_what_is_there_alone() -> None:
    layer, x = both_ways(), torch.randn(2, 4, 3, requires_grad=True)
    mask = torch.tensor([[True, False, True, False], [True, True, True, True]])
    read_both_ways(layer, x, mask).square().sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad.any(2), mask)
    assert all(value.grad is not None and bool(value.grad.isfinite().all()) for value in layer.parameters())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@settings(max_examples=20, deadline=None)
@given(rows=patterns)
def test_reading_along_keeps_what_was_read_last_in_each_direction(kind: type[nn.RNNBase], rows: list[list[bool]]) -> None:
    torch.manual_seed(0)
    layer, mask = kind(3, 4, batch_first=True, bidirectional=True), torch.tensor(rows)
    x = torch.randn(*mask.shape, 3)
    outputs = read_along(layer, x.masked_fill(~mask[..., None], 1e6), mask)
    for row, kept in enumerate(mask):
        alone, frames = layer(x[row, kept][None])[0][0], kept.nonzero()[:, 0].tolist()
        for t in range(mask.shape[1]):
            before, after = [k for k, f in enumerate(frames) if f <= t], [k for k, f in enumerate(frames) if f >= t]
            forwards = alone[before[-1], :4] if before else torch.zeros(4)
            backwards = alone[after[0], 4:] if after else torch.zeros(4)
            torch.testing.assert_close(outputs[row, t], torch.cat([forwards, backwards]))


def test_one_direction_reads_along_as_well() -> None:
    layer, mask = nn.LSTM(3, 4, batch_first=True), torch.tensor([[0, 1, 0, 1]]).bool()
    x = torch.randn(1, 4, 3)
    outputs, alone = read_along(layer, x, mask), layer(x[:, [1, 3]])[0]
    torch.testing.assert_close(outputs, torch.stack([torch.zeros(1, 4), alone[:, 0], alone[:, 0], alone[:, 1]], 1))

"""The gradient of a strided convolution's weights in bfloat16 on a CPU: torch's against one product.

    python -m benchmarks.weight_gradients [--threads N]

Layers of the laptop DSA and of the judge of Sprites, kernel 4 and stride 2, batches of 128 frames. The two alternate; milliseconds are the
smallest and the median of the repeats. The last column says which way the model takes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from stillmotion.nn.convolutions import SMALL, weight_gradient

FRAMES, REPEATS = 128, 20
STRIDE, PADDING = (2, 2), (1, 1)
LAYERS = ((3, 64, 32), (32, 32, 64), (64, 16, 128), (128, 8, 256), (32, 16, 64), (64, 8, 128))
"""Channels and side before, and channels after."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    table = Table("layer", "torch, ms", "product, ms", "taken")
    for before, side, after in LAYERS:
        theirs, ours = race(before, side, after)
        taken = "product" if (side // 2) ** 2 <= SMALL else "torch"
        table.add_row(f"{before} x {side}² to {after} x {side // 2}²", _shown(theirs), _shown(ours), taken)
    Console().print(table)


def race(before: int, side: int, after: int) -> tuple[list[float], list[float]]:
    """Milliseconds of both ways, in turns. Raises ValueError where ours differs from the gradient in float32 by more than bfloat16 rounds.

    Torch's is not judged: where bfloat16 is not native it rounds its sums too, and is 1 % off.
    """
    generator = torch.Generator().manual_seed(0)
    large, small = (_random(FRAMES, before, side, generator), _random(FRAMES, after, side // 2, generator))
    weight = torch.empty(after, before, 4, 4, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)

    def theirs() -> Tensor:
        return _gradient(small, large, weight)

    def ours() -> Tensor:
        return weight_gradient(large, small, weight.shape, STRIDE, PADDING)

    exact = _gradient(small.float(), large.float(), weight.float())
    if F.mse_loss(ours().float(), exact).sqrt() > 0.01 * exact.std():
        raise ValueError("the product and the gradient in float32 differ")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):
        for way, taken in zip((theirs, ours), times, strict=True):
            taken.append(_milliseconds(way))
    return times


def _gradient(small: Tensor, large: Tensor, weight: Tensor) -> Tensor:
    """Torch's own."""
    how = (STRIDE, PADDING, (1, 1), False, (0, 0), 1)
    found: Tensor = torch.ops.aten.convolution_backward(small, large, weight, None, *how, [False, True, False])[1]
    return found


def _random(frames: int, channels: int, side: int, generator: torch.Generator) -> Tensor:
    return torch.randn(frames, channels, side, side, generator=generator).bfloat16().contiguous(memory_format=torch.channels_last)


def _milliseconds(way: Callable[[], object]) -> float:
    start = time.perf_counter()
    way()
    return 1e3 * (time.perf_counter() - start)


def _shown(times: list[float]) -> str:
    return f"{min(times):.1f} / {median(times):.1f}"


if __name__ == "__main__":
    main()

"""One vector of each code for each clip: what probes and the measures of single code numbers look at."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from stillmotion.core.codes import Codes, Gaussian
from stillmotion.core.errors import UserError
from stillmotion.core.masks import average


def pooled(codes: Codes, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """One matrix of each code of N clips, float32: static (N, S), dynamic (N, D) and path (N, 3 Z), as far as the model has them.

    dynamic is the code of the movement as a whole; for models without one it is the pooled path, which then has no entry of its own.
    Without a generator these are posterior means, with one a sample of each posterior around its mean; a code without a posterior
    is taken as it is, so that its samples are those that the model was asked for when it encoded.
    Raises UserError for codes without any part.
    """
    static = _value(codes.static, codes.static_posterior, generator)
    dynamic = _value(codes.dynamic, codes.dynamic_posterior, generator)
    path = _value(codes.path, codes.path_posterior, generator)
    found = {} if static is None else {"static": static}
    if dynamic is not None:
        found["dynamic"] = dynamic
    if path is not None:
        found["dynamic" if dynamic is None else "path"] = pool(path, codes.mask)
    if not found:
        raise UserError("codes with a static, a dynamic or a path part", "codes without any")
    return {name: value.float() for name, value in found.items()}


def all_codes(found: Mapping[str, Tensor]) -> Tensor:
    """The codes of `pooled` side by side, (N, sum of their widths), in its order."""
    return torch.cat(list(found.values()), 1)


def pool(path: Tensor, mask: Tensor | None = None) -> Tensor:
    """(N, T, Z) to (N, 3 Z): mean, standard deviation and mean absolute step of each number, over the frames that are there.

    A step counts where both its frames are there. A clip of one frame has deviations and steps of zero.
    """
    there = torch.ones(path.shape[:2], dtype=torch.bool) if mask is None else mask
    mean = average(path, there)
    deviation = average((path - mean[:, None]).square(), there).sqrt()
    if path.shape[1] < 2:
        return torch.cat([mean, deviation, torch.zeros_like(mean)], 1)
    steps = average(path.diff(dim=1).abs(), there[:, 1:] & there[:, :-1])
    return torch.cat([mean, deviation, steps], 1)


def _value(code: Tensor | None, posterior: Gaussian | None, generator: torch.Generator | None) -> Tensor | None:
    return code if posterior is None else posterior.sample(generator)

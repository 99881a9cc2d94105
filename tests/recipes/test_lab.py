from __future__ import annotations

from hashlib import sha256

import pytest
import torch

from stillmotion.data.base import ClipSet
from stillmotion.metrics.figure import Figure
from stillmotion.recipes import lab
from stillmotion.recipes.lab import fingerprint, over_seeds


def test_a_fingerprint_is_the_hash_of_all_bytes_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "PIECE", 4)
    g = torch.Generator().manual_seed(0)
    grey, mask = torch.randint(0, 256, (10, 1, 2, 2), generator=g).byte(), torch.rand(5, 3, generator=g) > 0.5
    starts, lengths = torch.tensor([0, 5]), torch.tensor([5, 5])
    whole = b"".join(part.numpy().tobytes() for part in (grey.repeat(1, 3, 1, 1), starts, lengths, mask))
    clips = ClipSet(grey.expand(-1, 3, -1, -1), starts, lengths, 5)
    assert fingerprint(clips, mask) == sha256(whole).hexdigest()[:16]
    other = ClipSet(grey.expand(-1, 3, -1, -1), torch.tensor([0, 4]), lengths, 5)
    assert fingerprint(other, mask) != fingerprint(clips, mask) != fingerprint(clips)


def test_seeds_are_averaged_and_their_spread_counts() -> None:
    def one(value: float) -> dict[str, Figure]:
        return {"a": Figure(value, value - 0.01, value + 0.02, 9)}

    assert over_seeds([one(0.5)]) == one(0.5)
    figure = over_seeds([{**one(0.4), "b": Figure(1, 1, 1, 9)}, one(0.6)])["a"]
    # Student's t with one degree of freedom is 12.706; the deviation of 0.4 and 0.6 is 0.1 * sqrt(2)
    assert figure.value == pytest.approx(0.5)
    assert figure.high == pytest.approx(0.5 + (1.2706**2 + 0.02**2) ** 0.5, rel=1e-3)
    assert figure.low == pytest.approx(0.5 - (1.2706**2 + 0.01**2) ** 0.5, rel=1e-3)
    assert over_seeds([{**one(0.4), "b": Figure(1, 1, 1, 9)}, one(0.6)]).keys() == {"a"}
    shares = over_seeds([{"leak_static_to_action_mean": Figure(value, value, value, 9)} for value in (0.4, 0.6)])
    assert list(shares.values()) == [Figure(0.5, 0.0, 1.0, 9)]

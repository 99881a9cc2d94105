"""The judge is the published network, reads only frames that are there, and is refused where its classes are not those of the data."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.saying import seeded
from oracles import recurrences
from stillmotion.core.clips import Clips
from stillmotion.core.errors import UserError
from stillmotion.core.registry import JUDGES
from stillmotion.data.base import ClipSet
from stillmotion.metrics.judge import BATCH, Judge, JudgeConfig, Verdicts, check_judge, read_all
from stillmotion.metrics.judge_files import load_judge
from stillmotion.models import files
from stillmotion.nn.convolutions import Conv2d

CLASSES = {"hair": ("red", "black", "grey"), "action": ("walk", "run")}
SMALL = {"classes": CLASSES, "size": 16, "channels": (2, 2, 3, 4), "code": 5, "rnn": 6, "hidden": 7}


def small_judge(seed: int = 0, **changes: object) -> Judge:
    """In evaluation mode, its batch norms as after training, so that every part of them matters."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        judge = Judge(JudgeConfig.model_validate(SMALL | changes))
        for part in judge.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(std=0.2)
                part.running_var.uniform_(0.5, 2)
                nn.init.normal_(part.weight)
                nn.init.normal_(part.bias)
    return judge.eval()


def some_clips(*lengths: int, size: int = 16, channels: int = 3, seed: int = 0) -> Clips:
    """Labelled clips of those lengths, padded with noise to the longest."""
    g, steps = seeded(seed), max(lengths)
    frames = torch.rand(len(lengths), steps, channels, size, size, generator=g)
    labels = {factor: torch.randint(len(names), (len(lengths),), generator=g) for factor, names in CLASSES.items()}
    return Clips(frames, torch.arange(steps) < torch.tensor(lengths)[:, None], labels=labels)


# The architecture


def test_the_judge_of_64_px_frames_has_the_published_layers() -> None:
    judge = Judge(JudgeConfig(classes=CLASSES))
    convolutions = [part for part in judge.modules() if isinstance(part, Conv2d)]
    told = [(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding) for c in convolutions]
    assert told == [
        (3, 64, (4, 4), (2, 2), (1, 1)), (64, 128, (4, 4), (2, 2), (1, 1)), (128, 256, (4, 4), (2, 2), (1, 1)),
        (256, 512, (4, 4), (2, 2), (1, 1)), (512, 128, (4, 4), (1, 1), (0, 0)),
    ]  # fmt: skip
    kinds = [type(part) for part in judge.frames.modules() if not list(part.children())]
    assert kinds == [Conv2d, nn.BatchNorm2d, nn.LeakyReLU] * 4 + [Conv2d, nn.BatchNorm2d, nn.Tanh]
    assert all(part.negative_slope == 0.2 for part in judge.modules() if isinstance(part, nn.LeakyReLU))
    assert (judge.rnn.input_size, judge.rnn.hidden_size, judge.rnn.num_layers, judge.rnn.bidirectional) == (128, 256, 1, True)
    for factor, names in CLASSES.items():
        first, between, last = judge.heads[factor]  # type: ignore[misc]
        assert (first.in_features, first.out_features) == (512, 256)
        assert (last.in_features, last.out_features, type(between)) == (256, len(names), nn.ReLU)


def count(size_channels: list[int], code: int, rnn: int, hidden: int, classes: list[int]) -> int:
    """Parameters counted by hand: weights, biases, and two for each channel of a batch norm."""
    widths = [*size_channels, code]
    frames = sum(16 * a * b + b + 2 * b for a, b in pairwise(widths))
    lstm = 2 * 4 * (rnn * code + rnn * rnn + 2 * rnn)
    heads = sum(2 * rnn * hidden + hidden + hidden * n + n for n in classes)
    return frames + lstm + heads


@pytest.mark.parametrize(
    ("size", "colours", "widths"),
    [(64, 3, [64, 128, 256, 512]), (64, 1, [64, 128, 256, 512]), (32, 3, [128, 256, 512]), (16, 3, [256, 512]), (8, 1, [512]),
     (128, 3, [64, 128, 256, 512, 512])],
)  # fmt: skip
def test_frames_of_other_sizes_take_fewer_or_more_halvings(size: int, colours: int, widths: list[int]) -> None:
    with torch.device("meta"):
        judge = Judge(JudgeConfig(classes=CLASSES, size=size, colours=colours))
    assert sum(value.numel() for value in judge.parameters()) == count([colours, *widths], 128, 256, 256, [3, 2])
    assert judge.frame_shape == (colours, size, size)
    assert judge.frames(torch.empty(2, colours, size, size, device="meta")).shape == (2, 128, 1, 1)


def test_64_px_in_numbers() -> None:
    with torch.device("meta"):
        judge = Judge(JudgeConfig(classes=CLASSES))
    convolutions = 3_136 + 131_200 + 524_544 + 2_097_664 + 1_048_704
    norms, lstm, heads = 2 * (64 + 128 + 256 + 512 + 128), 790_528, 2 * 131_328 + 771 + 514
    assert sum(value.numel() for value in judge.parameters()) == convolutions + norms + lstm + heads


def plainly(judge: Judge, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Feature and logits of one clip (T, C, H, W), one layer, one step and one direction at a time."""
    weights = judge.state_dict()
    blocks = len(judge.frames)
    x = frames
    for k in range(blocks):
        name, last = f"frames.{k}", k == blocks - 1
        x = F.conv2d(x, weights[f"{name}.0.weight"], weights[f"{name}.0.bias"], stride=1 if last else 2, padding=0 if last else 1)
        norm = ("running_mean", "running_var", "weight", "bias")
        mean, variance, scale, shift = (weights[f"{name}.1.{key}"][:, None, None] for key in norm)
        x = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
        x = torch.tanh(x) if last else torch.where(x > 0, x, 0.2 * x)
    zero = torch.zeros(judge.config.rnn)
    feature = recurrences.read_both_ways(x.flatten(1), nn.ModuleList([judge.rnn]), zero, zero)
    logits = {}
    for factor in judge.classes:
        w1, b1, w2, b2 = (weights[f"heads.{factor}.{k}.{key}"] for k in (0, 2) for key in ("weight", "bias"))
        logits[factor] = w2 @ torch.relu(w1 @ feature + b1) + b2
    return feature, logits


@pytest.mark.parametrize("changes", [{}, {"size": 32, "colours": 1}, {"size": 64}, {"size": 128, "channels": (1, 2, 2, 3)}])
def test_a_verdict_is_what_the_layers_say_one_by_one(changes: dict[str, int]) -> None:
    judge = small_judge(**changes)
    clips = some_clips(4, 1, 2, size=judge.config.size, channels=judge.config.colours)
    verdicts = judge.read(clips)
    assert verdicts.features.shape == (3, 12)
    for k, length in enumerate((4, 1, 2)):
        with torch.no_grad():
            feature, logits = plainly(judge, clips.frames[k, :length])
        torch.testing.assert_close(verdicts.features[k], feature)
        for factor, value in logits.items():
            torch.testing.assert_close(verdicts.logits[factor][k], value)


def test_the_feature_joins_the_last_state_forwards_to_the_first_backwards() -> None:
    judge, clips = small_judge(), some_clips(5, 5)
    with torch.no_grad():
        out, _ = judge.rnn(judge.frames(clips.frames.flatten(0, 1)).view(2, 5, -1))
    torch.testing.assert_close(judge.read(clips).features, torch.cat([out[:, -1, :6], out[:, 0, 6:]], 1))


def test_a_judge_that_watches_a_clip_backwards_swaps_the_halves_of_its_feature() -> None:
    judge, clips = small_judge(), some_clips(5, 5)
    for name, value in judge.rnn.named_parameters():
        if name.endswith("_reverse"):
            value.data = dict(judge.rnn.named_parameters())[name.removesuffix("_reverse")].data
    there, back = (judge.read(replace(clips, frames=frames)).features for frames in (clips.frames, clips.frames.flip(1)))
    torch.testing.assert_close(there, torch.cat(back.chunk(2, 1)[::-1], 1))
    assert not torch.allclose(there, back)


# Masks


def test_frames_behind_the_mask_are_as_good_as_deleted() -> None:
    judge, clips = small_judge(), some_clips(6, 6, 6)
    mask = torch.tensor([[1, 0, 1, 1, 0, 1], [0, 0, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1]]).bool()
    together = judge.read(Clips(clips.frames.masked_fill(~mask[..., None, None, None], 1e4), mask))
    for k, kept in enumerate(mask):
        alone = judge.read(Clips(clips.frames[k, kept][None], torch.ones(1, int(kept.sum()), dtype=torch.bool)))
        torch.testing.assert_close(together.features[k], alone.features[0])
        torch.testing.assert_close(together.logits["hair"][k], alone.logits["hair"][0])


def test_padding_changes_neither_verdict_nor_loss() -> None:
    judge, clips = small_judge(), some_clips(3, 2)
    longer = Clips(torch.cat([clips.frames, torch.full((2, 4, 3, 16, 16), 7.0)], 1), F.pad(clips.mask, (0, 4)), labels=clips.labels)
    torch.testing.assert_close(judge.read(longer).features, judge.read(clips).features)
    torch.testing.assert_close(judge.loss(longer, {}, None).total, judge.loss(clips, {}, None).total)


def test_batch_norm_in_training_sees_only_frames_that_are_there() -> None:
    clips = some_clips(3, 1, 2)
    there = clips.frames[clips.mask]
    padded = Clips(clips.frames.masked_fill(~clips.mask[..., None, None, None], 1e3), clips.mask, labels=clips.labels)
    one, other = small_judge().train(), small_judge().train()
    one.loss(padded, {}, None)
    other.frames(there)
    for name, value in other.frames.state_dict().items():
        torch.testing.assert_close(one.frames.state_dict()[name], value, msg=name)
    first = one.frames[0]
    mean = F.conv2d(there, first[0].weight, first[0].bias, 2, 1).mean((0, 2, 3))  # type: ignore[index, union-attr, arg-type]
    before = small_judge().frames[0][1].running_mean  # type: ignore[index, union-attr]
    torch.testing.assert_close(first[1].running_mean, 0.9 * before + 0.1 * mean.detach())  # type: ignore[index, operator, union-attr]


# The loss


def test_the_loss_is_the_cross_entropy_of_each_factor_in_nats() -> None:
    judge, clips = small_judge(), some_clips(2, 3, 1, 3)
    with torch.no_grad():
        terms, verdicts = judge.loss(clips, {}, None), judge.read(clips)
    for factor, labels in clips.labels.items():
        rows = torch.arange(4)
        expected = -verdicts.probabilities(factor)[rows, labels].log().mean()
        assert float(terms.values[factor]) == pytest.approx(float(expected), rel=1e-5)


def test_in_training_each_factor_pulls_at_the_features_as_strongly_as_it_is_unknown() -> None:
    judge, clips = small_judge().train(), some_clips(2, 3, 1, 3)
    terms = judge.loss(clips, {}, None)
    features = judge.features(clips)
    for factor, head in judge.heads.items():
        value = torch.nn.functional.cross_entropy(head(features), clips.labels[factor])
        (gradient,) = torch.autograd.grad(terms.weights[factor] * value, features, retain_graph=True)
        assert float(gradient.norm()) == pytest.approx(float(value.detach()) / math.log(len(CLASSES[factor])), rel=1e-3)
    assert not judge.eval().loss(clips, {}, None).weights


def test_clips_of_unknown_class_teach_nothing() -> None:
    judge, clips = small_judge(), some_clips(3, 3, 3, 3)
    known = torch.tensor([True, False, True, False])
    labels = {"hair": torch.where(known, clips.labels["hair"], -1), "action": clips.labels["action"]}
    terms = judge.loss(replace(clips, labels=labels), {}, None)
    torch.testing.assert_close(terms.values["hair"], judge.loss(clips[known], {}, None).values["hair"])
    torch.testing.assert_close(terms.values["action"], judge.loss(clips, {}, None).values["action"])


def test_where_all_are_unknown_the_loss_is_zero_and_every_gradient_finite() -> None:
    judge, clips = small_judge().train(), some_clips(3, 3)
    terms = judge.loss(replace(clips, labels={factor: torch.tensor([-1, -1]) for factor in CLASSES}), {}, None)
    assert {factor: value.item() for factor, value in terms.values.items()} == {"hair": 0, "action": 0}
    terms.total.backward()
    assert all(value.grad is not None and not value.grad.any() for value in judge.parameters())


def test_a_few_steps_teach_it_what_stays_and_what_moves() -> None:
    clips = some_clips(*[4] * 24)
    red, brightens = (torch.arange(24) // divisor % 2 for divisor in (1, 2))
    light = torch.where(brightens[:, None] == 1, torch.linspace(0.2, 0.8, 4), torch.linspace(0.8, 0.2, 4))
    frames = 0.2 * clips.frames + light[:, :, None, None, None]
    frames[:, :, 0] *= 1 - 0.5 * red[:, None, None, None]
    clips = Clips(frames, clips.mask, labels={"hair": red, "action": brightens})
    judge = small_judge().train()
    optimiser = torch.optim.Adam(judge.parameters(), lr=0.02)
    for _ in range(50):
        optimiser.zero_grad()
        judge.loss(clips, {}, None).total.backward()
        optimiser.step()
    verdicts = judge.read(clips)  # still in training mode, with the statistics of the batch
    assert torch.equal(verdicts.top("hair"), red)
    assert torch.equal(verdicts.top("action"), brightens)


# Reading


def clip_set(clips: Clips) -> ClipSet:
    bytes_ = clips.frames.mul(255).round().to(torch.uint8)
    return replace(ClipSet.whole(bytes_, clips.labels, CLASSES), lengths=clips.lengths)


def same(one: Verdicts, other: Verdicts) -> bool:
    return torch.equal(one.features, other.features) and all(torch.equal(one.logits[f], other.logits[f]) for f in CLASSES)


def test_verdicts_batch_by_batch_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, data = small_judge(), clip_set(some_clips(*[1, 2, 3] * 4))
    whole = judge.read(data.clips())
    monkeypatch.setattr("stillmotion.metrics.judge.BATCH", 5)
    for parts in (data, (data.clips(part) for part in torch.split(torch.arange(12), 7))):
        found = read_all(judge, parts)
        assert len(found) == 12
        torch.testing.assert_close(found.features, whole.features)
        torch.testing.assert_close(found.logits["hair"], whole.logits["hair"])


def test_no_more_than_a_batch_is_read_at_once() -> None:
    sizes = []

    class Counting:
        classes = CLASSES

        def read(self, clips: Clips) -> Verdicts:
            sizes.append(len(clips))
            return Verdicts({"hair": torch.zeros(len(clips), 3)}, torch.zeros(len(clips), 1))

    data = clip_set(some_clips(1, 1, 1)).subset(torch.arange(150) % 3)
    assert len(read_all(Counting(), data)) == 150
    assert sizes == [BATCH, BATCH, 150 - 2 * BATCH]


def test_nothing_to_read_is_refused() -> None:
    data = clip_set(some_clips(2, 2))
    for nothing in (data.subset(torch.tensor([], dtype=torch.long)), []):
        with pytest.raises(UserError, match="at least one clip to judge, got none"):
            read_all(small_judge(), nothing)


def test_reading_twice_says_the_same_and_changes_nothing() -> None:
    judge, clips = small_judge(), some_clips(3, 2)
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    one, again = judge.read(clips), judge.read(clips)
    assert same(one, again)
    assert all(torch.equal(before[name], value) for name, value in judge.state_dict().items())
    assert not one.features.requires_grad


def test_in_bfloat16_verdicts_are_nearly_those_in_float32() -> None:
    judge, clips = small_judge(), some_clips(4, 4, 2)
    exact = judge.read(clips)
    with torch.autocast("cpu", torch.bfloat16):
        low, loss = judge.read(clips), judge.loss(clips, {}, None).total
    assert {value.dtype for value in (low.features, *low.logits.values(), loss)} == {torch.float32}
    torch.testing.assert_close(low.features, exact.features, atol=0.05, rtol=0.05)
    assert not torch.equal(low.features, exact.features), "the convolutions ran in float32"
    loss.backward()
    assert all(bool(value.grad.isfinite().all()) for value in judge.parameters())


def test_heads_run_in_full_precision_so_that_close_classes_do_not_tie() -> None:
    judge, clips = small_judge(), some_clips(3)
    judge.heads["hair"][2].bias.data = torch.tensor([100.0, 100.1, 0])  # type: ignore[index, union-attr]
    judge.heads["hair"][2].weight.data.zero_()  # type: ignore[index, operator, union-attr]
    with torch.autocast("cpu", torch.bfloat16):
        assert judge.read(clips).top("hair").tolist() == [1]


def test_frames_of_another_size_or_colour_are_refused() -> None:
    with pytest.raises(UserError, match=r"frames of shape \(3, 16, 16\) for this judge model, got frames of shape \(3, 32, 32\)"):
        small_judge().read(some_clips(2, size=32))
    with pytest.raises(UserError, match=r"got frames of shape \(1, 16, 16\)"):
        small_judge().read(some_clips(2, channels=1))


# Verdicts


def test_verdicts_are_picked_and_joined_by_clip() -> None:
    whole = small_judge().read(some_clips(3, 3, 3, 3))
    parts = [whole[:1], whole[torch.tensor([1, 3])], whole[torch.tensor([False, False, True, False])]]
    assert [len(part) for part in parts] == [1, 2, 1]
    joined = Verdicts.cat(parts)
    assert same(joined, whole[torch.tensor([0, 1, 3, 2])])


def test_the_top_class_is_the_most_probable_and_rows_are_distributions() -> None:
    verdicts = Verdicts({"hair": torch.tensor([[0.0, 2, 1], [-1, -2, -3], [1e4, 0, -1e4]])}, torch.zeros(3, 1))
    assert verdicts.top("hair").tolist() == [1, 0, 0]
    found = verdicts.probabilities("hair")
    assert found.dtype == torch.double
    torch.testing.assert_close(found.sum(1), torch.ones(3, dtype=torch.double))
    assert found[0].tolist() == pytest.approx([0.09003057, 0.66524096, 0.24472847])


# Judges and data


def labelled(classes: dict[str, tuple[str, ...]]) -> ClipSet:
    labels = {factor: torch.zeros(2, dtype=torch.long) for factor in classes}
    return ClipSet.whole(torch.zeros(2, 1, 3, 16, 16, dtype=torch.uint8), labels, classes)


def test_the_factors_that_judge_and_data_share_are_told() -> None:
    judge = small_judge()
    assert check_judge(judge, labelled(CLASSES)) == ["hair", "action"]
    assert check_judge(judge, labelled({"action": CLASSES["action"], "mood": ("good", "bad")})) == ["action"]
    assert check_judge(judge, labelled(CLASSES), ["hair"]) == ["hair", "action"]


def test_a_judge_of_nothing_that_the_data_has_is_refused() -> None:
    with pytest.raises(UserError, match=r"factors of this data, got a judge of hair, action and clips labelled mood\. Train one"):
        check_judge(small_judge(), labelled({"mood": ("good", "bad")}))
    with pytest.raises(UserError, match="clips labelled with nothing"):
        check_judge(small_judge(), labelled({}))
    with pytest.raises(UserError, match="a judge of mood, got a judge of hair, action"):
        check_judge(small_judge(), labelled(CLASSES | {"mood": ("good", "bad")}), ["mood"])


def test_a_judge_of_other_classes_is_refused_with_both() -> None:
    for theirs in (("walk", "jump"), ("run", "walk"), ("walk", "run", "jump")):
        match = rf"a judge of the classes {', '.join(theirs)} of action, got one of walk, run\. Train one on this data"
        with pytest.raises(UserError, match=match):
            check_judge(small_judge(), labelled(CLASSES | {"action": theirs}))


def test_of_many_classes_only_the_first_are_named() -> None:
    names = tuple(f"p{k}" for k in range(30))
    with pytest.raises(UserError, match=r"a judge of the classes p0, p1, .*p8, \.\.\. \(30\) of hair, got one of red, black, grey"):
        check_judge(small_judge(), labelled(CLASSES | {"hair": names}))


# Settings


@pytest.mark.parametrize("changes", [
    {"classes": {}}, {"channels": (3, 4)}, {"channels": (1, 2, 3, 4, 5)}, {"channels": (1, 2, 0, 4)}, {"rnn": 0}, {"code": 0},
    {"colours": 2}, {"colour": 1},
])  # fmt: skip
def test_settings_that_make_no_judge_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        JudgeConfig.model_validate(SMALL | changes)


@pytest.mark.parametrize("size", [0, 4, 48, 100])
def test_sizes_that_do_not_halve_to_four_are_refused(size: int) -> None:
    with pytest.raises(UserError, match=f"a power of two from 8 up, got {size}"):
        Judge(JudgeConfig(classes=CLASSES, size=size))


def test_a_factor_may_be_called_like_anything_in_a_module(tmp_path: Path) -> None:
    names = ("type", "keys", "forward", "weight")
    judge = small_judge(classes=dict.fromkeys(names, ("a", "b")))
    clips = replace(some_clips(2, 2), labels={name: torch.tensor([0, 1]) for name in names})
    assert set(judge.loss(clips, {}, None).values) == set(names)
    files.save(judge, tmp_path)
    again = load_judge(tmp_path).judge
    assert again.classes == judge.classes
    assert torch.equal(again.read(clips).logits["type"], judge.read(clips).logits["type"])


def test_the_seed_decides_a_new_judge() -> None:
    one, same_, other = (files.build("judge", SMALL, seed, JUDGES).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same_[name]) for name in one)
    assert not torch.equal(one["frames.0.0.weight"], other["frames.0.0.weight"])

"""The loop: exact resumption, what it refuses, what it leaves alone. Kills and several processes: test_processes.py."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oracles.tiny_runs import OFTEN, disturb, kept, kept_step, rows, same, three_stage_run, tiny_clips, tiny_run, trainer
from stillmotion.core.errors import NotFinite, UserError
from stillmotion.core.terms import Terms
from stillmotion.data.base import ClipSet
from stillmotion.models import files
from stillmotion.models.vdsm import VDSM
from stillmotion.training import loop
from stillmotion.training.checkpoints import MANIFEST
from stillmotion.training.loop import LOWER, MOST_RETRIES, Interrupted
from stillmotion.training.schedules import Schedule, constant
from stillmotion.training.settings import Feed, Run

STEPS = 8
"""In both stages of a tiny run."""


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(loop, "VALIDATION_CLIPS", 6)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def held() -> ClipSet:
    return tiny_clips(4, seed=1)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def train(folder: Path, run: Run, **options: Any) -> dict[str, Tensor]:
    one = trainer(folder, run, validation=held(), **options)
    one.fit()
    return weights(one.model)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "VALIDATION_CLIPS", 6)
        train(folder, tiny_run())
    return folder


def ctrl_c(module: nn.Module, terms: Terms) -> None:
    signal.raise_signal(signal.SIGINT)


def crash(module: nn.Module, terms: Terms) -> None:
    raise RuntimeError("the power failed")


def nan_term(module: nn.Module, terms: Terms) -> Terms:
    return Terms({**terms.values, "path_kl": terms.values["path_kl"] * torch.nan}, terms.weights)


def nan_gradient(module: nn.Module, terms: Terms) -> Terms:
    """Adds 0, whose gradient is not a number."""
    trap = next(p for p in module.parameters() if p.requires_grad)
    return Terms({**terms.values, "trap": (trap * 0).sum().sqrt()}, terms.weights)


# resuming


@pytest.mark.parametrize("step", [4, 6])
def test_the_middle_stage_goes_on_to_the_last_bit_too(tmp_path: Path, step: int) -> None:
    folder, undisturbed = tmp_path / "stopped", tmp_path / "undisturbed"
    train(undisturbed, three_stage_run())
    one = trainer(folder, three_stage_run(), validation=held())
    disturb(one.model, step, ctrl_c)
    with pytest.raises(Interrupted):
        one.fit()
    train(folder, three_stage_run())
    assert same(kept(folder), kept(undisturbed))
    assert rows(folder) == rows(undisturbed)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_a_run_stopped_at_any_step_goes_on_to_the_last_bit(tmp_path: Path, whole: Path, step: int) -> None:
    one = trainer(tmp_path, tiny_run(), validation=held())
    disturb(one.model, step, ctrl_c)
    with pytest.raises(Interrupted):
        one.fit()
    assert kept_step(tmp_path) == step
    train(tmp_path, tiny_run())
    assert same(kept(tmp_path), kept(whole))
    assert rows(tmp_path) == rows(whole)


@pytest.mark.parametrize("step", [1, 3, 4, 5, 8])
def test_a_run_that_crashed_repeats_what_was_not_kept(tmp_path: Path, whole: Path, step: int) -> None:
    run = tiny_run(checkpoint_seconds=OFTEN if step in (3, 8) else 1e6)
    one = trainer(tmp_path, run, validation=held())
    disturb(one.model, step, crash)
    with pytest.raises(RuntimeError, match="power"):
        one.fit()
    assert kept_step(tmp_path) == (step - 1 if step in (3, 8) else 4 * ((step - 1) // 4))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "sta')
    train(tmp_path, run)
    assert same(kept(tmp_path), kept(whole))
    assert rows(tmp_path) == rows(whole)


def test_a_damaged_checkpoint_costs_steps_and_changes_nothing(tmp_path: Path, whole: Path) -> None:
    one = trainer(tmp_path, tiny_run(checkpoint_seconds=OFTEN), validation=held())
    disturb(one.model, 7, crash)
    with pytest.raises(RuntimeError, match="power"):
        one.fit()
    newest = tmp_path / "checkpoints" / "step-00000006.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    train(tmp_path, tiny_run())
    assert same(kept(tmp_path), kept(whole))
    assert rows(tmp_path) == rows(whole)


def test_a_finished_run_stays_as_it_is(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    final = train(tmp_path / "copy", tiny_run())
    assert rows(tmp_path / "copy") == rows(whole)
    assert same(final, {name.removeprefix("model/"): value for name, value in kept(whole).items() if name.startswith("model/")})


def test_a_run_folder_of_another_model_is_refused(tmp_path: Path, whole: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    run = tiny_run()
    other = run.model_copy(update={"model": run.model.model_copy(update={"options": {**run.model.options, "pose": 4}})})
    with pytest.raises(UserError, match="a checkpoint of this very model"):
        train(tmp_path / "copy", other)


def test_a_second_ctrl_c_ends_the_run_at_once_and_handlers_come_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    one = trainer(tmp_path, tiny_run())
    disturb(one.model, 2, ctrl_c)
    disturb(one.model, 2, ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        one.fit()
    assert kept_step(tmp_path) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_beside_the_main_thread_signals_are_left_to_whoever_started_it(tmp_path: Path, whole: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(train, tmp_path, tiny_run()).result()
    assert same(kept(tmp_path), kept(whole))


# determinism


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(tmp_path: Path, whole: Path) -> None:
    train(tmp_path / "same", tiny_run())
    train(tmp_path / "other", tiny_run(seed=1))
    assert rows(tmp_path / "same") == rows(whole)
    totals = [[row["terms"]["total"] for row in rows(folder) if row["split"] == "train"] for folder in (whole, tmp_path / "other")]
    assert len(totals[0]) == STEPS
    assert not set(totals[0]) & set(totals[1])


def test_frames_that_are_hidden_for_good_are_the_same_in_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = list[Tensor]()

    class Kept(loop.Batches):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            if self.shown is not None and len(self.shown) == 11:  # of the training clips
                shown.append(self.shown)

    monkeypatch.setattr(loop, "Batches", Kept)
    run = tiny_run(1, validate_every=100)
    single = [stage.model_copy(update={"feed": Feed(batch=3, hidden=0.5)}) for stage in run.stages]
    trainer(tmp_path, run.model_copy(update={"stages": (single[1], single[1].model_copy(update={"name": "again"}))})).fit()
    assert len(shown) >= 2
    assert torch.equal(shown[-1], shown[-2])


def test_nothing_but_the_grouping_reads_labels(tmp_path: Path) -> None:
    run = tiny_run()
    run = run.model_copy(update={"stages": run.stages[1:]})
    data = tiny_clips()
    unlabelled = ClipSet(data.frames, data.starts, data.lengths, data.steps)
    assert same(train(tmp_path / "a", run, train=data), train(tmp_path / "b", run, train=unlabelled))


def test_the_run_is_the_same_whatever_is_validated_and_logged(tmp_path: Path, whole: Path) -> None:
    one = trainer(tmp_path, tiny_run(validate_every=1, log_every=3), validation=tiny_clips(9, seed=5))
    one.fit()
    assert same(kept(tmp_path), kept(whole))


def test_validation_rows_are_told_at_the_steps_asked_for_and_use_the_same_noise_each_time(tmp_path: Path) -> None:
    still = tiny_run(validate_every=2)
    frozen: dict[str, Any] = {"learning_rate": 1e-30, "decay": None, "schedules": {}}
    run = still.model_copy(update={"stages": tuple(stage.model_copy(update=frozen) for stage in still.stages)})
    train(tmp_path, run)
    told = [row for row in rows(tmp_path) if row["split"] == "validation"]
    assert [row["step"] for row in told] == [2, 4, 6, 8]
    assert told[0]["terms"] == told[1]["terms"]
    assert told[2]["terms"] == told[3]["terms"]


def test_rows_tell_schedules_learning_rates_and_terms(whole: Path) -> None:
    told = [row for row in rows(whole) if row["split"] == "train"]
    assert [row["step"] for row in told] == list(range(1, STEPS + 1))
    assert [row["stage"] for row in told] == ["poses"] * 4 + ["sequence"] * 4
    assert [row["weights"].get("path_kl") for row in told[:4]] == pytest.approx([0.1, 0.4, 0.7, 1.0])
    assert [row["lr"] for row in told] == pytest.approx([3e-3] * 4 + [1e-3, 0.875e-3, 0.625e-3, 0.5e-3])
    for row in told:
        terms = {name: value for name, value in row["terms"].items() if name != "total"}
        assert row["terms"]["total"] == pytest.approx(sum(row["weights"].get(name, 1.0) * value for name, value in terms.items()), rel=1e-5)
    names = {"reconstruction", "static_kl", "dynamic_kl", "path_kl", "path_match", "total"}
    assert {name for row in told[4:] for name in row["terms"]} == names


def test_adam_is_what_pytorch_says_it_is(tmp_path: Path) -> None:
    run = tiny_run(steps=3)
    run = run.model_copy(update={"stages": run.stages[1:]})
    one, other = trainer(tmp_path, run), files.build("vdsm", run.model.options, run.seed)
    gradients: list[list[Tensor]] = []
    trained = {id(p) for group in run.stages[0].trains for p in other.parameter_groups()[group]}
    chosen = [name for name, p in other.named_parameters() if id(p) in trained]
    real = torch.optim.Adam.step

    def step(self: torch.optim.Adam, closure: Any = None) -> Any:
        gradients.append([p.grad.clone() for p in self.param_groups[0]["params"]])
        return real(self, closure)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim.Adam, "step", step)
        one.fit()
    mine = [dict(other.named_parameters())[name].detach().clone() for name in chosen]
    first, second = [torch.zeros_like(p) for p in mine], [torch.zeros_like(p) for p in mine]
    for t, (rate, now) in enumerate(zip((1e-3, 0.75e-3, 0.5e-3), gradients, strict=True), 1):
        for p, m, v, g in zip(mine, first, second, now, strict=True):
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            p.sub_(rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8))
    final = dict(one.model.named_parameters())
    assert all(torch.allclose(final[name], p, atol=1e-6) for name, p in zip(chosen, mine, strict=True))


# groups and objectives


@pytest.mark.parametrize(("stage", "groups"), [(0, {"encoder", "decoder", "heads"}), (1, {"heads", "sequence"})])
def test_only_the_groups_of_the_stage_change(tmp_path: Path, stage: int, groups: set[str]) -> None:
    run = tiny_run()
    run = run.model_copy(update={"stages": run.stages[stage : stage + 1]})
    before = weights(files.build("vdsm", run.model.options, run.seed))
    after = train(tmp_path, run)
    model = files.build("vdsm", run.model.options, run.seed)
    names = {id(value): name for name, value in model.named_parameters()}
    trained = {names[id(p)] for name in groups for p in model.parameter_groups()[name]}
    assert {name for name in before if not torch.equal(before[name], after[name])} == trained


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"trains": ("heads", "feet")}, "'feet'"), ({"objective": "adversarial"}, "'adversarial'"),
        ({"feed": {"group_by": "person", "clips_per_group": 2}}, "'person'"),
        ({"schedules": {"path_kll": {"points": [[0, 1]]}}}, "'path_kll'"),
    ],
)
def test_what_the_model_or_the_data_lack_is_refused_before_the_first_step(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    plain = tiny_run().model_dump(mode="json")
    plain["stages"][1].update(change)
    with pytest.raises(UserError, match=match):
        trainer(tmp_path / "run", Run.model_validate(plain))
    assert not (tmp_path / "run").exists()


# not a number


@pytest.mark.parametrize("call", [1, 3, 5])
def test_a_term_that_is_nan_stops_the_run_and_is_named(tmp_path: Path, call: int) -> None:
    run = tiny_run(checkpoint_seconds=OFTEN)
    one = trainer(tmp_path, run)
    disturb(one.model, call, nan_term)
    with pytest.raises(NotFinite, match=rf"step {call - 1}: path_kl\. .*--on-nan lower-lr") as caught:
        one.fit()
    assert (caught.value.step, caught.value.names) == (call - 1, ["path_kl"])
    assert kept_step(tmp_path) == call - 1
    assert all(bool(value.isfinite().all()) for value in kept(tmp_path).values())
    again = trainer(tmp_path, run)
    again.fit()
    assert kept_step(tmp_path) == STEPS


def test_on_request_a_run_goes_on_at_half_the_learning_rate(tmp_path: Path) -> None:
    run = tiny_run(on_nan="lower-lr", checkpoint_seconds=OFTEN)
    one = trainer(tmp_path, run, validation=held())
    disturb(one.model, 3, nan_term)
    one.fit()
    told = [row for row in rows(tmp_path) if row["split"] == "train"]
    assert [row["step"] for row in told] == list(range(1, STEPS + 1))
    rates = [3e-3] * 4 + [1e-3, 0.875e-3, 0.625e-3, 0.5e-3]
    assert [row["lr"] for row in told] == pytest.approx([rate * (1 if k < 2 else LOWER) for k, rate in enumerate(rates)])
    assert (one.lr_factor, one.retries) == (LOWER, 1)


def test_the_lower_rate_survives_a_stop(tmp_path: Path) -> None:
    run = tiny_run(on_nan="lower-lr", checkpoint_seconds=OFTEN)
    one = trainer(tmp_path, run)
    disturb(one.model, 2, nan_term)
    disturb(one.model, 4, ctrl_c)
    with pytest.raises(Interrupted):
        one.fit()
    again = trainer(tmp_path, run)
    again.fit()
    assert (again.lr_factor, again.retries) == (LOWER, 1)
    assert rows(tmp_path)[-1]["lr"] == pytest.approx(LOWER * 0.5e-3)


def test_it_gives_up_in_the_end(tmp_path: Path) -> None:
    one = trainer(tmp_path, tiny_run(on_nan="lower-lr"))
    for call in range(2, 30):
        disturb(one.model, call, nan_term)
    with pytest.raises(NotFinite):
        one.fit()
    assert one.retries == MOST_RETRIES
    assert one.lr_factor == LOWER**MOST_RETRIES
    assert kept_step(tmp_path) == 0


def test_a_gradient_that_is_nan_is_caught_before_it_does_harm(tmp_path: Path) -> None:
    one = trainer(tmp_path, tiny_run(checkpoint_seconds=OFTEN))
    disturb(one.model, 3, nan_gradient)
    with pytest.raises(NotFinite, match="step 2: the gradient"):
        one.fit()
    assert kept_step(tmp_path) == 2
    expected = {name.removeprefix("model/"): value for name, value in kept(tmp_path).items() if name.startswith("model/")}
    assert same(weights(one.model), expected)


def test_parameters_that_are_nan_are_never_kept(tmp_path: Path) -> None:
    one = trainer(tmp_path, tiny_run(checkpoint_seconds=OFTEN))
    disturb(one.model, 6, nan_gradient)  # the second stage does not look at the norm of its gradient
    with pytest.raises(NotFinite, match="step 6: ") as caught:
        one.fit()
    assert set(caught.value.names) <= {name for name, _ in one.model.named_parameters()}
    assert kept_step(tmp_path) == 5
    assert all(bool(value.isfinite().all()) for value in kept(tmp_path).values())


def test_the_norm_of_the_gradient_is_clipped(tmp_path: Path) -> None:
    """Adam forgets the scale of a gradient, but not its moments: they show it."""
    run = tiny_run(steps=1)
    norms = {}
    for limit in (None, 1e-3):
        one = run.model_copy(update={"stages": (run.stages[0].model_copy(update={"clip_norm": limit}),)})
        trainer(tmp_path / str(limit), one).fit()
        moments = [value.flatten() for name, value in kept(tmp_path / str(limit)).items() if name.endswith("/exp_avg")]
        norms[limit] = 10 * torch.cat(moments).norm().item()
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert norms[None] > 1


def test_gradients_below_the_bound_are_not_multiplied_and_those_above_as_pytorch_does(monkeypatch: pytest.MonkeyPatch) -> None:
    multiplied: list[float] = []
    real = nn.utils.clip_grads_with_norm_
    monkeypatch.setattr(nn.utils, "clip_grads_with_norm_", lambda p, bound, norm: (multiplied.append(bound), real(p, bound, norm)))
    for bound in (1.0, 12.9, 13.1, 20.0):  # the norm is 13
        ours, theirs = ([nn.Parameter(torch.zeros(2)) for _ in range(3)] for _ in range(2))
        for one, two, _ in (ours, theirs):  # the third was not reached
            one.grad, two.grad = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 12.0])
        assert loop._clip(ours, bound) == 13.0
        nn.utils.clip_grad_norm_(theirs, bound)
        for a, b in zip(ours[:2], theirs[:2], strict=True):
            assert a.grad is not None
            assert b.grad is not None
            assert torch.equal(a.grad, b.grad)
    assert multiplied == [1.0, 12.9]


# precision


def test_bfloat16_is_opened_around_the_model_where_the_run_says_so(tmp_path: Path) -> None:
    seen: dict[str, torch.dtype] = {}
    for precision in ("float32", "bfloat16"):
        one = trainer(tmp_path / precision, tiny_run(precision=precision))
        assert isinstance(one.model, VDSM)
        one.model.encoder.register_forward_hook(lambda module, inputs, out, p=precision: seen.update({p: out.dtype}))
        disturb(one.model, 2, ctrl_c)
        with pytest.raises(Interrupted):
            one.fit()
        assert {value.dtype for value in kept(tmp_path / precision).values() if value.is_floating_point()} == {torch.float32}
    assert seen == {"float32": torch.float32, "bfloat16": torch.bfloat16}


def test_a_run_of_one_step_is_at_the_beginning_of_its_schedules(tmp_path: Path) -> None:
    run = tiny_run(steps=1)
    stage = run.stages[1].model_copy(update={"schedules": {"path_kl": Schedule(points=((0, 0.25), (1, 1))), "static_kl": constant(2)}})
    train(tmp_path, run.model_copy(update={"stages": (stage,)}))
    assert rows(tmp_path)[0]["weights"] == {"path_kl": 0.25, "static_kl": 2}
    assert (tmp_path / "checkpoints" / MANIFEST).is_file()

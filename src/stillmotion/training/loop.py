"""The loop: stages in order, one step after another, resumable at every step."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stillmotion.core.abilities import Model
from stillmotion.core.errors import NotFinite, UserError
from stillmotion.core.random import Noise, seed_of
from stillmotion.core.terms import Terms
from stillmotion.data.base import ClipSet
from stillmotion.training import checkpoints
from stillmotion.training.feed import Batches
from stillmotion.training.journal import Journal
from stillmotion.training.machine import Processes, join_processes
from stillmotion.training.muon import Muon, is_matrix
from stillmotion.training.readings import read_once, worth_reading
from stillmotion.training.runs import CHECKPOINTS
from stillmotion.training.settings import Run, Stage

LOWER = 0.5
"""Factor on the learning rate each time a run goes on after a NaN."""
MOST_RETRIES = 8
VALIDATION_CLIPS = 64


class Interrupted(Exception):
    """The run was asked to stop; its last step is saved."""


class Trainer:
    """Trains a model through the stages of a run. One trainer is one process of the run.

    model, train, validation: on the device of the run, in its memory. folder: the run folder; checkpoints go below it.
    """

    def __init__(self, model: Model, run: Run, train: ClipSet, validation: ClipSet | None, folder: Path, *, show: bool = True) -> None:
        _check_stages(model, run, train)
        self.model, self.run, self.train_set, self.validation, self.folder = model, run, train, validation, folder
        self.device = next(model.parameters()).device
        self.processes: Processes = join_processes(self.device)
        self.total = sum(stage.steps for stage in run.stages)
        silent = self.processes.rank > 0
        self.journal = Journal(folder, self.total, silent=silent, show=show)
        self.step, self.lr_factor, self.retries, self.seconds = 0, 1.0, 0, 0.0
        self._stop = False

    # the run

    def fit(self) -> None:
        """Trains from the last checkpoint, or from the start, to the end.

        Raises NotFinite where a term is no longer a number (the last good checkpoint is kept), Interrupted after a signal.
        """
        saved = checkpoints.load(self.folder / CHECKPOINTS)
        self.journal.rewind(saved.facts["step"] if saved else 0)
        try:
            with self._signals():
                self._stages(saved)
        finally:
            self.journal.close()

    def _stages(self, saved: checkpoints.Checkpoint | None) -> None:
        while True:
            try:
                if saved is not None:
                    self._restore(saved)
                for stage, first in self._ahead():
                    self._stage(stage, first, saved)
                    saved = None
                return
            except NotFinite as error:
                if self.run.on_nan == "stop" or self.retries >= MOST_RETRIES:
                    raise
                saved = checkpoints.load(self.folder / CHECKPOINTS)
                if saved is None:
                    raise
                saved.facts.update(lr_factor=self.lr_factor * LOWER, retries=self.retries + 1)
                names = ", ".join(error.names)
                self.journal.say(f"{names} not finite at step {error.step}; on from step {saved.facts['step']} at half the learning rate")
                self.journal.rewind(saved.facts["step"])

    def _ahead(self) -> Iterator[tuple[Stage, int]]:
        """The stages that are not finished, each with its first step in the run."""
        first = 0
        for stage in self.run.stages:
            if self.step < first + stage.steps:
                yield stage, first
            first += stage.steps

    def _stage(self, stage: Stage, first: int, saved: checkpoints.Checkpoint | None) -> None:
        parameters = _thaw(self.model, stage)
        optimiser = optimiser_of(stage, parameters)
        if saved is not None and saved.facts["stage"] == stage.name:
            _restore(optimiser, parameters, saved.tensors)
        wrapped: nn.Module = self.model
        if self.processes.world > 1:
            wrapped = nn.parallel.DistributedDataParallel(self.model)
        if self.step == 0:
            self._save(stage, parameters, optimiser)
        last_saved = started = time.monotonic()
        before = self.seconds
        batches = Batches(self._clips(stage), stage.feed, seed_of(self.run.seed, stage.name), *self.processes, for_good=self.run.seed)
        while self.step < first + stage.steps:
            local = self.step - first
            terms, weights = self._update(stage, local, wrapped, optimiser, parameters, batches)
            self.step += 1
            self.seconds = before + time.monotonic() - started
            self._report(stage, local, terms, weights, optimiser)
            due, stop = self._agree(time.monotonic() - last_saved > self.run.checkpoint_seconds, self._stop)
            if due or stop or self.step == first + stage.steps:
                self._save(stage, parameters, optimiser)
                last_saved = time.monotonic()
            if stop:
                raise Interrupted

    def _clips(self, stage: Stage) -> ClipSet:
        """What the stage is fed: the training clips, or what its objective reads of them, where it is worth reading it once and for all."""
        reading = self.model.readings().get(stage.objective)
        if reading is None or not worth_reading(self.train_set, stage):
            return self.train_set
        self.journal.say(f"stage {stage.name}: reading each frame once")
        with self._precision():
            return read_once(self.train_set, reading, self.device)

    def _update(
        self, stage: Stage, local: int, wrapped: nn.Module, optimiser: torch.optim.Optimizer,
        parameters: list[tuple[str, nn.Parameter]], batches: Batches,
    ) -> tuple[Terms, dict[str, float]]:
        """One step of the optimiser. Raises NotFinite before anything is changed."""
        self.model.train()
        progress = local / max(stage.steps - 1, 1)
        weights = {name: schedule(progress) for name, schedule in stage.schedules.items()}
        for group in optimiser.param_groups:
            group["lr"] = stage.learning_rate * self.lr_factor * (stage.decay(progress) if stage.decay else 1.0)
        terms = self._terms(wrapped, batches(local).to(self.device), weights, stage, seed_of(self.run.seed, stage.name, local))
        self._finite(terms.not_finite())
        optimiser.zero_grad(set_to_none=True)
        terms.total.backward()  # type: ignore[no-untyped-call]
        if stage.clip_norm is not None:
            norm = _clip([value for _, value in parameters], stage.clip_norm)
            self._finite([] if math.isfinite(norm) else ["the gradient"])
        optimiser.step()
        return terms, weights

    def _terms(self, wrapped: nn.Module, clips: Any, weights: dict[str, float], stage: Stage, seed: int) -> Terms:
        noise = Noise(self.device)
        noise.manual_seed(seed)
        noise.rank, noise.world = self.processes
        with self._precision():
            terms: Terms = wrapped(clips, weights, noise, stage.objective)
        return terms

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.run.precision == "bfloat16")

    def _finite(self, names: list[str]) -> None:
        if self._agree(bool(names))[0]:
            raise NotFinite(self.step, names or ["a term of another process"])

    def _agree(self, *flags: bool) -> list[bool]:
        """Whether any process raises each flag: all must stop and save where one does, or the others wait for it for ever."""
        if self.processes.world == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.float32, device=self.device)
        dist.all_reduce(votes)
        return [vote > 0 for vote in votes.tolist()]

    # telling

    def _report(self, stage: Stage, local: int, terms: Terms, weights: dict[str, float], optimiser: torch.optim.Optimizer) -> None:
        last = local + 1 == stage.steps
        if self.step % self.run.log_every == 0 or last:
            figures = self._figures(terms)
            clips = stage.feed.batch * self.processes.world
            row = {
                "step": self.step, "stage": stage.name, "split": "train", "terms": figures, "weights": weights, "clips": clips,
                "lr": optimiser.param_groups[0]["lr"], "seconds": round(self.seconds, 3),
            }
            self.journal.write(row)
            self.journal.advance(self.step, stage.name, figures)
        if self.validation is not None and len(self.validation) and (self.step % self.run.validate_every == 0 or last):
            figures = self._validate(stage, weights)
            self.journal.write({"step": self.step, "stage": stage.name, "split": "validation", "terms": figures, "weights": weights})

    def _figures(self, terms: Terms) -> dict[str, float]:
        """The terms and their weighted total, averaged over the processes."""
        named: dict[str, Tensor | float] = {**terms.values, "total": terms.total, **terms.watched}
        values = torch.stack([torch.as_tensor(value).detach().float() for value in named.values()])
        if self.processes.world > 1:
            dist.all_reduce(values)
            values /= self.processes.world
        return dict(zip(named, values.tolist(), strict=True))

    @torch.no_grad()
    def _validate(self, stage: Stage, weights: dict[str, float]) -> dict[str, float]:
        """The terms on the first groups of the validation clips, always with the same noise; nothing is chosen by them."""
        assert self.validation is not None
        self.model.eval()
        batches = Batches(self.validation, stage.feed, seed_of(self.run.seed, "validation"), *self.processes)
        rounds = max(1, VALIDATION_CLIPS // (stage.feed.batch * self.processes.world))
        rows = []
        for k in range(rounds):
            terms = self._terms(self.model, batches(k).to(self.device), weights, stage, seed_of(self.run.seed, "validation", k))
            rows.append(self._figures(terms))
        return {name: math.fsum(row[name] for row in rows) / rounds for name in rows[0]}

    # keeping

    def _save(self, stage: Stage, parameters: list[tuple[str, nn.Parameter]], optimiser: torch.optim.Optimizer) -> None:
        state = self.model.state_dict()
        bad = [name for name, value in state.items() if value.is_floating_point() and not bool(value.isfinite().all())]
        self._finite(bad[:3])
        if self.processes.rank:
            return
        tensors = {f"model/{name}": value for name, value in state.items()}
        for name, value in parameters:
            for key, moment in optimiser.state.get(value, {}).items():
                tensors[f"adam/{name}/{key}"] = moment
        facts = {
            "step": self.step, "stage": stage.name, "lr_factor": self.lr_factor, "retries": self.retries, "seconds": self.seconds,
        }
        checkpoints.save(self.folder / CHECKPOINTS, checkpoints.Checkpoint(tensors, facts), self.step)

    def _restore(self, saved: checkpoints.Checkpoint) -> None:
        state = {name.removeprefix("model/"): value for name, value in saved.tensors.items() if name.startswith("model/")}
        try:
            self.model.load_state_dict(state)
        except RuntimeError as error:
            remedy = f"Train in another folder. PyTorch says: {str(error)[:300]}"
            raise UserError("a checkpoint of this very model", f"another one in {self.folder}", remedy) from error
        facts = saved.facts
        self.step, self.lr_factor, self.retries = facts["step"], facts["lr_factor"], facts["retries"]
        self.seconds = facts["seconds"]

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the step at hand, saved. A second Ctrl-C ends it at once."""

        def ask(number: int, frame: object) -> None:
            if self._stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop = True

        try:
            old = [(number, signal.signal(number, ask)) for number in (signal.SIGINT, signal.SIGTERM)]
        except ValueError:  # not in the main thread: whoever started it handles signals
            old = []
        try:
            yield
        finally:
            for number, handler in old:
                signal.signal(number, handler)


def _check_stages(model: Model, run: Run, train: ClipSet) -> None:
    """Raises UserError for a stage that names what the model or the data does not have, before hours are spent on the first."""
    groups, objectives = model.parameter_groups(), model.objectives()
    for stage in run.stages:
        where = f"See stage {stage.name!r}."
        for name in stage.trains:
            if name not in groups:
                raise UserError(f"parameter groups of {model.name}: {', '.join(groups)}", repr(name), where)
        if stage.objective not in objectives:
            raise UserError(f"an objective of {model.name}: {', '.join(objectives)}", repr(stage.objective), where)
        for name in stage.schedules:
            if name not in model.schedules:
                raise UserError(f"a schedule that {model.name} reads: {', '.join(model.schedules)}", repr(name), where)
        Batches(train, stage.feed, seed=0)


def _thaw(model: Model, stage: Stage) -> list[tuple[str, nn.Parameter]]:
    """Only the parameters that the stage trains take gradients; returned by name, in a fixed order."""
    groups = model.parameter_groups()
    chosen = {id(parameter) for name in stage.trains for parameter in groups[name]}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
        parameter.grad = None
    return [(name, parameter) for name, parameter in model.named_parameters() if id(parameter) in chosen]


def _clip(parameters: list[nn.Parameter], bound: float) -> float:
    """Scales the gradients to a norm of at most `bound`; the norm that they had. Nothing is multiplied where there is nothing to do."""
    norm = nn.utils.get_total_norm([value.grad for value in parameters if value.grad is not None])
    length = float(norm)
    if length > bound:
        nn.utils.clip_grads_with_norm_(parameters, bound, norm)
    return length


def optimiser_of(stage: Stage, parameters: list[tuple[str, nn.Parameter]]) -> torch.optim.Adam:
    """What steps the named parameters in this stage: Adam, or Muon for matrices and Adam for the rest."""
    values: list[nn.Parameter] = [value for _, value in parameters]
    settings: dict[str, Any] = {"lr": stage.learning_rate, "betas": stage.betas, "fused": True}
    if stage.optimiser == "adam":
        return torch.optim.Adam(values, **settings)
    return Muon(values, [value for name, value in parameters if is_matrix(name, value)], **settings)


def _restore(optimiser: torch.optim.Adam, parameters: list[tuple[str, nn.Parameter]], tensors: dict[str, Tensor]) -> None:
    """The moments of a checkpoint; at the first step of a stage there are none."""
    for name, value in parameters:
        prefix = f"adam/{name}/"
        moments = {key.removeprefix(prefix): moment for key, moment in tensors.items() if key.startswith(prefix)}
        if moments:
            optimiser.state[value] = {key: moment.to(value.device) for key, moment in moments.items()}

"""What the law book must know of a model: how to build a small one, and the lessons that teach it the toy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from stillmotion.core.abilities import Model
from stillmotion.core.clips import Clips
from stillmotion.core.random import Noise
from stillmotion.models.ae_rnn import AERNN, AERNNConfig
from stillmotion.models.dmm import DMM, DMMConfig
from stillmotion.models.dsa import DSA, DSAConfig
from stillmotion.models.dvbf import DVBF, DVBFConfig
from stillmotion.models.kvae import KVAE, KVAEConfig
from stillmotion.models.srnn import SRNN, SRNNConfig
from stillmotion.models.vae_rnn import VAERNN, VAERNNConfig
from stillmotion.models.vdsm import VDSM
from stillmotion.models.vdsm_config import VDSMConfig


@dataclass(frozen=True)
class Lesson:
    """Some training steps: what is minimised, what moves, how fast, and the weights of the terms, which go straight from start to end."""

    steps: int
    objective: str = "loss"
    trains: tuple[str, ...] = ("all",)
    learning_rate: float = 3e-3
    start: Mapping[str, float] = field(default_factory=dict)
    end: Mapping[str, float] = field(default_factory=dict)

    def weights(self, step: int) -> dict[str, float]:
        """The weights at a step; they arrive at their end after six tenths of the lesson."""
        progress = min(1.0, step / (0.6 * self.steps))
        return {name: first + (self.end[name] - first) * progress for name, first in self.start.items()}


@dataclass(frozen=True)
class Case:
    """A model as the laws need it. build: makes a new, small one for the frames of the toy (3, 8, 8). lessons: enough for the toy."""

    build: Callable[[], Model]
    lessons: tuple[Lesson, ...]

    def model(self, seed: int = 0) -> Model:
        """A new model in evaluation mode, its weights drawn from `seed`; the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build().eval()


def taught(case: Case, clips: Clips, seed: int) -> Model:
    """A new model after the lessons of its case, in evaluation mode."""
    model, pick = case.model(seed).train(), Noise()
    pick.manual_seed(seed)
    for lesson in case.lessons:
        groups = model.parameter_groups()
        optimiser = torch.optim.Adam([p for name in lesson.trains for p in groups[name]], lr=lesson.learning_rate)
        for step in range(lesson.steps):
            batch = clips[torch.randint(len(clips), (16,), generator=pick)]
            optimiser.zero_grad()
            model(batch, lesson.weights(step), pick, lesson.objective).total.backward()
            optimiser.step()
    return model.eval()


def _ae_rnn() -> Model:
    return AERNN(AERNNConfig(size=8, channels=3, code=4, width=16, dynamics_size=16))


def _vae_rnn() -> Model:
    return VAERNN(VAERNNConfig(size=8, channels=3, code=4, width=16, dynamics_size=16))


def _srnn() -> Model:
    return SRNN(SRNNConfig(size=8, channels=3, state=4, memory=24, hidden=24, width=16))


def _dvbf() -> Model:
    return DVBF(DVBFConfig(size=8, channels=3, state=6, modes=4, hidden=32, rnn_size=16, width=16))


def _dmm() -> Model:
    return DMM(DMMConfig(size=8, channels=3, state=6, width=16, rnn_size=24, transition_hidden=16))


def _kvae() -> Model:
    return KVAE(KVAEConfig(size=8, channels=3, code=4, state=6, width=16, dynamics_size=16, learned_noise=True))


def _dsa() -> Model:
    return DSA(DSAConfig(size=8, static=6, path=6, width=1 / 32, rnn=24, pixel_scale=0.3))


def _vdsm() -> Model:
    config = VDSMConfig(
        size=8, static=6, pose=6, dynamic=8, encoder_channels=(16, 32), decoder_channels=(32,), rnn_layers=1, rnn_size=32,
        decoder_input="static", recolour=1.0,
    )
    return VDSM(config)


CASES: dict[str, Case] = {
    "ae_rnn": Case(build=_ae_rnn, lessons=(Lesson(150, "frames", ("frames",), 7e-3),)),
    "dmm": Case(build=_dmm, lessons=(Lesson(120, learning_rate=1e-2, start={"path_kl": 0.1}, end={"path_kl": 0.5}),)),
    "dsa": Case(
        build=_dsa,
        lessons=(Lesson(100, learning_rate=7e-3, start={"static_kl": 0.1, "path_kl": 3.0}, end={"static_kl": 1.0, "path_kl": 1.0}),),
    ),
    "dvbf": Case(
        build=_dvbf,
        lessons=(Lesson(150, learning_rate=1e-2),),
    ),
    "kvae": Case(
        build=_kvae,
        lessons=(
            Lesson(
                150, trains=("vae", "systems", "dynamics"), learning_rate=7e-3, start={"reconstruction": 0.3}, end={"reconstruction": 0.3},
            ),
        ),
    ),
    "srnn": Case(build=_srnn, lessons=(Lesson(120, learning_rate=7e-3, start={"path_kl": 0.2}, end={"path_kl": 1.0}),)),
    "vae_rnn": Case(build=_vae_rnn, lessons=(Lesson(150, "frames", ("frames",), 7e-3, start={"path_kl": 0.1}, end={"path_kl": 1.0}),)),
    "vdsm": Case(
        build=_vdsm,
        lessons=(
            Lesson(
                250, "poses", ("encoder", "decoder", "heads"), 5e-3,
                start={"temperature": 3.0, "static_kl": 0.02, "path_kl": 2.0}, end={"temperature": 10.0, "static_kl": 0.1, "path_kl": 1.0},
            ),
            Lesson(
                150, "sequence", ("heads", "sequence"), 6e-3,
                start={"static_kl": 0.1, "dynamic_kl": 0.1, "path_kl": 0.1}, end={"static_kl": 1.0, "dynamic_kl": 1.0, "path_kl": 1.0},
            ),
        ),
    ),
}
"""The case of each registered model, by name."""


def case_of(name: str) -> Case:
    """The case of a registered model. Raises AssertionError, with what to write, where it has none."""
    if name not in CASES:
        raise AssertionError(
            f"the model {name} is registered but the law book cannot test it: add CASES[{name!r}] = Case(build=..., lessons=...) to "
            f"stillmotion/testing/cases.py, with a small model of frames (3, 8, 8)"
        )
    return CASES[name]

"""The tables and figures of the Kalman VAE paper (Fraccaro, Kamronn, Paquet and Winther, NIPS 2017), each as a reproduction.

Every part trains what it needs in runs/ of its folder; the whole is all parts in one folder, which share their runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stillmotion.metrics.exhibits import Exhibit, Page
from stillmotion.metrics.figure import Figure
from stillmotion.models.kvae import KVAE
from stillmotion.recipes.kvae import world
from stillmotion.recipes.kvae_ablations import DYNAMICS, SHARES, comparison, missing_table
from stillmotion.recipes.kvae_baselines import ball, baseline
from stillmotion.recipes.kvae_curves import Filler, count_below, curves, errors_table, figures_of, margins_table, measure, order_table
from stillmotion.recipes.kvae_hidden import Hidden
from stillmotion.recipes.kvae_modes import mode_maps
from stillmotion.recipes.kvae_overlays import generations
from stillmotion.recipes.kvae_paths import gap_in_motion, trajectories
from stillmotion.recipes.kvae_swing import swing
from stillmotion.recipes.lab import Lab, load
from stillmotion.recipes.reproduce import Plan, Reproduced

RIVALS = {"ae_rnn": "AE-RNN", "vae_rnn": "VAE-RNN"}
"""Those of the paper, which look forward only."""
OTHERS = {"srnn": "SRNN, smoothing", "dmm": "DMM, smoothing"}
"""Beyond the paper; of each one seed, in the box alone."""
WORLDS = ("box", "gravity", "polygon", "pong")
HELD_QUICK = {"validation": 16, "test": 24}
"""Clips that a quick reproduction holds out."""
Part = Callable[[Lab], Reproduced]


def box(folder: Path, plan: Plan) -> Reproduced:
    """Figures 3a, 3b and 3c: hidden frames of a ball in a box, by the Kalman VAE and its rivals."""
    return _box(Lab(folder, plan, HELD_QUICK))


def worlds(folder: Path, plan: Plan) -> Reproduced:
    """Figure 5 and figures 3a and 3b once more: a ball under gravity, in a polygon, and Pong."""
    return _worlds(Lab(folder, plan, HELD_QUICK))


def pendulum(folder: Path, plan: Plan) -> Reproduced:
    """Table 1: bounds on the torque-driven pendulum of Kalman VAE, DVBF and DMM, and what their states know."""
    return swing(Lab(folder, plan, HELD_QUICK))


def missing(folder: Path, plan: Plan) -> Reproduced:
    """The Kalman VAE trained with frames missing, each with a probability of up to 0.4."""
    return _missing(Lab(folder, plan, HELD_QUICK))


def dynamics(folder: Path, plan: Plan) -> Reproduced:
    """Figure 4 and the comparison of dynamics networks: LSTM, last code, window, and a single linear system."""
    return _dynamics(Lab(folder, plan, HELD_QUICK))


def reproduce(folder: Path, plan: Plan) -> Reproduced:
    """The Kalman VAE: all tables and figures of the paper."""
    lab = Lab(folder, plan, HELD_QUICK)
    parts = [part(lab) for part in PARTS]
    exhibits: list[Exhibit] = [exhibit for part in parts for exhibit in part.page.exhibits if exhibit.name != RUNS]
    exhibits.append(lab.runs_table(RUNS))
    page = Page("Kalman VAE", " ".join(part.page.summary for part in parts), tuple(exhibits))
    figures = {name: figure for part in parts for name, figure in part.figures.items()}
    return Reproduced(page, figures, {name: value for part in parts for name, value in part.paper.items()})


RUNS = "runs"
ONE = (0,)
"""The seeds of parts that have no more."""


def _box(lab: Lab) -> Reproduced:
    hidden, fillers = _fillers(lab, "box", lab.plan.seeds, OTHERS)
    exhibits, figures, paper = _imputed("box", hidden, fillers)
    model = load(lab.trained["box_kvae_0"])
    drawn: tuple[Exhibit, ...] = (*trajectories(model, hidden.clips), gap_in_motion(model, hidden.clips))
    summary = "Frames of a bouncing ball are hidden and filled in: at random, and in the middle of a clip."
    return _reproduced(lab, "Kalman VAE: a ball in a box", summary, (*exhibits, *drawn), figures, paper)


def _worlds(lab: Lab) -> Reproduced:
    exhibits, figures = list[Exhibit](), dict[str, Figure]()
    models, clips = {}, {}
    for name in WORLDS:
        if name == "box":
            lab.train("box_kvae_0", world(name, lab.size))
            clips[name] = Hidden.of(lab.data(world(name, lab.size)).test, ("n9",)).clips
        else:
            hidden, fillers = _fillers(lab, name, 1, {})
            shown, found, _ = _imputed(name, hidden, fillers)
            exhibits, figures, clips[name] = [*exhibits, *shown], figures | found, hidden.clips
        models[name] = load(lab.trained[f"{name}_kvae_0"])
    summary = "The same in three more worlds, one seed each, and clips that the model makes up."
    return _reproduced(lab, "Kalman VAE: other worlds", summary, (generations(models, clips), *exhibits), figures, {}, ONE)


def _fillers(lab: Lab, name: str, seeds: int, others: dict[str, str]) -> tuple[Hidden, list[Filler]]:
    """The Kalman VAE both ways, its rivals, further ones of one seed, and what needs no model."""
    hidden = Hidden.of(lab.data(world(name, lab.size)).test)
    kalman = [lab.train(f"{name}_kvae_{seed}", world(name, lab.size, seed=seed)) for seed in range(seeds)]
    fillers = [
        hidden.fill("smooth", "KVAE, smoothing", kalman, past_only=False), hidden.fill("filter", "KVAE, filtering", kalman, past_only=True),
    ]  # fmt: skip
    for model, label in (RIVALS | others).items():
        count = seeds if model in RIVALS else 1
        runs = [lab.train(f"{name}_{model}_{seed}", baseline(model, name, lab.size, seed=seed)) for seed in range(count)]
        fillers.append(hidden.fill(model, label, runs, past_only=model in RIVALS))
    return hidden, fillers + hidden.references()


def _imputed(name: str, hidden: Hidden, fillers: list[Filler]) -> tuple[list[Exhibit], dict[str, Figure], dict[str, float]]:
    """Curves and tables of one world, with the share of points at which smoothing wins, the least of all seeds."""
    measured = measure(fillers, hidden.masks)
    figures, paper = figures_of(name, measured)
    seeds = len(fillers[0].errors)
    for rival in ("filter", *RIVALS):
        share = min(wins / points for wins, points in (count_below(measured, "smooth", rival, seed) for seed in range(seeds)))
        figures[f"order_{name}_smooth_below_{rival}"] = Figure(share, share, share, len(hidden.clips))
    margins, told = margins_table(name, [filler for filler in fillers if filler.key in ("smooth", "filter", *RIVALS)], hidden.masks)
    figures |= told
    tables = errors_table(name, fillers, measured), order_table(name, fillers, measured), margins
    return [*curves(name, fillers, measured), *tables], figures, paper


def _missing(lab: Lab) -> Reproduced:
    hidden = Hidden.of(lab.data(world("box", lab.size)).test, ("p50", "n9"))
    measured = {}
    for share in SHARES:
        name = "box_kvae_0" if not share else f"box_kvae_missing_{round(100 * share)}"
        run = lab.train(name, ball("box", lab.size, hidden=share))
        ways = [hidden.fill(way, way, [run], past_only=way == "filter") for way in ("smooth", "filter")]
        measured[share] = measure(ways, hidden.masks)
    table, figures = missing_table(measured)
    summary = (
        "Training with frames missing: each after the third of a clip is hidden with one probability, the same ones at every turn. In the "
        "last two thirds of the steps further ones are hidden for a turn, in all rows alike."
    )
    return _reproduced(lab, "Kalman VAE: training with missing frames", summary, (table,), figures, {}, ONE)


def _dynamics(lab: Lab) -> Reproduced:
    hidden = Hidden.of(lab.data(world("box", lab.size)).test)
    fillers = []
    for key, (label, options) in DYNAMICS.items():
        name = "box_kvae_0" if not options else f"box_kvae_{key}"
        run = lab.train(name, ball("box", lab.size, **options))
        fillers.append(hidden.fill(key, label, [run], past_only=False))
    exhibits, figures = comparison(fillers, hidden.masks)
    model = load(lab.trained["box_kvae_mlp"])
    assert isinstance(model, KVAE)
    summary = "What chooses between the linear systems, and where each of them is used."
    return _reproduced(lab, "Kalman VAE: the dynamics network", summary, (*mode_maps(model), *exhibits), figures, {}, ONE)


def _reproduced(
    lab: Lab, title: str, summary: str, exhibits: tuple[Exhibit, ...], figures: dict[str, Figure], paper: dict[str, float],
    seeds: tuple[int, ...] | None = None,
) -> Reproduced:  # fmt: skip
    return Reproduced(Page(title, summary, (*exhibits, lab.runs_table(RUNS))), figures, paper, seeds=seeds)


PARTS: tuple[Part, ...] = (_box, _worlds, swing, _missing, _dynamics)

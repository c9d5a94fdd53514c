"""`graphengine reproduce`: a network of the zoo trained on real data, and its figure beside the goal."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from graphengine.cli import show
from graphengine.cli.files import save_trained
from graphengine.cli.options import AsJson, Save, Seed
from graphengine.zoo.experiments import EXPERIMENTS, Outcome
from graphengine.zoo.experiments import reproduce as run

_QUICK = 1000
"""Examples of a quick run."""


HELP = """Train a network of the zoo on real data, and compare the result with its goal.

The figures in docs/results.md are from this command. The seed is fixed, so the same machine gives the same figure."""


def reproduce(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The network; default: print the list.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"One epoch over {_QUICK:,} examples, as a test.")] = False,
    seed: Seed = None,
    save: Save = None,
    as_json: AsJson = False,
) -> None:
    """Run the command; `HELP` says what it does."""
    if name is None:
        abouts = {key: experiment.about for key, experiment in EXPERIMENTS.items()}
        typer.echo(json.dumps(abouts)) if as_json else show.console().print(show.facts(abouts.items()))
        return
    if name not in EXPERIMENTS:
        raise typer.BadParameter(f"there is no {name!r}; there are {', '.join(EXPERIMENTS)}", param_hint="NAME")
    if save is not None:
        save.mkdir(parents=True, exist_ok=True)  # what cannot be written to should not be found out after the work
    outcome = run(EXPERIMENTS[name], seed=seed, examples=_QUICK if quick else None)
    if save is not None:
        save_trained(save, name, outcome.graph, outcome.data, outcome.executable)
    if as_json:
        typer.echo(json.dumps({"name": name, "quick": quick, **_as_dict(outcome)}))
    else:
        show.console().print(_facts(EXPERIMENTS[name].about, outcome, quick))


def _facts(about: str, outcome: Outcome, quick: bool) -> RenderableType:
    train, test = _examples(outcome)
    goal = outcome.goal
    bound = f"{'at least' if goal.at_least else 'at most'} {goal.bound:.4f}"
    because = f", {goal.because}" if goal.because else ""
    verdict = "a quick run, which says nothing of it" if quick else "reached" if outcome.reached else "missed"
    rows = [
        ("network", f"{about}; {show.count_parameters(outcome.graph):,} parameters"),
        ("data", f"{train:,} examples to train, {test:,} held back"),
        ("training", f"{show.training_text(outcome.training)}; seed {outcome.training.seed}"),
        ("trained", show.history_text(outcome.history)),
        (goal.figure, f"{outcome.value:.4f}"),
        ("to reach", f"{bound}{because}: {verdict}"),
        ("wall time", show.seconds_text(outcome.seconds)),
    ]
    return show.facts(rows)


def _as_dict(outcome: Outcome) -> dict[str, Any]:
    """What `--json` prints; times are in seconds."""
    goal, history, training = outcome.goal, outcome.history, outcome.training
    train, test = _examples(outcome)
    return {
        "figure": goal.figure,
        "value": outcome.value,
        "goal": goal.bound,
        "at_least": goal.at_least,
        "because": goal.because,
        "reached": outcome.reached,
        "parameters": show.count_parameters(outcome.graph),
        "train_examples": train,
        "test_examples": test,
        "seed": training.seed,
        "epochs": len(history),
        "batch_size": training.batch_size,
        "steps": history.steps,
        "train_loss": history["loss"],
        "train_seconds": history.seconds,
        "seconds": outcome.seconds,
    }


def _examples(outcome: Outcome) -> list[int]:
    """How many to train on, and how many held back."""
    return [len(next(iter(part.values()))) for part in outcome.data]

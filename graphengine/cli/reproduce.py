"""`graphengine reproduce`: a network of the zoo trained on real data, and its figure beside the goal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from graphengine.cli import show
from graphengine.cli.files import write_arrays
from graphengine.train.checkpoint import save_parameters
from graphengine.zoo.experiments import EXPERIMENTS, Goal, Outcome
from graphengine.zoo.experiments import reproduce as run

_QUICK = 1000
"""Examples of a quick run."""


def reproduce(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The network; default: print the list.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"One epoch over {_QUICK:,} examples, as a test.")] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="The seed of the initial weights and of the batches.")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A folder for the document, the data and the trained weights.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Train a network of the zoo on real data, and compare the result with its goal.

    The figures in docs/results.md are from this command. The seed is fixed, so the same machine gives the same figure.
    """
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
        _save(save, name, outcome)
    if as_json:
        typer.echo(json.dumps({"name": name, "quick": quick, **_as_dict(outcome)}))
    else:
        show.console().print(_facts(EXPERIMENTS[name].about, outcome, quick))


def _facts(about: str, outcome: Outcome, quick: bool) -> RenderableType:
    goal, history, training = outcome.goal, outcome.history, outcome.training
    train, test = (_examples(part) for part in outcome.data)
    passes = f"{training.epochs} epochs in batches of {training.batch_size}"
    verdict = "a quick run, which says nothing of it" if quick else "reached" if outcome.reached else "missed"
    rows = [
        ("network", f"{about}; {_parameters(outcome):,} parameters"),
        ("data", f"{train:,} examples to train, {test:,} held back"),
        ("training", f"{show.optimizer_text(training.optimizer)}; {passes}; seed {training.seed}"),
        ("trained", f"{history.steps:,} steps in {show.seconds_text(history.seconds)}; loss {history['loss'][-1]:.4f}"),
        (goal.figure, f"{outcome.value:.4f}"),
        ("to reach", f"{_goal_text(goal)}: {verdict}"),
        ("wall time", show.seconds_text(outcome.seconds)),
    ]
    return show.facts(rows)


def _goal_text(goal: Goal) -> str:
    bound = f"{'at least' if goal.at_least else 'at most'} {goal.bound:.4f}"
    return f"{bound}, {goal.because}" if goal.because else bound


def _as_dict(outcome: Outcome) -> Mapping[str, Any]:
    """What `--json` prints; times are in seconds."""
    return {
        "figure": outcome.goal.figure,
        "value": outcome.value,
        "goal": outcome.goal.bound,
        "at_least": outcome.goal.at_least,
        "because": outcome.goal.because,
        "reached": outcome.reached,
        "parameters": _parameters(outcome),
        "train_examples": _examples(outcome.data.train),
        "test_examples": _examples(outcome.data.test),
        "seed": outcome.training.seed,
        "epochs": len(outcome.history),
        "batch_size": outcome.training.batch_size,
        "steps": outcome.history.steps,
        "train_loss": outcome.history["loss"],
        "train_seconds": outcome.history.seconds,
        "seconds": outcome.seconds,
    }


def _save(folder: Path, name: str, outcome: Outcome) -> None:
    """Write what `graphengine train`, `predict` and `evaluate` take up."""
    outcome.graph.save(folder / f"{name}.json")
    write_arrays(folder / "train.npz", outcome.data.train)
    write_arrays(folder / "test.npz", outcome.data.test)
    save_parameters(outcome.executable, folder / f"{name}.weights.safetensors")


def _examples(arrays: Mapping[str, Any]) -> int:
    return len(next(iter(arrays.values())))


def _parameters(outcome: Outcome) -> int:
    return sum(node.type.size for node in outcome.graph.parameters)

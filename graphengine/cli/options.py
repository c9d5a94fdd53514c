"""The options that several commands have, and what options mean for the library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from graphengine.errors import SpecError
from graphengine.ir.graph import Graph
from graphengine.ir.limits import USUAL, Limits
from graphengine.ir.spec.attributes import read_fields
from graphengine.ir.spec.document import Place, parse
from graphengine.ir.tagged import arguments
from graphengine.ir.training import Optimizer, Training

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="A graph's JSON document; - for standard input.")]
Data = Annotated[
    Path, typer.Option(metavar="FILE.npz", help="Arrays, named as the graph's inputs are; - for standard input.")
]
Weights = Annotated[
    Path, typer.Option(metavar="FILE", help="Weights that `train` wrote (.safetensors); - for standard input.")
]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="NAME", help="A metric, such as accuracy or mean_squared_error (repeatable)."),
]
AtATime = Annotated[int, typer.Option("--batch-size", min=1, help="Examples at a time.")]
Seed = Annotated[int | None, typer.Option(min=0, help="The seed of the initial weights and of the batches.")]
Save = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="A folder for the document, the data and the trained weights.")
]
Limit = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=N", help="What may be read at most, as ge.Limits names it (repeatable)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def training_of(
    graph: Graph, learning_rate: float | None = None, optimizer: str | None = None, **changes: int | None
) -> Training:
    """The training section of a graph's document, with `changes` to its fields that are not None."""
    if graph.training is None:
        raise SpecError(
            f'graph {graph.name!r} has no training section; add one: "training": '
            '{"loss": "loss", "optimizer": {"kind": "sgd", "learning_rate": 0.1}, "batch_size": 32, "epochs": 10}'
        )
    fields = dict(graph.training) | {name: value for name, value in changes.items() if value is not None}
    rule = graph.training.optimizer if optimizer is None else _optimizer(optimizer)
    if learning_rate is not None:
        settings = {name: getattr(rule, name) for name in arguments(type(rule))}
        rule = type(rule)(**{**settings, "learning_rate": learning_rate})
    return Training(**fields | {"optimizer": rule})


def _optimizer(text: str) -> Optimizer:
    """What `--optimizer` says, as a document would."""
    place = Place("--optimizer")
    section = {"loss": "loss", "optimizer": parse(text, place, USUAL)}
    return read_fields(Training, section, place, "--optimizer").optimizer


def limits_of(texts: Sequence[str] | None) -> Limits:
    """What `--limit` says."""
    return Limits(**_numbers(texts, "--limit", "nodes=1000"))


def _numbers(texts: Sequence[str] | None, option: str, example: str) -> dict[str, int]:
    """What an option that may be repeated says, NAME=N each time."""
    numbers = {}
    for text in texts or ():
        name, _, number = text.partition("=")
        if not name or not number.isdecimal():
            raise typer.BadParameter(f"NAME=N is needed, such as {example}, not {text!r}", param_hint=option)
        numbers[name] = int(number)
    return numbers


def fraction_of(text: str | None) -> float | None:
    """The number that `--validation` says; None if it names a file."""
    try:
        fraction = float(text or "")
    except ValueError:
        return None
    if not 0 < fraction < 1:
        raise typer.BadParameter(f"a fraction lies between 0 and 1, not {text}", param_hint="--validation")
    return fraction


def sizes_of(graph: Graph, batch: int, texts: Sequence[str] | None) -> dict[str, int]:
    """The sizes of named dims that `--batch` and `--size` give; `--batch` counts where the graph has such a dim."""
    has_batch = any("batch" in node.type.names() for node in graph.inputs)
    sizes = {"batch": batch} if has_batch else {}
    return sizes | _numbers(texts, "--size", "time=20")

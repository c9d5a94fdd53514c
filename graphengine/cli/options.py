"""The options that several commands have, and what options mean for the library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from graphengine.cli.files import read_arrays
from graphengine.errors import SpecError
from graphengine.ir.graph import Graph
from graphengine.ir.tagged import arguments
from graphengine.ir.training import Training
from graphengine.ir.types import Array

Spec = Annotated[Path, typer.Argument(metavar="SPEC", help="A graph's JSON document.")]
Data = Annotated[Path, typer.Option(metavar="FILE.npz", help="Arrays, named as the graph's inputs are.")]
Weights = Annotated[Path, typer.Option(metavar="FILE", help="Weights that `train` wrote (.safetensors).")]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", metavar="NAME", help="A metric, such as accuracy or mean_squared_error (repeatable)."),
]
AtATime = Annotated[int, typer.Option("--batch-size", min=1, help="Examples at a time.")]
Seed = Annotated[int | None, typer.Option(min=0, help="The seed of the initial weights and of the batches.")]
Save = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="A folder for the document, the data and the trained weights.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]


def training_of(graph: Graph, learning_rate: float | None = None, **changes: int | None) -> Training:
    """The training section of a graph's document, with `changes` to its fields that are not None."""
    if graph.training is None:
        raise SpecError(
            f'graph {graph.name!r} has no training section; add one: "training": '
            '{"loss": "loss", "optimizer": {"kind": "sgd", "learning_rate": 0.1}, "batch_size": 32, "epochs": 10}'
        )
    fields = dict(graph.training) | {name: value for name, value in changes.items() if value is not None}
    if learning_rate is not None:
        optimizer = graph.training.optimizer
        settings = {name: getattr(optimizer, name) for name in arguments(type(optimizer))}
        fields["optimizer"] = type(optimizer)(**{**settings, "learning_rate": learning_rate})
    return Training(**fields)


def validation_of(text: str | None) -> float | dict[str, Array] | None:
    """What `--validation` says: a fraction between 0 and 1, or the name of a file of arrays."""
    if text is None:
        return None
    try:
        fraction = float(text)
    except ValueError:
        return read_arrays(Path(text))
    if not 0 < fraction < 1:
        raise typer.BadParameter(f"a fraction lies between 0 and 1, not {text}", param_hint="--validation")
    return fraction


def sizes_of(graph: Graph, batch: int, texts: Sequence[str] | None) -> dict[str, int]:
    """The sizes of named dims that `--batch` and `--size` give; `--batch` counts where the graph has such a dim."""
    has_batch = any("batch" in node.type.names() for node in graph.inputs)
    sizes = {"batch": batch} if has_batch else {}
    for text in texts or ():
        name, _, size = text.partition("=")
        if not name or not size.isdecimal():
            raise typer.BadParameter(f"NAME=N is needed, such as time=20, not {text!r}", param_hint="--size")
        sizes[name] = int(size)
    return sizes

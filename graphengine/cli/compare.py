"""`graphengine compare`: what one gradient of a document's loss costs, in four ways."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from graphengine.baselines import Comparison, Way, random_feeds
from graphengine.baselines import compare as measure
from graphengine.cli import show
from graphengine.cli.files import read_arrays
from graphengine.cli.options import sizes_of
from graphengine.compile import compile
from graphengine.errors import SpecError
from graphengine.ir.array import to_json_value
from graphengine.ir.graph import Graph
from graphengine.ir.spec import load
from graphengine.ir.types import Array
from graphengine.testing import in_float64
from graphengine.train.data import as_source, batch_axis
from graphengine.view.summary import all_sizes

_BATCH = 32
"""Examples of a batch for which neither the user nor the document has a number."""


def compare(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A graph's JSON document.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Arrays, named as the graph's inputs; default: random ones."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Examples; default: the document's batch size, or 32.")
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="DIM=N", help="The size of another dim of random arrays; default 1 (repeatable)."),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(metavar="NAME", help="The output to differentiate; default: the document's loss.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, metavar="N", help="Parameters to take one by one, at most.")] = 200,
    seconds: Annotated[float, typer.Option(min=0.0, help="Limit for these; a few are measured in any case.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Compute one gradient by backpropagation and in three other ways, and compare costs and results.

    The others take the parameters one by one: central differences, forward mode, and the chain rule along every path
    with nothing shared. Where all parameters would take too long, some are drawn at random and the seconds are scaled
    to all. Everything runs in float64, at the first parameters of the document's seed.
    """
    graph = load(spec)
    name = _loss_of(graph, loss)
    if data is not None and size:
        raise typer.BadParameter("the arrays of --data have their sizes", param_hint="--size")
    number = batch or (graph.training.batch_size if graph.training else None) or _BATCH
    feeds = _random(graph, number, size or []) if data is None else _first(graph, read_arrays(data), number)
    if data is not None:
        compile(graph).forward(feeds, [name])  # so that errors tell the types that the document declares
    seed = graph.training.seed if graph.training else 0
    compared = measure(in_float64(graph), name, feeds, samples=samples, seed=seed, seconds=seconds)
    run = _Run(graph.name, name, str(data) if data else "random", {key: value.shape for key, value in feeds.items()})
    if as_json:
        typer.echo(json.dumps(_as_dict(run, compared)))
    else:
        show.console().print(_shown(run, compared))


@dataclass(frozen=True, slots=True)
class _Run:
    """What was differentiated, and on which data."""

    graph: str
    loss: str
    data: str
    shapes: Mapping[str, tuple[int, ...]]


def _loss_of(graph: Graph, asked: str | None) -> str:
    """The output that is asked for, that of the training section, "loss", or the only one. Raises SpecError."""
    name = asked or (graph.training.loss if graph.training else None)
    if name is None:
        name = "loss" if "loss" in graph.outputs or len(graph.outputs) != 1 else next(iter(graph.outputs))
    if name not in graph.outputs:
        there = ", ".join(graph.outputs) or "none"
        raise SpecError(f"graph {graph.name!r} has no output {name!r} to differentiate; its outputs: {there}")
    return name


def _random(graph: Graph, batch: int, texts: list[str]) -> dict[str, Array]:
    axis = batch_axis(graph)
    given = sizes_of(graph, batch, texts)
    return random_feeds(graph, all_sizes(graph, ({axis: batch} if axis else {}) | given))


def _first(graph: Graph, arrays: Mapping[str, Array], batch: int) -> dict[str, Array]:
    """The first examples of these arrays."""
    feeds, _ = next(as_source(graph, arrays).batches(list(arrays), batch))
    return dict(feeds)


def comparison_table(compared: Comparison) -> Table:
    """The ways, a line each, with what they take."""
    every = f"{compared.parameters:,}"
    passes = {
        "central differences": f"{2 * compared.parameters:,}",
        "forward mode": f"{every}, with tangents",
        "chain rule, unshared": f"{every}, path by path",
    }
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("by")
    for heading in ("takes", "FLOPs", "forward passes", "largest difference"):
        table.add_column(heading, justify="left" if heading == "forward passes" else "right", no_wrap=True)
    table.add_row("backpropagation", *_cost(compared.backprop), "1, and 1 backward", "")
    for name, way in compared.others.items():
        difference = "not whole" if way.difference is None else f"{way.difference:.0e}" if way.difference else "0"
        table.add_row(name, *_cost(way), passes[name], difference)
    return table


def _cost(way: Way) -> tuple[str, str]:
    flops = f"{way.flops:,}" if way.flops < 10**15 else f"{Decimal(way.flops):.2e}"
    return f"{'~' if way.scaled else ''}{show.seconds_text(way.seconds)}", flops


def _shown(run: _Run, compared: Comparison) -> RenderableType:
    arrays = ", ".join(f"{name} [{', '.join(map(str, shape))}]" for name, shape in run.shapes.items())
    rows = [
        ("graph", f"{run.graph}; {compared.parameters:,} parameters, float64"),
        ("data", f"{run.data}: {arrays or 'no inputs'}"),
        (run.loss, f"{show.seconds_text(compared.forward_seconds)}, {compared.forward_flops:,} FLOPs"),
    ]
    return Group(show.facts(rows), comparison_table(compared), Text("\n".join(_notes(compared))))


def _notes(compared: Comparison) -> Iterable[str]:
    chosen = compared.elements
    if len(chosen) < compared.parameters:
        yield f"  One by one: {len(chosen)} of {compared.parameters:,} parameters, drawn at random:"
        counts = {name: len(indices) for name, indices in _by_parameter(compared).items()}
        yield f"  {', '.join(f'{count} of {name}' for name, count in counts.items())}."
    else:
        yield f"  One by one: all {compared.parameters:,} parameters."
    if any(way.scaled for way in compared.others.values()):
        yield "  ~: seconds of the whole, scaled from these parameters, or from some of their paths."
    yield f"  Differences are from backpropagation, whose largest derivative by one of these is {compared.largest:.2g}."


def _by_parameter(compared: Comparison) -> dict[str, list[int]]:
    """The indices of the elements that were taken, by parameter."""
    found: dict[str, list[int]] = {}
    for name, index in compared.elements:
        found.setdefault(name, []).append(index)
    return found


def _as_dict(run: _Run, compared: Comparison) -> dict[str, Any]:
    """What `--json` prints; times are in seconds."""
    ways = {"backpropagation": compared.backprop, **compared.others}
    return {
        "graph": run.graph,
        "loss": run.loss,
        "data": run.data,
        "shapes": run.shapes,
        "parameters": compared.parameters,
        "sample": _by_parameter(compared),
        "largest_derivative": _number(compared.largest),
        "forward": {"seconds": compared.forward_seconds, "flops": compared.forward_flops},
        "ways": {name: _way(way) for name, way in ways.items()},
    }


def _way(way: Way) -> dict[str, Any]:
    found = {"seconds": _number(way.seconds), "flops": way.flops, "measured_on": way.sample, "scaled": way.scaled}
    apart = {} if way.difference is None else {"largest_difference": _number(way.difference)}
    return {**found, **apart}


def _number(value: float) -> Any:
    """A number that JSON has; "NaN" and "Infinity" as documents write them."""
    return to_json_value(np.asarray(value))

"""`graphengine compare`: what one gradient of a document's loss costs, in four ways."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import groupby
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
from graphengine.cli.files import check_files, read_arrays, read_document
from graphengine.cli.options import AsJson, Limit, Spec, limits_of, sizes_of
from graphengine.compile import compile
from graphengine.errors import SpecError
from graphengine.ir.array import to_json_value
from graphengine.ir.graph import Graph
from graphengine.ir.types import Array
from graphengine.testing import in_float64
from graphengine.train.data import as_source, batch_axis
from graphengine.view.summary import all_sizes

_BATCH = 32
"""Examples of a batch for which neither the user nor the document has a number."""


HELP = """Compute one gradient by backpropagation and in three other ways, and compare costs and results.

The others take the parameters one by one: central differences, forward mode, and the chain rule along every path
with nothing shared. Where all parameters would take too long, some are drawn at random and the seconds are scaled
to all. Everything runs in float64, at the first parameters of the document's seed."""


def compare(
    spec: Spec,
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
    as_json: AsJson = False,
    limit: Limit = None,
) -> None:
    """Run the command; `HELP` says what it does."""
    check_files([spec, data], [])
    limits = limits_of(limit)
    graph = read_document(spec, limits)
    name = _loss_of(graph, loss)
    if data is not None and size:
        raise typer.BadParameter("the arrays of --data have their sizes", param_hint="--size")
    number = batch or (graph.training.batch_size if graph.training else None) or _BATCH
    feeds = _feeds(graph, None if data is None else read_arrays(data, limits), number, size)
    if data is not None:
        compile(graph).forward(feeds, [name])  # so that errors tell the types that the document declares
    seed = graph.training.seed if graph.training else 0
    compared = measure(in_float64(graph), name, feeds, samples=samples, seed=seed, seconds=seconds)
    shapes = {key: value.shape for key, value in feeds.items()}
    run = {"graph": graph.name, "loss": name, "data": str(data) if data else "random", "shapes": shapes}
    if as_json:
        typer.echo(json.dumps(run | _as_dict(compared)))
    else:
        show.console().print(_shown(run, compared))


def _loss_of(graph: Graph, asked: str | None) -> str:
    """The output that is asked for, that of the training section, "loss", or the only one. Raises SpecError."""
    name = asked or (graph.training.loss if graph.training else None)
    if name is None:
        name = "loss" if "loss" in graph.outputs or len(graph.outputs) != 1 else next(iter(graph.outputs))
    if name not in graph.outputs:
        there = ", ".join(graph.outputs) or "none"
        raise SpecError(f"graph {graph.name!r} has no output {name!r} to differentiate; its outputs: {there}")
    return name


def _feeds(graph: Graph, arrays: Mapping[str, Array] | None, batch: int, sizes: list[str] | None) -> dict[str, Array]:
    """The first examples of the arrays, or else random ones."""
    if arrays is not None:
        return next(as_source(graph, arrays).batches(list(arrays), batch))[0]
    axis = batch_axis(graph)
    given = ({axis: batch} if axis else {}) | sizes_of(graph, batch, sizes)
    return random_feeds(graph, all_sizes(graph, given))


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


def _shown(run: Mapping[str, Any], compared: Comparison) -> RenderableType:
    arrays = ", ".join(f"{name} {list(shape)}" for name, shape in run["shapes"].items())
    rows = [
        ("graph", f"{run['graph']}; {compared.parameters:,} parameters, float64"),
        ("data", f"{run['data']}: {arrays or 'no inputs'}"),
        (run["loss"], f"{show.seconds_text(compared.forward_seconds)}, {compared.forward_flops:,} FLOPs"),
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
    groups = groupby(compared.elements, key=lambda element: element.parameter)
    return {name: [element.place for element in group] for name, group in groups}


def _as_dict(compared: Comparison) -> dict[str, Any]:
    """What `--json` prints of a comparison; times are in seconds."""
    ways = {"backpropagation": compared.backprop, **compared.others}
    return {
        "parameters": compared.parameters,
        "sample": _by_parameter(compared),
        "largest_derivative": _number(compared.largest),
        "forward": {"seconds": compared.forward_seconds, "flops": compared.forward_flops},
        "ways": {name: _way(way) for name, way in ways.items()},
    }


def _way(way: Way) -> dict[str, Any]:
    found = {"seconds": _number(way.seconds), "flops": way.flops, "measured_on": way.sample, "scaled": way.scaled}
    return found if way.difference is None else {**found, "largest_difference": _number(way.difference)}


def _number(value: float) -> Any:
    """A number that JSON has; "NaN" and "Infinity" as documents write them."""
    return to_json_value(np.asarray(value))

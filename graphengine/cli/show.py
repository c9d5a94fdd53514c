"""How results look in a terminal; in a pipe the same without colour, and wide enough that no row is folded."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graphengine.ir.graph import Graph
from graphengine.ir.training import Optimizer, Training
from graphengine.ir.types import Array
from graphengine.schedule.cost import Cost
from graphengine.schedule.program import columns
from graphengine.train.history import History
from graphengine.view import Row, Summary

_PIPE_WIDTH = 200


def console(stderr: bool = False) -> Console:
    """The console for results, or for what is said beside them."""
    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _PIPE_WIDTH
    return made


def say(message: str, word: str = "error", style: str = "bold red") -> None:
    """A message on stderr, headed by what it is."""
    console(stderr=True).print(Text.assemble((f"{word}: ", style), message), soft_wrap=True)


def can_encode(text: str) -> bool:
    """Whether stdout can show these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def facts(rows: Iterable[tuple[str, str]], width: int = 0) -> Table:
    """Names with what is said of them, in two columns, the first of at least this width."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True, min_width=width)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(f"  {name}", Text(text))
    return table


def seconds_text(seconds: float) -> str:
    """A duration in the unit that suits it: 210 us, 3.1 ms, 6.2 s, 32,700 s."""
    if 1000 <= seconds < math.inf:
        return f"{seconds:,.0f} s"
    unit, size = next(((unit, size) for unit, size in (("s", 1.0), ("ms", 1e-3)) if seconds >= size), ("us", 1e-6))
    return f"{seconds / size:.3g} {unit}"


def graph_facts(graph: Graph, path: Path) -> Table:
    """What a document declares."""
    leaves = {"inputs": graph.inputs, "parameters": graph.parameters, "state": graph.states}
    rows = [("valid", str(path)), ("graph", f"{graph.name}, {len(graph)} nodes")]
    rows += [(what, ", ".join(f"{node.name} {node.type}" for node in nodes)) for what, nodes in leaves.items() if nodes]
    rows.append(("outputs", ", ".join(f"{name} {node.type}" for name, node in graph.outputs.items()) or "none"))
    if graph.training is not None:
        rows.append(("training", optimizer_text(graph.training.optimizer)))
    rows.append(("SHA-256", graph.hash()))
    return facts(rows)


def optimizer_text(optimizer: Optimizer) -> str:
    """An optimizer in words: its kind, and what is not as usual."""
    settings = optimizer.model_dump(mode="json", exclude={"kind"}, exclude_defaults=True)
    named = (f"{name} {json.dumps(value)}" for name, value in settings.items() if name != "kind")
    return ", ".join([optimizer.kind, *named])


def training_text(training: Training) -> str:
    """How a network is to be trained, but for the seed."""
    return f"{optimizer_text(training.optimizer)}; {training.epochs} epochs in batches of {training.batch_size}"


def history_text(history: History) -> str:
    """How a training went, in all."""
    return f"{history.steps:,} steps in {seconds_text(history.seconds)}; loss {history['loss'][-1]:.4f}"


def count_parameters(graph: Graph) -> int:
    """The elements of all parameters."""
    return sum(node.type.size for node in graph.parameters)


def summary_table(summary: Summary) -> Text:
    """The nodes of a graph, a line each, and their totals. A table of rich takes a millisecond a line."""
    sizes = ", ".join(f"{name}={size}" for name, size in summary.sizes.items())
    rows = [("name", "op", "type", "params", "FLOPs", "bytes"), *map(_cells, (*summary.rows, summary.total))]
    head, *lines, total = columns(rows, right_from=3)
    rule = ("\u2500" if can_encode("\u2500") else "-") * max(map(len, (head, *lines, total)))
    title = f"{summary.graph}{f' ({sizes})' if sizes else ''}"
    table = "\n".join([rule, *lines, rule])
    return Text.assemble((title, "italic"), "\n\n", (head, "bold"), "\n", table, "\n", (total, "bold"), "\n")


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (row.parameters, row.flops, row.bytes)
    return (row.name, row.op, row.type, *(f"{number:,}" if number else "" for number in numbers))


def cost_facts(summary: Summary) -> Table:
    """The cost of one run forward and, where the document says how to train, of one step."""
    rows = [("one run forward", _cost_text(summary.forward))]
    if summary.step:
        rows.append(("one step of training", _cost_text(summary.step)))
    return facts(rows)


def _cost_text(cost: Cost) -> str:
    moved = sum(cost.bytes_moved.values())
    return f"{cost.total_flops:,} FLOPs, {moved:,} B moved, {cost.peak_bytes:,} B of memory"


def rows_of_text(values: Mapping[str, Array]) -> Iterator[str]:
    """A header, then a line an example: the numbers of all outputs with tabs between."""
    columns = {name: value.reshape(len(value), -1) for name, value in values.items() if value.ndim}
    yield "\t".join(
        name + (f"[{','.join(map(str, index))}]" if index else "")
        for name in columns
        for index in np.ndindex(values[name].shape[1:])
    )
    for row in zip(*columns.values(), strict=True):
        yield "\t".join(str(number) for numbers in row for number in numbers)

"""How the results of benchmarks look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from benchmarks.frame.benchmark import Benchmark, Say
from benchmarks.frame.table import Table
from benchmarks.frame.verdict import Verdict
from graphengine.cli import show

__all__ = ["listing", "results_shown", "telling", "verdicts_shown"]


@contextmanager
def telling(name: str) -> Iterator[Say]:
    """A line on stderr, in a terminal, about what is being done."""
    console = show.console(stderr=True)
    with console.status(Text(f"{name}: begins")) as status:
        yield lambda text: status.update(Text(f"{name}: {text}"))


def listing(benchmarks: Iterable[Benchmark]) -> RenderableType:
    """What there is to measure."""
    facts: list[tuple[str, str]] = []
    for benchmark in benchmarks:
        facts.append((benchmark.name, benchmark.about))
        facts.append(("", f"rows {', '.join(benchmark.rows)}"))
        facts.append(("", f"peers {', '.join(benchmark.peers)}"))
    return show.facts(facts)


def results_shown(tables: Iterable[Table]) -> RenderableType:
    """The tables, one below the other."""
    parts: list[RenderableType] = []
    for table in tables:
        parts += [_grid(table), *map(_note, table.notes), ""]
    return Group(*parts)


def verdicts_shown(verdicts: Sequence[Verdict]) -> RenderableType:
    """What falls short, and how much does not."""
    short = [verdict for verdict in verdicts if not verdict.met]
    lines = [Text.assemble(("falls short  ", "bold red"), str(verdict)) for verdict in short]
    if not verdicts:
        return Text("no goal is stated of what was measured")
    return Group(*lines, Text(f"{len(verdicts) - len(short)} of {len(verdicts)} goals are reached"))


def _grid(table: Table) -> Grid:
    grid = Grid(
        title=Text(table.title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for place, name in enumerate(table.columns):
        grid.add_column(Text(name), justify="right" if place else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*map(Text, row))
    return grid


def _note(note: str) -> Text:
    return Text(f"- {note}", style="dim")

"""A table of results, as data: a terminal shows it in its way, a Markdown page in another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Table", "markdown"]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of text below a title. The first column holds names; all others hold numbers with their units."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    """What has to be known to read it, a sentence each."""


def markdown(tables: Sequence[Table]) -> str:
    """The tables as a Markdown text."""
    return "\n".join(line for table in tables for line in _lines(table))


def _lines(table: Table) -> Iterator[str]:
    yield from (f"### {table.title}", "")
    yield _row(table.columns)
    yield _row(["---", *["---:"] * (len(table.columns) - 1)])
    yield from map(_row, table.rows)
    yield ""
    yield from (f"- {note}" for note in table.notes)
    if table.notes:
        yield ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

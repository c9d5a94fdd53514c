"""What was measured of the ways to compute a gradient, as tables and as pictures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence

from graphengine.bench.frame.plot import Lines, Panels, Plot, Series
from graphengine.bench.frame.result import Record, Result
from graphengine.bench.frame.table import Table
from graphengine.bench.frame.text import ABSENT, conditions, ratio_text, seconds_text
from graphengine.bench.naive_goals import RANDOM_LIMIT, limit_of, ratio
from graphengine.bench.networks import BATCH, LAYERS
from graphengine.bench.over_forward import NETWORKS

__all__ = ["count_text", "plots", "tables"]

UNIT_BY_UNIT = "chain rule, unit by unit"
"""How the row "units", which has one way alone, is called beside the others."""

_COMPARED = {
    "width": f"One full gradient of a network of {LAYERS} equal hidden layers, tanh, batch {BATCH}, float64",
    "units": "The same network declared unit by unit",
    "ladder": "One full gradient of the diamond ladder, v <- v * v + v",
}
_SIZES = {"width": "parameters", "units": "parameters", "ladder": "rungs"}
_FIGURES = {"seconds": ("seconds", seconds_text), "flops": ("FLOPs", lambda value: count_text(value))}
_SCALED = (
    "~: measured on a part, some parameters or some paths, and scaled to all. FLOPs are counted, for all, exactly."
)


def tables(result: Result) -> Sequence[Table]:
    """The ways beside each other, in seconds and in FLOPs; the value with its gradient over the value."""
    compared = [table for row in _COMPARED for table in _compared(result, row)]
    found = [*compared, *_networks(result), *_random_graphs(result)]
    notes = (*found[-1].notes, *conditions(result)) if found else ()
    return [*found[:-1], Table(found[-1].title, found[-1].columns, found[-1].rows, notes)] if found else []


def plots(result: Result) -> Sequence[Plot]:
    """Seconds beside FLOPs, against the number of parameters, and against the depth of the ladder."""
    found = []
    for row in ("width", "ladder"):
        panels = [
            Lines(figure, "", _SIZES[row], unit, tuple(_series(result, row, figure)))
            for figure, (unit, _) in _FIGURES.items()
        ]
        if panels[0].series:
            found.append(Panels(f"naive-{row}", _COMPARED[row], tuple(panels)))
    return found


def count_text(count: float | None) -> str:
    """Whole up to a million, and three digits beyond."""
    if count is None:
        return ABSENT
    return f"{count:,.0f}" if count < 1e6 else f"{count:.2e}".replace("e+0", "e").replace("e+", "e")


def _compared(result: Result, row: str) -> Iterator[Table]:
    """A table of seconds and one of FLOPs: a line for each size."""
    records = list(result.among(row=row))
    ways = list(dict.fromkeys(record.peer for record in records))
    sizes = sorted({record.size for record in records if record.size is not None})
    for figure, (unit, text) in _FIGURES.items() if records else ():
        cells = {size: [_cell(result.find(row, way, size), figure, text) for way in ways] for size in sizes}
        rows = tuple((f"{size:,}", *texts) for size, texts in cells.items() if set(texts) != {ABSENT})
        notes = (_SCALED,) if figure == "seconds" else ()
        yield Table(f"{_COMPARED[row]}: {unit}", (_SIZES[row], *ways), rows, notes)


def _cell(record: Record | None, figure: str, text: Callable[[float | None], str]) -> str:
    if record is None or figure not in record.figures:
        return ABSENT
    return ("~" if figure == "seconds" and record.figures.get("scaled") else "") + text(record.figures[figure])


def _networks(result: Result) -> Iterator[Table]:
    records = [record for name in NETWORKS for record in result.among(row=name)]
    if records:
        columns = (
            "network",
            "backend",
            "parameters",
            "batch",
            "value",
            "and gradient",
            "ratio",
            "of minima",
            "of FLOPs",
        )
        rows = tuple((*_network(record), f"{limit_of(record.row):g}x") for record in records)
        yield Table("A value with its gradient, over the value", (*columns, "at most"), rows)


def _network(record: Record) -> Iterable[str]:
    figures = record.figures
    yield from (record.row, record.peer, f"{figures['parameters']:,.0f}", f"{figures['batch']:.0f}")
    yield from (seconds_text(figures["forward"]), seconds_text(figures["gradient"]))
    yield from (ratio_text(ratio(record, suffix)) for suffix in ("", "_minimum", "_flops"))


def _random_graphs(result: Result) -> Iterator[Table]:
    ratios = [ratio(record, "_flops") for record in result.among(row="random graphs")]
    if ratios:
        cells = (f"{len(ratios)}", *(ratio_text(of(ratios)) for of in (min, statistics.median, max)))
        columns = ("random graphs", "least", "median", "greatest", "at most")
        yield Table("A value with its gradient, over the value: FLOPs", columns, ((*cells, f"{RANDOM_LIMIT:g}x"),))


def _series(result: Result, row: str, figure: str) -> Iterator[Series]:
    for way in dict.fromkeys(record.peer for record in result.among(row=row)):
        yield _line(way, result.among(row=row, peer=way), figure)
    units = list(result.among(row="units", peer="chain rule, unshared"))
    if row == "width" and units:
        yield _line(UNIT_BY_UNIT, units, figure)


def _line(name: str, records: Iterable[Record], figure: str) -> Series:
    known = [record for record in records if record.size is not None and figure in record.figures]
    points = tuple((float(record.size or 0), record.figures[figure]) for record in known)
    is_scaled = figure == "seconds"  # FLOPs never are
    scaled = frozenset(float(record.size or 0) for record in known if is_scaled and record.figures.get("scaled"))
    return Series(name, points, scaled)

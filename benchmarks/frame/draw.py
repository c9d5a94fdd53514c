"""Plots as pictures, by matplotlib, which is imported when something is drawn."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.frame.plot import Dots, Lines, Panels, Plot
from benchmarks.worker.peers import PEERS
from graphengine.errors import ExecutionError

__all__ = ["STYLE", "check_can_draw", "draw"]

# Okabe and Ito's colours, which all kinds of colour vision tell apart; dashes and markers say the same again.
_COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#000000", "#777777")
_MARKERS = ("o", "D", "s", "P", "^", "v", "X", "*")
_DASHES = ("-", (0, (5, 1)), "--", (0, (3, 1, 1, 1)), "-.", ":", (0, (1, 1)), (0, (6, 2, 1, 2)))
_GREY = "#555555"
_PLACES = {name: place for place, name in enumerate(PEERS)}
STYLE = {
    "figure.dpi": 144,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
    "legend.frameon": False,
    "svg.hashsalt": "graphengine",  # the same picture is the same file
}


def check_can_draw() -> None:
    """Raise ExecutionError if there is no matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ExecutionError("plots need matplotlib, which is not installed: pip install matplotlib")


def draw(plot: Plot, folder: Path) -> list[Path]:
    """Write NAME.png and NAME.svg; raises ExecutionError if there is no matplotlib."""
    check_can_draw()
    import matplotlib as mpl  # heavy
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure()
        FigureCanvasAgg(figure)
        _draw_into(figure, plot)
        paths = [folder / f"{plot.name}.{kind}" for kind in ("png", "svg")]
        for path in paths:
            # Without the date and the version of what drew it.
            figure.savefig(path, metadata={"Software": None} if path.suffix == ".png" else {"Date": None})
    return paths


def _draw_into(figure: Any, plot: Plot) -> None:
    if isinstance(plot, Dots):
        _dots(figure, plot)
    elif isinstance(plot, Lines):
        figure.set_size_inches(7.2, 4.8)
        axes = figure.add_subplot()
        _lines(axes, plot)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    else:
        _panels(figure, plot)


def _panels(figure: Any, plot: Panels) -> None:
    figure.set_size_inches(4.6 * len(plot.panels), 4.8)
    figure.suptitle(plot.title, x=0.01, ha="left", fontsize=STYLE["axes.titlesize"])
    entries: dict[str, Any] = {}
    for axes, panel in zip(figure.subplots(1, len(plot.panels), squeeze=False).flat, plot.panels, strict=True):
        _lines(axes, panel)
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=3)


def _lines(axes: Any, plot: Lines) -> None:
    axes.set(xscale="log", yscale="log", xlabel=plot.x, ylabel=plot.y)
    axes.set_title(plot.title, loc="left")
    _units(axes.yaxis, plot.unit)
    for series, style in zip(plot.series, _styles([series.name for series in plot.series]), strict=True):
        xs, ys = zip(*series.points, strict=True)
        axes.plot(xs, ys, **style, label=series.name)
        hollow = [(x, y) for x, y in series.points if x in series.scaled]
        if hollow:
            axes.plot(*zip(*hollow, strict=True), **style | {"linestyle": ""}, mfc="white")
    if any(series.scaled for series in plot.series):
        axes.plot([], [], color=_GREY, marker="o", linestyle="", mfc="white", label="hollow: scaled from a part")
    if plot.limit is not None:
        name, height = plot.limit
        axes.axhline(height, color=_GREY, linewidth=1, linestyle=":")
        axes.annotate(name, (0.01, height), xycoords=("axes fraction", "data"), va="bottom", color=_GREY)


def _dots(figure: Any, plot: Dots) -> None:
    figure.set_size_inches(7.2, max(2.4, 1.2 + 0.42 * len(plot.rows)))
    axes = figure.add_subplot()
    heights = {row: len(plot.rows) - place for place, row in enumerate(plot.rows)}
    axes.set(xscale="log", xlabel=plot.x, ylim=(0.4, len(plot.rows) + 0.6))
    axes.set_title(plot.title, loc="left")
    axes.set_yticks(list(heights.values()), list(heights))
    axes.grid(axis="y", visible=False)
    _units(axes.xaxis, plot.unit)
    for row, height in heights.items():
        values = [peer[row] for peer in plot.peers.values() if row in peer]
        if values:
            axes.plot([min(values), max(values)], [height, height], color="#DDDDDD", linewidth=2, zorder=1)
    for (name, by_row), style in zip(plot.peers.items(), _styles(plot.peers), strict=True):
        axes.plot(by_row.values(), [heights[row] for row in by_row], **style | {"linestyle": ""}, label=name)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _units(axis: Any, unit: str) -> None:
    """Ticks such as 10 ms."""
    from matplotlib.ticker import EngFormatter

    if unit:
        axis.set_major_formatter(EngFormatter(unit))


def _styles(names: Iterable[str]) -> list[dict[str, Any]]:
    """How each looks: a peer alike in all plots, others in what is left."""
    names = list(names)
    left = (place for place in range(len(_COLOURS)) if place not in [_PLACES.get(name) for name in names])
    places = [_PLACES[name] if name in _PLACES else next(left, 0) for name in names]
    return [{"color": _COLOURS[at], "marker": _MARKERS[at], "linestyle": _DASHES[at]} for at in places]

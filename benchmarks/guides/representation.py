"""Error against width, and the networks beside the functions that they are fitted to."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

import graphengine as ge
from benchmarks.guides.style import GREY, line

WIDTHS = (1, 2, 4, 8, 16, 32, 64)
STEPS = 2000


def figures(names: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """The pictures of the page, by name."""
    page = SimpleNamespace(**names)
    warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
    yield "representation-error", errors(page)
    yield "representation-fits", fits(page)


def errors(page: SimpleNamespace) -> Figure:
    """The error of each activation by the width of the hidden layer."""
    figure, axes = plt.subplots(1, 3, figsize=(9.5, 3.6), sharey=True)
    for ax, (title, y) in zip(axes, page.FUNCTIONS.items(), strict=True):
        for place, (name, activation) in enumerate(page.ACTIVATIONS.items()):
            values = [page.error(page.fitted(width, activation, y, STEPS), y) for width in WIDTHS]
            ax.plot(WIDTHS, values, label=name, **line(place, marked=True))
        ax.set(title=title, xlabel="width (hidden units)", xscale="log", yscale="log")
        ax.set_xticks(WIDTHS, [str(width) for width in WIDTHS])
        ax.minorticks_off()
    axes[0].set_ylabel("root mean square error")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    return figure


def fits(page: SimpleNamespace) -> Figure:
    """Each function, and what networks of three widths make of it."""
    shown = ("identity", "sign", "sigmoid", "relu")
    figure, axes = plt.subplots(3, 4, figsize=(9.5, 6.4), sharex=True, sharey="row")
    for row, (title, y) in zip(axes, page.FUNCTIONS.items(), strict=True):
        row[0].set_ylabel(title)
        for ax, name in zip(row, shown, strict=True):
            ax.plot(page.x, y, color=GREY, linewidth=3.5, alpha=0.5, label="the function")
            for place, width in enumerate((2, 8, 32)):
                exe = page.fitted(width, page.ACTIVATIONS[name], y, STEPS)
                f = exe.forward({"x": page.x}, ["f"])["f"]
                ax.plot(page.x, f, label=f"width {width}", **line(place))
    for ax, name in zip(axes[0], shown, strict=True):
        ax.set_title(name)
    for ax in axes[-1]:
        ax.set_xlabel("x")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure

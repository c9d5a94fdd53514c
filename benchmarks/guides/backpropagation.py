"""What a gradient costs in four ways, by the number of parameters and by the rungs of a ladder."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

import graphengine as ge
from benchmarks.guides.style import line

WAYS = ("the loss alone", "backpropagation", "differences", "forward mode", "unshared")


def figures(names: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """The picture of the page, by name."""
    yield "backpropagation-costs", costs(SimpleNamespace(**names))


def costs(page: SimpleNamespace) -> Figure:
    """Operations of a network by its width, and of a ladder by its depth."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 4))
    parameters = [row["parameters"] for row in page.table]
    for place, way in enumerate(WAYS):
        left.plot(parameters, [row[way] for row in page.table], label=way, **line(place, marked=True))
    left.set(xlabel="parameters", ylabel="operations", xscale="log", yscale="log", title="a network, by its width")
    rungs = range(1, 41)
    ladders = [page.ladder(count) for count in rungs]
    ways = {
        "the loss alone": [ge.compile(g).cost().total_flops for g in ladders],
        "backpropagation": [ge.compile(g, loss="loss").cost().total_flops for g in ladders],
        "unshared": [page.Unshared(g, "loss").flops({})["v"] for g in ladders],
    }
    for way, flops in ways.items():
        right.plot(rungs, flops, **line(WAYS.index(way)))
    right.set(xlabel="rungs", xscale="log", yscale="log", title="a ladder, by its depth")
    figure.legend(loc="outside lower center", ncols=len(WAYS))
    return figure

"""Steps of five sizes, four rules on the contours of a loss, schedules, and the digits."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import graphengine as ge
from benchmarks.guides.style import GREY, line
from benchmarks.worker.case import Array

ORDERS = 30


def figures(names: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """The pictures of the page, by name."""
    page = SimpleNamespace(**names)
    yield "training-step-size", step_sizes(page)
    yield "training-surface", surface(page)
    yield "training-schedules", schedules(page)
    yield "training-digits", digits(page)


def step_sizes(page: SimpleNamespace) -> Figure:
    """The loss by step, for five sizes of the step."""
    figure, ax = plt.subplots(figsize=(7, 3.8))
    for place, part in enumerate(page.PARTS):
        above = page.losses(ge.GD(learning_rate=part * page.limit), 250) - page.least
        ax.plot(range(1, 251), above, label=f"{part:g} of the limit", **line(place))
    ax.set(xlabel="step", ylabel="loss above the least", yscale="log", ylim=(1e-4, 1e4), xlim=(0, 250))
    figure.legend(loc="outside right upper", title="alpha")
    return figure


def surface(page: SimpleNamespace) -> Figure:
    """The path of four rules on the contours of the loss."""
    figure, axes = plt.subplots(2, 2, figsize=(8.5, 7), sharex=True, sharey=True)
    w, b = np.meshgrid(np.linspace(-1.6, 3.4, 200), np.linspace(-4, 4.6, 200))
    u = w[..., None] * page.x + b[..., None]
    loss = ((u - page.points["y"]) ** 2).mean(-1) / 2 - page.least
    for place, (ax, (name, (rule, batch_size))) in enumerate(zip(axes.flat, page.RULES.items(), strict=True)):
        ax.contour(w, b, loss, levels=np.geomspace(0.01, 30, 11), colors=GREY, linewidths=0.7)
        path = weights(page, rule, batch_size, epochs=60)
        ax.plot(*path.T, marker=".", markersize=3.5, linewidth=1.1, color=line(place)["color"])
        ax.plot(*path[0], "ko", markersize=6)
        ax.plot(*minimum(page), "k*", markersize=11)
        ax.set_title(f"{name}, 60 epochs")
        ax.grid(visible=False)
    for ax in axes[1]:
        ax.set_xlabel("w")
    for ax in axes[:, 0]:
        ax.set_ylabel("b")
    return figure


def weights(page: SimpleNamespace, rule: Any, batch_size: int | None, epochs: int) -> Array:
    """w and b at first, and after every step of so many epochs."""
    exe = ge.compile(page.line(), loss="loss", optimizer=rule)
    generator = np.random.default_rng(0)
    examples = len(page.x)
    path = [(exe.parameters["w"], exe.parameters["b"])]
    for _ in range(epochs):
        for rows in np.array_split(generator.permutation(examples), examples // (batch_size or examples)):
            exe.step({name: array[rows] for name, array in page.points.items()})
            path.append((exe.parameters["w"], exe.parameters["b"]))
    return np.array(path)


def minimum(page: SimpleNamespace) -> Array:
    """Where the loss is least."""
    return np.linalg.lstsq(np.stack([page.x, np.ones_like(page.x)], axis=1), page.points["y"], rcond=None)[0]


def schedules(page: SimpleNamespace) -> Figure:
    """Learning rates by step, and the loss under each."""
    figure, (rates, above) = plt.subplots(1, 2, figsize=(9.5, 3.8))
    for place, (name, rate) in enumerate(page.SCHEDULES.items()):
        alpha = [rate if isinstance(rate, float) else rate.value(t) for t in range(2000)]
        rates.plot(alpha, label=name, **line(place))
        runs = [
            page.losses(ge.SGD(learning_rate=rate), 50, batch_size=1, seed=seed) - page.least for seed in range(ORDERS)
        ]
        above.plot(range(1, 51), np.mean(runs, axis=0), **line(place))
    rates.set(xlabel="step t", ylabel="alpha_t", title="the schedule", xticks=range(0, 2001, 500))
    above.set(xlabel="epoch (40 steps)", ylabel="loss above the least", yscale="log")
    above.set_title(f"and the loss under it, the mean of {ORDERS} orders")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def digits(page: SimpleNamespace) -> Figure:
    """The training loss of the digits by epoch, for each rule."""
    figure, ax = plt.subplots(figsize=(7.5, 4))
    ax.plot(range(1, 11), page.learned(ge.SGD(learning_rate=5.0), 32)[0], color=GREY, label="SGD, far too big")
    for place, (name, (rule, batch_size)) in enumerate(page.DIGITS.items()):
        ax.plot(range(1, 11), page.learned(rule, batch_size)[0], label=name, **line(place, marked=True))
    ax.set(xlabel="epoch", ylabel="training loss", yscale="log")
    figure.legend(loc="outside right upper")
    return figure

"""Training and validation curves under four remedies, and the error of the folds."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import graphengine as ge
from benchmarks.guides.style import COLOURS, GREY


def figures(names: dict[str, Any]) -> Iterator[tuple[str, Figure]]:
    """The pictures of the page, by name."""
    page = SimpleNamespace(**names)
    yield "generalization-curves", curves(page)
    yield "generalization-folds", folds(page)


def curves(page: SimpleNamespace) -> Figure:
    """The error and the accuracy by epoch, in training and in validation."""
    figure, axes = plt.subplots(2, len(page.NETWORKS), figsize=(10.5, 5), sharex=True, sharey="row")
    for (top, bottom), (name, graph) in zip(axes.T, page.NETWORKS.items(), strict=True):
        _, history = page.fitted(graph)
        for ax, measured in ((top, "error"), (bottom, "accuracy")):
            ax.plot(history["epoch"], history[measured], color=COLOURS[0], label="training")
            held_out = history[f"validation_{measured}"]
            ax.plot(history["epoch"], held_out, color=COLOURS[1], linestyle="--", label="validation")
            best = int(np.argmin(history["validation_error"]))
            ax.plot(best + 1, held_out[best], "*", color=COLOURS[5], markersize=11, label="least validation error")
        top.set_title(name)
        bottom.set_xlabel("epoch")
    axes[0, 0].set_ylabel("cross entropy")
    axes[1, 0].set_ylabel("accuracy")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def folds(page: SimpleNamespace) -> Figure:
    """The accuracy of each fold by the strength of L2, beside the accuracy on the test digits."""
    figure, ax = plt.subplots(figsize=(7.5, 4))
    results = page.results.values()
    for place, result in enumerate(results):
        label = None if place else "each fold"
        ax.plot([place] * len(result), result["accuracy"], ".", color=GREY, markersize=6, label=label)
    means, spreads = ([getattr(result, what)["accuracy"] for result in results] for what in ("mean", "std"))
    ax.errorbar(range(len(means)), means, spreads, color=COLOURS[0], marker="o", capsize=4, label="5 folds, +- std")
    tests = [test_accuracy(page, strength) for strength in page.STRENGTHS]
    ax.plot(tests, color=COLOURS[1], linestyle="--", marker="s", label="test, trained on all 300")
    ax.set_xticks(range(len(page.STRENGTHS)), [f"{strength:g}" for strength in page.STRENGTHS])
    ax.set(xlabel="lambda of L2", ylabel="accuracy", ylim=(0.4, 1))
    figure.legend(loc="outside right upper")
    return figure


def test_accuracy(page: SimpleNamespace, strength: float) -> float:
    """The accuracy on the test digits of a network trained as those of the folds are, but on all examples."""
    exe = ge.compile(page.network(ge.l2, strength), loss="loss", optimizer=ge.Adam(learning_rate=0.005))
    ge.fit(exe, page.train, **page.SETTINGS)
    return ge.evaluate(exe, page.test, "accuracy")["accuracy"]

"""One gradient, computed twice: by backpropagation, and one parameter at a time by differences."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphengine.baselines.differences import central_differences, sample_elements
from graphengine.compile import compile
from graphengine.ir.graph import Graph

__all__ = ["Comparison", "compare"]

_RUNS = 15


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the gradient with respect to all parameters takes, in seconds."""

    parameters: int
    backprop_seconds: float
    naive_seconds: float
    """By differences: measured on a sample of the parameters, and scaled to all of them."""
    sample: int
    """How many parameters were differentiated by differences."""
    disagreement: float
    """The greatest difference of the two on the sample, relative to the sample's greatest derivative."""

    @property
    def ratio(self) -> float:
        return self.naive_seconds / self.backprop_seconds


def compare(
    graph: Graph, loss: str, feeds: Mapping[str, npt.ArrayLike], samples: int = 200, seed: int = 0
) -> Comparison:
    """Measure both ways on `graph`, in float64, at its first parameters under `seed`; `loss` is a scalar output.

    Each way runs a program of its own: differences one that computes the loss alone.
    """
    trainer, forward = compile(graph, loss=loss, seed=seed), compile(graph, seed=seed)
    elements = sample_elements(forward, samples, seed)
    trainer.forward(feeds)
    gradients = trainer.backward()
    backprop = np.array([gradients[name].flat[place] for name, place in elements])
    scale = max(np.abs(backprop).max(), np.finfo(np.float64).tiny)
    forward.forward(feeds, outputs=[loss])

    start = time.perf_counter()
    differences = central_differences(forward, feeds, loss, elements)
    naive_seconds = time.perf_counter() - start

    count = sum(value.size for value in forward.parameters.values())
    return Comparison(
        parameters=count,
        backprop_seconds=_median_seconds(lambda: (trainer.forward(feeds), trainer.backward())),
        naive_seconds=naive_seconds * count / len(elements),
        sample=len(elements),
        disagreement=float(np.abs(differences - backprop).max() / scale),
    )


def _median_seconds(run: Callable[[], object]) -> float:
    def seconds() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return statistics.median(seconds() for _ in range(_RUNS))

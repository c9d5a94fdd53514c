"""One gradient, computed twice: by backpropagation, and one parameter at a time by differences."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from graphengine.baselines.differences import central_differences, sample_elements
from graphengine.compile import compile
from graphengine.ir.graph import Graph
from graphengine.ir.op import Array

__all__ = ["Comparison", "compare"]

_RUNS = 15
_T = TypeVar("_T")


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
        """How many times as long differences take."""
        return self.naive_seconds / self.backprop_seconds


def compare(
    graph: Graph, loss: str, feeds: Mapping[str, npt.ArrayLike], samples: int = 200, seed: int = 0
) -> Comparison:
    """Measure both ways on `graph`, best in float64, at its first parameters under `seed`; `loss` is a scalar output.

    Each way runs a program of its own: differences one that computes the loss alone.
    """
    trainer, forward = compile(graph, loss=loss, seed=seed), compile(graph, seed=seed)
    elements = sample_elements(forward, samples, seed)

    def backprop() -> dict[str, Array]:
        trainer.forward(feeds)
        return trainer.backward()

    gradients, backprop_seconds = _timed([backprop] * _RUNS)
    by_backprop = np.array([gradients[-1][name].flat[place] for name, place in elements])
    differences, element_seconds = _timed(
        [partial(central_differences, forward, feeds, loss, [element]) for element in elements]
    )
    count = sum(value.size for value in forward.parameters.values())
    scale = max(np.abs(by_backprop).max(), np.finfo(np.float64).tiny)
    return Comparison(
        parameters=count,
        backprop_seconds=backprop_seconds,
        naive_seconds=element_seconds * count,
        sample=len(elements),
        disagreement=float(np.abs(np.concatenate(differences) - by_backprop).max() / scale),
    )


def _timed(runs: Sequence[Callable[[], _T]]) -> tuple[list[_T], float]:
    """What the runs return, and the median of their seconds, which the first run or one interrupted does not move."""
    results, seconds = [], []
    for run in runs:
        start = time.perf_counter()
        results.append(run())
        seconds.append(time.perf_counter() - start)
    return results, statistics.median(seconds)

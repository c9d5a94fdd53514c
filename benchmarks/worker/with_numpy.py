"""The matrix products of a step and nothing else: what no engine that calls this BLAS can be faster than."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from .case import Array, Case, Step, Unsupported
from .numpy_facts import blas, cores

__all__ = ["facts", "prepare"]


def facts(_: str) -> dict[str, Any]:
    """Who this is."""
    return {"versions": {"numpy": np.__version__}, "blas": blas(), "threads": cores()}


def prepare(case: Case, _: str) -> Step:
    """All products of a step of an MLP, on arrays of the same shapes, transposed as they are there."""
    if case.family != "mlp":
        raise Unsupported("products are measured alone for MLPs")
    calls = _products(case)

    def step() -> float:
        for a, b, out in calls:
            np.dot(a, b, out)
        return 0.0

    return step


def _products(case: Case) -> list[tuple[Array, Array, Array]]:
    rows = len(case.feeds["x"])
    values = [np.ones((rows, units), np.float32) for units in case.settings["sizes"]]
    weights = [np.ones((h.shape[1], z.shape[1]), np.float32) for h, z in pairwise(values)]
    calls = [(h, weight, z) for (h, z), weight in zip(pairwise(values), weights, strict=True)]
    for place in reversed(range(len(weights))):
        h, z_bar, weight = values[place], values[place + 1], weights[place]
        calls.append((h.T, z_bar, np.empty_like(weight)))
        if place:
            calls.append((z_bar, weight.T, np.empty_like(h)))
    return calls

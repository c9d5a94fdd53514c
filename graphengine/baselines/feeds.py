"""Feeds at random, for a graph whose data are not at hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from graphengine.ir.graph import Graph
from graphengine.ir.types import Array


def random_feeds(graph: Graph, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Array]:
    """An array for every input, with `sizes` of the named dims: floats uniform in [0, 1), all others 0 or 1.

    So integers are valid as classes and as indices wherever there are two or more of these.
    """
    draw = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for node in graph.inputs:
        shape = node.type.bind(sizes).static_shape
        values = draw.random(shape) if node.type.is_float else draw.integers(0, 2, shape)
        feeds[node.name] = values.astype(node.dtype)
    return feeds

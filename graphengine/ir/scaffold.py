"""Nodes that are emitted on the way to others, and taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node


@contextmanager
def scaffold(graph: Graph) -> Iterator[list[Node]]:
    """Take back what is added inside, but for what the nodes put into the list depend on; after an error, all of it."""
    start = len(graph)
    keep: list[Node] = []
    try:
        yield keep
    except BaseException:
        keep.clear()
        raise
    finally:
        graph.discard(start, keep)

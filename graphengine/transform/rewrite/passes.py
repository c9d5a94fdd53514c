"""The rewrites, in the order in which they are made: each changes a graph into one of the same outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from graphengine.errors import CompileError
from graphengine.ir.graph import Graph
from graphengine.ir.names import did_you_mean
from graphengine.transform.rewrite.algebra import simplify
from graphengine.transform.rewrite.constants import fold_constants
from graphengine.transform.rewrite.dead import drop_dead
from graphengine.transform.rewrite.duplicates import merge_duplicates
from graphengine.transform.rewrite.fuse import fuse
from graphengine.transform.rewrite.groupings import regroup_products
from graphengine.transform.rewrite.products import add_products
from graphengine.transform.rewrite.slices import add_slices
from graphengine.transform.rewrite.stable import make_stable

__all__ = ["REWRITES", "STABLE", "Rewrite", "chosen", "on_copy", "rewrites", "stages"]

STABLE = "stable"
"""The rewrite that is made before a graph is differentiated, too."""

Rewrite = Callable[[Graph], bool]
"""Changes a graph that is nobody else's, and tells whether it found anything to do."""

REWRITES: Mapping[str, Rewrite] = MappingProxyType(
    {
        "dead": drop_dead,
        STABLE: make_stable,
        "groupings": regroup_products,
        "constants": fold_constants,
        "algebra": simplify,
        "duplicates": merge_duplicates,
        "products": add_products,
        "slices": add_slices,
        "fuse": fuse,
    }
)
"""By name."""


def rewrites() -> dict[str, str]:
    """The rewrites that `compile` makes, in their order, each with one line on what it does."""
    return {name: (inspect.getdoc(rewrite) or "").partition("\n")[0] for name, rewrite in REWRITES.items()}


def chosen(names: Sequence[str] | None) -> tuple[str, ...]:
    """The rewrites of these names, in the order in which they are made; all if None. Raises CompileError."""
    for name in names or ():
        if name not in REWRITES:
            raise CompileError(f"no rewrite {name!r}{did_you_mean(name, REWRITES)}")
    return tuple(name for name in REWRITES if names is None or name in names)


def stages(graph: Graph, names: Sequence[str]) -> list[Graph]:
    """`graph`, and what it is after each of these rewrites: the one before, where a rewrite finds nothing to do."""
    found: list[Graph] = [graph]
    copy: Graph | None = None
    for name in names:
        copy = found[-1].copy() if copy is None else copy
        if REWRITES[name](copy):
            found.append(copy)
            copy = None
        else:
            found.append(found[-1])
    return found


def on_copy(rewrite: Rewrite, graph: Graph) -> Graph:
    """What a rewrite makes of `graph`, which stays as it is; the graph itself where that finds nothing to do."""
    copy = graph.copy()
    return copy if rewrite(copy) else graph

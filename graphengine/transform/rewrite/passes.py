"""The rewrites, in the order in which they are made: each changes a graph into one of the same outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence

from graphengine.errors import CompileError
from graphengine.ir.graph import Graph
from graphengine.ir.names import did_you_mean
from graphengine.transform.rewrite.additions import add_products, add_slices
from graphengine.transform.rewrite.algebra import simplify
from graphengine.transform.rewrite.constant_folding import fold_constants
from graphengine.transform.rewrite.cse import merge_common_subexpressions
from graphengine.transform.rewrite.dce import eliminate_dead_code
from graphengine.transform.rewrite.fuse import fuse
from graphengine.transform.rewrite.matrix_chain import reorder_matrix_chains
from graphengine.transform.rewrite.stabilization import stabilize_formulas
from graphengine.where import warn

STABILIZATION = "stabilization"
"""The rewrite that is made before a graph is differentiated, too."""

Rewrite = Callable[[Graph], bool]
"""Changes a graph that is nobody else's, and tells whether it found anything to do."""

REWRITES: Mapping[str, Rewrite] = {
    "dce": eliminate_dead_code,
    STABILIZATION: stabilize_formulas,
    "matrix_chain": reorder_matrix_chains,
    "constant_folding": fold_constants,
    "algebra": simplify,
    "cse": merge_common_subexpressions,
    "products": add_products,
    "slices": add_slices,
    "fuse": fuse,
}
"""By name."""

OLD_NAMES: Mapping[str, str] = {
    "dead": "dce",
    "stable": STABILIZATION,
    "groupings": "matrix_chain",
    "constants": "constant_folding",
    "duplicates": "cse",
}
"""Names that rewrites had; `compile` takes them with a DeprecationWarning."""


def rewrites() -> dict[str, str]:
    """The rewrites that `compile` makes, in their order, each with one line on what it does."""
    return {name: (inspect.getdoc(rewrite) or "").partition("\n")[0] for name, rewrite in REWRITES.items()}


def chosen(names: Sequence[str] | None) -> tuple[str, ...]:
    """The rewrites of these names, in the order in which they are made; all if None. Raises CompileError."""
    if names is None:
        return tuple(REWRITES)
    for name in names:
        if name in OLD_NAMES:
            warn(f"the rewrite {name!r} is called {OLD_NAMES[name]!r} now", DeprecationWarning)
        elif name not in REWRITES:
            raise CompileError(f"no rewrite {name!r}{did_you_mean(name, REWRITES)}")
    wanted = {OLD_NAMES.get(name, name) for name in names}
    return tuple(name for name in REWRITES if name in wanted)


def stages(graph: Graph, names: Sequence[str]) -> list[Graph]:
    """`graph`, and what it is after each of these rewrites: the one before, where a rewrite finds nothing to do."""
    found, copy = [graph], graph.copy()
    for name in names:
        has_changed = REWRITES[name](copy)
        found.append(copy if has_changed else found[-1])
        copy = copy.copy() if has_changed else copy
    return found


def on_copy(rewrite: Rewrite, graph: Graph) -> Graph:
    """What a rewrite makes of `graph`, which stays as it is; the graph itself where that finds nothing to do."""
    copy = graph.copy()
    return copy if rewrite(copy) else graph

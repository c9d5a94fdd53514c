"""From a graph to an executable: the one crossing between building and running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np

from graphengine.backends.installed import BACKENDS, installed_backends
from graphengine.errors import CompileError, NamingError
from graphengine.executable import Executable
from graphengine.forks import BUILDING
from graphengine.ir.graph import Graph
from graphengine.ir.names import did_you_mean
from graphengine.ir.node import Node
from graphengine.ir.training import Optimizer
from graphengine.programs import NonFinite, Settings
from graphengine.transform.rewrite.passes import STABILIZATION, chosen
from graphengine.transform.training_graph import dim_names, training_graph
from graphengine.weights import Weights
from graphengine.wording import shown


def compile(
    graph: Graph,
    *,
    loss: str | Node | None = None,
    optimizer: Optimizer | None = None,
    wrt: Sequence[str | Node] | None = None,
    backend: str = "numpy",
    rewrites: Sequence[str] | None = None,
    memory_budget: int | None = None,
    non_finite: NonFinite = "raise",
    non_finite_gradients: bool = False,
    seed: int = 0,
) -> Executable:
    """Compile `graph`; returns a `ge.Executable`. The graph itself is not changed.

    loss: an output's name or a node, a float scalar. Without it the executable only runs forward. wrt: the leaves to
    differentiate by, which hold floats; left out, all trainable parameters. optimizer: trains the parameters among them
    in `step`; all others stay as they are, and have no slots. A graph with updates of trainable parameters, as
    `exe.graph` and its document have, has `step` without an optimizer, and an optimizer beside them is an error.
    backend: "numpy", "numba" (needs the extra `fast`), or "auto": numba if it is installed. rewrites: names of
    `ge.rewrites()`; left out, all of them. memory_budget: the maximum size of the arena of each program, in bytes. It
    holds values, adjoints and work memory, not the leaves. Values are dropped and computed again to stay within it,
    with the same bits; `cost()` says for how many FLOPs. If sizes are named, a budget that is too small is found by
    `cost(...)` or the first run.

    non_finite: what becomes of a step whose loss is NaN or infinite. "raise": it changes nothing, and is a
    NonFiniteError. "skip": it changes nothing, and is counted in `exe.skipped` and in the history of `fit`. "allow": it
    is made like any other. This is decided before the first update, and takes no time. non_finite_gradients: whether
    NaN and infinities in the gradients count as well. Then all updates wait for the last gradient, so that more is in
    memory at one time, as `cost()` says. seed: of the initial parameters and of dropout.

    Raises CompileError, GraphError, NamingError, ShapeError or DTypeError; warns with UnreachedParameterWarning.
    """
    if backend not in (*BACKENDS, "auto"):
        raise CompileError(f"no backend {backend!r}; there are {', '.join(BACKENDS)}, and auto")
    chosen_backend = installed_backends()[-1] if backend == "auto" else backend
    if loss is None and (optimizer is not None or wrt is not None):
        raise CompileError("an optimizer or wrt needs a loss: say compile(..., loss=the name of an output)")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise CompileError(f"seed is an int of at least 0, not {shown(seed)}; write seed=0, the default, or another")
    if isinstance(wrt, str | Node):
        raise CompileError(f"wrt is a list of leaves, not {shown(wrt)}; write wrt=[{getattr(wrt, 'name', wrt)!r}]")
    if memory_budget is not None and memory_budget < 0:
        raise CompileError(f"memory_budget is a number of bytes, not {memory_budget}")
    if loss is None and not graph.outputs:
        raise CompileError(f"graph {graph.name!r} has no outputs to compute; declare one by graph.output(name, node)")
    if non_finite not in get_args(NonFinite):
        raise CompileError(f"non_finite is one of {', '.join(get_args(NonFinite))}, not {non_finite!r}")
    if non_finite_gradients and non_finite == "allow":
        raise CompileError('non_finite_gradients=True checks gradients, and non_finite="allow" lets them be anything')
    with BUILDING:
        _check_dim_names(graph)
        settings = Settings(
            BACKENDS[chosen_backend](), chosen(rewrites), memory_budget, non_finite, bool(non_finite_gradients)
        )
        node = None if loss is None else _output_or_node(graph, loss)
        names = None if wrt is None else [_leaf(graph, leaf).name for leaf in wrt]
        training = training_graph(graph, node, names, optimizer, stabilize=STABILIZATION in settings.rewrites)
        executable = Executable(training, settings, Weights(int(seed)))
        if memory_budget is not None and not dim_names(graph):
            executable.plan()  # which raises if it does not fit
    return executable


def _check_dim_names(graph: Graph) -> None:
    """Raise unless every named dim is an axis of an input, whose feed says what size it has."""
    known = dim_names(graph)
    for node in graph.nodes:
        for name in node.dim_names() - known:
            raise CompileError(f"no input has a dim {name!r}, which {node!r}, declared at {node.where}, needs")


def _output_or_node(graph: Graph, what: str | Node) -> Node:
    if isinstance(what, str) and what in graph.outputs:
        return graph.outputs[what]
    if isinstance(what, str) and what not in graph:
        near = did_you_mean(what, graph.outputs) or did_you_mean(what, [node.name for node in graph.nodes])
        raise NamingError(f"graph {graph.name!r} has no output or node {what!r}{near}")
    return _node(graph, what)


def _leaf(graph: Graph, what: str | Node) -> Node:
    node = _node(graph, what)
    if not node.is_leaf:
        raise CompileError(f"wrt names leaves, and {node!r} is computed; ge.grad differentiates by any node")
    return node


def _node(graph: Graph, what: str | Node) -> Node:
    return graph[what] if isinstance(what, str) else graph.own(what)

"""Random graphs over every registered op, and the naive evaluation that programs are held against.

A graph is grown from a seed. Each kind has a recipe, which picks operands among the nodes grown so far and brings them
into the op's domain, away from its kinks; for that every value is computed as soon as its node is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

import graphengine as ge
from graphengine.ir.graph import Graph, Node
from graphengine.ir.leaf import Constant, Leaf

BATCH = 4
"""The size of the one named dim, "batch"."""

MARGIN = 0.03
"""How far values keep from a kink: far beyond what a step of a finite difference moves them."""


def evaluate(
    nodes: Iterable[Node], given: Mapping[str, np.ndarray], binding: Mapping[str, int], xp: object = np
) -> dict[str, np.ndarray]:
    """The values of `nodes`, parents first, by `eval` alone: no order, no memory plan, nothing in place."""
    values: dict[str, np.ndarray] = {}
    for node in nodes:
        op = node.op.bind_dims(binding)
        if isinstance(op, Leaf) and not isinstance(op, Constant):
            values[node.name] = given[node.name]
        else:
            values[node.name] = op.eval(xp, *(values[parent.name] for parent in node.parents))
    return values


@dataclass
class Sample:
    """A graph whose output "loss" depends on all that was grown, and what its leaves are to hold."""

    graph: Graph
    feeds: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]

    @property
    def given(self) -> dict[str, np.ndarray]:
        return {**self.feeds, **self.parameters}

    @property
    def kinds(self) -> set[str]:
        return {node.op.kind for node in self.graph.nodes}


@dataclass
class Grower:
    """A graph as it grows, with the value of every node."""

    random: np.random.Generator
    graph: Graph = field(default_factory=lambda: ge.Graph("grown", dtype="float64"))
    values: list[np.ndarray] = field(default_factory=list)
    pool: list[Node] = field(default_factory=list)
    given: dict[str, np.ndarray] = field(default_factory=dict)

    def value(self, node: Node) -> np.ndarray:
        """The value of `node`, after those of all nodes made since the last call."""
        for new in self.graph.nodes[len(self.values) :]:
            op = new.op.bind_dims({"batch": BATCH})
            operands = [self.values[parent.index] for parent in new.parents]
            is_given = isinstance(op, Leaf) and not isinstance(op, Constant)
            self.values.append(self.given[new.name] if is_given else np.asarray(op.eval(np, *operands)))
        return self.values[node.index]

    def leaf(self, name: str, *shape: int | str) -> None:
        sizes = [BATCH if dim == "batch" else int(dim) for dim in shape]
        self.given[name] = self.random.uniform(-1.5, 1.5, sizes)
        self.pool.append(
            self.graph.input(name, shape) if "batch" in shape else self.graph.parameter(name, [int(d) for d in shape])
        )

    def pick(self, ndim: int | None = None, least: int = 0, shape: tuple[int | str, ...] | None = None) -> Node:
        """A node of the pool: of `ndim` axes, of at least `least` axes, or of `shape`."""
        fitting = [
            node
            for node in self.pool
            if (ndim is None or node.ndim == ndim) and node.ndim >= least and (shape is None or node.shape == shape)
        ]
        return fitting[self.random.integers(len(fitting))]

    def axis(self, x: Node) -> int:
        return int(self.random.integers(x.ndim))

    def static_axis(self, x: Node) -> int:
        """An axis of `x` whose size is a number."""
        return int(self.random.choice([axis for axis, dim in enumerate(x.shape) if isinstance(dim, int)]))

    def coin(self) -> bool:
        return bool(self.random.integers(2))

    def peer(self, x: Node) -> Node:
        """A node that broadcasts against `x`."""
        fitting = [node for node in self.pool if node.shape == x.shape[x.ndim - node.ndim :]]
        return fitting[self.random.integers(len(fitting))]

    def bounded(self, x: Node) -> Node:
        """`x`, scaled down to at most 2."""
        largest = float(np.max(np.abs(self.value(x)), initial=0.0))
        return x * (2.0 / largest) if largest > 2 else x

    def positive(self, x: Node) -> Node:
        return x * x + 0.3

    def off(self, x: Node, *kinks: float) -> Node:
        """`x`, shifted so that no element is near a kink."""
        value = self.value(x)
        for shift in np.linspace(0.0, 1.0, 101):
            gap = min((float(np.min(np.abs(value + shift - kink), initial=math.inf)) for kink in kinks), default=0.0)
            if gap > MARGIN:
                return x + shift if shift else x
        raise AssertionError(f"no shift takes {x!r} off {kinks}")

    def spread(self, x: Node) -> Node:
        """`x` with a ramp added along every axis, so that no two elements tie."""
        for axis, dim in enumerate(x.shape):
            if isinstance(dim, int) and dim > 1:
                ramp = self.random.permutation(dim) * 7.0 ** (axis + 1)
                x = x + self.graph.constant(None, ramp.reshape(-1, *[1] * (x.ndim - axis - 1)))
        return x


RecipeOf = Callable[[Grower], Node]

"""Random graphs over every registered op, and the naive evaluation that programs are held against.

A graph is grown from a seed, in a `Setting`: dtype, sizes and the values of leaves. Each kind has a recipe, which picks
operands among the nodes grown so far. In a tame setting it brings them into the op's domain, away from its kinks; for
that every value is computed as soon as its node is made. In a wild one it takes them as they are, and leaves hold
extreme values, too. To have a new op tried, write its recipe here.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

import graphengine as ge
from graphengine.errors import GraphEngineError, GraphError, ValueRangeError
from graphengine.ir.dims import Dim
from graphengine.ir.graph import Graph
from graphengine.ir.init import Uniform
from graphengine.ir.leaf import Constant, Leaf, Parameter, State
from graphengine.ir.node import Node, apply
from graphengine.ir.op import GetItem, Op
from graphengine.ir.types import INTEGERS
from graphengine.ops.attention import AttentionAdjoint
from graphengine.ops.broadcast import dim_size
from graphengine.ops.convolution import Conv2DWeightGrad
from graphengine.ops.elementwise import Copy
from graphengine.ops.index import AddSlice, SinusoidalPositions, SliceAdjoint, arange
from graphengine.ops.loss import SoftmaxError
from graphengine.ops.norm import BatchStatistic, GroupNorm, LayerNorm, Normalize, RMSNorm, RowNormAdjoint
from graphengine.ops.pool import AvgPool2DAdjoint, MaxPool2DGather, MaxPool2DPlace, MaxPool2DScatter
from graphengine.ops.random import Dropout
from graphengine.ops.reduce import First
from graphengine.ops.support.pointwise import BinaryOp, UnaryOp

T = TypeVar("T")

SEED = 0
"""Of the first values of parameters and states; a graph is compiled under it too."""

BATCH = 4
"""The size of the one named dim, "batch"."""

MARGIN = 0.03
"""How far values keep from a kink: far beyond what a step of a finite difference moves them."""


def evaluate(
    nodes: Iterable[Node],
    given: Mapping[str, np.ndarray],
    binding: Mapping[str, int],
    xp: object = np,
    run: Callable[[Node, Op, list[Any]], Any] | None = None,
) -> dict[str, np.ndarray]:
    """The values of `nodes`, parents first, by `eval` alone: no order, no memory plan, nothing in place.

    `run(node, op, operands)` takes the place of `op.eval(xp, *operands)`.
    """
    values: dict[str, np.ndarray] = {}
    for node in nodes:
        op = node.op.bind_dims(binding)
        operands = [values[parent.name] for parent in node.parents]
        is_given = isinstance(op, Leaf) and not isinstance(op, Constant)
        if is_given:
            values[node.name] = given[node.name]
        else:
            values[node.name] = run(node, op, operands) if run else op.eval(xp, *operands)
    return values


Draw = Callable[[np.random.Generator, Sequence[int], str], np.ndarray]


def ordinary(random: np.random.Generator, sizes: Sequence[int], dtype: str) -> np.ndarray:
    """Values of the size of 1."""
    return random.uniform(-1.5, 1.5, sizes).astype(dtype)


def extreme(random: np.random.Generator, sizes: Sequence[int], dtype: str) -> np.ndarray:
    """Values of some size, with none, few or many among them at the edges of what `dtype` holds."""
    if dtype in INTEGERS:
        limits = np.iinfo(dtype)
        edges = [limits.min, limits.max, 0, 1, limits.max // 2 + 1]
        values = random.integers(max(limits.min, -5), 5, sizes, dtype)
    else:
        info = np.finfo(dtype)
        edges = [0.0, -0.0, 1.0, -1.0, 20.0, 88.8, -104.0, 1e4, -1e4, 1e8, -1e8, 1e-38, -1e-38, info.tiny]
        edges += [1e38, -1e38, info.max, info.min, info.eps] if random.integers(2) else []
        edges += [info.smallest_subnormal, -info.smallest_subnormal] if random.integers(2) else []
        edges += [np.inf, -np.inf, np.nan] if random.integers(2) else []
        values = (ordinary(random, sizes, "float64") * random.choice([1.0, 1.0, 30.0, 1e-5, 1e4])).astype(dtype)
    share = random.choice([0.0, 0.2, 0.7])
    return np.where(random.uniform(size=sizes) < share, random.choice(np.array(edges, dtype), sizes), values)


@dataclass(frozen=True)
class Setting:
    """What a graph is grown of, beside its seed."""

    dtype: str = "float64"
    outer: Dim = "batch"
    """The first axis of inputs: a name, or a size."""
    inner: int = 3
    """The size of all other axes of leaves, but for the first of the stack of matrices, which is 2."""
    batch: int = BATCH
    values: Draw = ordinary

    @property
    def is_tame(self) -> bool:
        """Whether values are kept small, and away from kinks."""
        return self.values is ordinary

    @property
    def is_usual(self) -> bool:
        """Whether every recipe can be followed."""
        return self.inner == 3 and self.outer in ("batch", BATCH)


TAME = Setting()


def wild(seed: int) -> Setting:
    """Extreme values in either dtype, and sizes among which 0 and 1 are."""
    random = np.random.default_rng([seed, 1])
    return Setting(
        dtype=("float32", "float64")[random.integers(2)],
        outer=("batch", "batch", "batch", 0, 1, 2)[random.integers(6)],
        inner=(3, 3, 3, 2, 1, 0)[random.integers(6)],
        batch=(1, 2, BATCH)[random.integers(3)],
        values=extreme,
    )


@dataclass
class Sample:
    """A graph whose output "loss" depends on all that was grown, and what its leaves hold."""

    graph: Graph
    given: dict[str, np.ndarray]
    setting: Setting = TAME

    @property
    def binding(self) -> dict[str, int]:
        return {"batch": self.setting.batch} if self.setting.outer == "batch" else {}

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {node.name: self.given[node.name] for node in self.graph.inputs}

    @property
    def float_leaves(self) -> list[str]:
        leaves = (*self.graph.inputs, *self.graph.parameters, *self.graph.states)
        return [node.name for node in leaves if node.type.is_float]

    @property
    def kinds(self) -> set[str]:
        return {node.op.kind for node in self.graph.nodes}


@dataclass
class Grower:
    """A graph as it grows, with the value of every node."""

    random: np.random.Generator
    setting: Setting = TAME
    graph: Graph = field(default_factory=lambda: ge.Graph("grown", dtype="float64"))
    values: list[np.ndarray | tuple[np.ndarray, ...]] = field(default_factory=list)
    pool: list[Node] = field(default_factory=list)
    given: dict[str, np.ndarray] = field(default_factory=dict)
    labels: Node | None = None
    integers: Node | None = None

    def __post_init__(self) -> None:
        self.graph.dtype = self.setting.dtype

    @property
    def n(self) -> int:
        return self.setting.inner

    def value(self, node: Node) -> np.ndarray:
        """The value of `node`, after those of all nodes made since the last call."""
        for new in self.graph.nodes[len(self.values) :]:
            op = new.op.bind_dims({"batch": self.setting.batch})
            operands = [self.values[parent.index] for parent in new.parents]
            is_given = isinstance(op, Leaf) and not isinstance(op, Constant)
            value = self.given[new.name] if is_given else op.eval(np, *operands)
            self.values.append(value if isinstance(value, tuple) else np.asarray(value))
        return self.values[node.index]

    def plant(self) -> None:
        """Declare the leaves."""
        graph, setting, n = self.graph, self.setting, self.n
        self.pool = [graph.input("x", (setting.outer, n)), graph.input("y", (setting.outer, n))]
        init = Uniform(low=-1.5, high=1.5)
        self.pool += [graph.parameter(f"w{len(shape)}", shape, init) for shape in ((), (n,), (n, n), (2, n, n))]
        self.pool += [graph.state("s", (n, n), init)]
        self.pool += [graph.constant("c", setting.values(self.random, (n,), setting.dtype))]
        self.labels = graph.input("labels", (setting.outer,), dtype="int64")
        kinds = ("int64",) if setting.is_tame else ("int32", "int64", "uint8")
        self.integers = graph.input("i", (setting.outer, n), dtype=self.choose(kinds))
        for node in graph.nodes:
            sizes = node.type.bind({"batch": setting.batch}).static_shape
            if node is self.labels:
                self.given[node.name] = self.random.integers(0, n or 1, sizes)
            elif node is self.integers and setting.is_tame:
                self.given[node.name] = self.random.integers(-3, 4, sizes)
            elif isinstance(node.op, Parameter | State) and setting.is_tame:
                self.given[node.name] = node.op.init.draw(SEED, node.name, sizes, node.dtype)
            elif not isinstance(node.op, Constant):
                self.given[node.name] = setting.values(self.random, sizes, node.dtype)

    def choose(self, options: Sequence[T]) -> T:
        return options[self.random.integers(len(options))]

    def pick(self, least: int = 0) -> Node:
        """A node of the pool with at least so many axes; the latest are likelier, so that graphs grow deep."""
        fitting = [node for node in self.pool if node.ndim >= least]
        return self.choose(fitting[-4:]) if self.coin() else self.choose(fitting)

    def rows(self) -> Node:
        """A node of the shape of inputs: logits of examples, say."""
        return self.choose([node for node in self.pool if node.shape == self.pool[0].shape])

    def fixed(self) -> Node:
        """A node with axes, all of whose sizes are numbers."""
        return self.choose([node for node in self.pool if node.ndim and not node.type.names()])

    def axis(self, x: Node) -> int:
        """An axis of `x`, from the front or from the back."""
        return int(self.random.integers(-x.ndim, x.ndim))

    def fixed_axis(self, x: Node) -> int:
        """An axis of `x` whose size is a number, the last if there is no other."""
        return self.choose([axis for axis, dim in enumerate(x.shape) if isinstance(dim, int)] or [x.ndim - 1])

    def coin(self) -> bool:
        return bool(self.random.integers(2))

    def peer(self, x: Node) -> Node:
        """A node that broadcasts against `x`, to its shape."""
        return self.choose([node for node in self.pool if node.shape == x.shape[x.ndim - node.ndim :]])

    def bounded(self, x: Node) -> Node:
        """`x`, scaled down to at most 2."""
        if not self.setting.is_tame:
            return x
        largest = float(np.max(np.abs(self.value(x)), initial=0.0))
        return x * (2.0 / largest) if largest > 2 else x

    def condition(self) -> Node:
        """Bools that no small step of a leaf changes."""
        return self.off(self.pick(), 0.0) > 0.0

    def positive(self, x: Node) -> Node:
        return x * x + 0.3 if self.setting.is_tame else x

    def off(self, x: Node, *kinks: float) -> Node:
        """`x`, shifted so that no element is near a kink."""
        if not self.setting.is_tame:
            return x
        value = self.value(x)
        for shift in np.linspace(0.0, 1.0, 101):
            if all(np.min(np.abs(value + shift - kink), initial=math.inf) > MARGIN for kink in kinks):
                return x + shift if shift else x
        raise AssertionError(f"no shift takes {x!r} off {kinks}")

    def spread(self, x: Node) -> Node:
        """`x` with a ramp added along every axis, so that no two elements tie."""
        if not self.setting.is_tame:
            return x
        for axis, dim in enumerate(x.shape):
            if isinstance(dim, int) and dim > 1:
                ramp = self.random.permutation(dim) * 7.0 ** (axis + 1)
                x = x + self.graph.constant(None, ramp.reshape(-1, *[1] * (x.ndim - axis - 1)))
        return x

    def accepted(self, *makers: Callable[[], Node]) -> Node:
        """What the first of these makes that is not refused, each tried some times, with other draws."""
        for maker in (maker for maker in makers for _ in range(8)):
            start = len(self.graph)
            try:
                return maker()
            except GraphError:
                self.graph.discard(start, keep=[*self.pool, self.labels, self.integers])
        raise GraphError("all of it is refused")


Recipe = Callable[[Grower], Node]


def unary(function: Callable[[Node], Node], *kinks: float) -> Recipe:
    return lambda g: function(g.off(g.pick(), *kinks) if kinks else g.pick())


def on_positive(function: Callable[[Node], Node]) -> Recipe:
    return lambda g: function(g.positive(g.pick()))


def binary(function: Callable[[Node, Node], Node]) -> Recipe:
    def recipe(g: Grower) -> Node:
        a = g.pick()
        b = g.peer(a)
        return function(a, b) if g.coin() else function(b, a)

    return recipe


def untied(function: Callable[[Node, Node], Node]) -> Recipe:
    """Of two nodes of which no elements tie."""

    def recipe(g: Grower) -> Node:
        a = g.pick()
        b = g.peer(a)
        return function(g.off(a - b, 0.0) + b, b)

    return recipe


def choosing(condition: Callable[[Grower], Node]) -> Recipe:
    """Of bools, which choose between two nodes."""

    def recipe(g: Grower) -> Node:
        chosen = condition(g)
        x = g.choose([node for node in g.pool if node.shape == chosen.shape] or [g.pool[2]])
        return ge.where(chosen, x, 0.5 * x)

    return recipe


def comparing(function: Callable[[Node, float], Node]) -> Recipe:
    return choosing(lambda g: function(g.off(g.pick(), 0.25), 0.25))


def reducing(function: Callable[..., Node], spread: bool = False) -> Recipe:
    def recipe(g: Grower) -> Node:
        x = g.pick(least=1)
        axis = g.fixed_axis(x) if spread or g.coin() else None
        return function(g.spread(x) if spread else x, axis=axis, keepdims=g.coin())

    return recipe


def locating(function: Callable[..., Node]) -> Recipe:
    """Of the place of an extreme, one-hot."""

    def recipe(g: Grower) -> Node:
        x = g.rows()
        return ge.one_hot(function(g.spread(x), axis=-1), g.n) * x

    return recipe


def along_axis(function: Callable[..., Node]) -> Recipe:
    def recipe(g: Grower) -> Node:
        x = g.pick(least=1)
        return function(x, axis=g.axis(x))

    return recipe


def matmul(g: Grower) -> Node:
    a = g.choose([node for node in g.pool if node.ndim and node.shape[-1] == g.n])
    b = g.choose([node for node in g.pool if not node.type.names() and node.shape[-2:][:1] == (g.n,) and node.ndim < 3])
    return a @ b


def add_product(g: Grower) -> Node:
    a = g.choose([node for node in g.pool if node.ndim == 2 and node.shape[-1] == g.n])
    b = g.choose([node for node in g.pool if node.ndim == 2 and node.shape[0] == g.n])
    scale = g.choose([node for node in g.pool if node.ndim == 0])
    return ge.add_product(ge.tanh(a @ b), a, b, scale, factor=-0.5)


def reshape(g: Grower) -> Node:
    x = g.pick(least=1)
    return ge.reshape(x, (-1,)) if g.coin() else ge.reshape(x, (*x.shape[:-1], 1, x.shape[-1]))


def transpose(g: Grower) -> Node:
    x = g.pick(least=2)
    return x.T if g.coin() else ge.transpose(x, [int(axis) for axis in g.random.permutation(x.ndim)])


def broadcast_to(g: Grower) -> Node:
    x = g.choose([node for node in g.pool if node.shape in ((), (g.n,), (1, g.n))])
    return ge.broadcast_to(x, g.pool[0].shape if g.coin() else (2, g.n))


def squeeze(g: Grower) -> Node:
    x = g.pick(least=1)
    return ge.squeeze(ge.reshape(x, (1, *x.shape)), axis=0)


def concat(g: Grower) -> Node:
    x = g.pick(least=1)
    return ge.concat([x, x * 0.5, g.choose([node for node in g.pool if node.shape == x.shape])], axis=g.axis(x))


def stack(g: Grower) -> Node:
    x = g.pick()
    return ge.stack(
        [g.choose([node for node in g.pool if node.shape == x.shape]), x], axis=int(g.random.integers(x.ndim + 1))
    )


def pad(g: Grower) -> Node:
    x = g.pick(least=1)
    return ge.pad(x, [(int(g.random.integers(3)), int(g.random.integers(2))) for _ in x.shape], value=0.5)


def crop(g: Grower) -> Node:
    x = g.fixed()
    return ge.crop(x, [int(dim > 1) for dim in x.shape], [dim - 1 if dim > 1 else dim for dim in x.shape])


def slicing(g: Grower) -> Node:
    x = g.fixed()
    return g.accepted(lambda: x[g.choose([0, (..., slice(None, None, -1)), slice(1), (..., slice(-1, None)), None])])


def add_slice(g: Grower) -> Node:
    x = g.choose([node for node in g.pool if node.shape == (g.n, g.n)])
    return apply(AddSlice(key=f":, {g.n // 2}"), x, x[0])


def slice_adjoint(g: Grower) -> Node:
    x = g.choose([node for node in g.pool if node.shape == (g.n, g.n)])
    return apply(SliceAdjoint(key=f"1:{g.n + 1}", shape=(g.n + 2, g.n)), x)


def attending(g: Grower) -> tuple[list[Node], dict[str, object]]:
    """Queries, keys and values, at times a mask, and how they attend to each other."""
    operands = [ge.tanh(g.rows()) if g.setting.is_tame else g.rows() for _ in range(3)]
    mask = g.random.integers(4)
    if mask == 0:
        operands.append(g.graph.constant(None, np.array(g.choose([True, False]))))
    elif mask < 3:  # which hides keys of all, or all keys of some
        seen = g.off(ge.sum(g.rows(), -1), 0.0) > 0.0
        operands.append(seen if mask == 1 else ge.expand_dims(seen, -1))
    return operands, {"causal": g.coin(), "block": g.choose([None, 2]), "scale": g.choose([None, 0.5])}


def attention(g: Grower) -> Node:
    operands, options = attending(g)
    return ge.attention(*operands, **options)


def attention_adjoint(g: Grower) -> Node:
    operands, options = attending(g)
    rows = (ge.tanh(ge.sum(g.rows(), -1)) for _ in range(2))
    bundle = apply(AttentionAdjoint(**options), g.rows(), *operands[:3], *rows, *operands[3:])
    q_bar, k_bar, v_bar = (apply(GetItem(index=index), bundle) for index in range(3))
    return q_bar * k_bar + v_bar


def gather(g: Grower) -> Node:
    x = g.fixed()
    axis = g.axis(x)
    sizes = (2 if x.shape[axis] else 0, 2)[: 1 + g.coin()]
    return ge.gather(x, g.random.integers(0, x.shape[axis] or 1, sizes), axis=axis)


def scatter_add(g: Grower) -> Node:
    x = g.fixed()
    axis = g.axis(x)
    return ge.scatter_add(x, g.random.integers(0, 4, x.shape[axis]), 4, axis=axis)


def loss(
    function: Callable[..., Node], target: Callable[[Grower, Node], tuple[Node, Node]], **options: float
) -> Recipe:
    def recipe(g: Grower) -> Node:
        prediction, against = target(g, g.rows())
        return function(prediction, against, reduction=g.choose(["mean", "sum", "none"]), **options)

    return recipe


def dropout(g: Grower) -> Node:
    seed, step = (g.graph.constant(None, g.random.integers(99)) for _ in range(2))
    return apply(Dropout(rate=0.3, stream=7), g.pick(), seed, step)


def normalize(g: Grower) -> Node:
    w, c = g.pool[3], g.pool[7]
    return apply(Normalize(epsilon=0.1), g.rows(), w, g.positive(w), c, w)


def split(g: Grower) -> Node:
    x = g.rows()
    cut = int(g.random.integers(g.n + 1))
    left, right = ge.split(x, (cut, g.n - cut), axis=1)
    return ge.concat([right * 2.0, left, left * x[:, :1]] if g.n else [right, left], axis=1)


def cast(g: Grower) -> Node:
    """Integers as floats; in a wild setting also what is left of floats after another dtype."""
    if g.setting.is_tame or g.coin():
        return ge.cast(g.accepted(lambda: integral(g), lambda: g.labels), g.setting.dtype) * 0.5
    return ge.cast(ge.cast(g.pick(), g.choose(["float32", "float64"])), g.setting.dtype)


def integral(g: Grower) -> Node:
    """Integers, of integers."""
    a = g.choose([g.labels, g.integers])
    b = ge.maximum(g.integers, g.choose([0, 1, 2])) if a is g.integers else a
    makers: list[Callable[[], Node]] = [
        lambda: g.choose([ge.add, ge.subtract, ge.multiply, ge.maximum, ge.minimum])(a, b),
        lambda: g.choose([ge.negative, ge.abs, ge.sign, ge.square])(a),
        lambda: ge.where(g.choose([ge.less, ge.equal, ge.greater_equal])(a, b), a, b * 3),
        lambda: g.choose([ge.sum, ge.max, ge.min])(a, axis=g.axis(a), keepdims=True) + b,
        lambda: ge.scatter_add(ge.concat([a, b], axis=0), g.random.integers(0, 2, (2 * g.setting.batch,)), 3),
        lambda: ge.gather(ge.pad(a, [(2, 1)] + [(0, 0)] * (a.ndim - 1), value=7), [[0, 2], [2, 1]]),
        lambda: ge.broadcast_to(ge.expand_dims(a, 0), (2, *a.shape)),
        lambda: ge.cast(a, g.choose(["int64", "int32", "uint8"])) if g.setting.is_tame else a,
    ]
    return g.choose(makers)()


def scan(g: Grower) -> Node:
    """A loop whose carries are changed, passed on, exchanged, or given as results; it captures what lies around."""
    like = g.choose([(), (g.n,), (g.n, g.n), g.pool[0].shape])
    around = [node for node in g.pool if node.shape == like]
    carries = [g.choose(around) for _ in range(g.random.integers(1, 4))]
    sequences = [ge.stack([g.choose(around) for _ in range(2 + g.coin())]) for _ in range(1)] if g.coin() else []
    choices = g.random.integers(0, 2**30, 16).tolist()

    def body(state: tuple[Node, ...], step: tuple[Node, ...] | None) -> tuple[Any, Any]:
        held = [*state, *(step or ()), around[0], g.pool[2]]

        def made(place: int) -> Node:
            a, b = held[choices[place] % len(held)], held[choices[place + 1] % len(held)]
            a, b = (a, b) if a.shape == like else (state[0], b)
            simple = [
                lambda: a,
                lambda: ge.tanh(a + b),
                lambda: a * 0.5 + ge.sin(b),
                lambda: ge.tanh(a * b),
                lambda: -a,
            ]
            return simple[choices[place + 2] % len(simple)]()

        nexts = [made(place) for place in range(len(state))]
        nexts = nexts[::-1] if choices[15] % 3 == 0 else nexts
        results = [nexts[0], state[-1], made(5), held[choices[14] % len(held)]][: choices[13] % 4]
        return tuple(nexts), tuple(results)

    options: dict[str, Any] = {"reverse": g.coin()}
    if not sequences:
        options["length"] = g.choose([0, 1, 3])
    last, results = ge.scan(body, tuple(carries), tuple(sequences) or None, **options)
    total = last[0]
    for node in (*last[1:], *(ge.sum(result, 0) for result in results)):
        total = total + node * 0.5
    return total


def row_norm_adjoint(g: Grower) -> Node:
    x = g.pick(least=1)
    same = g.choose([node for node in g.pool if node.shape == x.shape])
    return apply(RowNormAdjoint(epsilon=0.1, centered=g.coin()), same, x)


def beside(g: Grower, x: Node) -> tuple[Node, Node]:
    return x, g.rows()


def untied_beside(g: Grower, x: Node) -> tuple[Node, Node]:
    y = g.rows()
    return g.off(x - y, 0.0) + y, y


def signs(g: Grower, x: Node) -> tuple[Node, Node]:
    """Logits off the kinks of hinge and perceptron loss, and labels of -1 and 1."""
    return g.off(x, -1.0, 0.0, 1.0), ge.where(g.off(g.rows(), 0.0) > 0.0, 1.0 + 0.0 * x, -1.0 + 0.0 * x)


def probabilities(g: Grower, x: Node) -> tuple[Node, Node]:
    return x, ge.sigmoid(g.rows())


def classes(g: Grower, x: Node) -> tuple[Node, Node]:
    return x, g.labels


def images(g: Grower) -> Node:
    """Images of shape (batch, 2, 3, 4)."""
    rows = [ge.reshape(g.rows(), (g.setting.outer, 1, g.n, 1)) for _ in range(4)]
    wide = ge.concat(rows, axis=3)
    return ge.concat([wide, ge.sin(wide * 0.7)], axis=1)


def kernel(g: Grower, *channels: int) -> Node:
    return ge.reshape(g.choose([node for node in g.pool if node.shape == (2, g.n, g.n)]), (*channels, g.n, g.n))


def moves(g: Grower) -> dict[str, object]:
    """How a kernel moves over images; not all of it can be."""

    def side() -> int:
        return int(g.random.integers(3))

    paddings = [side(), (side(), side()), ((side(), side()), (side(), side())), "valid", "same"]
    steps = [1, 1, 2, (1, 3), (2, 1), 3]
    return {"stride": g.choose(steps), "dilation": g.choose([1, 1, 2, (2, 1), (1, 2)]), "padding": g.choose(paddings)}


def conv2d(g: Grower) -> Node:
    x, w = images(g), (kernel(g, 2, 1), kernel(g, 1, 2))
    groups = g.choose([1, 2])
    return g.accepted(lambda: ge.conv2d(x, w[groups % 2], groups=groups, **moves(g)))


def conv2d_transpose(g: Grower) -> Node:
    x, w = images(g), kernel(g, 2, 1)

    def made() -> Node:
        beyond = g.choose([0, 1, (0, 1)])
        return ge.conv2d_transpose(x, w, output_padding=beyond, groups=g.choose([1, 2]), **moves(g))

    return g.accepted(made)


def conv2d_weight_grad(g: Grower) -> Node:
    x, w = images(g), kernel(g, 1, 2)

    def made() -> Node:
        attributes = moves(g)
        return apply(Conv2DWeightGrad(window=g.n, **attributes), x, ge.conv2d(x, w, **attributes))

    return g.accepted(made)


def pooled(g: Grower) -> tuple[Node, dict[str, object]]:
    """Images of which no elements tie, and how a window of 2 by 3 moves over them."""
    window = (2, 3) if g.n > 1 else g.choose([1, (1, 2), 2])
    return g.spread(images(g)), {"window": window, "stride": g.choose([1, 2, (2, 3)]), "padding": g.choose([0, 1])}


def max_pool2d_place(g: Grower) -> Node:
    x, attributes = pooled(g)
    y = ge.max_pool2d(x, **attributes)
    return ge.cast(apply(MaxPool2DPlace(**attributes), x, y), g.setting.dtype) * 0.1


def max_pool2d_scatter(g: Grower) -> Node:
    x, attributes = pooled(g)
    y = ge.max_pool2d(x, **attributes)
    place = apply(MaxPool2DPlace(**attributes), x, y)
    return apply(MaxPool2DScatter(size=x.shape[2:], **attributes), y, place)


def max_pool2d_gather(g: Grower) -> Node:
    x, attributes = pooled(g)
    place = apply(MaxPool2DPlace(**attributes), x, ge.max_pool2d(x, **attributes))
    return apply(MaxPool2DGather(**attributes), x, place)


def avg_pool2d(g: Grower) -> Node:
    x, attributes = pooled(g)
    return ge.avg_pool2d(x, count_include_pad=g.coin(), **attributes)


def avg_pool2d_adjoint(g: Grower) -> Node:
    x, attributes = pooled(g)
    return apply(AvgPool2DAdjoint(size=x.shape[2:], **attributes), ge.avg_pool2d(x, **attributes))


def max_pool2d(g: Grower) -> Node:
    x, attributes = pooled(g)
    return ge.max_pool2d(x, **attributes)


OWN: dict[str, Recipe] = {
    "absolute_error": loss(ge.absolute_error, untied_beside),
    "arange": lambda g: g.rows() + ge.cast(ge.expand_dims(arange(g.graph, g.setting.outer), -1), g.setting.dtype) * 0.1,
    "argmax": locating(ge.argmax),
    "argmin": locating(ge.argmin),
    "avg_pool2d": avg_pool2d,
    "avg_pool2d_adjoint": avg_pool2d_adjoint,
    "attention": attention,
    "attention_adjoint": attention_adjoint,
    "batch_statistic": lambda g: apply(BatchStatistic(), x := g.pick(), x * 0.5),
    "binary_cross_entropy": loss(ge.binary_cross_entropy, probabilities),
    "broadcast_to": broadcast_to,
    "cast": cast,
    "clip": unary(lambda x: ge.clip(x, -0.5, 0.75), -0.5, 0.75),
    "concat": concat,
    "conv2d": conv2d,
    "conv2d_transpose": conv2d_transpose,
    "conv2d_weight_grad": conv2d_weight_grad,
    "copy": lambda g: apply(Copy(), g.pick()),
    "crop": crop,
    "cross_entropy": loss(ge.cross_entropy, classes),
    "dim_size": lambda g: g.pick() / dim_size(g.graph, g.setting.outer, g.setting.dtype),
    "divide": lambda g: g.pick() / g.positive(g.pool[2]),
    "dropout": dropout,
    "elastic_net": unary(lambda w: ge.elastic_net(w, 0.3), 0.0),
    "elu": unary(lambda x: ge.elu(x, alpha=0.7), 0.0),
    "equal": comparing(ge.equal),
    "expand_dims": lambda g: ge.expand_dims(g.pick(), axis=-1),
    "first": lambda g: apply(First(of=g.choose(["max", "min"]), axis=(-1,)), g.spread(x := g.rows())) * x,
    "floor": unary(ge.floor, *range(-3, 5)),
    "gather": gather,
    "gelu": lambda g: ge.gelu(g.pick(), approximate=g.choose(["none", "tanh"])),
    "greater": comparing(ge.greater),
    "greater_equal": comparing(ge.greater_equal),
    "group_lasso": lambda g: ge.group_lasso(g.positive(g.pick(least=2)), axis=0),
    "group_norm": lambda g: apply(GroupNorm(groups=g.n or 1, epsilon=0.1), ge.expand_dims(g.rows(), -1) * g.pool[3]),
    "half_squared_error": loss(ge.half_squared_error, beside),
    "hinge": loss(ge.hinge, signs),
    "huber": loss(ge.huber, beside, delta=0.7),
    "isfinite": choosing(lambda g: ge.isfinite(g.pick())),
    "l1": unary(ge.l1, 0.0),
    "l2": unary(ge.l2),
    "layer_norm": lambda g: apply(LayerNorm(epsilon=0.1), g.rows(), g.pool[3], g.pool[7]),
    "leaky_relu": unary(lambda x: ge.leaky_relu(x, slope=0.2), 0.0),
    "less": comparing(ge.less),
    "less_equal": comparing(ge.less_equal),
    "log": on_positive(ge.log),
    "log1p": on_positive(ge.log1p),
    "log_softmax": along_axis(ge.log_softmax),
    "logical_and": choosing(lambda g: ge.logical_and(c := g.condition(), ge.logical_not(c))),
    "logical_not": choosing(lambda g: ge.logical_not(g.condition())),
    "logical_or": choosing(lambda g: ge.logical_or(c := g.condition(), ge.logical_not(c))),
    "logsumexp": reducing(ge.logsumexp),
    "mask": lambda g: ge.mask(x := g.pick(), g.off(x, 0.0) > 0.0),
    "add_product": add_product,
    "add_slice": add_slice,
    "matmul": matmul,
    "max": reducing(ge.max, spread=True),
    "max_pool2d": max_pool2d,
    "max_pool2d_gather": max_pool2d_gather,
    "max_pool2d_place": max_pool2d_place,
    "max_pool2d_scatter": max_pool2d_scatter,
    "maximum": untied(ge.maximum),
    "mean": reducing(ge.mean),
    "min": reducing(ge.min, spread=True),
    "minimum": untied(ge.minimum),
    "normalize": normalize,
    "not_equal": comparing(ge.not_equal),
    "one_hot": lambda g: ge.one_hot(g.labels, g.n) * g.rows(),
    "pad": pad,
    "perceptron_loss": loss(ge.perceptron_loss, signs),
    "power": lambda g: g.positive(g.pick()) ** g.choose([2.0, 3.0, -0.5, g.pool[2]]),
    "reciprocal": on_positive(ge.reciprocal),
    "reshape": reshape,
    "rms_norm": lambda g: apply(RMSNorm(epsilon=0.1), g.rows(), g.pool[7]),
    "row_norm_adjoint": row_norm_adjoint,
    "scan": scan,
    "scatter_add": scatter_add,
    "sinusoidal_positions": lambda g: (
        g.rows() * g.graph.add(SinusoidalPositions(length=g.setting.outer, units=g.n, dtype=g.setting.dtype))
    ),
    "slice": slicing,
    "slice_adjoint": slice_adjoint,
    "softmax": along_axis(ge.softmax),
    "softmax_error": lambda g: apply(SoftmaxError(), g.rows(), g.labels),
    "split": split,
    "sqrt": on_positive(ge.sqrt),
    "squared_error": loss(ge.squared_error, beside),
    "squeeze": squeeze,
    "stack": stack,
    "stop_gradient": lambda g: ge.stop_gradient(ge.sign(g.off(x := g.pick(), 0.0))) * x,
    "sum": reducing(ge.sum),
    "transpose": transpose,
    "variance": reducing(ge.variance),
    "where": choosing(lambda g: g.condition()),
}
"""How a node is grown of a kind that takes more than any floats, away from its kinks."""


def recipe_of(op: type[Op]) -> Recipe:
    """The recipe of an op of floats whose attributes have defaults, from its class alone."""
    if issubclass(op, BinaryOp):
        return binary(lambda a, b: apply(op(), a, b))
    if issubclass(op, UnaryOp):
        return unary(lambda x: apply(op(), x), *op.kinks)
    return lambda g: apply(op(), g.rows())


EXCLUDED = {
    "item": "takes apart the tuples of others",
}
"""Kinds without a recipe, each with the reason."""

RECIPES: dict[str, Recipe] = OWN | {
    kind: recipe_of(op)
    for kind, op in Op.registry.items()
    if kind not in OWN
    and (issubclass(op, UnaryOp | BinaryOp) or (op.arity() == (1, 1) and kind not in EXCLUDED))
    and op.__module__.startswith("graphengine.")
}
"""How a node of each kind is grown."""

LEAVES = {"constant", "input", "parameter", "state"}
"""Kinds that every graph is planted with."""


def grow(seed: int, size: int = 8, setting: Setting = TAME) -> Sample:
    """A graph of `size` recipes; those of consecutive seeds go through all kinds in turn."""
    g = Grower(np.random.default_rng(seed), setting)
    g.plant()
    kinds = sorted(RECIPES)
    for place in range(seed * size, (seed + 1) * size):
        follow(g, RECIPES[kinds[place % len(kinds)]])
    g.graph.output("loss", total(g))
    for place, node in enumerate(g.pool[8:]):
        g.graph.output(f"grown_{place}", node)
    return Sample(g.graph, g.given, setting)


def follow(g: Grower, recipe: Recipe) -> None:
    """Grow one node more, unless there is none of such sizes, or of such values as probabilities that are NaN."""
    start = len(g.graph)
    try:
        node = g.bounded(recipe(g))
        with np.errstate(all="ignore"):
            g.value(node)
        g.pool.append(node)
    except GraphEngineError as error:
        if g.setting.is_tame or (g.setting.is_usual and not isinstance(error, ValueRangeError)):
            raise
        g.graph.discard(start, keep=[])
        del g.values[start:]


def total(g: Grower) -> Node:
    """A loss; in a wild setting it is linear in what was grown, so that not all gradients are NaN if a value is."""
    if not g.setting.is_tame:
        terms = [ge.sum(node) * (0.5 + place) for place, node in enumerate(g.pool[8:])]
        return functools.reduce(ge.add, terms, ge.sum(g.pool[0]) * 0.25)
    total = ge.sum(g.pool[0]) * 0.1
    for place, node in enumerate(g.pool):
        total = total + ge.mean(node * (node + 0.1 * place))
    return total


SEEDS = range(2 * -(-len(RECIPES) // 8))
"""Seeds that go through all kinds twice."""


def seeds(count: int) -> range:
    """The seeds that a test tries: so many, or those from A to B - 1 where GRAPHENGINE_SEEDS is set to A:B."""
    first, _, last = os.environ.get("GRAPHENGINE_SEEDS", f"0:{count}").partition(":")
    return range(int(first), int(last))

"""Random graphs over every registered op, and the naive evaluation that programs are held against.

A graph is grown from a seed. Each kind has a recipe, which picks operands among the nodes grown so far and brings them
into the op's domain, away from its kinks; for that every value is computed as soon as its node is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

import graphengine as ge
from graphengine.ir.bundle import Item
from graphengine.ir.graph import Graph
from graphengine.ir.init import Uniform
from graphengine.ir.leaf import Constant, Leaf, Parameter, State
from graphengine.ir.node import Node, apply
from graphengine.ops.attention import AttentionAdjoint
from graphengine.ops.batch_norm import BatchStatistic, Normalize
from graphengine.ops.broadcast import dim_size
from graphengine.ops.conv import Conv2DWeightGrad
from graphengine.ops.elementwise import Copy
from graphengine.ops.index import AddSlice, SliceAdjoint
from graphengine.ops.norm import GroupNorm, LayerNorm, RMSNorm, RowNormAdjoint
from graphengine.ops.pool import AvgPool2DAdjoint, MaxPool2DGather, MaxPool2DPlace, MaxPool2DScatter
from graphengine.ops.position import SinusoidalPositions, arange
from graphengine.ops.random import Dropout
from graphengine.ops.reduce import First
from graphengine.ops.softmax_error import SoftmaxError

T = TypeVar("T")

SEED = 0
"""Of the first values of parameters and states; a graph is compiled under it too."""

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
        operands = [values[parent.name] for parent in node.parents]
        is_given = isinstance(op, Leaf) and not isinstance(op, Constant)
        values[node.name] = given[node.name] if is_given else op.eval(xp, *operands)
    return values


@dataclass
class Sample:
    """A graph whose output "loss" depends on all that was grown, and what its leaves hold."""

    graph: Graph
    given: dict[str, np.ndarray]

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
    graph: Graph = field(default_factory=lambda: ge.Graph("grown", dtype="float64"))
    values: list[np.ndarray | tuple[np.ndarray, ...]] = field(default_factory=list)
    pool: list[Node] = field(default_factory=list)
    given: dict[str, np.ndarray] = field(default_factory=dict)
    labels: Node | None = None

    def value(self, node: Node) -> np.ndarray:
        """The value of `node`, after those of all nodes made since the last call."""
        for new in self.graph.nodes[len(self.values) :]:
            op = new.op.bind_dims({"batch": BATCH})
            operands = [self.values[parent.index] for parent in new.parents]
            is_given = isinstance(op, Leaf) and not isinstance(op, Constant)
            value = self.given[new.name] if is_given else op.eval(np, *operands)
            self.values.append(value if isinstance(value, tuple) else np.asarray(value))
        return self.values[node.index]

    def plant(self) -> None:
        """Declare the leaves."""
        graph = self.graph
        self.pool = [graph.input("x", ("batch", 3)), graph.input("y", ("batch", 3))]
        init = Uniform(low=-1.5, high=1.5)
        self.pool += [graph.parameter(f"w{len(shape)}", shape, init) for shape in ((), (3,), (3, 3), (2, 3, 3))]
        self.pool += [graph.state("s", (3, 3), init), graph.constant("c", self.random.normal(size=3))]
        self.labels = graph.input("labels", ("batch",), dtype="int64")
        for node in graph.nodes:
            sizes = node.type.bind({"batch": BATCH}).static_shape
            if isinstance(node.op, Parameter | State):
                self.given[node.name] = node.op.init.draw(SEED, node.name, sizes, node.dtype)
            elif node is self.labels:
                self.given[node.name] = self.random.integers(0, 3, sizes)
            else:
                self.given[node.name] = self.random.uniform(-1.5, 1.5, sizes)

    def choose(self, options: Sequence[T]) -> T:
        return options[self.random.integers(len(options))]

    def pick(self, least: int = 0) -> Node:
        """A node of the pool with at least so many axes; the latest are likelier, so that graphs grow deep."""
        fitting = [node for node in self.pool if node.ndim >= least]
        return self.choose(fitting[-4:]) if self.coin() else self.choose(fitting)

    def rows(self) -> Node:
        """A node of shape (batch, 3): logits of examples, say."""
        return self.choose([node for node in self.pool if node.shape == ("batch", 3)])

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
        largest = float(np.max(np.abs(self.value(x)), initial=0.0))
        return x * (2.0 / largest) if largest > 2 else x

    def condition(self) -> Node:
        """Bools that no small step of a leaf changes."""
        return self.off(self.pick(), 0.0) > 0.0

    def positive(self, x: Node) -> Node:
        return x * x + 0.3

    def off(self, x: Node, *kinks: float) -> Node:
        """`x`, shifted so that no element is near a kink."""
        value = self.value(x)
        for shift in np.linspace(0.0, 1.0, 101):
            if all(np.min(np.abs(value + shift - kink), initial=math.inf) > MARGIN for kink in kinks):
                return x + shift if shift else x
        raise AssertionError(f"no shift takes {x!r} off {kinks}")

    def spread(self, x: Node) -> Node:
        """`x` with a ramp added along every axis, so that no two elements tie."""
        for axis, dim in enumerate(x.shape):
            if isinstance(dim, int) and dim > 1:
                ramp = self.random.permutation(dim) * 7.0 ** (axis + 1)
                x = x + self.graph.constant(None, ramp.reshape(-1, *[1] * (x.ndim - axis - 1)))
        return x


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
        return ge.one_hot(function(g.spread(x), axis=-1), 3) * x

    return recipe


def along_axis(function: Callable[..., Node]) -> Recipe:
    def recipe(g: Grower) -> Node:
        x = g.pick(least=1)
        return function(x, axis=g.axis(x))

    return recipe


def matmul(g: Grower) -> Node:
    a = g.choose([node for node in g.pool if node.ndim and node.shape[-1] == 3])
    b = g.choose([node for node in g.pool if not node.type.names() and node.shape[-2:][:1] == (3,) and node.ndim < 3])
    return a @ b


def add_product(g: Grower) -> Node:
    a = g.choose([node for node in g.pool if node.ndim == 2 and node.shape[-1] == 3])
    b = g.choose([node for node in g.pool if node.ndim == 2 and node.shape[0] == 3])
    scale = g.choose([node for node in g.pool if node.ndim == 0])
    return ge.add_product(ge.tanh(a @ b), a, b, scale, factor=-0.5)


def reshape(g: Grower) -> Node:
    x = g.pick(least=1)
    return ge.reshape(x, (-1,)) if g.coin() else ge.reshape(x, (*x.shape[:-1], 1, x.shape[-1]))


def transpose(g: Grower) -> Node:
    x = g.pick(least=2)
    return x.T if g.coin() else ge.transpose(x, [int(axis) for axis in g.random.permutation(x.ndim)])


def broadcast_to(g: Grower) -> Node:
    x = g.choose([node for node in g.pool if node.shape in ((), (3,), (1, 3))])
    return ge.broadcast_to(x, ("batch", 3) if g.coin() else (2, 3))


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
    return ge.crop(x, [int(dim > 1) for dim in x.shape], [max(1, dim - 1) for dim in x.shape])


def slicing(g: Grower) -> Node:
    x = g.fixed()
    return g.choose([x[0], x[..., ::-1], x[:1], x[..., -1:], x[None]])


def add_slice(g: Grower) -> Node:
    x = g.choose([node for node in g.pool if node.shape == (3, 3)])
    return apply(AddSlice(key=":, 1"), x, x[0])


def slice_adjoint(g: Grower) -> Node:
    x = g.choose([node for node in g.pool if node.shape == (3, 3)])
    return apply(SliceAdjoint(key="1:4", shape=(5, 3)), x)


def attending(g: Grower) -> tuple[list[Node], dict[str, object]]:
    """Queries, keys and values, at times a mask, and how they attend to each other."""
    operands = [ge.tanh(g.rows()) for _ in range(3)]
    if g.coin():
        operands.append(g.graph.constant(None, np.array(g.choose([True, False]))))
    return operands, {"causal": g.coin(), "block": g.choose([None, 2]), "scale": g.choose([None, 0.5])}


def attention(g: Grower) -> Node:
    operands, options = attending(g)
    return ge.attention(*operands, **options)


def attention_adjoint(g: Grower) -> Node:
    operands, options = attending(g)
    rows = (ge.tanh(ge.sum(g.rows(), -1)) for _ in range(2))
    bundle = apply(AttentionAdjoint(**options), g.rows(), *operands[:3], *rows, *operands[3:])
    q_bar, k_bar, v_bar = (apply(Item(index=index), bundle) for index in range(3))
    return q_bar * k_bar + v_bar


def gather(g: Grower) -> Node:
    x = g.fixed()
    axis = g.axis(x)
    return ge.gather(x, g.random.integers(0, x.shape[axis], (2, 2)[: 1 + g.coin()]), axis=axis)


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
    rows = [ge.reshape(g.rows(), ("batch", 1, 3, 1)) for _ in range(4)]
    wide = ge.concat(rows, axis=3)
    return ge.concat([wide, ge.sin(wide * 0.7)], axis=1)


def kernel(g: Grower, *shape: int) -> Node:
    return ge.reshape(g.choose([node for node in g.pool if node.shape == (2, 3, 3)]), shape)


def moves(g: Grower) -> dict[str, object]:
    """How a kernel of 3 by 3 moves over images of 3 by 4."""
    return {"stride": g.choose([1, 2, (1, 3)]), "padding": g.choose([1, ((0, 1), (2, 0)), (2, 1)])}


def conv2d(g: Grower) -> Node:
    if g.coin():
        return ge.conv2d(images(g), kernel(g, 2, 1, 3, 3), groups=2, **moves(g))
    return ge.conv2d(images(g), kernel(g, 1, 2, 3, 3), dilation=(2, 1), padding="same")


def conv2d_transpose(g: Grower) -> Node:
    return ge.conv2d_transpose(images(g), kernel(g, 2, 1, 3, 3), output_padding=(0, 0), groups=2, **moves(g))


def conv2d_weight_grad(g: Grower) -> Node:
    x = images(g)
    attributes = moves(g)
    values = ge.conv2d(x, kernel(g, 1, 2, 3, 3), **attributes)
    return apply(Conv2DWeightGrad(window=3, **attributes), x, values)


def pooled(g: Grower) -> tuple[Node, dict[str, object]]:
    """Images of which no elements tie, and how a window of 2 by 3 moves over them."""
    return g.spread(images(g)), {"window": (2, 3), "stride": g.choose([1, 2, (2, 3)]), "padding": g.choose([0, 1])}


def max_pool2d_place(g: Grower) -> Node:
    x, attributes = pooled(g)
    y = ge.max_pool2d(x, **attributes)
    return ge.cast(apply(MaxPool2DPlace(**attributes), x, y), "float64") * 0.1


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


RECIPES: dict[str, Recipe] = {
    "abs": unary(ge.abs, 0.0),
    "absolute_error": loss(ge.absolute_error, untied_beside),
    "add": binary(ge.add),
    "arange": lambda g: g.rows() + ge.cast(ge.expand_dims(arange(g.graph, "batch"), -1), "float64") * 0.1,
    "argmax": locating(ge.argmax),
    "argmin": locating(ge.argmin),
    "avg_pool2d": avg_pool2d,
    "avg_pool2d_adjoint": avg_pool2d_adjoint,
    "attention": attention,
    "attention_adjoint": attention_adjoint,
    "batch_statistic": lambda g: apply(BatchStatistic(), x := g.pick(), x * 0.5),
    "binary_cross_entropy": loss(ge.binary_cross_entropy, probabilities),
    "broadcast_to": broadcast_to,
    "cast": lambda g: ge.cast(g.labels, "float64") * 0.5,
    "clip": unary(lambda x: ge.clip(x, -0.5, 0.75), -0.5, 0.75),
    "concat": concat,
    "conv2d": conv2d,
    "conv2d_transpose": conv2d_transpose,
    "conv2d_weight_grad": conv2d_weight_grad,
    "copy": lambda g: apply(Copy(), g.pick()),
    "cos": unary(ge.cos),
    "crop": crop,
    "cross_entropy": loss(ge.cross_entropy, classes),
    "dim_size": lambda g: g.pick() / dim_size(g.graph, "batch", "float64"),
    "divide": lambda g: g.pick() / g.positive(g.pool[2]),
    "dropout": dropout,
    "elastic_net": unary(lambda w: ge.elastic_net(w, 0.3), 0.0),
    "elu": unary(lambda x: ge.elu(x, alpha=0.7), 0.0),
    "equal": comparing(ge.equal),
    "erf": unary(ge.erf),
    "exp": unary(ge.exp),
    "expand_dims": lambda g: ge.expand_dims(g.pick(), axis=-1),
    "expm1": unary(ge.expm1),
    "first": lambda g: apply(First(of=g.choose(["max", "min"]), axis=(-1,)), g.spread(x := g.rows())) * x,
    "floor": unary(ge.floor, *range(-3, 5)),
    "gather": gather,
    "gelu": lambda g: ge.gelu(g.pick(), approximate=g.choose(["none", "tanh"])),
    "greater": comparing(ge.greater),
    "greater_equal": comparing(ge.greater_equal),
    "group_lasso": lambda g: ge.group_lasso(g.positive(g.pick(least=2)), axis=0),
    "group_norm": lambda g: apply(GroupNorm(groups=3, epsilon=0.1), ge.expand_dims(g.rows(), -1) * g.pool[3]),
    "half_squared_error": loss(ge.half_squared_error, beside),
    "hard_tanh": unary(ge.hard_tanh, -1.0, 1.0),
    "hinge": loss(ge.hinge, signs),
    "huber": loss(ge.huber, beside, delta=0.7),
    "identity": unary(ge.identity),
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
    "multiply": binary(ge.multiply),
    "negative": unary(ge.negative),
    "normalize": normalize,
    "not_equal": comparing(ge.not_equal),
    "one_hot": lambda g: ge.one_hot(g.labels, 3) * g.rows(),
    "pad": pad,
    "perceptron_loss": loss(ge.perceptron_loss, signs),
    "power": lambda g: g.positive(g.pick()) ** g.choose([2.0, 3.0, -0.5, g.pool[2]]),
    "reciprocal": on_positive(ge.reciprocal),
    "relu": unary(ge.relu, 0.0),
    "reshape": reshape,
    "rms_norm": lambda g: apply(RMSNorm(epsilon=0.1), g.rows(), g.pool[7]),
    "row_norm_adjoint": row_norm_adjoint,
    "scatter_add": scatter_add,
    "sigmoid": unary(ge.sigmoid),
    "sign": unary(ge.sign, 0.0),
    "silu": unary(ge.silu),
    "sin": unary(ge.sin),
    "sinusoidal_positions": lambda g: (
        g.rows() * g.graph.add(SinusoidalPositions(length="batch", units=3, dtype="float64"))
    ),
    "slice": slicing,
    "slice_adjoint": slice_adjoint,
    "softmax": along_axis(ge.softmax),
    "softmax_error": lambda g: apply(SoftmaxError(), g.rows(), g.labels),
    "softplus": unary(ge.softplus),
    "split": lambda g: (parts := ge.split(g.rows(), (1, 2), axis=1))[0] * parts[1],
    "sqrt": on_positive(ge.sqrt),
    "square": unary(ge.square),
    "squared_error": loss(ge.squared_error, beside),
    "squeeze": squeeze,
    "stack": stack,
    "stop_gradient": lambda g: ge.stop_gradient(ge.sign(g.off(x := g.pick(), 0.0))) * x,
    "subtract": binary(ge.subtract),
    "sum": reducing(ge.sum),
    "tanh": unary(ge.tanh),
    "transpose": transpose,
    "variance": reducing(ge.variance),
    "where": choosing(lambda g: g.condition()),
}
"""How a node of each kind is grown."""

LEAVES = {"constant", "input", "parameter", "state"}
"""Kinds that every graph is planted with."""

EXCLUDED = {
    "item": "takes apart the bundles of others",
    "scan": "has a graph of its own for a body; its tests grow those",
}
"""Kinds without a recipe, each with the reason."""


def grow(seed: int, size: int = 8) -> Sample:
    """A graph of `size` recipes; those of consecutive seeds go through all kinds in turn."""
    g = Grower(np.random.default_rng(seed))
    g.plant()
    kinds = sorted(RECIPES)
    for place in range(seed * size, (seed + 1) * size):
        g.pool.append(g.bounded(RECIPES[kinds[place % len(kinds)]](g)))
    total = ge.sum(g.pool[0]) * 0.1
    for place, node in enumerate(g.pool):
        total = total + ge.mean(node * (node + 0.1 * place))
    g.graph.output("loss", total)
    for place, node in enumerate(g.pool[-size:]):
        g.graph.output(f"grown_{place}", node)
    return Sample(g.graph, g.given)


SEEDS = range(2 * -(-len(RECIPES) // 8))
"""Seeds that go through all kinds twice."""

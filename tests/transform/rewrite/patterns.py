"""Random graphs around the pattern of one rule: operands are broadcast, cut out, turned, stacked, empty or single."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

import graphengine as ge
from graphengine.ir.node import Node, apply
from graphengine.ops.index import SliceAdjoint
from graphengine.ops.norm import BatchStatistic

T = TypeVar("T")
Shape = tuple[int, ...]

SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e-30)


class Draw:
    """A graph as it grows, with what its inputs hold. Everything is drawn from one seed."""

    def __init__(self, seed: int, dtype: str = "float64", *, extremes: bool = False) -> None:
        self.random = np.random.default_rng(seed)
        self.graph = ge.Graph("drawn", dtype)
        self.dtype = dtype
        self.extremes = extremes
        self.given: dict[str, np.ndarray] = {}

    def choose(self, options: Sequence[T]) -> T:
        return options[self.random.integers(len(options))]

    def coin(self) -> bool:
        return bool(self.random.integers(2))

    def shape(self, least: int = 0, most: int = 3, sizes: Sequence[int] = (0, 1, 1, 2, 3)) -> Shape:
        return tuple(self.choose(sizes) for _ in range(self.random.integers(least, most + 1)))

    def leaf(self, shape: Shape, dtype: str | None = None) -> Node:
        dtype = dtype or self.dtype
        if dtype == "bool":
            value = self.random.integers(0, 2, shape)
        elif dtype.startswith("float"):
            value = self.random.normal(size=shape)
            if self.extremes:
                value = np.where(self.random.random(shape) < 0.2, self.random.choice(SPECIAL, shape), value)
        else:
            value = self.random.integers(0, 200, shape)
        if self.random.random() < 0.15:
            return self.graph.constant(None, np.asarray(value).astype(dtype), dtype)
        node = self.graph.input(f"x{len(self.given)}", shape, dtype)
        self.given[node.name] = np.asarray(value).astype(dtype)
        return node

    def any(self, shape: Shape | None = None, dtype: str | None = None) -> Node:
        """A node of this shape (any, if left out), in one of many forms."""
        shape = self.shape() if shape is None else shape
        forms: list[Callable[[], Node]] = [
            lambda: self.leaf(shape, dtype),
            lambda: ge.broadcast_to(self.leaf(self.narrower(shape), dtype), shape),
            lambda: ge.broadcast_to(self.leaf(self.narrower(shape), dtype), shape),
            lambda: ge.transpose(self.leaf(shape[::-1], dtype)),
            lambda: ge.reshape(self.leaf((int(np.prod(shape)),), dtype), shape),
            lambda: ge.expand_dims(self.leaf(shape, dtype), 0)[0],
        ]
        if shape:
            wider = (shape[0] + 1, *shape[1:])
            forms += [
                lambda: self.leaf(wider, dtype)[1:],
                lambda: self.leaf(shape, dtype)[..., ::-1],
                lambda: ge.concat([self.leaf(shape, dtype)[:0], self.leaf(shape, dtype)], 0),
            ]
        if shape and shape[0] > 0:
            forms.append(lambda: ge.stack([self.leaf(shape[1:], dtype)] * shape[0]))
            if (dtype or self.dtype) != "bool":
                forms.append(
                    lambda: ge.pad(self.leaf((shape[0] - 1, *shape[1:]), dtype), [(1, 0)] + [(0, 0)] * (len(shape) - 1))
                )
        return self.choose(forms)()

    def narrower(self, shape: Shape) -> Shape:
        """A shape that broadcasts to this one."""
        kept = shape[self.random.integers(len(shape) + 1) :]
        return tuple(1 if self.coin() else size for size in kept)

    def peer(self, x: Node | Shape, dtype: str | None = None) -> Node:
        """A node that broadcasts with `x`: narrower, of its shape, or wider."""
        shape = x if isinstance(x, tuple) else x.type.static_shape
        ways = [self.narrower(shape), shape, (self.choose((1, 2)), *shape), tuple(2 if s == 1 else s for s in shape)]
        return self.any(self.choose(ways), dtype)

    def number(self, value: float, x: Node) -> Node:
        """A node that holds one number, and broadcasts with `x`; now and then another number, or one more besides."""
        if self.random.random() < 0.1:
            value = 7.0
        shape = x.type.static_shape
        shape = self.choose([(), (), (1,), shape, self.narrower(shape), (2, *shape)])
        single = np.array(value if x.type.is_float else int(value)).astype(x.dtype)
        if self.coin():
            return ge.broadcast_to(self.graph.constant(None, single, x.dtype), shape)
        array = np.full(shape, single)
        if array.size > 1 and self.random.random() < 0.1:
            array.reshape(-1)[-1] = 3
        return self.graph.constant(None, array, x.dtype)

    def two(self, a: Node, b: Node) -> tuple[Node, Node]:
        """Both, in either order."""
        return (a, b) if self.coin() else (b, a)

    def axes(self, x: Node) -> int | tuple[int, ...] | None:
        axes = tuple(axis for axis in range(x.ndim) if self.coin())
        signed = tuple(axis - x.ndim if self.coin() else axis for axis in axes)
        return None if self.random.random() < 0.3 else signed

    def reduced(self, reduce: Callable[..., Node], x: Node) -> Node:
        axes = self.axes(x)
        keepdims = self.coin()
        if reduce is not ge.sum and any(x.shape[axis] == 0 for axis in (range(x.ndim) if axes is None else axes)):
            reduce = ge.sum
        return reduce(x, axis=axes, keepdims=keepdims)

    def read(self, y: Node) -> Node:
        """Something that reads `y`, maybe itself."""
        ways: list[Callable[[], Node]] = [lambda: y, lambda: y]
        if y.dtype == "bool":
            return y
        ways += [lambda: ge.add(*self.two(y, self.peer(y, y.dtype))), lambda: self.reduced(ge.sum, y)]
        if y.type.is_float and y.ndim:
            ways += [
                lambda: ge.softmax(y, axis=self.choose(range(y.ndim))),
                lambda: ge.tanh(y),
                lambda: y @ self.any((y.shape[-1],)),
            ]
        return self.choose(ways)()

    def rearranged(self, x: Node) -> Node:
        shape = x.type.static_shape
        order = tuple(int(axis) for axis in self.random.permutation(x.ndim))
        ways: list[Callable[[], Node]] = [
            lambda: ge.transpose(x, order),
            lambda: ge.transpose(x),
            lambda: ge.reshape(x, (int(np.prod(shape)),)),
            lambda: ge.reshape(x, (1, *shape)),
            lambda: ge.expand_dims(x, self.choose(range(x.ndim + 1))),
        ]
        single = [axis for axis, size in enumerate(shape) if size == 1]
        if single:
            ways.append(lambda: ge.squeeze(x, self.choose(single)))
        return self.choose(ways)()


Pattern = Callable[[Draw], Node]


def unary(d: Draw) -> Callable[[Node], Node]:
    return d.choose([ge.exp, ge.tanh, ge.relu, ge.square, ge.negative, ge.abs, ge.sigmoid])


def elementwise(d: Draw) -> Node:
    """f of operands of which at least one is repeated."""
    shape = d.shape(1)
    x = ge.broadcast_to(d.any(d.narrower(shape)), shape)
    kind = d.choose(["unary", "axis", "binary", "where", "mask", "compare"])
    if kind == "unary":
        return unary(d)(x)
    if kind == "axis":
        return d.choose([ge.softmax, ge.log_softmax])(x, axis=d.choose(range(-x.ndim, x.ndim)))
    if kind == "binary":
        function = d.choose([ge.add, ge.multiply, ge.subtract, ge.divide, ge.maximum, ge.minimum])
        return function(*d.two(x, d.peer(x)))
    condition = d.any(d.narrower(shape), "bool")
    if kind == "where":
        return ge.where(condition, x, d.any(d.narrower(shape)))
    if kind == "mask":
        return ge.mask(x, condition)
    return ge.cast(ge.less(*d.two(x, d.peer(x))), d.dtype)


def scaled(d: Draw) -> Node:
    """x times, or over, or under, a scalar."""
    x = d.any()
    by = d.choose([2.0, -4.0, 0.5, 3.0, 0.0, 1.0])
    ways = [ge.multiply(*d.two(x, d.number(by, x)))]
    if x.type.is_float:
        ways += [x / d.number(by, x), d.number(by, x) / x]
    return d.choose([*ways, -x])


def rescaled(d: Draw) -> Node:
    x = scaled(d)
    by = d.number(d.choose([2.0, -0.5, 3.0, 0.0]), x) if d.coin() else d.any(())
    ways = [ge.multiply(*d.two(x, by))]
    return d.choose([*ways, x / by] if x.type.is_float else ways)


def numerator(d: Draw) -> Node:
    x = d.any()
    y = d.number(3.0, x) / x
    by = d.number(d.choose([2.0, -0.5, 0.0]), y)
    return y / by if d.coin() else ge.multiply(*d.two(y, by))


def product(d: Draw, rows: int | None = None, columns: int | None = None, batch: Shape = ()) -> Node:
    sizes = [0, 1, 2, 3]
    n, k, m = (
        rows if rows is not None else d.choose(sizes),
        d.choose(sizes),
        columns if columns is not None else d.choose(sizes),
    )
    return d.any((*batch, n, k)) @ d.any((*(() if d.coin() else batch), k, m))


def transposed_product(d: Draw) -> Node:
    n, k, m = (d.choose([0, 1, 2, 3]) for _ in range(3))
    batch = d.choose([(), (), (2,), (1,)])
    a = d.leaf((*batch, n, k)) if d.coin() else swapped(d.leaf((*batch, k, n)))
    b = d.leaf((*batch, k, m)) if d.coin() else swapped(d.leaf((*batch, m, k)))
    return swapped(a @ b)


def swapped(x: Node) -> Node:
    return ge.transpose(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def chain(d: Draw) -> Node:
    sizes = [d.choose([1, 1, 2, 3, 5, 0]) for _ in range(d.random.integers(4, 6))]
    factors = [d.any(pair) for pair in pairwise(sizes)]
    if d.coin():
        factors[-1] = d.any((sizes[-2],))
    elif d.coin():
        factors[0] = d.any((sizes[1],))
    return associated(d, factors)


def associated(d: Draw, factors: list[Node]) -> Node:
    if len(factors) == 1:
        return factors[0]
    place = int(d.random.integers(1, len(factors)))
    return associated(d, factors[:place]) @ associated(d, factors[place:])


def added_product(d: Draw) -> Node:
    n, m = d.choose([0, 1, 2]), d.choose([0, 1, 3])
    first = product(d, n, m)
    second = product(d, n if d.coin() else 1, m if d.coin() else 1)
    return ge.add(*d.two(first, second if d.coin() else second * d.any(())))


def descent(d: Draw) -> Node:
    n, m = d.choose([1, 2]), d.choose([1, 3])
    w = d.graph.parameter("w", (n, m))
    d.given["w"] = d.random.normal(size=(n, m)).astype(d.dtype)
    step = product(d, n, m)
    return w - (step * d.any(()) if d.coin() else step)


def added_slice(d: Draw) -> Node:
    shape = d.shape(1, 2, (1, 2, 3))
    key = d.choose([f"{d.choose(['', '0', '-1'])}:", "0", "-1", "::-1", "::2", "..., 0", "1:1"])
    part = np.zeros(shape)[eval(f"np.s_[{key}]")].shape
    return ge.add(*d.two(d.any(shape), apply(SliceAdjoint(key=key, shape=shape), d.any(part))))


def power(d: Draw) -> Node:
    x = d.any()
    return x ** d.number(d.choose([1.0, 2.0, 3.0, 0.5, -1.0, 1.5]), x)


def views(d: Draw) -> Node:
    x = d.any()
    for _ in range(d.random.integers(1, 4)):
        x = d.rearranged(x)
    return x


def repeated(d: Draw) -> Node:
    shape = d.shape(1)
    x = ge.broadcast_to(d.leaf(d.narrower(shape)), shape)
    return ge.broadcast_to(x, (d.choose([1, 2]), *shape)) if d.coin() else x


def rebroadcast(d: Draw) -> Node:
    x = repeated(d) if d.coin() else ge.reshape(leaf := d.leaf(d.shape(0, 2)), (1, *leaf.type.static_shape))
    return ge.broadcast_to(
        x, (d.choose([1, 2]), *(2 if size == 1 and d.coin() else size for size in x.type.static_shape))
    )


def twice_reduced(d: Draw) -> Node:
    reduce = d.choose([ge.sum, ge.mean])
    return d.reduced(reduce, d.reduced(reduce, d.any()))


def same(d: Draw) -> Node:
    x = d.any()
    way = d.choose([ge.stop_gradient, ge.identity, lambda x: apply(BatchStatistic(), x, x * 2.0)])
    return way(x)


def neutral(operate: Callable[[Node, Node], Node], value: float, *, either: bool = True) -> Pattern:
    def pattern(d: Draw) -> Node:
        x = d.any()
        number = d.number(value, x)
        return operate(*(d.two(x, number) if either else (x, number)))

    return pattern


def one_of(*patterns: Pattern) -> Pattern:
    return lambda d: d.choose(patterns)(d)


def sums_of_negatives(d: Draw) -> Node:
    a = d.any()
    b = d.peer(a)
    operate = d.choose([ge.add, ge.subtract])
    return operate(*d.two(-a, b))


def negated(d: Draw) -> Node:
    x = d.any()
    return -d.choose([-x, x - d.peer(x), scaled(d)])


def square(d: Draw) -> Shape:
    """A shape that another axis would fit as well."""
    return d.choose([(2, 2), (3, 3), (1, 3), (3, 1), (2, 2, 2), (2, 1, 2), (3,), (), (1, 1)])


def powers(d: Draw, x: Node, operate: Callable[..., Node]) -> Node:
    """exp(x) over, or times one over, what is made of its sum; x beside what is made of its logarithm."""
    total = d.reduced(ge.sum, ge.exp(x))
    if operate is ge.subtract:
        total = ge.logsumexp(x, axis=d.axes(x), keepdims=d.coin())
    total = d.rearranged(total) if d.coin() else total
    total = total[..., None] if d.coin() else total
    if operate is ge.divide:
        over = ge.exp(x) * d.any(d.narrower(x.type.static_shape)) if d.coin() else ge.exp(x)
        return over.T / total if d.coin() else over / total
    if operate is ge.subtract:
        return d.choose([x - total, total - x, x + -total])
    return ge.multiply(*d.two(ge.exp(x), d.choose([ge.reciprocal(total), 1.0 / total, total**-1.0])))


def shifted(d: Draw) -> Node:
    x = d.any(square(d))
    greatest = ge.max(x, axis=d.choose((-1, 0)) if x.ndim else None, keepdims=d.coin())
    greatest = greatest[:, None] if greatest.ndim and d.coin() else greatest
    return d.choose([ge.softmax, ge.log_softmax])(x - ge.stop_gradient(greatest), axis=d.choose((-1, 0)))


def one_plus(d: Draw, x: Node) -> Node:
    return ge.add(*d.two(d.number(1.0, x), x))


def share(d: Draw) -> Node:
    """A number, a node, a power or a product of one, over 1 + exp(z)."""
    x = d.any()
    z = -x if d.coin() else x
    under = one_plus(d, ge.exp(z))
    over = d.choose([d.number(1.0, x), d.number(-1.0, x), d.peer(x), ge.exp(z), x * ge.exp(z), ge.exp(x)])
    return d.choose(
        [over / under, ge.reciprocal(under), under**-1.0, ge.exp(z) * ge.reciprocal(under), 1.0 / ge.exp(x)]
    )


def probability(d: Draw) -> Node:
    x = d.any(square(d))
    p = ge.sigmoid(x)
    return d.choose(
        [
            lambda: ge.softmax(x, axis=d.choose(range(-x.ndim, x.ndim))) if x.ndim else p,
            lambda: p,
            lambda: ge.exp(x),
            lambda: one_plus(d, ge.exp(x)),
            lambda: one_plus(d, -p),
            lambda: one_plus(d, ge.expm1(x)),
            lambda: d.number(1.0, x) - p,
            lambda: d.reduced(d.choose([ge.sum, ge.mean]), ge.exp(x)),
            lambda: ge.exp(x) + ge.exp(d.peer(x)),
        ]
    )()


def logarithm(d: Draw) -> Node:
    p = probability(d)
    p = d.rearranged(p) if d.coin() else p
    p = p[..., :1] if p.ndim and d.coin() else p
    other = d.choose([probability(d), d.number(2.0, p), d.number(1.0, p)])
    return ge.log(d.choose([p, p, p * other, p / other, other / p, ge.reciprocal(p)]))


def log1p(d: Draw) -> Node:
    x = d.any()
    return ge.log1p(d.choose([ge.exp(x), ge.expm1(x), -ge.sigmoid(x)]))


def picked(d: Draw) -> Node:
    """What is made of the logarithms of probabilities, and of one-hot rows."""
    rows, classes = d.choose((1, 2, 3)), d.choose((2, 3))
    x, labels = d.any((rows, classes)), d.graph.constant(None, d.random.integers(0, classes, rows))
    hot = ge.one_hot(labels, classes, d.dtype)
    axis = d.choose([None, 1, -1, 1, 0, (0, 1)])
    keepdims = d.random.random() < 0.2
    if d.coin():
        return ge.log(ge.sum(ge.multiply(*d.two(hot, ge.softmax(x, axis=d.choose((1, -1, 0))))), axis, keepdims))
    loss = ge.sum(ge.multiply(*d.two(hot, ge.log_softmax(x, axis=d.choose((1, -1, 0))))), axis, keepdims)
    loss = d.choose([ge.sum, ge.mean])(-loss if d.coin() else loss) if d.coin() else loss
    return -loss if d.coin() else loss


def reduced_loss(d: Draw) -> Node:
    rows = d.choose((1, 2, 3))
    loss = ge.cross_entropy(d.any((rows, 3)), d.graph.constant(None, d.random.integers(0, 3, rows)), reduction="none")
    loss = -loss if d.coin() else loss
    return d.reduced(d.choose([ge.sum, ge.mean]), loss) if d.coin() else loss


def falling(d: Draw) -> Node:
    """A power, and what falls as it grows, or seems to."""
    x = d.any(square(d))
    p = ge.sigmoid(d.choose([-x, -x, x, x.T]))
    other = d.any(d.narrower(x.type.static_shape))
    way = d.choose(
        [p, p * other, -(other * p), p / other, p + p * other, p + other, ge.sum(p * other, 0) if x.ndim else p]
    )
    return ge.multiply(*d.two(ge.exp(x), way))


def adjoint(d: Draw) -> Node:
    """Quotients that stand in the adjoints of logarithms of powers and of quotients of them."""
    x = d.any(square(d))
    e = ge.exp(x)
    total = ge.sum(e, axis=d.axes(x), keepdims=d.coin())
    g = d.choose([d.any(total.type.static_shape), d.any(d.narrower(x.type.static_shape))])
    bar = d.choose([g / total, g / total, g * ge.sigmoid(-x), -(g / total) + g / total])
    bar = ge.sum(bar * x, axis=d.axes(x), keepdims=d.coin()) if d.coin() else bar
    bar = d.rearranged(bar) if d.coin() else bar
    p = d.choose([ge.softmax(x, axis=0) if x.ndim else ge.sigmoid(x), ge.sigmoid(x), e])
    return ge.multiply(*d.two(d.choose([bar, g / p]), d.choose([e, p, p * g])))


RULES: dict[str, Pattern] = {
    "neutral_factor": one_of(neutral(ge.multiply, 1.0), neutral(ge.multiply, -1.0)),
    "neutral_divisor": neutral(ge.divide, 1.0),
    "neutral_term": one_of(neutral(ge.add, 0.0), neutral(ge.add, -0.0)),
    "neutral_subtrahend": one_of(neutral(ge.subtract, 0.0), neutral(ge.subtract, -0.0)),
    "negative_term": sums_of_negatives,
    "negative_subtrahend": sums_of_negatives,
    "negated": negated,
    "negated_factor": negated,
    "merged_factors": rescaled,
    "merged_numerators": numerator,
    "plain_power": power,
    "same_value": same,
    "double_not": lambda d: ge.logical_not(ge.logical_not(d.any(dtype="bool"))),
    "merged_transpose": views,
    "absorbed_transpose": transposed_product,
    "merged_reshape": views,
    "merged_broadcast": rebroadcast,
    "narrow_operands": elementwise,
    "of_one_element": lambda d: d.reduced(
        d.choose([ge.sum, ge.mean, ge.max, ge.min]), d.any(d.shape(sizes=(1, 1, 1, 2)))
    ),
    "in_a_row": twice_reduced,
    "of_rearranged": lambda d: d.choose([ge.sum, ge.mean])(d.rearranged(d.any(d.shape(sizes=(1, 2, 3))))),
    "of_negated": lambda d: d.reduced(d.choose([ge.sum, ge.mean]), -d.any()),
    "of_repeated": lambda d: d.reduced(d.choose([ge.sum, ge.mean]), repeated(d)),
    "cheaper_order": chain,
    "descent_by_product": descent,
    "sum_of_products": added_product,
    "added_slice": added_slice,
    "stable_log": logarithm,
    "stable_log1p": log1p,
    "softmax_by_hand": lambda d: powers(d, d.any(square(d)), ge.divide),
    "log_softmax_by_hand": lambda d: powers(d, d.any(square(d)), ge.subtract),
    "shifted_softmax": shifted,
    "sigmoid_by_hand": share,
    "inverse_power": share,
    "power_over_sum": one_of(adjoint, lambda d: powers(d, d.any(square(d)), ge.multiply)),
    "power_over_one_more": falling,
    "quotient_times_divisor": adjoint,
    "cross_entropy_by_hand": picked,
    "log_of_picked_probability": picked,
    "reduced_cross_entropy": reduced_loss,
    "double_negative": lambda d: ge.negative(-reduced_loss(d)),
}
"""By the name of a rule, what it looks for, and what it may take for that."""

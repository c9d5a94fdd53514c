"""Cases of every op on which sizes of 0 and 1 are tried: operands whose axes of one name have one size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import graphengine as ge
from graphengine.ir.node import Node
from tests.arrays import boolean, f64, i64

Sizes = dict[str, int]


@dataclass(frozen=True)
class Case:
    """A function of nodes, and the axes of what it is given: "a b" is a matrix; "i:" marks labels, "m:" bools."""

    name: str
    function: Callable[..., Any]
    operands: tuple[str, ...]
    sizes: tuple[tuple[str, int], ...]
    takes_sizes: bool = False

    def variants(self, axes: int = 2) -> Iterator[Sizes]:
        """The sizes as they are, and with each axis, up to so many at a time, of size 0 or 1."""
        given = dict(self.sizes)
        yield given
        for count in range(1, axes + 1):
            for names in itertools.combinations(given, count):
                for new in itertools.product((0, 1), repeat=count):
                    yield {**given, **dict(zip(names, new, strict=True))}

    def arrays(self, sizes: Sizes) -> list[np.ndarray]:
        return [_array(text, sizes, seed) for seed, text in enumerate(self.operands)]

    def build(self, nodes: list[Node], sizes: Sizes) -> Node:
        return self.function(*nodes, **({"sizes": sizes} if self.takes_sizes else {}))


def _array(text: str, sizes: Sizes, seed: int) -> np.ndarray:
    kind, _, axes = text.rpartition(":")
    shape = tuple(sizes[axis] for axis in axes.split())
    if kind == "i":
        return i64(*shape, high=1, seed=seed)
    return boolean(*shape, seed=seed) if kind == "m" else f64(*shape, low=0.1, high=0.9, seed=seed)


def case(name: str, function: Callable[..., Any], *operands: str, takes_sizes: bool = False, **sizes: int) -> Case:
    return Case(name, function, operands, tuple(sizes.items()), takes_sizes)


POINTWISE = ["exp", "log", "tanh", "sigmoid", "relu", "square", "sqrt", "gelu", "silu", "softplus", "erf", "elu"]
POINTWISE += ["log1p", "reciprocal", "sign", "floor"]
LOSSES = ["squared_error", "half_squared_error", "huber", "hinge", "perceptron_loss", "binary_cross_entropy"]


def _pointwise() -> Iterator[Case]:
    for name in POINTWISE:
        yield case(name, getattr(ge, name), "a b", a=2, b=3)
    for name in ["add", "multiply", "divide", "maximum", "subtract"]:
        yield case(name, getattr(ge, name), "a b", "b", a=2, b=3)
        yield case(f"{name}, columns", getattr(ge, name), "a b", "a one", a=2, b=3, one=1)
    yield case("power", lambda x: x**1.5, "a b", a=2, b=3)
    yield case("clip", lambda x: ge.clip(x, 0.2, 0.7), "a b", a=2, b=3)
    yield case("where", ge.where, "m:b", "a b", "a b", a=2, b=3)
    yield case("mask", ge.mask, "a b", "m:a b", a=2, b=3)
    yield case("cast", lambda x: ge.cast(x > 0.5, "float64") * x, "a b", a=2, b=3)
    yield case("dropout", lambda x: ge.dropout(x, 0.5), "a b", a=2, b=3)


def _reductions() -> Iterator[Case]:
    for name in ["sum", "mean", "max", "min", "variance", "logsumexp"]:
        for axis in (None, 0, 1, (0, 2), -1):
            yield case(
                f"{name} over {axis}", lambda x, f=name, a=axis: getattr(ge, f)(x, axis=a), "a b c", a=2, b=3, c=4
            )
    for name in ["argmax", "argmin"]:
        yield case(
            name,
            lambda x, f=name: ge.cast(getattr(ge, f)(x, axis=1), "float64") * ge.sum(x, axis=1),
            "a b c",
            a=2,
            b=3,
            c=4,
        )
    for name in ["softmax", "log_softmax"]:
        for axis in (0, 1):
            yield case(f"{name} along {axis}", lambda x, f=name, a=axis: getattr(ge, f)(x, axis=a), "a b", a=2, b=3)
    for name in ["l1", "l2"]:
        yield case(name, getattr(ge, name), "a b", a=2, b=3)
    yield case("elastic_net", lambda x: ge.elastic_net(x, 0.3), "a b", a=2, b=3)
    yield case("group_lasso", lambda x: ge.group_lasso(x, axis=0), "a b", a=2, b=3)


def _losses() -> Iterator[Case]:
    for reduction in ("none", "sum", "mean"):
        for name in LOSSES:
            yield case(
                f"{name} {reduction}",
                lambda x, y, f=name, r=reduction: getattr(ge, f)(x, ge.stop_gradient(y), reduction=r),
                "a b",
                "a b",
                a=2,
                b=3,
            )
        yield case(
            f"cross_entropy {reduction}",
            lambda x, y, r=reduction: ge.cross_entropy(x, y, reduction=r),
            "a b",
            "i:a",
            a=2,
            b=3,
        )


def _products() -> Iterator[Case]:
    for name, operands in {
        "matrices": ("a b", "b c"),
        "stacks": ("n a b", "n b c"),
        "a stack and a matrix": ("n a b", "b c"),
        "stacks that broadcast": ("n a b", "m a1 b c"),
        "a vector and a matrix": ("b", "b c"),
        "a matrix and a vector": ("a b", "b"),
        "vectors": ("b", "b"),
    }.items():
        axes = {axis for text in operands for axis in text.split()}
        yield case(
            f"matmul of {name}",
            ge.matmul,
            *operands,
            **{axis: {"a": 2, "b": 3, "c": 4, "n": 2, "m": 3, "a1": 1}[axis] for axis in sorted(axes)},
        )
    yield case("a product transposed", lambda x, w: (x @ w.T + 1.0) @ w, "a b", "c b", a=2, b=3, c=4)
    yield case("a dense layer", lambda x, w, b: ge.relu(x @ w + b), "a b", "b c", "c", a=2, b=3, c=4)


def _arrangements() -> Iterator[Case]:
    yield case("transpose", lambda x: ge.transpose(x, (2, 0, 1)), "a b c", a=2, b=3, c=4)
    yield case("reshape", lambda x: ge.reshape(x, (-1,)), "a b c", a=2, b=3, c=4)
    yield case("expand_dims", lambda x: ge.expand_dims(x, 1) * 2.0, "a b", a=2, b=3)
    yield case("concat", lambda x, y: ge.concat([x, y], axis=1), "a b", "a c", a=2, b=3, c=4)
    yield case("stack", lambda x, y: ge.stack([x, y], axis=1), "a b", "a b", a=2, b=3)
    yield case("pad", lambda x: ge.pad(x, ((1, 0), (0, 2))), "a b", a=2, b=3)
    yield case("slice", lambda x: x[:, 1:], "a b", a=2, b=3)
    yield case("slice backwards", lambda x: x[::-2, ::-1], "a b", a=4, b=3)
    yield case("gather", lambda x, i: ge.gather(x, i), "a b", "i:n m", a=2, b=3, n=4, m=2)
    yield case("gather along 1", lambda x, i: ge.gather(x, i, axis=1), "a b", "i:n", a=2, b=3, n=4)
    yield case("one_hot", lambda x, i: ge.one_hot(i, 3) * x, "n three", "i:n", n=2, three=3)
    yield case("broadcast_to", lambda x, sizes: ge.broadcast_to(x, (2, sizes["a"])), "a", takes_sizes=True, a=3)


def _images() -> Iterator[Case]:
    sizes = {"n": 2, "c": 3, "h": 5, "w": 4, "f": 2, "k": 3, "l": 2}
    for options in ({}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}, {"padding": "same"}):
        yield case(
            f"conv2d {options}",
            lambda x, k, o=options: ge.conv2d(x, k, **o),
            "n c h w",
            "f c k l",
            **sizes,
        )
    yield case("conv2d_transpose", lambda x, k: ge.conv2d_transpose(x, k, stride=2), "n c h w", "c f k l", **sizes)
    for name in ["max_pool2d", "avg_pool2d"]:
        for size, options in ((2, {}), (2, {"stride": 1, "padding": 1})):
            yield case(
                f"{name} {size} {options}",
                lambda x, f=name, s=size, o=options: getattr(ge, f)(x, s, **o),
                "n c h w",
                n=2,
                c=3,
                h=5,
                w=4,
            )


def _norms() -> Iterator[Case]:
    yield case("layer_norm", lambda x: ge.layers.layer_norm(x), "a b", a=2, b=3)
    yield case("rms_norm", lambda x: ge.layers.rms_norm(x), "a b", a=2, b=3)
    yield case("group_norm", lambda x: ge.layers.group_norm(x, 2), "n c h", n=2, c=4, h=3)
    yield case("batch_norm", lambda x: ge.layers.batch_norm(x), "n c h w", n=2, c=3, h=2, w=2)
    yield case("attention", ge.attention, "n t d", "n s d", "n s e", n=2, t=3, s=4, d=2, e=3)
    yield case(
        "attention, causal",
        lambda q, k, v: ge.attention(q, k, v, causal=True, block=2),
        "n t d",
        "n s d",
        "n s e",
        n=2,
        t=3,
        s=4,
        d=2,
        e=3,
    )
    yield case("attention, masked", ge.attention, "t d", "s d", "s e", "m:t s", t=3, s=4, d=2, e=3)
    yield case(
        "scan",
        lambda c, x, w: ge.concat([(r := ge.scan(lambda c, x: (ge.tanh(c @ w + x), c), c, x))[0], r[1][0]]),
        "b u",
        "t b u",
        "u u",
        t=3,
        b=2,
        u=2,
    )
    yield case(
        "scan, all",
        lambda c, x, w: ge.sum((r := ge.scan(lambda c, x: (ge.tanh(c @ w + x), c * x), c, x))[0]) + ge.sum(r[1]),
        "b u",
        "t b u",
        "u u",
        t=3,
        b=2,
        u=2,
    )
    for kind in ("rnn", "gru", "lstm"):
        yield case(
            kind,
            lambda x, m, f=kind: getattr(ge.layers, f)(x, 2, mask=m, return_sequences=True),
            "n t f",
            "m:n t",
            n=2,
            t=3,
            f=2,
        )
    yield case("dense", lambda x: ge.layers.dense(x, 2), "a b", a=2, b=3)
    yield case("multi_head_attention", lambda x: ge.layers.multi_head_attention(x, 2, name="a"), "n t u", n=2, t=3, u=4)
    yield case("embedding", lambda i: ge.layers.embedding(i, 3, 2), "i:n t", n=2, t=3)
    yield case("conv layer", lambda x: ge.layers.conv2d(x, 2, 3), "n c h w", n=2, c=3, h=4, w=4)


CASES = [
    *_pointwise(),
    *_reductions(),
    *_losses(),
    *_products(),
    *_arrangements(),
    *_images(),
    *_norms(),
]

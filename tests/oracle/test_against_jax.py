"""Values and gradients against another engine, jax: over random graphs of all ops, and op by op."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.node import Node
from graphengine.ir.subgraph import needed_nodes
from tests.arrays import f64, i64
from tests.random_graphs import BATCH, RECIPES, SEED, SEEDS, Sample, evaluate, grow

jax = pytest.importorskip("jax")
jax.config.update("jax_enable_x64", True)
jnp = jax.numpy
special = jax.scipy.special

TOLERANCE = 1e-10


ONCE = SEEDS[: len(SEEDS) // 2]
"""Seeds that go through all kinds once."""


def same(actual: object, expected: object, what: str) -> None:
    expected = np.asarray(expected)
    scale = max(1e-3, float(np.max(np.abs(expected), initial=0.0)))
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=TOLERANCE, atol=TOLERANCE * scale, err_msg=what)


def loss_by_jax(sample: Sample) -> Callable[[dict], object]:
    """The loss as a function of its float leaves, every node by its `eval` over jax.numpy."""
    loss = sample.graph.outputs["loss"]
    nodes = needed_nodes([loss])

    def function(leaves: dict) -> object:
        values = evaluate(nodes, {**sample.given, **leaves}, {"batch": BATCH}, xp=jnp)
        return values[loss.name]

    return function


@pytest.mark.parametrize("seed", ONCE)
def test_random_graphs_agree_with_jax(seed: int) -> None:
    sample = grow(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)  # not every graph has grown from every leaf
        exe = ge.compile(sample.graph, loss="loss", wrt=sample.float_leaves, seed=SEED)
    leaves = {name: jnp.asarray(sample.given[name]) for name in sample.float_leaves}
    value, gradients = jax.value_and_grad(loss_by_jax(sample))(leaves)
    same(exe.forward(sample.feeds)["loss"], value, "loss")
    for name, gradient in exe.backward().items():
        same(gradient, gradients[name], f"d loss / d {name}")


def test_the_graphs_hold_every_kind() -> None:
    assert set.union(*(grow(seed).kinds for seed in ONCE)) >= set(RECIPES)


def hard(x):
    return jnp.clip(x, -1.0, 1.0)


def per_example(terms):
    return jnp.mean(jnp.sum(terms, axis=tuple(range(1, terms.ndim))))


def cross_entropy(logits, labels):
    return -jnp.mean(jnp.log(jax.nn.softmax(logits))[jnp.arange(labels.size), labels])


def huber(u, y):
    return per_example(jnp.where(jnp.abs(u - y) <= 1.0, 0.5 * (u - y) ** 2, jnp.abs(u - y) - 0.5))


X, Y, P = f64(4, 3), f64(4, 3, low=-1.7, high=2.1, seed=1), f64(4, 3, low=0.1, high=0.9)
LABELS, SIGNS = i64(4, high=3), np.where(f64(4, 3, seed=2) > 0, 1.0, -1.0)

FORMULAS: list[tuple[str, Callable, Callable, tuple]] = [
    ("add", ge.add, lambda a, b: a + b, (X, f64(3))),
    ("subtract", ge.subtract, lambda a, b: a - b, (f64(3), X)),
    ("multiply", ge.multiply, lambda a, b: a * b, (X, f64(4, 1))),
    ("divide", ge.divide, lambda a, b: a / b, (X, P)),
    ("power", ge.power, lambda a, b: a**b, (P, Y)),
    ("exp", ge.exp, jnp.exp, (X,)),
    ("expm1", ge.expm1, jnp.expm1, (X,)),
    ("log", ge.log, jnp.log, (P,)),
    ("log1p", ge.log1p, jnp.log1p, (P,)),
    ("sqrt", ge.sqrt, jnp.sqrt, (P,)),
    ("square", ge.square, jnp.square, (X,)),
    ("reciprocal", ge.reciprocal, lambda x: 1 / x, (X,)),
    ("abs", ge.abs, jnp.abs, (X,)),
    ("sin", ge.sin, jnp.sin, (X,)),
    ("cos", ge.cos, jnp.cos, (X,)),
    ("erf", ge.erf, special.erf, (X,)),
    ("maximum", ge.maximum, jnp.maximum, (X, Y)),
    ("minimum", ge.minimum, jnp.minimum, (X, Y)),
    ("clip", lambda x: ge.clip(x, -0.6, 0.7), lambda x: jnp.clip(x, -0.6, 0.7), (X,)),
    ("matmul", ge.matmul, jnp.matmul, (X, f64(2, 3, 5))),
    ("a vector times a matrix", ge.matmul, jnp.matmul, (f64(3), f64(3, 2))),
    ("transpose", lambda x: ge.transpose(x, (1, 2, 0)), lambda x: jnp.transpose(x, (1, 2, 0)), (f64(2, 3, 4),)),
    ("concat", lambda a, b: ge.concat([a, b], axis=1), lambda a, b: jnp.concatenate([a, b], 1), (X, Y)),
    ("stack", lambda a, b: ge.stack([a, b], axis=1), lambda a, b: jnp.stack([a, b], 1), (X, Y)),
    ("pad", lambda x: ge.pad(x, [(1, 0), (2, 1)]), lambda x: jnp.pad(x, [(1, 0), (2, 1)]), (X,)),
    ("slice", lambda x: x[1:, ::-2], lambda x: x[1:, ::-2], (X,)),
    ("gather", lambda x: ge.gather(x, [2, 0, 2]), lambda x: x[jnp.array([2, 0, 2])], (X,)),
    ("sum", lambda x: ge.sum(x, axis=0), lambda x: jnp.sum(x, 0), (X,)),
    ("mean", lambda x: ge.mean(x, axis=1), lambda x: jnp.mean(x, 1), (X,)),
    ("max", lambda x: ge.max(x, axis=1), lambda x: jnp.max(x, 1), (X,)),
    ("min", lambda x: ge.min(x, axis=0), lambda x: jnp.min(x, 0), (X,)),
    ("logsumexp", lambda x: ge.logsumexp(x, axis=1), lambda x: special.logsumexp(x, 1), (X,)),
    ("sigmoid", ge.sigmoid, jax.nn.sigmoid, (X,)),
    ("tanh", ge.tanh, jnp.tanh, (X,)),
    ("relu", ge.relu, jax.nn.relu, (X,)),
    ("hard_tanh", ge.hard_tanh, hard, (X,)),
    ("leaky_relu", lambda x: ge.leaky_relu(x, slope=0.1), lambda x: jax.nn.leaky_relu(x, 0.1), (X,)),
    ("elu", ge.elu, jax.nn.elu, (X,)),
    ("gelu", ge.gelu, lambda x: jax.nn.gelu(x, approximate=False), (X,)),
    ("gelu by tanh", lambda x: ge.gelu(x, "tanh"), lambda x: jax.nn.gelu(x, approximate=True), (X,)),
    ("silu", ge.silu, jax.nn.silu, (X,)),
    ("softplus", ge.softplus, jax.nn.softplus, (X,)),
    ("softmax", ge.softmax, jax.nn.softmax, (X,)),
    ("log_softmax", lambda x: ge.log_softmax(x, axis=0), lambda x: jax.nn.log_softmax(x, 0), (X,)),
    ("half_squared_error", ge.half_squared_error, lambda u, y: per_example((u - y) ** 2) / 2, (X, Y)),
    ("squared_error", ge.squared_error, lambda u, y: per_example((u - y) ** 2), (X, Y)),
    ("absolute_error", ge.absolute_error, lambda u, y: per_example(jnp.abs(u - y)), (X, Y)),
    ("huber", ge.huber, huber, (X, Y)),
    ("cross_entropy", ge.cross_entropy, cross_entropy, (X, LABELS)),
    (
        "binary_cross_entropy",
        ge.binary_cross_entropy,
        lambda z, y: -per_example(y * jax.nn.log_sigmoid(z) + (1 - y) * jax.nn.log_sigmoid(-z)),
        (X, P),
    ),
    ("hinge", ge.hinge, lambda z, y: per_example(jax.nn.relu(1 - y * z)), (X * 0.9, SIGNS)),
    ("perceptron_loss", ge.perceptron_loss, lambda z, y: per_example(jax.nn.relu(-y * z)), (X, SIGNS)),
    ("l1", ge.l1, lambda w: jnp.sum(jnp.abs(w)), (X,)),
    ("l2", ge.l2, lambda w: jnp.sum(w**2), (X,)),
    ("group_lasso", lambda w: ge.group_lasso(w, axis=0), lambda w: jnp.sum(jnp.linalg.norm(w, axis=0)), (X,)),
]


@pytest.mark.parametrize(
    ("function", "formula", "arrays"), [row[1:] for row in FORMULAS], ids=[row[0] for row in FORMULAS]
)
def test_ops_agree_with_jax_s_own_formula(function: Callable, formula: Callable, arrays: tuple) -> None:
    """The value, and the first and second derivatives of a weighted sum of its sines."""
    graph = ge.Graph("op", dtype="float64")
    leaves = [graph.input(f"x{i}", array.shape, dtype=array.dtype) for i, array in enumerate(arrays)]
    floats = [i for i, leaf in enumerate(leaves) if leaf.type.is_float]
    y = function(*leaves)
    loss = ge.sum(ge.sin(y) * 0.7)
    bars = ge.grad(loss, [leaves[i] for i in floats])
    squares = ge.sum(ge.square(bars[0]))
    for bar in bars[1:]:
        squares = squares + ge.sum(ge.square(bar))
    second = ge.grad(squares, [leaves[i] for i in floats])

    def loss_of(*given: object) -> object:
        return jnp.sum(jnp.sin(formula(*given)) * 0.7)

    def squares_of(*given: object) -> object:
        return sum(jnp.sum(bar**2) for bar in jax.grad(loss_of, floats)(*given))

    given = [jnp.asarray(array) for array in arrays]
    check(graph, arrays, [y], [formula(*given)], "value")
    check(graph, arrays, bars, jax.grad(loss_of, floats)(*given), "first derivative")
    check(graph, arrays, second, jax.grad(squares_of, floats)(*given), "second derivative")


def check(graph: ge.Graph, arrays: tuple, nodes: list[Node], expected: object, what: str) -> None:
    twin = graph.copy()
    twin.outputs = {f"out{i}": twin.nodes[node.index] for i, node in enumerate(nodes)}
    values = ge.compile(twin).forward({f"x{i}": array for i, array in enumerate(arrays)})
    for value, other in zip(values.values(), expected, strict=True):
        same(value, other, what)

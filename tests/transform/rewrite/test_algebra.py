"""What is spared by algebra, and what looks as if it could be and must stay."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.node import Node, apply
from graphengine.ops.broadcast import dim_size
from graphengine.ops.elementwise import Copy
from tests.transform.rewrite.rewriting import (
    Leaves,
    Write,
    assert_becomes,
    assert_stays,
    given,
    of,
    results,
    rewritten,
    text,
)

CASES: list[tuple[Write, str]] = [
    (lambda t: t.x * 1.0, "x"),
    (lambda t: 1.0 * t.x, "x"),
    (lambda t: t.v * np.ones((4, 3)), "broadcast_to(v, shape=[4, 3])"),
    (lambda t: t.x * -1.0, "negative(x)"),
    (lambda t: t.x / 1.0, "x"),
    (lambda t: t.x + 0.0, "x"),
    (lambda t: 0.0 + t.x, "x"),
    (lambda t: t.x - 0.0, "x"),
    (lambda t: 0.0 - t.x, "negative(x)"),
    (lambda t: ge.negative(-t.x), "x"),
    (lambda t: t.i * 1, "i"),
    (lambda t: t.i + 0, "i"),
    (lambda t: (t.i * 3) * 5, "multiply(i, 15)"),
    (lambda t: t.x + -t.y, "subtract(x, y)"),
    (lambda t: -t.x + t.y, "subtract(y, x)"),
    (lambda t: t.x - -t.v, "add(x, v)"),
    (lambda t: -(t.x - t.y), "subtract(y, x)"),
    (lambda t: (t.x * 2.0) * 3.0, "multiply(x, 6.0)"),
    (lambda t: 3.0 * (2.0 * t.x), "multiply(x, 6.0)"),
    (lambda t: ((t.x * 2.0) * 3.0) * 4.0, "multiply(x, 24.0)"),
    (lambda t: (t.x * 6.0) / 3.0, "multiply(x, 2.0)"),
    (lambda t: (t.x / 4.0) * 2.0, "multiply(x, 0.5)"),
    (lambda t: (t.x / 4.0) / 2.0, "divide(x, 8.0)"),
    (lambda t: -(t.x * 2.0), "multiply(x, -2.0)"),
    (lambda t: -(t.x / 2.0), "divide(x, -2.0)"),
    (lambda t: -t.x * 2.0, "multiply(x, -2.0)"),
    (lambda t: (1.0 / t.x) * 2.0, "divide(2.0, x)"),
    (lambda t: (3.0 / t.x) / 2.0, "divide(1.5, x)"),
    (lambda t: -0.1 * (t.x * 0.5), "multiply(x, -0.05)"),
    (
        lambda t: (t.x * 2.0) * (1.0 / dim_size(t.graph, "batch", "float64")),
        "multiply(x, divide(2.0, dim_size(size=batch, dtype=float64)))",
    ),
    (lambda t: t.x**2.0, "square(x)"),
    (lambda t: t.x**3.0, "multiply(square(x), x)"),
    (lambda t: t.x**0.5, "sqrt(x)"),
    (lambda t: t.x**1.0, "x"),
    (lambda t: t.x**-1.0, "reciprocal(x)"),
    (lambda t: ge.identity(ge.stop_gradient(t.x)) * 2.0, "multiply(x, 2.0)"),
    (lambda t: ge.where(ge.logical_not(ge.logical_not(t.x > 0.5)), t.x, t.y), "where(greater(x, 0.5), x, y)"),
    (lambda t: t.a.T.T + t.b, "add(a, b)"),
    (
        lambda t: ge.transpose(ge.transpose(ge.stack([t.x, t.y]), (1, 2, 0)), (2, 0, 1)) * 2.0,
        "multiply(stack(x, y), 2.0)",
    ),
    (lambda t: ge.transpose(t.x, (0, 1)) * t.y, "multiply(x, y)"),
    (lambda t: ge.reshape(ge.reshape(t.x, (-1,)), ("batch", 1, 3)), "reshape(x, shape=['batch', 1, 3])"),
    (lambda t: ge.reshape(ge.reshape(t.x, (-1,)), ("batch", 3)) * t.y, "multiply(x, y)"),
    (lambda t: ge.squeeze(ge.expand_dims(t.x, 0), 0) * t.y, "multiply(x, y)"),
    (lambda t: ge.broadcast_to(ge.broadcast_to(t.v, (2, 3)), (5, 2, 3)), "broadcast_to(v, shape=[5, 2, 3])"),
    (lambda t: ge.broadcast_to(ge.reshape(t.v, (1, 3)), ("batch", 3)), "broadcast_to(v, shape=['batch', 3])"),
    (lambda t: t.x * ge.broadcast_to(t.v, ("batch", 3)), "multiply(x, v)"),
    (lambda t: ge.exp(ge.broadcast_to(t.v, ("batch", 3))), "broadcast_to(exp(v), shape=['batch', 3])"),
    (lambda t: ge.reshape(ge.broadcast_to(t.s, (2, 3)), (6,)) * 1.0, "broadcast_to(s, shape=[6])"),
    (lambda t: ge.transpose(t.a.T @ t.b), "matmul(transpose(b), a)"),
    (lambda t: ge.transpose(t.x @ t.a.T), "matmul(a, transpose(x))"),
    (lambda t: ge.sum(ge.sum(t.x, 1), 0), "sum(x, axis=[0, 1])"),
    (lambda t: ge.sum(ge.sum(t.x, 1, keepdims=True)), "sum(x, axis=[0, 1])"),
    (lambda t: ge.sum(t.x.T), "sum(x, axis=[0, 1])"),
    (lambda t: ge.sum(-t.x, 0), "negative(sum(x, axis=[0]))"),
    (lambda t: ge.sum(ge.reshape(t.v, (1, 3)), 0), "v"),
    (lambda t: ge.max(ge.reshape(t.v, (3, 1)), -1), "v"),
    (lambda t: ge.sum(ge.broadcast_to(t.s, (5, 3))), "multiply(s, 15.0)"),
    (lambda t: ge.mean(ge.broadcast_to(t.v, ("batch", 3)), 0), "v"),
    (lambda t: ge.sum(ge.broadcast_to(t.v, ("batch", 3)), 0), "multiply(v, dim_size(size=batch, dtype=float64))"),
    (
        lambda t: ge.sum(ge.broadcast_to(t.v, (5, 3)), keepdims=True),
        "broadcast_to(multiply(reshape(sum(v, axis=[0], keepdims=True), shape=[]), 5.0), shape=[1, 1])",
    ),
    (lambda t: ge.sum(ge.broadcast_to(t.v, (7, 5, 3)), 1), "broadcast_to(multiply(v, 5.0), shape=[7, 3])"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "expected"), CASES, ids=[expected for _, expected in CASES])
def test_an_expression_is_spared_operations(write: Write, expected: str) -> None:
    assert_becomes("algebra", write, expected)


STAYS: list[tuple[str, Write]] = [
    ("0 x, as x may be infinite", lambda t: t.x * 0.0),
    ("x - x, as x may be NaN", lambda t: t.x - t.x),
    ("x / x", lambda t: t.x / t.x),
    ("sums regrouped, as the first may be meant to round", lambda t: (t.x + 1e20) - 1e20),
    ("a factor that two factors overflow to", lambda t: (t.x * 1e200) * 1e200),
    ("a factor that two factors underflow to", lambda t: (t.x * 1e-200) * 1e-200),
    ("factors that are known at run time only", lambda t: (t.x * ge.exp(t.s)) * t.s),
    ("a root that may be of a square", lambda t: ge.sqrt(ge.square(t.x))),
    ("a constant of several numbers", lambda t: t.x * np.array([1.0, 1.0, 2.0])),
    ("a power without a short form", lambda t: t.x**1.5),
    ("a power of -0.5, whose infinities at -0.0 differ", lambda t: t.x**-0.5),
    ("a transposed product of two that are not", lambda t: ge.transpose(t.a @ t.b) + t.a),
    ("a copy, which is there for its order in memory", lambda t: t.x @ apply(Copy(), t.a.T)),
    ("a broadcast product", lambda t: ge.exp(ge.broadcast_to(t.v, ("batch", 3))) @ t.a),
    ("a softmax along a repeated axis", lambda t: ge.softmax(ge.broadcast_to(t.v, ("batch", 3)), axis=0) * 2.0),
    ("a softmax along an axis that is kept", lambda t: ge.log_softmax(ge.broadcast_to(t.v, ("batch", 3))) * 2.0),
    ("the mean of means, of which the sum may overflow", lambda t: ge.mean(ge.mean(ge.stack([t.x, t.y]), 0), 1)),
    ("the extreme of extremes", lambda t: ge.max(ge.max(t.x, 1), 0)),
]  # fmt: skip


@pytest.mark.parametrize("write", [write for _, write in STAYS], ids=[what for what, _ in STAYS])
def test_what_could_change_a_value_stays(write: Write) -> None:
    assert_stays("algebra", write)


def test_a_sum_over_repeats_that_may_be_none_stays() -> None:
    g = ge.Graph("g")
    x = g.input("x", ("batch",))
    row = ge.broadcast_to(g.input("s", ()), ("batch-1",))
    g.output("result", ge.sum(row) + ge.sum(x))
    after = rewritten("algebra", g)
    assert "sum(broadcast_to(s" in text(after.outputs["result"])


def test_what_has_other_readers_is_not_computed_twice() -> None:
    def twice(t: Leaves) -> Node:
        scaled = t.x * 2.0
        return ge.concat([ge.sum(scaled, 0), ge.sum(scaled * 3.0, 0)])

    assert_stays("algebra", twice)


def test_factors_of_float32_that_overflow_there_stay() -> None:
    assert_stays("algebra", lambda t: (t.x * 1e30) * 1e30, dtype="float32")
    assert_becomes("algebra", lambda t: (t.x * 1e10) * 1e10, "multiply(x, 1.0000000200408773e+20)", dtype="float32")


def test_integers_wrap_as_they_did() -> None:
    before = of(lambda t: (t.i * 2**20) * 2**20)
    after = rewritten("algebra", before)
    assert text(after.outputs["result"]) == "multiply(i, 0)"
    np.testing.assert_array_equal(results(after)["result"], results(before)["result"])


def test_a_nan_is_not_lost() -> None:
    before = of(lambda t: ge.sum(-(((t.x + 0.0) * 1.0) - t.y)) * 2.0)
    x = np.full((4, 3), np.nan)
    assert np.isnan(results(rewritten("algebra", before), {**given(before), "x": x})["result"])


def test_a_result_may_become_a_leaf() -> None:
    exe = ge.compile(of(lambda t: t.x * 1.0))
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(exe.forward({"x": x})["result"], x)


def test_an_update_may_become_its_own_leaf_or_another() -> None:
    g = ge.Graph("g", "float64")
    x, w, v = g.input("x", ()), g.parameter("w", ()), g.state("v", (), ge.init.Constant(value=2.0))
    g.output("loss", x * w)
    g.update(v, w * 1.0 + 0.0)
    exe = ge.compile(g, loss="loss", optimizer=ge.SGD(learning_rate=0.5))
    exe.parameters["w"] = np.array(3.0)
    exe.step({"x": 4.0})
    assert (exe.state["v"], exe.parameters["w"]) == (3.0, 1.0)


def test_what_is_made_bears_name_phase_and_line_of_what_it_stands_for() -> None:
    g = ge.Graph("g")
    x = g.input("x", (3,))
    loss = g.output("loss", ge.sum((x * 2.0) * 3.0))
    (bar,) = ge.grad(loss, [x])
    g.output("bar", bar)
    line = g["multiply_2"].where
    after = rewritten("algebra", g)
    assert after["multiply_2"].where == line
    assert after["multiply_2"].phase is g["multiply_2"].phase
    assert all(node.where.file == __file__ for node in after.nodes)


def test_names_of_what_is_made_are_free() -> None:
    g = of(lambda t: ge.add((t.x * 2.0) * 3.0, t.graph.constant("constant_9", np.arange(3.0)), name="constant_3"))
    after = rewritten("algebra", g)
    assert len({node.name for node in after.nodes}) == len(after)


def test_a_long_chain_is_walked_without_recursion() -> None:
    g = ge.Graph("g")
    x = y = g.input("x", ())
    for _ in range(5000):
        y = -(y * 1.0 + 0.0)
    g.output("result", y)
    assert rewritten("algebra", g).outputs["result"].name == x.name


def test_the_body_of_a_scan_is_rewritten_too() -> None:
    g = ge.Graph("g", "float64")
    xs, h = g.input("x", ("time", 3)), g.input("h", (3,))

    def step(state: Node, x: Node) -> tuple[Node, Node]:
        after = ge.tanh((state * 1.0 + x) * 2.0 * 3.0)
        return after, ge.square(after) / 1.0

    last, squares = ge.scan(step, h, xs)
    loss = g.output("loss", ge.sum(squares) + ge.sum(last))
    plain = ge.compile(g, loss=loss, wrt=["x", "h"], rewrites=())
    spared = ge.compile(g, loss=loss, wrt=["x", "h"], rewrites=["algebra"])
    assert spared.cost(time=5).total_flops < plain.cost(time=5).total_flops
    feeds = {"x": np.linspace(-1, 1, 15).reshape(5, 3), "h": np.full(3, 0.2)}
    np.testing.assert_allclose(spared.forward(feeds)["loss"], plain.forward(feeds)["loss"], rtol=1e-13)
    for name, value in plain.backward().items():
        np.testing.assert_allclose(spared.backward()[name], value, rtol=1e-12)


@pytest.mark.parametrize("rewrites", [(), None])
def test_a_mean_of_means_does_not_overflow_where_each_does_not(rewrites: tuple[str, ...] | None) -> None:
    g = ge.Graph("g", "float32")
    g.output("y", ge.mean(ge.mean(g.input("x", (4, 4)), axis=1)))
    x = np.full((4, 4), 8e37, np.float32)
    np.testing.assert_allclose(ge.compile(g, rewrites=rewrites).forward({"x": x})["y"], 8e37, rtol=1e-6)

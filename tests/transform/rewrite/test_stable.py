"""Functions written out by hand: what they become, and that values and gradients are finite where they were not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphengine as ge
from tests.transform.rewrite.rewriting import Leaves, Write, assert_becomes, assert_stays, of, results, rewritten, text

Node = ge.Node


def hot(t: Leaves) -> Node:
    return ge.one_hot(t.labels, 3, dtype="float64")


def by_hand(x: Node, axis: int = -1) -> Node:
    powers = ge.exp(x)
    return powers / ge.sum(powers, axis, keepdims=True)


def shifted(x: Node) -> Node:
    return by_hand(x - ge.stop_gradient(ge.max(x, -1, keepdims=True)))


CASES: list[tuple[Write, str]] = [
    (lambda t: ge.log(ge.softmax(t.x)), "log_softmax(x)"),
    (lambda t: ge.log(ge.softmax(t.x, axis=0)), "log_softmax(x, axis=0)"),
    (lambda t: ge.log(ge.sigmoid(t.x)), "negative(softplus(negative(x)))"),
    (lambda t: ge.log(1.0 - ge.sigmoid(t.x)), "negative(softplus(x))"),
    (lambda t: ge.log1p(-ge.sigmoid(t.x)), "negative(softplus(x))"),
    (lambda t: ge.log(1.0 + ge.exp(t.x)), "softplus(x)"),
    (lambda t: ge.log(ge.exp(t.x) + 1.0), "softplus(x)"),
    (lambda t: ge.log1p(ge.exp(t.x)), "softplus(x)"),
    (lambda t: ge.log(ge.exp(t.x)), "x"),
    (lambda t: ge.log(ge.sum(ge.exp(t.x))), "logsumexp(x)"),
    (lambda t: ge.log(ge.sum(ge.exp(t.x), 1)), "logsumexp(x, axis=[1])"),
    (lambda t: by_hand(t.x), "softmax(x, axis=1)"),
    (lambda t: by_hand(t.x, 0), "softmax(x, axis=0)"),
    (lambda t: by_hand(t.v), "softmax(v, axis=0)"),
    (lambda t: shifted(t.x), "softmax(x, axis=1)"),
    (lambda t: ge.log(shifted(t.x)), "log_softmax(x, axis=1)"),
    (lambda t: t.x - ge.log(ge.sum(ge.exp(t.x), -1, keepdims=True)), "log_softmax(x, axis=1)"),
    (lambda t: 1.0 / (1.0 + ge.exp(-t.x)), "sigmoid(x)"),
    (lambda t: ge.reciprocal(ge.exp(-t.x) + 1.0), "sigmoid(x)"),
    (lambda t: 1.0 / (1.0 + ge.exp(t.x)), "sigmoid(negative(x))"),
    (lambda t: ge.exp(t.x) / (1.0 + ge.exp(t.y)), "divide(exp(x), add(1.0, exp(y)))"),
    (lambda t: (e := ge.exp(t.x)) / (1.0 + e), "sigmoid(x)"),
    (lambda t: -ge.mean(ge.sum(hot(t) * ge.log(ge.softmax(t.x)), -1)), "cross_entropy(x, labels)"),
    (lambda t: ge.mean(-ge.sum(ge.log_softmax(t.x) * hot(t), 1)), "cross_entropy(x, labels)"),
    (lambda t: -ge.sum(hot(t) * ge.log(shifted(t.x))), "cross_entropy(x, labels, reduction=sum)"),
    (lambda t: -ge.sum(hot(t) * ge.log_softmax(t.x), 1), "cross_entropy(x, labels, reduction=none)"),
    (lambda t: -ge.mean(ge.log(ge.sum(hot(t) * ge.softmax(t.x), 1))), "cross_entropy(x, labels)"),
    (
        lambda t: -ge.sum(hot(t) * ge.log_softmax(t.x)) / 4.0,
        "divide(cross_entropy(x, labels, reduction=sum), 4.0)",
    ),
]


@pytest.mark.parametrize(("write", "expected"), CASES, ids=[expected for _, expected in CASES])
def test_what_is_written_out_becomes_the_safe_form(write: Write, expected: str) -> None:
    if text(of(write).outputs["result"]) == expected:
        assert_stays("stable", write)
    else:
        assert_becomes("stable", write, expected)


STAYS: list[tuple[str, Write]] = [
    ("a sum that is broadcast to more than what 1 is added to", lambda t: ge.log(np.ones((4, 3)) + ge.exp(t.v))),
    ("the logarithm of a sum over which no axes are kept", lambda t: ge.exp(t.a) / ge.sum(ge.exp(t.a), 0)),
    ("a sum of other powers", lambda t: ge.exp(t.x) / ge.sum(ge.exp(t.y), -1, keepdims=True)),
    ("rows that are not one-hot", lambda t: -ge.mean(ge.sum(t.y * ge.log_softmax(t.x), -1))),
    ("classes along the other axis", lambda t: ge.sum(hot(t) * ge.log_softmax(t.x, axis=0), -1)),
    ("a sum over the examples", lambda t: ge.sum(hot(t) * ge.log_softmax(t.x), 0)),
    ("another base", lambda t: ge.log(2.0 + ge.exp(t.x))),
    ("a shift by something else", lambda t: ge.softmax(t.x - ge.max(t.y, -1, keepdims=True))),
]


@pytest.mark.parametrize("write", [write for _, write in STAYS], ids=[what for what, _ in STAYS])
def test_what_only_looks_like_it_stays(write: Write) -> None:
    assert_stays("stable", write)


HARD = np.array([[1e3, -1e3, 0.0], [-800.0, 0.0, 800.0], [0.5, 1.0, -0.5], [-1e4, -1e4, -1e4]])

FUNCTIONS: dict[str, tuple[Callable[[Leaves], Node], Callable[[Leaves], Node]]] = {
    "log softmax": (lambda t: ge.log(ge.softmax(t.x)), lambda t: ge.log_softmax(t.x)),
    "softmax": (lambda t: by_hand(t.x), lambda t: ge.softmax(t.x)),
    "softplus": (lambda t: ge.log(1.0 + ge.exp(t.x)), lambda t: ge.softplus(t.x)),
    "log sigmoid": (lambda t: ge.log(ge.sigmoid(t.x)), lambda t: -ge.softplus(-t.x)),
    "sigmoid": (lambda t: 1.0 / (1.0 + ge.exp(-t.x)), lambda t: ge.sigmoid(t.x)),
    "logsumexp": (lambda t: ge.log(ge.sum(ge.exp(t.x), 1)), lambda t: ge.logsumexp(t.x, 1)),
    "cross entropy": (
        lambda t: -ge.mean(ge.sum(hot(t) * ge.log(ge.softmax(t.x)), 1)),
        lambda t: ge.cross_entropy(t.x, t.labels),
    ),
    "picked probability": (
        lambda t: -ge.mean(ge.log(ge.sum(hot(t) * by_hand(t.x), 1))),
        lambda t: ge.cross_entropy(t.x, t.labels),
    ),
}


def value_and_gradient(write: Write, **options: object) -> tuple[np.ndarray, np.ndarray]:
    t = Leaves()
    y = t.graph.output("y", write(t))
    loss = t.graph.output("loss", ge.sum(y * y) if y.ndim else y)
    exe = ge.compile(t.graph, loss=loss, wrt=["x"], **options)
    found = exe.forward({"x": HARD, "labels": np.array([1, 0, 2, 1])})
    return found["y"], exe.backward()["x"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_are_those_of_the_safe_form(name: str) -> None:
    written, safe = FUNCTIONS[name]
    value, gradient = value_and_gradient(written)
    expected, expected_gradient = value_and_gradient(safe, rewrites=())
    assert np.isfinite(expected_gradient).all()
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-300)


def test_without_the_rewrite_they_are_not_finite() -> None:
    value, gradient = value_and_gradient(FUNCTIONS["log softmax"][0], rewrites=["algebra"])
    assert not np.isfinite(value).all()
    assert np.isnan(gradient).any()


@pytest.mark.parametrize("name", ["log softmax", "softplus", "log sigmoid", "logsumexp"])
def test_an_adjoint_of_the_unsafe_form_is_made_safe_too(name: str) -> None:
    """As it stands in a graph that a user has differentiated by `ge.grad`."""

    def gradient(write: Write, rewrites: list[str] | None) -> np.ndarray:
        t = Leaves()
        (bar,) = ge.grad(ge.sum(write(t)), [t.x])
        t.graph.output("bar", bar)
        return ge.compile(t.graph, rewrites=rewrites).forward({"x": HARD})["bar"]

    written, safe = FUNCTIONS[name]
    assert np.isnan(gradient(written, [])).any()
    np.testing.assert_allclose(gradient(written, None), gradient(safe, []), rtol=1e-9, atol=1e-300)


def test_probabilities_that_are_asked_for_stay_beside_their_logarithm() -> None:
    t = Leaves()
    p = t.graph.output("p", ge.softmax(t.x))
    t.graph.output("log_p", ge.log(p))
    after = rewritten("stable", t.graph)
    assert text(after.outputs["p"]) == "softmax(x)"
    assert text(after.outputs["log_p"]) == "log_softmax(x)"


def test_a_product_of_a_sigmoid_and_a_power_that_is_none_of_its_own_stays() -> None:
    assert_stays("stable", lambda t: ge.sigmoid(-t.x) * ge.exp(t.y))


def test_names_of_the_declared_graph_stay_in_that_of_the_executable() -> None:
    t = Leaves()
    p = ge.softmax(t.x, name="p")
    loss = ge.mean(-ge.sum(hot(t) * ge.log(p, name="log_p"), 1), name="loss")
    t.graph.output("loss", loss)
    exe = ge.compile(t.graph, loss="loss", wrt=["x"])
    assert exe.loss == "loss"
    assert {"p", "log_p", "loss"} <= {node.name for node in exe.graph.nodes}
    assert "cross_entropy" in {step.op.kind for step in exe.plan(batch=4).instructions}
    assert "softmax_error" in {step.op.kind for step in exe.plan(batch=4).instructions}


def test_a_loss_may_become_a_leaf() -> None:
    g = ge.Graph("g", "float64")
    x = g.input("x", ())
    loss = ge.log(ge.exp(x), name="loss")
    g.output("loss", loss)
    exe = ge.compile(g, loss="loss", wrt=["x"])
    assert exe.forward({"x": 1e6})["loss"] == 1e6
    assert exe.backward()["x"] == 1.0


def test_a_label_out_of_range_is_refused_as_before() -> None:
    t = Leaves()
    t.graph.output("loss", -ge.mean(ge.sum(hot(t) * ge.log_softmax(t.x), 1)))
    with pytest.raises(ge.ValueRangeError, match="label 7"):
        ge.compile(t.graph).forward({"x": HARD, "labels": np.array([0, 7, 1, 2])})


def test_the_body_of_a_scan_is_made_safe_before_it_is_differentiated() -> None:
    g = ge.Graph("g", "float64")
    xs, h = g.input("x", ("time", 3)), g.input("h", (3,))
    _, logs = ge.scan(lambda s, x: (s + x, ge.log(ge.softmax(s + x))), h, xs)
    g.output("loss", ge.sum(ge.square(logs * 1e-3)))
    exe = ge.compile(g, loss="loss", wrt=["h", "x"])
    feeds = {"x": np.array([[900.0, 0, 0], [0, -900.0, 1]]), "h": np.zeros(3)}
    assert np.isfinite(exe.forward(feeds)["loss"])
    assert all(np.isfinite(value).all() for value in exe.backward().values())


def test_values_that_were_finite_stay() -> None:
    for write, _ in CASES:
        before = of(write)
        after = rewritten("stable", before)
        np.testing.assert_allclose(results(after)["result"], results(before)["result"], rtol=1e-12, atol=1e-14)

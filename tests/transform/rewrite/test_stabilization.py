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
    (lambda t: ge.log(np.ones((4, 3)) + ge.exp(t.v)), "broadcast_to(softplus(v), shape=[4, 3])"),
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
    (lambda t: ge.exp(t.x) / (1.0 + ge.exp(t.y)), "multiply(exp(x), sigmoid(negative(y)))"),
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
        assert_stays("stabilization", write)
    else:
        assert_becomes("stabilization", write, expected)


STAYS: list[tuple[str, Write]] = [
    ("the logarithm of a sum over which no axes are kept", lambda t: (e := ge.exp(t.a)) / ge.sum(e, 1)),
    ("a sum of other powers", lambda t: ge.exp(t.x) / ge.sum(ge.exp(t.y), -1, keepdims=True)),
    ("rows that are not one-hot", lambda t: -ge.mean(ge.sum(t.y * ge.log_softmax(t.x), -1))),
    ("classes along the other axis", lambda t: ge.sum(hot(t) * ge.log_softmax(t.x, axis=0), -1)),
    ("a sum over the examples", lambda t: ge.sum(hot(t) * ge.log_softmax(t.x), 0)),
    ("another base", lambda t: ge.log(2.0 + ge.exp(t.x))),
    ("a shift by something else", lambda t: ge.softmax(t.x - ge.max(t.y, -1, keepdims=True))),
]


@pytest.mark.parametrize("write", [write for _, write in STAYS], ids=[what for what, _ in STAYS])
def test_what_only_looks_like_it_stays(write: Write) -> None:
    assert_stays("stabilization", write)


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
    after = rewritten("stabilization", t.graph)
    assert text(after.outputs["p"]) == "softmax(x)"
    assert text(after.outputs["log_p"]) == "log_softmax(x)"


def test_a_product_of_a_sigmoid_and_a_power_that_is_none_of_its_own_stays() -> None:
    assert_stays("stabilization", lambda t: ge.sigmoid(-t.x) * ge.exp(t.y))


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
        after = rewritten("stabilization", before)
        np.testing.assert_allclose(results(after)["result"], results(before)["result"], rtol=1e-12, atol=1e-14)


exp, log = ge.exp, ge.log
Form = Callable[[Node], Node]


def total(x: Node, axis: int | tuple[int, ...] | None = 1, keepdims: bool = True) -> Node:
    return ge.sum(exp(x), axis, keepdims)


def greatest(x: Node) -> Node:
    return ge.max(x, 1, keepdims=True)


SOFTMAX: dict[str, Form] = {
    "twice": lambda x: exp(x) / total(x),
    "axes in a tuple": lambda x: exp(x) / total(x, (-1,)),
    "reshaped": lambda x: exp(x) / ge.reshape(total(x, 1, False), (4, 1)),
    "expanded": lambda x: exp(x) / ge.expand_dims(total(x, -1, False), -1),
    "indexed": lambda x: exp(x) / total(x, -1, False)[:, None],
    "broadcast": lambda x: exp(x) / ge.broadcast_to(total(x), (4, 3)),
    "transposed": lambda x: ge.transpose(exp(x).T / total(x, 1, False)),
    "by a reciprocal": lambda x: exp(x) * ge.reciprocal(total(x)),
    "by a share": lambda x: (1.0 / total(x)) * exp(x),
    "by a power": lambda x: exp(x) * total(x) ** -1,
    "weighted and back": lambda x: 2.0 * exp(x) / total(x) * 0.5,
    "shifted twice": lambda x: exp(x - greatest(x)) / total(x - greatest(x)),
    "shifted by an expanded maximum": lambda x: by_hand(x - ge.expand_dims(ge.stop_gradient(ge.max(x, 1)), 1)),
    "by its logarithm": lambda x: exp(x - log(total(x))),
    "two equal networks": lambda x: exp(ge.identity(x) * 2.0 / 2.0) / total(ge.identity(x) * 2.0 / 2.0),
}

LOG_SOFTMAX: dict[str, Form] = {
    **{f"log, {name}": lambda x, form=form: log(form(x)) for name, form in SOFTMAX.items()},
    "difference": lambda x: x - log(total(x)),
    "difference, reshaped": lambda x: x - ge.reshape(log(total(x, 1, False)), (4, 1)),
    "difference, indexed": lambda x: x - ge.logsumexp(x, 1)[:, None],
    "sum": lambda x: -log(total(x)) + x,
    "the other way round": lambda x: -(log(total(x)) - x),
    "shifted": lambda x: (z := x - greatest(x)) - log(total(z)),
    "of the inverse": lambda x: -log(1.0 / ge.softmax(x)),
    "of the reciprocal": lambda x: -log(ge.reciprocal(ge.softmax(x))),
    "of the inverse quotient": lambda x: -log(total(x) / exp(x)),
    "two logarithms": lambda x: log(exp(x)) - log(total(x)),
    "reshaped before": lambda x: ge.reshape(log(ge.reshape(ge.softmax(x), (-1,))), (4, 3)),
    "in parts": lambda x: ge.concat([log(ge.softmax(x)[:, k : k + 1]) for k in range(3)], 1),
    "one class at a time": lambda x: ge.stack([log(ge.softmax(x)[:, k]) for k in range(3)], 1),
    "gathered": lambda x: log(ge.gather(ge.softmax(x), x.graph.constant(None, np.arange(3)), axis=1)),
}

SIGMOID: dict[str, Form] = {
    "numbers": lambda x: 1 / (1 + exp(-x)),
    "arrays": lambda x: np.ones((4, 3)) / (np.ones((1, 3)) + exp(-x)),
    "constants": lambda x: x.graph.constant(None, 1.0) / (exp(-x) + x.graph.constant(None, np.ones(3))),
    "reciprocal": lambda x: ge.reciprocal(1.0 + exp(-x)),
    "power": lambda x: (1.0 + exp(-x)) ** -1,
    "twice": lambda x: exp(x) / (1.0 + exp(x)),
    "by a reciprocal": lambda x: exp(x) * ge.reciprocal(exp(x) + 1.0),
    "by a share": lambda x: (1.0 / (1.0 + exp(x))) * exp(x),
    "times -1": lambda x: 1.0 / (1.0 + exp(-1.0 * x)),
    "0 -": lambda x: 1.0 / (1.0 + exp(0.0 - x)),
    "inverse power": lambda x: 1.0 / (1.0 + 1.0 / exp(x)),
    "a half of two": lambda x: 2.0 / (1.0 + exp(-x)) * 0.5,
    "negative": lambda x: -(-1.0 / (1.0 + exp(-x))),
    "by softplus": lambda x: exp(-log(1.0 + exp(-x))),
}

SILU: dict[str, Form] = {
    "quotient": lambda x: x / (1.0 + exp(-x)),
    "product": lambda x: x * (1.0 / (1.0 + exp(-x))),
    "product above": lambda x: x * exp(x) / (1.0 + exp(x)),
    "share": lambda x: x * (exp(x) / (1.0 + exp(x))),
}

SOFTPLUS: dict[str, Form] = {
    "ones": lambda x: log(np.ones((4, 3)) + exp(x)),
    "log1p": lambda x: ge.log1p(exp(x)),
    "of a sigmoid": lambda x: -log(ge.sigmoid(-x)),
    "of a sigmoid by hand": lambda x: -log(1.0 / (1.0 + exp(x))),
    "1 -": lambda x: -log(1.0 - ge.sigmoid(x)),
    "1 + -": lambda x: -log(1.0 + -ge.sigmoid(x)),
    "- + 1": lambda x: -log(-ge.sigmoid(x) + 1.0),
    "log1p of a sigmoid": lambda x: -ge.log1p(-ge.sigmoid(x)),
    "log1p of a sigmoid by hand": lambda x: -ge.log1p(-1.0 / (1.0 + exp(-x))),
    "1 - a quotient": lambda x: -log(1.0 - exp(x) / (1.0 + exp(x))),
    "of the inverse": lambda x: log(1.0 / ge.sigmoid(-x)),
    "difference": lambda x: x - log(exp(x) / (1.0 + exp(x))),
    "reshaped": lambda x: ge.reshape(log(ge.reshape(1.0 + exp(x), (-1,))), (4, 3)),
    "two powers": lambda x: log(exp(x) + exp(x * 0.0)),
}

LOGSUMEXP: dict[str, Form] = {
    "axes in a tuple": lambda x: log(total(x, (-1,), False)),
    "reshaped": lambda x: ge.reshape(log(ge.reshape(total(x, 1, False), (2, 2))), (4,)),
    "of the mean": lambda x: log(ge.mean(exp(x), 1)) + np.log(3.0),
    "of a share": lambda x: log(total(x, 1, False) / 3.0) + np.log(3.0),
}

IDENTITY: dict[str, Form] = {
    "log1p": lambda x: ge.log1p(ge.expm1(x)),
    "expm1 + 1": lambda x: log(ge.expm1(x) + 1.0),
    "a product": lambda x: log(exp(x) * exp(x)) * 0.5,
    "a quotient": lambda x: log(exp(x) / exp(-x)) * 0.5,
    "scaled": lambda x: log(exp(x) * 2.0) - np.log(2.0),
    "inverse": lambda x: -log(1.0 / exp(x)),
}

OVER_ALL: dict[str, Form] = {
    "no axis": lambda x: exp(x) / total(x, None, False),
    "no axis, kept": lambda x: exp(x) / total(x, None),
    "both axes": lambda x: exp(x) / total(x, (-1, -2), False),
}

OVER_THE_FIRST: dict[str, Form] = {
    "kept": lambda x: exp(x) / total(x, -2),
    "not kept": lambda x: exp(x) / total(x, 0, False),
    "reshaped": lambda x: exp(x) / ge.reshape(total(x, 0, False), (1, 3)),
}

SPELLINGS: list[tuple[str, dict[str, Form], Form]] = [
    ("softmax", SOFTMAX, ge.softmax),
    ("log_softmax", LOG_SOFTMAX, ge.log_softmax),
    ("sigmoid", SIGMOID, ge.sigmoid),
    ("silu", SILU, lambda x: x * ge.sigmoid(x)),
    ("softplus", SOFTPLUS, ge.softplus),
    ("logsumexp", LOGSUMEXP, lambda x: ge.logsumexp(x, 1)),
    ("identity", IDENTITY, ge.identity),
    ("softmax over all axes", OVER_ALL, lambda x: ge.reshape(ge.softmax(ge.reshape(x, (12,))), (4, 3))),
    ("softmax over the first axis", OVER_THE_FIRST, lambda x: ge.softmax(x, axis=0)),
]


def value_and_slope(form: Form, dtype: str = "float64", **options: object) -> tuple[np.ndarray, np.ndarray]:
    """The value at `HARD`, and the gradient of a weighted sum of it."""
    g = ge.Graph("g", dtype)
    y = g.output("y", form(g.input("x", HARD.shape)))
    weights = np.arange(1.0, 1.0 + np.prod(y.shape)).reshape(y.shape) / 7.0
    g.output("loss", ge.sum(y * weights))
    exe = ge.compile(g, loss="loss", wrt=["x"], **options)
    value = exe.forward({"x": HARD.astype(dtype)})["y"]
    return value, exe.backward()["x"]


@pytest.mark.parametrize(
    ("form", "safe"),
    [pytest.param(form, safe, id=f"{what}, {name}") for what, forms, safe in SPELLINGS for name, form in forms.items()],
)
def test_values_and_gradients_are_right_in_every_spelling(form: Form, safe: Form) -> None:
    expected = value_and_slope(safe, rewrites=())
    for dtype, tolerance in (("float64", 1e-10), ("float32", 2e-5)):
        found = value_and_slope(form, dtype)
        for actual, right in zip(found, expected, strict=True):
            assert actual.dtype == dtype
            np.testing.assert_allclose(actual, right, rtol=tolerance, atol=tolerance / 10)


STANDING: dict[str, tuple[Form, Form]] = {
    "softmax": (SOFTMAX["twice"], ge.softmax),
    "softmax, broadcast": (SOFTMAX["broadcast"], ge.softmax),
    "log of softmax": (LOG_SOFTMAX["log, twice"], ge.log_softmax),
    "log of shifted softmax": (LOG_SOFTMAX["log, shifted twice"], ge.log_softmax),
    "sigmoid": (SIGMOID["numbers"], ge.sigmoid),
    "sigmoid, reciprocal": (SIGMOID["reciprocal"], ge.sigmoid),
    "sigmoid, twice": (SIGMOID["twice"], ge.sigmoid),
    "silu": (SILU["quotient"], SILU["product"]),
    "log of 1 - sigmoid": (SOFTPLUS["1 -"], ge.softplus),
}


@pytest.mark.parametrize("name", STANDING)
def test_gradients_that_stand_in_a_graph_are_made_safe_however_they_are_spelled(name: str) -> None:
    form, safe = STANDING[name]
    g = ge.Graph("g", "float64")
    x = g.input("x", HARD.shape)
    weights = np.arange(1.0, 13.0).reshape(4, 3) / 7.0
    g.output("bar", ge.grad(ge.sum(form(x) * weights), [x])[0])
    found = ge.compile(g).forward({"x": HARD})["bar"]
    np.testing.assert_allclose(found, value_and_slope(safe)[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("stable_alone", [True, False])
def test_equal_powers_are_found_to_be_one_in_the_body_of_a_scan_and_with_this_rewrite_alone(stable_alone: bool) -> None:
    g = ge.Graph("g", "float64")
    x = g.input("x", HARD.shape)
    _, rows = ge.scan(lambda carry, row: (carry, exp(row) / ge.sum(exp(row))), (), x)
    loss = g.output("loss", ge.sum(ge.square(rows)))
    exe = ge.compile(g, loss=loss, wrt=["x"], rewrites=["stabilization"] if stable_alone else None)
    assert np.isfinite(exe.forward({"x": HARD})["loss"])
    assert np.isfinite(exe.backward()["x"]).all()


def test_names_of_equal_nodes_stay_in_the_graph_of_the_executable() -> None:
    g = ge.Graph("g", "float64")
    x = g.input("x", HARD.shape)
    over, under = ge.exp(x, name="over"), ge.exp(x, name="under")
    g.output("under", under)
    g.output("y", over / ge.sum(under, 1, keepdims=True))
    exe = ge.compile(g, loss=ge.sum(g.outputs["y"]), wrt=["x"])
    assert {"over", "under"} <= {node.name for node in exe.graph.nodes}
    small = np.clip(HARD, -1.0, 1.0)
    np.testing.assert_allclose(exe.forward({"x": small})["under"], np.exp(small), rtol=1e-14)

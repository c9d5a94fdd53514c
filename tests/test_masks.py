"""What a mask hides does not matter: values and gradients are those with any finite number in its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.ops.attention import Attention, AttentionAdjoint
from graphengine.testing import Value
from tests.arrays import f64

HIDDEN = [np.nan, np.inf, -np.inf, 1e300]

every_backend = pytest.mark.parametrize("backend", installed_backends())


def results(graph: ge.Graph, wrt: list[str], feeds: dict[str, Any], **options: Any) -> dict[str, np.ndarray]:
    """All outputs, and the gradients of those that are losses."""
    found: dict[str, np.ndarray] = {}
    for name, node in graph.outputs.items():
        exe = ge.compile(graph, loss=name, wrt=wrt, seed=1, **options) if node.shape == () else ge.compile(graph)
        found[name] = exe.forward(feeds, [name])[name]
        if node.shape == ():
            found |= {f"{name} by {leaf}": np.array(bar) for leaf, bar in exe.backward().items()}
    return found


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    for name, value in wanted.items():
        assert np.isfinite(value).all(), name
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


QUERIES, KEYS = 4, 6


def some_seen() -> np.ndarray:
    """A mask that differs by query and head, with a key that nobody sees and a query that sees none."""
    mask = np.random.default_rng(5).random((2, 2, QUERIES, KEYS)) > 0.4
    mask[..., 3], mask[0, 1, 1] = False, False
    return mask


@every_backend
@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize(("causal", "mask"), [(False, some_seen()), (True, some_seen()), (True, None)])
def test_attention_reads_neither_keys_nor_values_nor_queries_that_see_nothing(
    backend: str, block: int | None, causal: bool, mask: np.ndarray | None
) -> None:
    q, k, v = f64(2, 2, QUERIES, 3), f64(2, 2, KEYS, 3, seed=1), f64(2, 2, KEYS, 5, seed=2)
    graph = ge.Graph("attend", dtype="float64")
    nodes = [graph.input(name, array.shape) for name, array in zip("qkv", (q, k, v), strict=True)]
    y = ge.attention(*nodes, mask, causal=causal, block=block)
    loss = graph.output("loss", ge.sum(ge.sin(y)))
    graph.output("second", sum((ge.sum(ge.sin(bar)) for bar in ge.grad(loss, nodes)), loss))
    (slope,) = ge.jvp([y], nodes, [graph.constant(None, f64(*node.shape, seed=7)) for node in nodes])
    graph.output("slope", ge.sum(slope * slope))
    seen = np.tri(QUERIES, KEYS, dtype=bool) if causal else np.ones((QUERIES, KEYS), bool)
    seen = np.broadcast_to(seen if mask is None else seen & mask, (2, 2, QUERIES, KEYS))
    is_query, is_key = seen.any(-1)[..., None], seen.any(-2)[..., None]

    def attended(hidden: float, rewrites: list[str] | None) -> dict[str, np.ndarray]:
        arrays = np.where(is_query, q, hidden), np.where(is_key, k, hidden), np.where(is_key, v, hidden)
        feeds = dict(zip("qkv", arrays, strict=True))
        return results(graph, ["q", "k", "v"], feeds, backend=backend, rewrites=rewrites)

    wanted = attended(0.5, None)
    for hidden, rewrites in zip(HIDDEN, (None, [], None, []), strict=True):
        with np.errstate(all="ignore"):
            assert_same(attended(hidden, rewrites), wanted)


@every_backend
def test_a_query_takes_nothing_of_the_value_behind_it_and_nan_that_is_seen_arrives(backend: str) -> None:
    q, k, v = f64(4, 3), f64(4, 3, seed=1), f64(4, 2, seed=2)
    graph = ge.Graph("causal", dtype="float64")
    nodes = [graph.input(name, array.shape) for name, array in zip("qkv", (q, k, v), strict=True)]
    graph.output("y", ge.attention(*nodes, causal=True))
    exe = ge.compile(graph, backend=backend)
    clean = exe.forward({"q": q, "k": k, "v": v})["y"]
    v[2, 0] = np.nan
    y = exe.forward({"q": q, "k": k, "v": v})["y"]
    np.testing.assert_allclose(y[:2], clean[:2], rtol=1e-12)
    np.testing.assert_array_equal(np.isnan(y[2:]), [[True, False]] * 2)
    k[1] = np.nan
    y = exe.forward({"q": q, "k": k, "v": v})["y"]
    np.testing.assert_allclose(y[0], clean[0], rtol=1e-12)
    assert np.isnan(y[1:]).all()


@pytest.mark.parametrize("op", [Attention(), AttentionAdjoint()])
def test_the_reference_semantics_read_no_hidden_row(op: Any) -> None:
    def evaluated(hidden: float) -> Value:
        q, k, v = f64(3, 2), f64(4, 2, seed=1), f64(4, 2, seed=2)
        k[3], v[3] = hidden, hidden
        mask = np.array([True, True, True, False])
        extra = [f64(3, 2, seed=3), q, k, v, f64(3, seed=4), f64(3, seed=5)] if op.kind != "attention" else [q, k, v]
        return op.eval(np, *extra, mask)

    for found, wanted in zip(evaluated(np.nan), evaluated(1.0), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


@every_backend
def test_a_context_row_that_nobody_sees_is_in_no_gradient_of_a_layer(backend: str) -> None:
    graph = ge.Graph("layer", dtype="float64")
    x, context = graph.input("x", (2, 3, 4)), graph.input("context", (2, 5, 3))
    mask = graph.input("mask", (2, 1, 1, 5), "bool")
    y = ge.layers.multi_head_attention(x, 2, name="a", context=context, mask=mask)
    graph.output("loss", ge.sum(ge.square(y)))
    real = np.array([[True, True, True, False, False], [False, True, True, True, True]])
    wrt = ["x", *(node.name for node in graph.parameters)]

    def trained(hidden: float) -> dict[str, np.ndarray]:
        rows = np.where(real[..., None], f64(2, 5, 3, seed=1), hidden)
        feeds = {"x": f64(2, 3, 4), "context": rows, "mask": real[:, None, None]}
        return results(graph, wrt, feeds, backend=backend)

    wanted = trained(0.5)
    for hidden in HIDDEN:
        assert_same(trained(hidden), wanted)


@every_backend
def test_a_transformer_block_trains_on_padded_rows_that_are_masked_before_it(backend: str) -> None:
    graph = ge.Graph("block", dtype="float64")
    x, real = graph.input("x", (2, 4, 6)), graph.input("real", (2, 4), "bool")
    rows = ge.reshape(real, (2, 4, 1))
    y = ge.layers.transformer_block(ge.mask(x, rows), 2, 5, name="b", mask=ge.reshape(real, (2, 1, 1, 4)))
    graph.output("loss", ge.sum(ge.mask(ge.square(y), rows)))
    is_real = np.array([[True, True, True, False], [True, False, True, True]])
    wrt = ["x", *(node.name for node in graph.parameters)]

    def trained(hidden: float) -> dict[str, np.ndarray]:
        feeds = {"x": np.where(is_real[..., None], f64(2, 4, 6), hidden), "real": is_real}
        return results(graph, wrt, feeds, backend=backend)

    wanted = trained(0.5)
    for hidden in HIDDEN:
        assert_same(trained(hidden), wanted)


@every_backend
@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(
    "options", [{}, {"reverse": True, "return_sequences": True}, {"bidirectional": True, "num_layers": 2}]
)
def test_recurrent_layers_do_not_read_what_stands_at_a_padded_step(
    backend: str, kind: str, options: dict[str, Any]
) -> None:
    graph = ge.Graph(kind, dtype="float64")
    x, mask = graph.input("x", ("n", 4, 2)), graph.input("mask", ("n", 4), dtype="bool")
    y = getattr(ge.layers, kind)(x, 3, name="r", mask=mask, **options)
    graph.output("loss", ge.sum(ge.square(y)))
    real = np.array([[True, True, False, False], [True, False, True, True], [False] * 4])
    wrt = ["x", *(node.name for node in graph.parameters)]

    def trained(hidden: float) -> dict[str, np.ndarray]:
        feeds = {"x": np.where(real[..., None], f64(3, 4, 2), hidden), "mask": real}
        return results(graph, wrt, feeds, backend=backend)

    wanted = trained(0.5)
    for hidden in HIDDEN:
        assert_same(trained(hidden), wanted)


@every_backend
@pytest.mark.parametrize("rewrites", [None, []])
def test_a_choice_ahead_of_a_function_keeps_what_it_hides_out_of_the_gradient(
    backend: str, rewrites: list[str] | None
) -> None:
    graph = ge.Graph("choice", dtype="float64")
    x, real = graph.input("x", (5,)), graph.input("real", (5,), "bool")
    graph.output("loss", ge.sum(ge.mask(ge.log(ge.where(real, x, 1.0)), real)))
    graph.output("mean", ge.sum(ge.mask(x, real)) / ge.sum(ge.cast(real, "float64")))
    values, is_real = np.array([2.0, np.nan, np.inf, 4.0, -1.0]), np.array([True, False, False, True, False])
    found = results(graph, ["x"], {"x": values, "real": is_real}, backend=backend, rewrites=rewrites)
    np.testing.assert_allclose(found["loss"], np.log(8.0))
    np.testing.assert_array_equal(found["loss by x"], [0.5, 0, 0, 0.25, 0])
    assert found["mean"] == 3
    np.testing.assert_array_equal(found["mean by x"], [0.5, 0, 0, 0.5, 0])

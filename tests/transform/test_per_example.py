"""Gradients of each example's own loss: rows that add up to the gradient, and equal those of examples fed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import DTypeError, GraphError, ShapeError
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, apply
from graphengine.ir.types import TupleType
from graphengine.ops.scan import Scan, scan
from graphengine.transform.example_axes import example_axes, rule_of
from tests.arrays import f64, i64
from tests.random_graphs import BATCH, SEEDS, evaluate, grow
from tests.transform.values import N, compiled, mlp, parameters, recurrent, values


def graph_and_batch() -> tuple[Graph, Node]:
    graph = ge.Graph("batch", dtype="float64")
    return graph, graph.input("x", ("batch", 3))


def alone(graph: Graph, losses: Node, wrt: list[Node], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The gradients of each example, from a run for each, with nothing but that example fed."""
    bars = ge.grad(ge.sum(losses), wrt)
    rows = []
    for place in range(N):
        rows.append(values(bars, {name: value[place : place + 1] for name, value in feeds.items()}, parameters(graph)))
    return [np.stack(columns) for columns in zip(*rows, strict=True)]


def check(graph: Graph, losses: Node, feeds: dict[str, np.ndarray], *, loops: int = 0) -> None:
    """Hold the rows against examples fed alone, and count the loops that they take."""
    wrt = graph.parameters
    expected = alone(graph, losses, wrt, feeds)
    before = sum(isinstance(node.op, Scan) for node in graph.nodes)
    rows = ge.per_example_grad(losses, wrt)
    assert [row.shape for row in rows] == [("batch", *w.shape) for w in wrt]
    assert sum(isinstance(node.op, Scan) for node in graph.nodes) - before == loops
    for row, value in zip(values(rows, feeds, parameters(graph)), expected, strict=True):
        np.testing.assert_allclose(row, value, rtol=1e-10, atol=1e-12)


def test_dense_layers_pass_in_one_batch() -> None:
    graph, loss, feeds = mlp()
    logits = loss.parents[0]
    check(graph, ge.cross_entropy(logits, graph["y"], reduction="none"), feeds)


def test_a_mean_and_a_sum_of_losses_are_taken_apart() -> None:
    graph, loss, feeds = mlp()
    rows = ge.per_example_grad(loss, graph.parameters)
    bars = ge.grad(loss, graph.parameters)
    losses = ge.cross_entropy(*loss.parents, reduction="none")
    of_mean = ge.per_example_grad(ge.mean(losses), graph.parameters)
    of_sum = ge.per_example_grad(ge.sum(losses), graph.parameters)
    found = values([*rows, *of_mean, *of_sum, *bars], feeds, parameters(graph))
    for kind in (found[:4], found[4:8], found[8:12]):
        for row, bar in zip(kind, found[12:], strict=True):
            np.testing.assert_allclose(row.mean(axis=0), bar, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize(
    "layer",
    [
        lambda x, g: x * g.parameter("scale", (3,)) + g.parameter("shift", (1, 3)),
        lambda x, g: ge.maximum(x, g.parameter("floor", ())) * 2.0,
        lambda x, g: ge.where(ge.greater(x, 0.0), x * g.parameter("a", (3,)), g.parameter("b", (1, 1))),
        lambda x, g: ge.softmax(x @ g.parameter("w", (3, 4))) ** 2.0,
        lambda x, g: ge.reshape(ge.reshape(x, ("batch", 3, 1)) @ g.parameter("w", (1, 2)), ("batch", -1)),
        lambda x, g: ge.transpose(g.parameter("w", (4, 3)) @ ge.transpose(x)),
        lambda x, g: ge.transpose(ge.transpose(x) * g.parameter("column", (3, 1))),
        lambda x, g: ge.expand_dims(x @ g.parameter("w", (3,)), 1) * ge.squeeze(ge.expand_dims(x, 2), 2),
        lambda x, g: ge.logsumexp(ge.stack([x, x * g.parameter("w", (3,))], axis=2), axis=(1,)),
        lambda x, g: ge.concat([x, x @ g.parameter("w", (3, 2))], axis=1)[:, 1:],
        lambda x, g: ge.pad(x * g.parameter("w", (3,)), [(0, 0), (1, 2)], 0.5),
        lambda x, g: ge.mean(ge.broadcast_to(g.parameter("w", (3,)), ("batch", 3)) * x, axis=1, keepdims=True),
        lambda x, g: ge.reshape(x, ("batch", 1, 1, 3)) * g.parameter("w", (2, 1, 3)),
    ],
)
def test_layers_that_keep_examples_apart(layer) -> None:
    graph, x = graph_and_batch()
    y = layer(x, graph)
    swapped = any(node.op.kind == "matmul" and node.parents[0] in graph.parameters for node in graph.nodes)
    losses = ge.sum(ge.sin(y), axis=tuple(range(1, y.ndim)))
    check(graph, losses, {"x": f64(N, 3)}, loops=int(swapped))


def test_an_embedding_takes_a_loop_for_itself_alone() -> None:
    graph = ge.Graph("words", dtype="float64")
    words = graph.input("words", ("batch", 6), dtype="int64")
    table, w = graph.parameter("table", (10, 4)), graph.parameter("w", (4, 2))
    losses = ge.sum(ge.tanh(ge.mean(ge.gather(table, words), axis=1) @ w), axis=1)
    check(graph, losses, {"words": i64(N, 6, high=10)}, loops=1)


def test_weights_that_are_computed_or_shared_get_the_sum_of_their_uses() -> None:
    graph, x = graph_and_batch()
    w = graph.parameter("w", (3, 3))
    y = ge.tanh(x @ w) @ (w.T * 2.0) + ge.sum(w, axis=0)
    check(graph, ge.sum(y * y, axis=1) + 0.1 * ge.l2(w), {"x": f64(N, 3)}, loops=1)


def test_what_mixes_examples_is_differentiated_as_it_stands() -> None:
    graph, x = graph_and_batch()
    w, v = graph.parameter("w", (3, 2)), graph.parameter("v", (2,))
    z = x @ w
    centered = (z - ge.mean(z, axis=0)) * v
    losses = ge.sum(ge.tanh(centered) * ge.softmax(z, axis=0), axis=1)
    wrt = [w, v]
    feeds, held = {"x": f64(N, 3)}, parameters(graph)
    expected = [values(ge.grad(losses[place], wrt), feeds, held) for place in range(N)]
    for row, rows in zip(
        values(ge.per_example_grad(losses, wrt), feeds, held), zip(*expected, strict=True), strict=True
    ):
        np.testing.assert_allclose(row, np.stack(rows), rtol=1e-10, atol=1e-12)


def test_statistics_of_the_batch_are_read_by_every_example() -> None:
    graph, x = graph_and_batch()
    w = graph.parameter("w", (3, 2))
    z = x @ w
    losses = ge.sum(ge.sin(z - ge.mean(z, axis=0)), axis=1)
    feeds, held = {"x": f64(N, 3)}, parameters(graph)
    expected = [values(ge.grad(losses[place], [w]), feeds, held)[0] for place in range(N)]
    (found,) = values(ge.per_example_grad(losses, [w]), feeds, held)
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-10, atol=1e-12)


def test_a_function_of_one_example_is_mapped_over_the_batch() -> None:
    graph, loss, feeds = mlp()
    x, y, (w, b, v, c) = graph["x"], graph["y"], graph.parameters

    def one(x_i: Node, y_i: Node) -> Node:
        assert (x_i.shape, y_i.shape) == ((4,), ())
        logits = ge.reshape(ge.tanh(x_i @ w + b) @ v + c, (1, 3))
        return ge.cross_entropy(logits, ge.reshape(y_i, (1,)))

    mapped = ge.per_example_grad(one, graph.parameters, [x, y])
    batched = ge.per_example_grad(loss, graph.parameters)
    found = values([*mapped, *batched], feeds, parameters(graph))
    for left, right in zip(found[:4], found[4:], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-11, atol=1e-13)


def test_a_function_of_one_sequence_is_mapped_over_the_batch() -> None:
    graph = ge.Graph("sequences", dtype="float64")
    x = graph.input("x", ("batch", 4, 2))
    w, u = graph.parameter("w", (2, 3)), graph.parameter("u", (3, 3))

    def one(rows: Node) -> Node:
        last, _ = scan(lambda h, row: (ge.tanh(row @ w + h @ u), None), rows[0] @ w, rows)
        return ge.sum(last * last)

    feeds, held = {"x": f64(N, 4, 2)}, parameters(graph)
    mapped = values(ge.per_example_grad(one, [w, u], [x]), feeds, held)
    for place in range(N):
        expected = values(ge.grad(one(x[place]), [w, u]), feeds, held)
        for rows, bar in zip(mapped, expected, strict=True):
            np.testing.assert_allclose(rows[place], bar, rtol=1e-10, atol=1e-12)


def test_a_scan_over_a_batch_is_differentiated_row_by_row() -> None:
    graph, _, feeds = recurrent()
    losses = ge.sum(ge.square(graph["item_1"]), axis=1)
    wrt = graph.parameters
    held = parameters(graph)
    found = values(ge.per_example_grad(losses, wrt), feeds, held)
    for place in range(N):
        for rows, bar in zip(found, values(ge.grad(losses[place], wrt), feeds, held), strict=True):
            np.testing.assert_allclose(rows[place], bar, rtol=1e-10, atol=1e-12)


def test_what_no_path_leads_to_has_zero_rows() -> None:
    graph, x = graph_and_batch()
    w, idle = graph.parameter("w", (3,)), graph.parameter("idle", (2, 2))
    (_, rows), (alone,) = ge.per_example_grad(x @ w, [w, idle]), ge.per_example_grad(x @ w, [idle])
    for found in values([rows, alone], {"x": f64(N, 3)}):
        np.testing.assert_array_equal(found, np.zeros((N, 2, 2)))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_weight_with_as_many_rows_as_there_are_examples_is_a_weight(batch: int) -> None:
    graph = ge.Graph("square", dtype="float64")
    x, w = graph.input("x", (batch, 3)), graph.parameter("w", (batch, 3))
    losses = ge.sum(ge.sin(x + w), axis=1)
    (found,) = values(ge.per_example_grad(losses, [w]), {"x": f64(batch, 3)}, {"w": f64(batch, 3, seed=1)})
    slopes = np.cos(f64(batch, 3) + f64(batch, 3, seed=1))
    np.testing.assert_allclose(found, np.eye(batch)[:, :, None] * slopes, rtol=1e-12)


def test_rows_are_differentiated_like_any_node() -> None:
    graph, loss, feeds = mlp()
    (rows,) = ge.per_example_grad(loss, [graph["w"]])
    ge.gradcheck(graph, ge.sum(ge.square(rows)), feeds, wrt=["w", "v"], tolerance=1e-5)


def test_gradients_of_examples_cost_little_more_than_that_of_the_batch() -> None:
    graph, loss, _ = mlp()
    batch = compiled(ge.grad(loss, graph.parameters)).cost(batch=64).total_flops
    rows = compiled(ge.per_example_grad(loss, graph.parameters)).cost(batch=64).total_flops
    assert rows < 1.1 * batch


def test_what_has_no_gradients_of_examples_is_refused() -> None:
    graph, x = graph_and_batch()
    w, k = graph.parameter("w", (3, 2)), graph.input("k", ("batch",), dtype="int64")
    y = x @ w
    before = len(graph)
    with pytest.raises(ShapeError, match=r'one loss for each example is needed.*reduction="none"'):
        ge.per_example_grad(y, [w])
    with pytest.raises(DTypeError, match="no derivative of or by k"):
        ge.per_example_grad(k, [w])
    assert len(graph) == before
    with pytest.raises(ShapeError, match="one loss for each example is needed"):
        ge.per_example_grad(ge.sum(y) * 2.0, [w])
    with pytest.raises(GraphError, match=r"x = input.* holds a row for each example"):
        ge.per_example_grad(ge.sum(y * y, axis=1), [x])
    with pytest.raises(GraphError, match="inputs are for a function of one example"):
        ge.per_example_grad(ge.sum(y, axis=1), [w], [x])
    with pytest.raises(GraphError, match="a function of one example needs inputs"):
        ge.per_example_grad(lambda row: ge.sum(row), [w])
    with pytest.raises(ShapeError, match="a loss is a scalar"):
        ge.per_example_grad(lambda row: row @ w, [w], [x])


@pytest.mark.parametrize("seed", SEEDS)
def test_an_example_stays_as_it_is_when_all_others_become_like_it(seed: int) -> None:
    sample = grow(seed)
    nodes = sample.graph.nodes
    found = evaluate(nodes, sample.given, {"batch": BATCH})
    for node in nodes:
        op = node.op.bind_dims({"batch": BATCH})
        y = found[node.name]
        for axis in range(node.ndim if node.parents and not isinstance(node.type, TupleType) else 0):
            axes = example_axes(node, axis)
            if axes is None or y.size == 0:
                continue
            kept = y.shape[axis] // 2
            alike = np.full(y.shape[axis], kept)
            operands = [
                found[parent.name] if its_axis is None else np.take(found[parent.name], alike, axis=its_axis)
                for parent, its_axis in zip(node.parents, axes, strict=True)
            ]
            with np.errstate(all="ignore"):
                changed = np.asarray(op.eval(np, *operands))
            np.testing.assert_array_equal(
                np.take(changed, kept, axis=axis), np.take(y, kept, axis=axis), err_msg=f"{node!r} along {axis}"
            )


def test_every_kind_with_a_rule_is_held_to_it() -> None:
    grown = set.union(*(grow(seed).kinds for seed in SEEDS))
    assert {kind for kind, op in ge.Op.registry.items() if rule_of(op) is not None} - {"item"} <= grown


def test_an_op_without_a_rule_is_slow_with_a_warning() -> None:
    class Reversed(ge.Op):
        """y = x, with its last axis reversed."""

        kind: str = "reversed"

        def infer(self, x: ge.TensorType) -> ge.TensorType:
            return x

        def eval(self, xp: Any, x: Any) -> Any:
            return x[..., ::-1]

        def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node]:
            return (apply(self, y_bar),)

    try:
        graph, x = graph_and_batch()
        w = graph.parameter("w", (3, 2))
        with pytest.warns(ge.OneByOneWarning, match="reversed has no rule"):
            ge.per_example_grad(ge.sum(apply(Reversed(), x @ w), axis=1), [w])
    finally:
        del ge.Op.registry["reversed"]


@pytest.mark.parametrize(
    "one",
    [
        lambda w, row: ge.sum(ge.sin(row @ w.T)),
        lambda w, row: ge.sum(row * ge.sum(w * w)),
        lambda w, row: ge.sum(ge.sin(ge.tanh(w) @ row) * ge.sum(w @ row)),
        lambda w, row: ge.sum(ge.attention(w, ge.sin(w), w) @ row),
        lambda w, row: ge.sum(scan(lambda c, v: (ge.sin(c * v), c), ge.sum(w, axis=0), w)[1] @ row),
        lambda w, row: ge.sum(scan(lambda c, v: (c * ge.tanh(w)[0] + v, None), row, ge.exp(w))[0]),
    ],
)
def test_a_function_of_one_example_may_read_what_is_computed_from_weights_around_it(one) -> None:
    graph = ge.Graph("around", dtype="float64")
    x, w = graph.input("x", (N, 3)), graph.parameter("w", (4, 3))
    (rows,) = ge.per_example_grad(lambda row: one(w, row), [w], [x])
    alone = [ge.grad(one(w, x[place]), [w])[0] for place in range(N)]
    found, *expected = values([rows, *alone], {"x": f64(N, 3)}, parameters(graph))
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-12)
    assert np.all(np.any(found != 0, axis=(1, 2)))


def test_losses_in_a_body_may_come_from_rows_and_weights_around_it() -> None:
    graph = ge.Graph("captured", dtype="float64")
    x, w = graph.input("x", (N, 3)), graph.parameter("w", (3, 3))
    z, v = ge.tanh(x @ w), ge.sin(w)

    def losses(scale: Node) -> tuple[Node, Node]:
        return ge.sum(ge.sin(x * scale) @ v @ w, axis=1), ge.sum(ge.sin(z * scale), axis=1)

    def step(carry: Node, scale: Node) -> tuple[Node, list[Node]]:
        return carry, [ge.per_example_grad(each, [w])[0] for each in losses(scale)]

    _, found = scan(step, ge.sum(x) * 0.0, x)
    unrolled = [ge.per_example_grad(each, [w])[0] for place in range(N) for each in losses(x[place])]
    stacked = values([*found, *unrolled], {"x": f64(N, 3)}, parameters(graph))
    for place, rows in enumerate(stacked[:2]):
        np.testing.assert_allclose(rows, np.stack(stacked[2 + place :: 2]), rtol=1e-12)


def test_rows_that_depend_on_the_weights_are_refused() -> None:
    graph = ge.Graph("rows", dtype="float64")
    x, w = graph.input("x", (N, 3)), graph.parameter("w", (3, 2))
    z = x @ w
    for inputs, wrt in (([z], [w]), ([x, z], [w]), ([x], [x])):
        count = len(graph)
        with pytest.raises(GraphError, match=rf"the rows of {inputs[-1].name} = .* depend on one of wrt; compute them"):
            ge.per_example_grad(lambda *rows: ge.sum(ge.sin(rows[-1])), wrt, inputs)
        assert len(graph) == count
    ge.per_example_grad(lambda row: ge.sum(row @ ge.sum(w, axis=0)), [w], [ge.stop_gradient(z)])

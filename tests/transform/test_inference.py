"""What is left of a graph when nothing is being trained."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.norm import BatchStatistic
from graphengine.ops.scan import scan
from graphengine.transform import derivatives
from tests.arrays import f64

layers = ge.layers


def kinds(graph: Graph) -> list[str]:
    return [node.op.kind for node in graph.nodes]


def values(graph: Graph, held: dict[str, np.ndarray], feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    exe = ge.compile(graph)
    for name, array in held.items():
        if name in exe.parameters or name in exe.state:
            (exe.parameters if name in exe.parameters else exe.state)[name] = array
    return exe.forward(feeds)


def held(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays for all parameters and states that hold floats; variances are positive."""
    leaves = [node for node in (*graph.parameters, *graph.states) if node.type.is_float]
    low = {node: 0.3 if node.name.endswith("variance") else -1.0 for node in leaves}
    return {
        node.name: f64(*node.type.static_shape, low=low[node], high=1.0, seed=seed + i) for i, node in enumerate(leaves)
    }


def test_dropout_is_gone_and_so_are_its_states() -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", 3))
    g.output("y", ge.dropout(ge.relu(ge.dropout(x, 0.5)), 0.5))
    inferring = ge.for_inference(g)
    assert kinds(inferring) == ["input", "relu"]
    assert inferring.outputs["y"] is inferring["relu_1"]
    assert not inferring.updates


def test_an_output_that_is_dropped_itself_is_what_it_was_made_of() -> None:
    g = ge.Graph()
    g.output("y", ge.dropout(g.input("x", (3,)), 0.5))
    inferring = ge.for_inference(g)
    assert inferring.outputs["y"] is inferring["x"]


def test_the_declared_graph_stays_as_it_is() -> None:
    g = ge.Graph()
    g.output("y", ge.dropout(layers.batch_norm(layers.dense(g.input("x", ("batch", 3)), 2)), 0.5))
    before = g.to_json()
    ge.for_inference(g)
    assert g.to_json() == before


def test_batch_norm_takes_its_running_statistics() -> None:
    g = ge.Graph(dtype="float64")
    x = g.input("x", ("batch", 3, 4))
    g.output("y", layers.batch_norm(x, name="norm", epsilon=0.1))
    inferring, arrays, feed = ge.for_inference(g), held(g), f64(2, 3, 4)
    scale, shift, mean, variance = (
        arrays[f"norm.{what}"][:, None] for what in ("weight", "bias", "running_mean", "running_variance")
    )
    expected = (feed - mean) / np.sqrt(variance + 0.1) * scale + shift
    np.testing.assert_allclose(values(inferring, arrays, {"x": feed})["y"], expected, rtol=1e-13)
    assert {"mean", "variance", "batch_statistic"}.isdisjoint(kinds(inferring))


def test_an_example_does_not_depend_on_the_others_of_its_batch() -> None:
    g = ge.Graph(dtype="float64")
    x = g.input("x", ("batch", 3))
    g.output("y", layers.dense(ge.relu(layers.batch_norm(layers.dense(x, 4))), 2))
    inferring, arrays, feed = ge.for_inference(g), held(g), f64(5, 3)
    together = values(inferring, arrays, {"x": feed})["y"]
    alone = np.concatenate([values(inferring, arrays, {"x": row[None]})["y"] for row in feed])
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def dense_network(bias: bool, axis: int = 1) -> Graph:
    g = ge.Graph(dtype="float64")
    x = g.input("x", ("batch", 5) if axis == 1 else ("batch", 7, 5))
    h = layers.batch_norm(layers.dense(x, 4, bias=bias, name="dense"), axis=axis, name="norm")
    g.output("y", ge.dropout(ge.tanh(h), 0.3))
    return g


def conv_network(bias: bool) -> Graph:
    g = ge.Graph(dtype="float64")
    x = g.input("x", ("batch", 2, 6, 6))
    h = layers.batch_norm(layers.conv2d(x, 4, 3, bias=bias, groups=2, padding="same", name="conv"), name="norm")
    g.output("y", ge.tanh(h))
    return g


NETWORKS = [
    (partial(dense_network, True), (8, 5)),
    (partial(dense_network, False), (8, 5)),
    (partial(dense_network, True, 2), (3, 7, 5)),
    (partial(conv_network, True), (3, 2, 6, 6)),
    (partial(conv_network, False), (3, 2, 6, 6)),
]


def unfolded(graph: Graph, arrays: dict[str, np.ndarray], feed: np.ndarray) -> np.ndarray:
    """The output "y" with running statistics, normalized in so many words."""
    g = graph.copy()
    norm = next(node for node in g.nodes if node.op.kind == "normalize")
    g.outputs = {"before": norm.parents[0]}
    before = values(g, arrays, {"x": feed})["before"]
    wide = [1] * before.ndim
    wide[before.shape.index(4, 1)] = 4
    scale, shift, mean, variance = (
        arrays[f"norm.{what}"].reshape(wide) for what in ("weight", "bias", "running_mean", "running_variance")
    )
    return np.tanh((before - mean) / np.sqrt(variance + 1e-5) * scale + shift)


@pytest.mark.parametrize(("network", "shape"), NETWORKS)
def test_a_norm_behind_a_linear_map_is_folded_into_it_exactly(network: partial[Graph], shape: tuple[int, ...]) -> None:
    g, feed = network(), f64(*shape)
    inferring, arrays = ge.for_inference(g), held(g)
    np.testing.assert_allclose(
        values(inferring, arrays, {"x": feed})["y"], unfolded(g, arrays, feed), rtol=1e-12, atol=1e-14
    )
    x = inferring["x"]
    on_data = [node for node in inferring.nodes if not node.is_leaf and "batch" in node.type.names()]
    assert [node.op.kind for node in on_data] == [on_data[0].op.kind, "add", "tanh"]
    assert on_data[0].op.kind in ("matmul", "conv2d")
    assert on_data[0].parents[0] is x


@pytest.mark.parametrize(("network", "shape"), NETWORKS)
def test_what_a_fold_spares_is_two_operations_a_value_for_one_a_weight(
    network: partial[Graph], shape: tuple[int, ...]
) -> None:
    g = network()
    values_out = 4 * int(np.prod(shape)) // (5 if shape[1] != 2 else 2)
    apart = g.copy()
    apart.output("linear", next(node for node in apart.nodes if node.op.kind == "normalize").parents[0])
    folded, kept = (ge.compile(ge.for_inference(graph)).cost(batch=shape[0]) for graph in (g, apart))
    weights = int(np.prod(g.parameters[0].type.static_shape))
    biases = sum(node.op.kind == "add" and "batch" in node.type.names() for node in ge.for_inference(apart).nodes)
    # apart: a bias where there is one, then 3 a value and 3 a channel; folded: 1 a value, 1 a weight, 12 a channel
    assert folded.total_flops - kept.total_flops == weights + 9 * 4 - (2 + biases) * values_out


def test_a_fold_follows_the_parameters() -> None:
    g, feed = dense_network(True), f64(8, 5)
    exe = ge.compile(g)
    for seed in range(2):
        arrays = held(g, seed)
        for name, array in arrays.items():
            (exe.parameters if name in exe.parameters else exe.state)[name] = array
        found = exe.inference.forward({"x": feed})["y"]
        np.testing.assert_allclose(found, unfolded(g, arrays, feed), rtol=1e-12)


def not_folded() -> dict[str, Graph]:
    """Graphs whose norm does not stand alone, right behind a linear map of parameters."""
    graphs = {}
    for what in ("read elsewhere", "an output", "another axis", "weight is fed", "behind a relu", "bias of one number"):
        g = graphs[what] = ge.Graph(dtype="float64")
        x = g.input("x", ("batch", 3, 4))
        w = g.input("w", (4, 4)) if what == "weight is fed" else g.parameter("w", (4, 4))
        h = x @ w
        if what == "behind a relu":
            h = ge.relu(h)
        if what == "bias of one number":
            h = h + g.parameter("b", (1,))
        y = layers.batch_norm(h, axis=1 if what == "another axis" else 2, name="norm")
        g.output("y", y + h if what == "read elsewhere" else y)
        if what == "an output":
            g.output("h", h)
    return graphs


@pytest.mark.parametrize("what", list(not_folded()))
def test_a_norm_is_kept_where_a_fold_would_not_be_right(what: str) -> None:
    g = not_folded()[what]
    inferring = ge.for_inference(g)
    assert inferring["norm"].op.kind == "normalize"
    feeds = {"x": f64(2, 3, 4), "w": f64(4, 4)}
    exe = ge.compile(inferring)
    exe.forward({name: feeds[name] for name in exe.needs(["y"])})


def test_several_norms_are_folded_and_names_that_are_taken_are_left_alone() -> None:
    g = ge.Graph()
    x = g.input("folded_1.zero", ("batch", 3))
    for _ in range(3):
        x = ge.relu(layers.batch_norm(layers.dense(x, 4)))
    g.output("y", x)
    inferring = ge.for_inference(g)
    assert [node.name for node in inferring.nodes if node.name.endswith(".factor")] == [
        f"folded_{n}.factor" for n in (2, 3, 4)
    ]
    assert [inferring[f"batch_norm_{n}"].op.kind for n in (1, 2, 3)] == ["add"] * 3


def test_inputs_that_only_training_reads_are_no_longer_asked_for() -> None:
    g = ge.Graph()
    x, noise = g.input("x", ("batch", 3)), g.input("noise", ("batch", 3))
    running = g.state("running", (3,))
    g.output("y", x - g.add(BatchStatistic(), [ge.mean(noise, 0), running]))
    inferring = ge.for_inference(g)
    assert [node.name for node in inferring.inputs] == ["x"]
    assert [node.name for node in inferring.states] == ["running"]


def test_an_input_that_tells_the_size_of_a_dim_is_kept() -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", 3))
    running = g.state("running", (3,))
    statistic = g.add(BatchStatistic(), [ge.mean(x, 0), running])
    g.output("y", ge.broadcast_to(statistic, ("batch", 3)))
    exe = ge.compile(g)
    np.testing.assert_array_equal(exe.inference.forward({"x": np.ones((5, 3))})["y"], np.zeros((5, 3)))


def test_updates_and_the_training_section_are_dropped() -> None:
    g = ge.Graph()
    count = g.state("count", ())
    g.update(count, count + 1.0)
    g.output("y", g.input("x", (3,)) * 2.0)
    inferring = ge.for_inference(g)
    assert not inferring.updates
    assert not inferring.states
    assert inferring.training is None


def test_the_loss_of_a_network_stays_among_its_outputs() -> None:
    g = dense_network(True)
    g.output("loss", ge.mean(ge.square(g.outputs["y"])))
    assert list(ge.for_inference(g).outputs) == ["y", "loss"]
    assert list(ge.compile(g, loss="loss", optimizer=ge.GD(0.1)).inference.graph.outputs) == ["y", "loss"]


def test_nodes_remember_where_they_were_declared() -> None:
    g = dense_network(True)
    inferring = ge.for_inference(g)
    for node in inferring.nodes:
        original = node.name if node.name in g else "norm"
        assert node.where == g[original].where


def test_a_rewritten_graph_is_written_to_a_document_and_read_again() -> None:
    inferring = ge.for_inference(conv_network(True))
    assert ge.Graph.from_json(inferring.to_json()) == inferring


def test_to_rewrite_twice_changes_nothing_more() -> None:
    once = ge.for_inference(conv_network(True))
    assert ge.for_inference(once) == once


def recurrent(rate: float, nested: bool = False) -> Graph:
    g = ge.Graph(dtype="float64")
    xs, start = g.input("xs", (5, 3)), g.input("start", (3,))
    w = g.parameter("w", (3,), ge.init.Ones())

    def body(carry: Node, x: Node) -> tuple[Node, Node]:
        if nested:
            x, _ = scan(lambda c, _: (ge.dropout(c, rate) * w, None), x, length=2)
        after = ge.tanh(carry * w + ge.dropout(x, rate))
        return after, ge.dropout(after, rate)

    last, ys = scan(body, start, xs)
    loss = g.output("loss", ge.sum(last) + ge.sum(ys * ys))
    if not nested:
        g.output("bar", ge.grad(loss, [w])[0])
    return g


@pytest.mark.parametrize("nested", [False, True])
def test_dropout_is_gone_from_the_bodies_of_scans(nested: bool) -> None:
    g, plain = recurrent(0.5, nested), recurrent(0.0, nested)
    inferring = ge.for_inference(g)
    assert not inferring.states
    feeds = {"xs": f64(5, 3), "start": f64(3, seed=1)}
    found, expected = (ge.compile(graph).forward(feeds) for graph in (inferring, plain))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-13)


def test_a_long_chain_is_rewritten() -> None:
    g = ge.Graph()
    x = g.input("x", (2,))
    for n in range(5_000):
        x = ge.dropout(-x, 0.5, name=f"d{n}")
    g.output("y", x)
    assert len(ge.for_inference(g)) == 5_001


def normalized(channels: int = 3) -> tuple[Graph, Node, Node]:
    """A graph, its input, and what batch norms, a dropout and a product make of that."""
    g = ge.Graph(dtype="float64")
    x = g.input("x", ("batch", channels))
    h = ge.tanh(layers.batch_norm(x, name="first", epsilon=0.1))
    h = ge.dropout(layers.batch_norm(layers.dense(h, 2, name="dense"), name="second"), 0.5)
    return g, x, h


def gradients(x: Node, h: Node) -> list[Node]:
    g = x.graph
    return ge.grad(ge.sum(h * h), [x, *g.parameters, g["first.running_mean"], g["second.running_variance"]])


def second_derivatives(x: Node, h: Node) -> list[Node]:
    slope, moved = ge.grad(ge.sum(h * h), [x, x.graph["second.running_mean"]])
    return ge.grad(ge.sum(ge.square(slope)) + ge.sum(ge.sin(moved)), [x, *x.graph.parameters])


def products(x: Node, h: Node) -> list[Node]:
    ones = ge.broadcast_to(x.graph.constant(None, 1.0), x.shape)
    return [*ge.jvp([h], [x], [ones * 0.5]), *ge.hvp(ge.sum(h * h), [x], [ones])]


def fixed(x: Node, h: Node) -> list[Node]:
    """Jacobians and a Hessian by parameters, step by step, and gradients of examples row by row."""
    w, scale = x.graph["dense.weight"], x.graph["first.weight"]
    total = ge.sum(h, axis=0)
    jacobians = [ge.jacobian(total, w, mode=mode) for mode in ("forward", "reverse")]
    return [*jacobians, ge.hessian(ge.sum(h * h), scale), *ge.per_example_grad(ge.sum(h * h, axis=1), [w, scale])]


@pytest.mark.parametrize("unrolled", [256, 0])
@pytest.mark.parametrize("derive", [gradients, second_derivatives, products, fixed])
def test_derivatives_in_a_graph_become_those_of_what_is_inferred(
    derive: Callable[[Node, Node], list[Node]], unrolled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derivatives, "UNROLLED", unrolled)

    def outputs(before: bool) -> tuple[Graph, dict[str, np.ndarray]]:
        g, _, h = normalized()
        g.output("h", h)
        if not before:
            g = ge.for_inference(g)
        for place, node in enumerate(derive(g["x"], g.outputs["h"])):
            g.output(f"bar_{place}", node)
        return g, held(normalized()[0])

    feeds = {"x": f64(4, 3)}
    g, arrays = outputs(before=True)
    again = ge.Graph.from_json(g.to_json())
    rows = values(*outputs(before=False), feeds)
    for graph in (ge.for_inference(g), ge.for_inference(again)):
        found = values(graph, arrays, feeds)
        for name in rows:
            np.testing.assert_allclose(found[name], rows[name], rtol=1e-9, atol=1e-12, err_msg=name)
    trained = values(g, arrays, feeds)
    assert any(not np.allclose(trained[name], rows[name]) for name in rows)


def saliency() -> Graph:
    g, x, h = normalized()
    score = g.output("score", ge.sum(h * h))
    g.output("slope", ge.grad(score, [x])[0])
    return g


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_an_example_that_is_not_finite_leaves_the_slopes_of_the_others_alone(bad: float) -> None:
    g, feed = saliency(), f64(4, 3)
    spoilt = feed.copy()
    spoilt[1, 2] = bad
    for rewrites in ((), None):
        exe = ge.compile(g, rewrites=rewrites)
        expected, found = (exe.inference.forward({"x": rows})["slope"] for rows in (feed, spoilt))
        np.testing.assert_allclose(found[[0, 2, 3]], expected[[0, 2, 3]], rtol=1e-12)


def test_slopes_by_the_executable_of_a_trained_graph_and_of_its_collapsed_one_are_those_of_inference() -> None:
    g, feeds = saliency(), {"x": f64(4, 3)}
    arrays = held(g)
    inferring = ge.for_inference(g)
    right = ge.grad(inferring.outputs["score"], [inferring["x"]])[0]
    inferring.outputs["slope"] = right
    expected = values(inferring, arrays, feeds)["slope"]
    exe = ge.compile(g, loss="score", optimizer=ge.SGD(learning_rate=0.1))
    for name, array in arrays.items():
        (exe.parameters if name in exe.parameters else exe.state)[name] = array
    np.testing.assert_allclose(exe.inference.forward(feeds)["slope"], expected, rtol=1e-10)
    np.testing.assert_allclose(ge.predict(exe, feeds, batch_size=2, outputs=["slope"])["slope"], expected, rtol=1e-10)
    collapsed = ge.collapse(g, {**exe.parameters, **exe.state})
    np.testing.assert_allclose(ge.compile(collapsed).forward(feeds)["slope"], expected, rtol=1e-10)

"""Weights used in many places, weights left alone, sub-graphs as functions, and graphs imported into graphs."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import DTypeError, GraphError, NamingError, ShapeError
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase
from graphengine.ops.scan import scan
from tests.arrays import f64
from tests.transform.values import parameters, values


def encoder() -> Graph:
    """tanh(x @ w + b), with a state that counts its runs."""
    graph = ge.Graph("encoder", dtype="float64")
    x = graph.input("x", ("batch", 3))
    w, b = graph.parameter("w", (3, 2)), graph.parameter("b", (2,))
    runs = graph.state("runs", (), dtype="int64")
    graph.update(runs, runs + 1)
    graph.output("code", ge.reshape(ge.tanh(x @ w + b), ("batch", 2, 1)))
    return graph


def test_a_weight_used_in_many_places_gets_one_summed_gradient() -> None:
    graph = ge.Graph("shared", dtype="float64")
    x, w = graph.input("x", ("batch", 3)), graph.parameter("w", (3, 3))
    copies = [graph.parameter(f"copy_{i}", (3, 3)) for i in range(3)]

    def loss(first: Node, second: Node, third: Node) -> Node:
        return ge.sum(ge.tanh(ge.tanh(x @ first) @ second.T) * (x @ ge.square(third)))

    (shared,) = ge.grad(loss(w, w, w), [w])
    apart = ge.grad(loss(*copies), copies)
    value = f64(3, 3)
    same = {"w": value, **{node.name: value for node in copies}}
    found, *parts = values([shared, *apart], {"x": f64(5, 3)}, same)
    np.testing.assert_allclose(found, sum(parts), rtol=1e-12)
    ge.gradcheck(graph, loss(w, w, w), {"x": f64(5, 3)}, wrt=[w])


def test_a_tied_weight_takes_one_step() -> None:
    graph = ge.Graph("tied", dtype="float64")
    x, w = graph.input("x", ("batch", 4)), graph.parameter("w", (4, 2))
    graph.output("loss", ge.squared_error(x @ w @ w.T, x))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.05))
    feeds = {"x": f64(8, 4)}
    before = exe.parameters["w"]
    exe.forward(feeds)
    gradient = exe.backward()["w"]
    losses = [exe.step(feeds)]
    np.testing.assert_allclose(exe.parameters["w"], before - 0.05 * gradient, rtol=1e-12)
    losses += [exe.step(feeds) for _ in range(30)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "optimizer", [ge.SGD(learning_rate=0.1, momentum=0.9, weight_decay=0.1), ge.AdamW(learning_rate=0.1)]
)
def test_a_weight_that_is_not_trainable_is_left_alone(optimizer) -> None:
    graph = ge.Graph("frozen", dtype="float64")
    x = graph.input("x", ("batch", 3))
    frozen = graph.parameter("frozen", (3, 2), trainable=False)
    v = graph.parameter("v", (2,))
    graph.output("loss", ge.sum(ge.square(ge.tanh(x @ frozen) @ v - 1.0)))
    exe = ge.compile(graph, loss="loss", optimizer=optimizer)
    before = dict(exe.parameters)
    for _ in range(3):
        exe.step({"x": f64(5, 3)})
    np.testing.assert_array_equal(exe.parameters["frozen"], before["frozen"])
    assert (exe.parameters["v"] != before["v"]).all()
    assert not any(name.startswith("frozen.") for name in exe.state)
    exe.forward({"x": f64(5, 3)})
    assert set(exe.backward()) == {"v"}


def test_the_gradient_by_a_weight_that_is_not_trainable_is_there_for_the_asking() -> None:
    graph = ge.Graph("frozen", dtype="float64")
    frozen = graph.parameter("frozen", (3,), trainable=False)
    graph.output("loss", ge.sum(ge.sin(frozen)))
    exe = ge.compile(graph, loss="loss", wrt=["frozen"])
    exe.forward({})
    np.testing.assert_allclose(exe.backward()["frozen"], np.cos(exe.parameters["frozen"]))
    assert Graph.from_json(graph.to_json())["frozen"].op.trainable is False


def test_a_function_called_twice_makes_two_sets_of_nodes_over_one_weight() -> None:
    graph = ge.Graph("siamese", dtype="float64")
    left, right, w = graph.input("left", ("batch", 3)), graph.input("right", ("batch", 3)), graph.parameter("w", (3, 2))

    def code(x: Node) -> Node:
        return ge.tanh(x @ w)

    graph.output("distance", ge.sum(ge.square(code(left) - code(right))))
    feeds = {"left": f64(4, 3), "right": f64(4, 3, seed=1)}
    ge.gradcheck(graph, "distance", feeds, wrt=["w", "left", "right"])


def test_an_imported_graph_computes_what_it_computed() -> None:
    graph, other = ge.Graph("around", dtype="float64"), encoder()
    outputs = graph.import_graph(other, "left")
    assert [node.name for node in graph.inputs] == ["left.x"]
    assert [node.name for node in graph.parameters] == ["left.w", "left.b"]
    assert [node.name for node in graph.states] == ["left.runs"]
    held, feeds = parameters(other), {"x": f64(4, 3)}
    (expected,) = values([other.outputs["code"]], feeds, held)
    inside = {f"left.{name}": value for name, value in held.items()}
    (found,) = values([outputs["code"]], {"left.x": feeds["x"]}, inside)
    np.testing.assert_array_equal(found, expected)


def test_an_import_reads_the_nodes_that_it_is_given() -> None:
    graph, other = ge.Graph("around", dtype="float64"), encoder()
    x = graph.input("x", ("batch", 3))
    first = graph.import_graph(other, "first", {"x": ge.sin(x)})["code"]
    second = graph.import_graph(other, "second_", {"x": ge.concat([x, x], axis=0)})["code"]
    assert (first.shape, second.shape) == (("batch", 2, 1), ("2*batch", 2, 1))
    assert [node.name for node in graph.parameters] == ["first.w", "first.b", "second_w", "second_b"]
    held = parameters(graph)
    found = values([first, second], {"x": f64(4, 3)}, held)
    np.testing.assert_allclose(
        found[0][..., 0], np.tanh(np.sin(f64(4, 3)) @ held["first.w"] + held["first.b"]), rtol=1e-14
    )
    twice = np.concatenate([f64(4, 3)] * 2)
    np.testing.assert_allclose(found[1][..., 0], np.tanh(twice @ held["second_w"] + held["second_b"]), rtol=1e-14)


def test_a_parameter_given_to_an_import_is_shared() -> None:
    graph, other = ge.Graph("around", dtype="float64"), encoder()
    x = graph.input("x", ("batch", 3))
    first = graph.import_graph(other, "first", {"x": x})
    shared = {"x": x * 2.0, "w": graph["first.w"], "b": graph["first.b"]}
    second = graph.import_graph(other, "second", shared)
    assert [node.name for node in graph.parameters] == ["first.w", "first.b"]
    graph.output("loss", ge.sum(first["code"] * second["code"]))
    ge.gradcheck(graph, "loss", {"x": f64(4, 3)})


def test_updates_come_along() -> None:
    graph = ge.Graph("around", dtype="float64")
    x = graph.input("x", ("batch", 3))
    outputs = graph.import_graph(encoder(), "inside", {"x": x})
    graph.output("loss", ge.sum(ge.square(outputs["code"])))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.01))
    for _ in range(3):
        exe.step({"x": f64(4, 3)})
    assert exe.state["inside.runs"] == 3


def test_named_dims_become_those_of_the_nodes_given() -> None:
    other = ge.Graph("pairs", dtype="float64")
    a, b = other.input("a", ("n", "d")), other.input("b", ("n",))
    c = other.input("c", ("d", "n"))
    other.output("y", ge.reshape(a.T * b, ("d*n",)) + ge.reshape(c, ("d*n",)))
    graph = ge.Graph("around", dtype="float64")
    outputs = graph.import_graph(other, "pairs", {"a": graph.input("x", ("batch", 3))})
    assert [node.shape for node in graph.inputs] == [("batch", 3), ("batch",), (3, "batch")]
    assert outputs["y"].shape == ("3*batch",)


def test_a_scan_is_imported_with_its_body() -> None:
    other = ge.Graph("recurrent", dtype="float64")
    x, w = other.input("x", (4, "n", 2)), other.parameter("w", (2,))
    last, _ = scan(lambda h, row: (ge.tanh(h * w + row), None), ge.broadcast_to(w, ("n", 2)), x)
    other.output("last", last)
    graph = ge.Graph("around", dtype="float64")
    x = graph.input("x", (4, "batch", 2))
    last = graph.import_graph(other, "rnn", {"x": ge.concat([x, x * 0.5], axis=1)})["last"]
    assert last.shape == ("2*batch", 2)
    ge.gradcheck(graph, ge.sum(last * last), {"x": f64(4, 3, 2)}, wrt=["rnn.w", "x"])


def test_derivatives_are_imported_like_all_nodes() -> None:
    other = encoder()
    loss = ge.sum(ge.exp(other.outputs["code"]))
    bars = ge.grad(loss, [other["w"]])
    (tangent,) = ge.jvp([loss], [other["w"]], bars)
    other.output("tangent", tangent)
    graph = ge.Graph("around", dtype="float64")
    imported = graph.import_graph(other, "inside", {"x": graph.input("x", ("batch", 3))})["tangent"]
    held, feeds = parameters(other), {"x": f64(4, 3)}
    inside = {f"inside.{name}": value for name, value in held.items()}
    assert values([imported], feeds, inside) == values([tangent], feeds, held)


def test_names_made_from_kinds_make_way() -> None:
    graph, other = encoder(), ge.Graph("other", dtype="float64")
    x = other.input("z", ("batch", 3))
    other.output("y", ge.tanh(x @ other.parameter("v", (3, 3))))
    outputs = graph.import_graph(other, inputs={"z": graph["x"]})
    assert outputs["y"].name == "tanh_2"
    assert [node.name for node in graph.parameters] == ["w", "b", "v"]


def test_an_imported_graph_survives_its_document() -> None:
    graph = ge.Graph("around", dtype="float64")
    graph.output("code", graph.import_graph(encoder(), "inside", {"x": graph.input("x", ("n", 3))})["code"])
    assert Graph.from_json(graph.to_json()) == graph


def test_nodes_say_where_they_were_declared_first() -> None:
    graph = ge.Graph("around", dtype="float64")
    other = encoder()
    graph.import_graph(other, "inside")
    assert graph["inside.w"].where == other["w"].where


def test_dropout_in_two_imports_counts_its_steps_once() -> None:
    other = ge.Graph("noisy", dtype="float64")
    other.output("y", ge.dropout(other.input("x", ("batch", 3)), 0.5))
    graph = ge.Graph("around", dtype="float64")
    x = graph.input("x", ("batch", 3))
    for prefix in ("first", "second"):
        graph.output(prefix, graph.import_graph(other, prefix, {"x": x})["y"])
    assert [node.name for node in graph.states] == ["random.seed", "random.step"]
    ((_, after),) = graph.updates.items()
    assert after.phase is Phase.UPDATE
    assert after.of == "random.step"


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ({"z": "x"}, NamingError, "'encoder' has no input or parameter 'z'; there are x, w, b"),
        ({"runs": "x"}, NamingError, "'encoder' has no input or parameter 'runs'"),
        ({"x": "flat"}, ShapeError, r"'x' of 'encoder' is float64\[batch, 3\], and is given flat"),
        ({"x": "wide"}, ShapeError, r"'x' of 'encoder' is float64\[batch, 3\], and is given wide"),
        ({"x": "single"}, DTypeError, r"'x' of 'encoder' is float64\[batch, 3\], and is given single"),
        ({}, NamingError, "the name 'taken.w' is taken"),
    ],
)
def test_an_import_that_does_not_fit_leaves_the_graph_as_it_was(inputs, error, message) -> None:
    graph = ge.Graph("around", dtype="float64")
    graph.input("x", ("batch", 3)), graph.input("flat", (3,)), graph.input("wide", ("batch", 4))
    graph.input("single", ("batch", 3), dtype="float32"), graph.parameter("taken.w", (1,))
    before = graph.copy()
    with pytest.raises(error, match=message):
        graph.import_graph(encoder(), "taken", {name: graph[node] for name, node in inputs.items()})
    assert graph == before


def test_inputs_that_disagree_about_a_dim_are_refused() -> None:
    other = ge.Graph("pairs", dtype="float64")
    other.output("y", other.input("a", ("n", 2)) + other.input("b", ("n", 2)))
    graph = ge.Graph("around", dtype="float64")
    x, y = graph.input("x", ("batch", 2)), graph.input("y", (5, 2))
    with pytest.raises(ShapeError, match=r"is given y = .*, but 'a' says that its n is batch"):
        graph.import_graph(other, "p", {"a": x, "b": y})
    with pytest.raises(ShapeError, match="a dim of an input is an int or a name"):
        graph.import_graph(other, "p", {"a": ge.concat([x, x], axis=0)})
    with pytest.raises(GraphError, match="belongs to graph 'pairs'"):
        graph.import_graph(other, "p", {"a": other["a"]})
    assert len(graph) == 3


def test_a_graph_may_be_imported_into_itself() -> None:
    graph = encoder()
    code = graph.import_graph(graph, "again", {"x": graph["x"], "w": graph["w"]})["code"]
    assert [node.name for node in graph.parameters] == ["w", "b", "again.b"]
    assert code.name == "again.reshape_1"


@pytest.mark.parametrize("prefix", ["a b", "1x", "a..b", "a/b", "a\n", "a" * 300])
def test_a_prefix_that_makes_no_names_is_refused_and_nothing_is_imported(prefix: str) -> None:
    part = ge.Graph("part")
    part.output("y", ge.exp(part.input("x", (2,)), name="e"))
    graph = ge.Graph("whole")
    x = graph.input("x", (2,))
    with pytest.raises(NamingError):
        graph.import_graph(part, prefix, {"x": x})
    assert [node.name for node in graph.nodes] == ["x"]

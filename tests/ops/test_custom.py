"""A user's own rule: it takes the place of the derivative, everywhere that a derivative is taken."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import GraphError, SpecError
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.scan import scan
from tests.arrays import f64


@ge.custom_vjp
def logistic_loss(z: Node, y: Node) -> Node:
    """log(1 + exp(z)) - y z, whose slope in z has a closed form."""
    return ge.softplus(z) - y * z


@logistic_loss.defvjp
def _(_: Node, value_bar: Node, z: Node, y: Node) -> tuple[Node, Node]:
    return value_bar * (ge.sigmoid(z) - y), -(value_bar * z)


@ge.custom_vjp
def staircase(x: Node, steps: float = 1.0) -> Node:
    return ge.floor(x * steps) / steps


@staircase.defvjp
def straight_through(_: Node, y_bar: Node, __: Node, steps: float = 1.0) -> Node:
    return y_bar * steps


def network() -> Graph:
    graph = ge.Graph("own", dtype="float64")
    x, y = graph.input("x", ("batch", 3)), graph.input("y", ("batch",))
    z = ge.tanh(x @ graph.parameter("w", (3, 4))) @ graph.parameter("v", (4,))
    graph.output("loss", ge.mean(logistic_loss(z, y, name="own_loss")))
    return graph


FEEDS = {"x": f64(6, 3), "y": np.array([0.0, 1, 1, 0, 1, 0])}


def test_a_right_rule_passes_the_gradient_check() -> None:
    ge.gradcheck(network(), "loss", FEEDS, wrt=["w", "v", "x", "y"])


def test_a_wrong_rule_does_not() -> None:
    @ge.custom_vjp
    def doubled(x: Node) -> Node:
        return x * 2.0

    doubled.defvjp(lambda _, y_bar, __: y_bar * 3.0)
    graph = ge.Graph("wrong", dtype="float64")
    graph.output("loss", ge.sum(doubled(graph.parameter("w", (3,), init=ge.init.Ones()))))
    with pytest.raises(ge.GradientError, match=r"3\.0\)? by backpropagation"):
        ge.gradcheck(graph, "loss", {})


def test_the_rule_takes_the_place_of_the_derivative() -> None:
    graph = ge.Graph("steps", dtype="float64")
    w = graph.parameter("w", (4,), init=ge.init.Normal())
    graph.output("loss", ge.sum(staircase(w) * 2.0 + staircase(w, steps=5.0)))
    exe = ge.compile(graph, loss="loss")
    value = exe.parameters["w"]
    expected = np.sum(np.floor(value) * 2 + np.floor(value * 5) / 5)
    assert exe.forward({})["loss"] == pytest.approx(expected, rel=1e-14)
    np.testing.assert_array_equal(exe.backward()["w"], np.full(4, 7.0))


def test_the_rule_is_differentiated_for_second_derivatives_and_tangents() -> None:
    graph = network()
    loss, w = graph.outputs["loss"], graph["w"]
    (w_bar,) = ge.grad(loss, [w])
    (tangent,) = ge.jvp([loss], [w], [w])
    graph.output("both", ge.sum(w_bar * w_bar) + tangent)
    ge.gradcheck(graph, "both", FEEDS, wrt=["w", "v"], tolerance=1e-5)


def test_a_path_that_the_rule_closes_is_reported() -> None:
    @ge.custom_vjp
    def product(a: Node, b: Node) -> Node:
        return a * b

    product.defvjp(lambda _, y_bar, __, b: (y_bar * b, None))
    graph = ge.Graph("closed", dtype="float64")
    a, b = graph.parameter("a", (2,)), graph.parameter("b", (2,))
    graph.output("loss", ge.sum(product(a, b)))
    with pytest.warns(ge.UnreachedParameterWarning, match="no gradient reaches b"):
        exe = ge.compile(graph, loss="loss")
    assert set(exe.unreached) == {"b"}


def test_it_trains() -> None:
    exe = ge.compile(network(), loss="loss", optimizer=ge.Adam(learning_rate=0.1))
    losses = [exe.step(FEEDS) for _ in range(40)]
    assert losses[-1] < 0.6 * losses[0]
    assert exe.audit().ok


def test_it_takes_no_memory_and_no_time() -> None:
    program = ge.compile(network(), rewrites=()).plan("forward", batch=6)
    (step,) = [step for step in program.instructions if step.op.kind == "custom_vjp"]
    assert step.is_view
    assert (step.flops, step.bytes_moved) == (0, 0)


def test_a_copy_is_equal_and_has_the_rule() -> None:
    graph = network()
    twin = graph.copy()
    assert twin == graph
    ge.gradcheck(twin, "loss", FEEDS)


def test_an_imported_graph_has_the_rule() -> None:
    graph = ge.Graph("around", dtype="float64")
    x, y = graph.input("a", ("n", 3)), graph.input("b", ("n",))
    graph.output("loss", graph.import_graph(network(), "own", {"x": x, "y": y})["loss"])
    ge.gradcheck(graph, "loss", {"a": FEEDS["x"], "b": FEEDS["y"]})


def test_it_works_in_the_body_of_a_scan() -> None:
    graph = ge.Graph("loop", dtype="float64")
    x, w = graph.input("x", (5, 2)), graph.parameter("w", (2,), init=ge.init.Normal())

    def step(total: Node, row: Node) -> tuple[Node, None]:
        return total + ge.sum(logistic_loss(row * w, row)), None

    total, _ = scan(step, graph.constant("zero", 0.0), x)
    ge.gradcheck(graph, total, {"x": f64(5, 2)}, wrt=["w", "x"])


def test_no_document_holds_it() -> None:
    graph = network()
    with pytest.raises(SpecError, match=r"no document holds 'own_loss': custom_vjp is not a registered op.*is code"):
        graph.to_json()
    with pytest.raises(SpecError, match="save the graph without it"):
        graph.hash()


def test_a_document_that_names_it_is_refused() -> None:
    graph = ge.Graph("plain", dtype="float64")
    graph.output("y", ge.identity(graph.input("x", (2,))))
    with pytest.raises(SpecError, match='no op "custom_vjp"'):
        Graph.from_json(graph.to_json().replace('"identity"', '"custom_vjp"'))


def test_it_shows_as_a_line_that_names_its_rule() -> None:
    graph = ge.Graph("shown", dtype="float64")
    y = staircase(graph.input("x", (2,)), name="y")
    assert repr(y) == "y = custom_vjp(divide_1, x, rule='straight_through'): float64[2]"
    assert repr(staircase(y, steps=3.0, name="z")).startswith("z = custom_vjp(divide_2, y, rule='straight_through')")
    assert staircase.__name__ == "staircase"


def test_what_is_no_rule_is_refused() -> None:
    graph = ge.Graph("wrong", dtype="float64")
    x, w = graph.input("x", (3,)), graph.parameter("w", (3,))

    @ge.custom_vjp
    def bare(x: Node) -> Node:
        return x * 2.0

    with pytest.raises(GraphError, match=r"bare has no rule yet; give it one by bare\.defvjp"):
        bare(x)
    bare.defvjp(lambda _, y_bar, __: (y_bar, y_bar))
    with pytest.raises(GraphError, match="gives 2 adjoints, and there are 1 operands"):
        ge.grad(ge.sum(bare(x)), [x])
    bare.defvjp(lambda _, y_bar, __: ge.sum(y_bar))
    with pytest.raises(GraphError, match=r"the vjp of custom_vjp gives x, which is float64\[3\], .* float64\[\]"):
        ge.grad(ge.sum(bare(x)), [x])
    bare.defvjp(lambda _, y_bar, __: y_bar * w)
    graph.output("loss", ge.sum(bare(x)))
    with pytest.raises(GraphError, match=r"in the rule <lambda> of custom_vjp_3.*which may read what it is given"):
        ge.compile(graph, loss="loss", wrt=["x"])


def test_what_is_no_function_of_its_operands_is_refused() -> None:
    graph = ge.Graph("wrong", dtype="float64")
    x, w = graph.input("x", (3,)), graph.parameter("w", (3,))
    reads_more = ge.custom_vjp(lambda x: x * w)
    reads_more.defvjp(lambda _, y_bar, __: y_bar)
    before = len(graph)
    with pytest.raises(GraphError, match="reads 'w', to which its rule could give no adjoint; make it an operand"):
        reads_more(x)
    no_node = ge.custom_vjp(lambda _: None)
    no_node.defvjp(lambda _, y_bar, __: y_bar)
    with pytest.raises(GraphError, match="returns one node of the graph of its operands, not None"):
        no_node(x)
    assert len(graph) == before
    with pytest.raises(GraphError, match=r"takes nodes by place, and settings by name; 2\.0 is no node"):
        staircase(2.0)
    with pytest.raises(GraphError, match="needs at least one node"):
        staircase()

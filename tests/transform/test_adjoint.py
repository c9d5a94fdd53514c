"""Reverse mode: right against differences and closed forms, to any order, with one adjoint a node."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import DTypeError, GraphError, ShapeError
from graphengine.ir.node import Node, Phase
from graphengine.ir.pullback import active_nodes
from graphengine.transform.adjoint import differentiate
from tests.arrays import f64


def scalar(name: str = "x") -> tuple[ge.Graph, Node]:
    graph = ge.Graph("scalar", dtype="float64")
    return graph, graph.input(name, ())


def at(node: Node, **feeds: float) -> float:
    graph = node.graph.copy()
    graph.outputs = {"y": graph.nodes[node.index]}
    return float(ge.compile(graph).forward(feeds)["y"])


def mlp() -> tuple[ge.Graph, Node]:
    graph = ge.Graph("mlp", dtype="float64")
    x = graph.input("x", ("batch", 3))
    w, b = graph.parameter("w", (3, 4)), graph.parameter("b", (4,))
    v = graph.parameter("v", (4, 2))
    hidden = ge.exp((x @ w + b) * 0.3)
    loss = ge.sum((hidden @ v / 2.0 - (hidden @ v) * ge.sum(v, axis=0)) * 0.1, name="loss")
    graph.output("loss", loss)
    return graph, loss


def test_gradients_of_a_network_agree_with_differences() -> None:
    graph, _ = mlp()
    ge.gradcheck(graph, loss="loss", feeds={"x": f64(5, 3)}, wrt=["x", "w", "b", "v"])


def test_second_derivatives_of_a_network_agree_with_differences() -> None:
    graph, loss = mlp()
    bars = ge.grad(loss, [graph["w"], graph["b"], graph["x"]])
    second = ge.sum(bars[0] * bars[0]) + ge.sum(bars[1]) * ge.sum(bars[2] * bars[2])
    ge.gradcheck(graph, loss=second, feeds={"x": f64(5, 3)}, wrt=["x", "w", "b", "v"], tolerance=1e-5)


def powers(x: Node) -> tuple[Node, list[float]]:
    return x * x * x * x, [0.7**4, 4 * 0.7**3, 12 * 0.7**2, 24 * 0.7, 24.0, 0.0]


def exponential(x: Node) -> tuple[Node, list[float]]:
    return ge.exp(x * 2.0), [2**n * math.exp(1.4) for n in range(5)]


def sine(x: Node) -> tuple[Node, list[float]]:
    return ge.sin(x), [math.sin(0.7), math.cos(0.7), -math.sin(0.7), -math.cos(0.7), math.sin(0.7)]


def quotient(x: Node) -> tuple[Node, list[float]]:
    return 1.0 / x, [(-1) ** n * math.factorial(n) / 0.7 ** (n + 1) for n in range(5)]


def logarithm(x: Node) -> tuple[Node, list[float]]:
    return ge.log(x), [math.log(0.7), 1 / 0.7, -1 / 0.7**2, 2 / 0.7**3, -6 / 0.7**4]


@pytest.mark.parametrize("function", [powers, exponential, sine, quotient, logarithm])
def test_higher_derivatives_equal_their_closed_forms(function) -> None:
    _, x = scalar()
    node, expected = function(x)
    for order, value in enumerate(expected):
        assert at(node, x=0.7) == pytest.approx(value, rel=1e-12, abs=1e-12), f"derivative {order}"
        (node,) = ge.grad(node, [x])


def test_mixed_second_derivatives_commute() -> None:
    graph, x = scalar()
    y = graph.input("y", ())
    z = ge.exp(x * y) * x
    (dx,), (dy,) = ge.grad(z, [x]), ge.grad(z, [y])
    (dxdy,), (dydx,) = ge.grad(dx, [y]), ge.grad(dy, [x])
    expected = math.exp(0.6) * (2 * 0.3 + 0.3**2 * 2.0)
    assert at(dxdy, x=0.3, y=2.0) == pytest.approx(expected, rel=1e-12)
    assert at(dydx, x=0.3, y=2.0) == pytest.approx(expected, rel=1e-12)


def test_both_operands_that_are_one_node_count() -> None:
    _, x = scalar()
    (x_bar,) = ge.grad(x * x, [x])
    assert at(x_bar, x=3.0) == 6.0
    (x_bar,) = ge.grad(x - x, [x])
    assert at(x_bar, x=3.0) == 0.0


def test_a_shared_value_has_one_adjoint_whose_rule_is_applied_once() -> None:
    graph, x = scalar()
    shared = ge.exp(x)
    loss = ge.sin(shared) * ge.cos(shared) + shared
    derivative = differentiate(loss, [x], Phase.BACKWARD)
    assert shared in derivative.adjoints
    of_shared = [node for node in graph.nodes if node.phase is Phase.BACKWARD and node.of == shared.name]
    assert [node.op.kind for node in of_shared] == ["multiply"]  # exp's rule: shared_bar * shared, once


def test_only_nodes_between_leaf_and_loss_are_active() -> None:
    graph, x = scalar()
    y = graph.input("y", ())
    beside = ge.exp(y)
    inside = x * beside
    beyond = ge.sin(inside)
    assert list(active_nodes([inside], [x])) == [x, inside]
    assert set(differentiate(inside, [x]).adjoints) == {x, inside}
    assert beyond.name in graph


def test_work_beside_the_active_path_emits_nothing_that_runs() -> None:
    graph = ge.Graph("beside")
    x, w = graph.input("x", ("batch", 4)), graph.parameter("w", (4, 3))
    graph.output("loss", ge.sum(ge.exp(x) @ w))
    program = ge.compile(graph, loss="loss").plan("gradient", batch=2)
    backward = [step.op.kind for step in program.instructions if step.phase is Phase.BACKWARD]
    assert backward.count("matmul") == 1  # w_bar alone: x is not asked about


def test_derivatives_by_inner_nodes_and_by_inputs() -> None:
    _, x = scalar()
    inner = x * 3.0
    loss = inner * inner
    inner_bar, x_bar = ge.grad(loss, [inner, x])
    assert (at(inner_bar, x=2.0), at(x_bar, x=2.0)) == (12.0, 36.0)


def test_the_derivative_of_the_loss_by_itself_is_one() -> None:
    _, x = scalar()
    loss = x * x
    (bar,) = ge.grad(loss, [loss])
    assert at(bar, x=5.0) == 1.0


def test_what_the_loss_does_not_depend_on_has_zeros_for_a_gradient() -> None:
    graph, x = scalar()
    y = graph.input("y", ("batch", 2))
    later = ge.exp(x)
    y_bar, later_bar = ge.grad(x * x, [y, later])
    assert y_bar.type == y.type
    assert at(later_bar, x=1.0) == 0.0
    graph.output("y_bar", y_bar)
    np.testing.assert_array_equal(ge.compile(graph).forward({"y": np.ones((3, 2))})["y_bar"], np.zeros((3, 2)))


def test_grad_leaves_no_node_that_its_results_do_not_need() -> None:
    graph = ge.Graph("lean", dtype="float64")
    x, w = graph.input("x", ("batch", 4)), graph.parameter("w", (4, 3))
    loss = ge.sum(ge.exp(x @ w) @ graph.parameter("v", (3,)))
    before = len(graph)
    (w_bar,) = ge.grad(loss, [w])
    needed = {w_bar}
    for node in reversed(graph.nodes[before:]):
        assert node in needed, f"{node!r} serves nothing"
        needed.update(node.parents)
    assert [node.index for node in graph.nodes] == list(range(len(graph)))
    assert all(graph[node.name] is node for node in graph.nodes)


def test_grad_of_what_is_not_reached_leaves_only_its_zeros() -> None:
    graph, x = scalar()
    y = graph.input("y", (2,))
    loss = x * x
    before = len(graph)
    (y_bar,) = ge.grad(loss, [y])
    assert {node.op.kind for node in graph.nodes[before:]} == {"constant", "broadcast_to"}
    assert graph.nodes[-1] is y_bar


def test_grad_nodes_are_ordinary_nodes_declared_where_their_source_is() -> None:
    _, x = scalar()
    loss = ge.exp(x)
    (x_bar,) = ge.grad(loss, [x])
    assert x_bar.phase is Phase.FORWARD
    assert x_bar.where == loss.where


def test_a_node_of_another_graph_is_refused() -> None:
    _, x = scalar()
    _, stranger = scalar()
    with pytest.raises(GraphError, match="'x' belongs to graph 'scalar'"):
        ge.grad(x * x, [stranger])


def test_a_loss_is_one_float() -> None:
    graph = ge.Graph("losses")
    x, n = graph.input("x", (3,)), graph.input("n", (), dtype="int64")
    with pytest.raises(ShapeError, match="a loss is a scalar"):
        ge.grad(x * x, [x])
    with pytest.raises(DTypeError, match="a loss is a float"):
        ge.grad(n, [x])
    with pytest.raises(DTypeError, match="does not hold floats"):
        ge.grad(ge.sum(x), [n])


def test_a_tuple_is_no_loss_and_nothing_to_differentiate_by() -> None:
    graph = ge.Graph("tuples")
    x = graph.input("x", (4,))
    first, _ = ge.split(ge.exp(x), 2)
    (both,) = first.parents
    with pytest.raises(ShapeError, match=r"a loss is one value, and 'split_1' is several.*of its items: item_1"):
        ge.grad(both, [x])
    with pytest.raises(ShapeError, match="each of wrt is one value, and 'split_1' is several"):
        ge.grad(ge.sum(first), [both])


def test_a_failed_grad_leaves_the_graph_as_it_was() -> None:
    graph = ge.Graph("losses")
    x = graph.input("x", (3,))
    before = graph.copy()
    with pytest.raises(ShapeError):
        ge.grad(x, [x])
    assert graph == before


def test_a_rule_that_gives_a_wrong_type_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = ge.Graph("wrong", dtype="float64")
    x = graph.input("x", (3,))
    loss = ge.sum(ge.sin(x))
    monkeypatch.setattr(type(loss.parents[0].op), "vjp", lambda *nodes: (ge.sum(nodes[2]),))
    with pytest.raises(GraphError, match=r"the vjp of sin gives x, which is float64\[3\], .* float64\[\]"):
        ge.grad(loss, [x])


def ladder(rungs: int) -> tuple[ge.Graph, Node, Node]:
    graph = ge.Graph("ladder", dtype="float64")
    bottom = value = graph.parameter("v", (), init=ge.init.Constant(1e-3))
    for _ in range(rungs):
        value = value * value + value
    graph.output("loss", value)
    return graph, bottom, value


def test_a_ladder_differentiates_in_a_number_of_nodes_that_grows_with_its_rungs() -> None:
    sizes = []
    for rungs in (10, 20, 40):
        graph, bottom, top = ladder(rungs)
        before = len(graph)
        ge.grad(top, [bottom])
        sizes.append(len(graph) - before)
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])
    assert sizes[2] <= 5 * 40


def test_a_ladder_of_40_rungs_has_the_derivative_of_its_recurrence() -> None:
    graph, _, _ = ladder(40)
    exe = ge.compile(graph, loss="loss")
    value, slope = 1e-3, 1.0
    for _ in range(40):
        value, slope = value * value + value, (2 * value + 1) * slope
    assert float(exe.forward({})["loss"]) == pytest.approx(value, rel=1e-13)
    assert float(exe.backward()["v"]) == pytest.approx(slope, rel=1e-12)


def test_a_ladder_differentiates_twice_in_linear_size() -> None:
    graph, bottom, top = ladder(40)
    (first,) = ge.grad(top, [bottom])
    ge.grad(first, [bottom])
    assert len(graph) < 40 * 40


@pytest.fixture
def shallow_stack():
    """A recursion limit that no walk along a long chain survives."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    yield
    sys.setrecursionlimit(limit)


@pytest.mark.usefixtures("shallow_stack")
def test_a_chain_of_20_000_nodes_differentiates_without_recursion() -> None:
    graph = ge.Graph("chain", dtype="float64")
    x = value = graph.parameter("x", (), init=ge.init.Constant(0.5))
    for _ in range(10_000):
        value = -(value + 1e-4)
    (x_bar,) = ge.grad(value, [x])
    assert at(x_bar) == 1.0

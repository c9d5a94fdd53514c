"""Forward mode: it is the transpose of reverse mode, and costs a forward pass; nothing of its scaffolding remains."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import DTypeError, GraphError, ShapeError
from graphengine.ir.node import Node
from graphengine.ir.subgraph import needed_nodes
from graphengine.ops.scan import scan
from graphengine.transform import linear
from tests.arrays import f64
from tests.random_graphs import BATCH, SEEDS, evaluate, grow
from tests.transform.values import compiled, inner, mlp, normal_like, parameters, recurrent, values


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tangent_of_a_random_graph_is_its_gradient_times_the_direction(seed: int) -> None:
    sample = grow(seed)
    graph = sample.graph.copy()
    leaves = [graph[name] for name in sample.float_leaves]
    directions = [graph.input(f"{leaf.name}_dot", leaf.shape) for leaf in leaves]
    generator = np.random.default_rng(seed)
    drawn = {f"{name}_dot": generator.normal(size=sample.given[name].shape) for name in sample.float_leaves}
    loss = graph.outputs["loss"]
    bars = ge.grad(loss, leaves)
    (tangent,) = ge.jvp([loss], leaves, directions)
    with np.errstate(all="ignore"):
        found = evaluate(needed_nodes([tangent, *bars, *directions]), {**sample.given, **drawn}, {"batch": BATCH})
    terms = np.concatenate([np.ravel(found[bar.name] * found[v.name]) for bar, v in zip(bars, directions, strict=True)])
    assert found[tangent.name] == pytest.approx(terms.sum(), rel=1e-9, abs=1e-12 * np.abs(terms).sum())


@pytest.mark.parametrize("model", [mlp, recurrent])
def test_the_tangent_of_a_model_is_its_gradient_times_the_direction(model) -> None:
    graph, loss, feeds = model()
    directions = normal_like(graph.parameters)
    (tangent,) = ge.jvp([loss], graph.parameters, directions)
    product = inner(ge.grad(loss, graph.parameters), directions)
    found, expected = values([tangent, product], feeds, parameters(graph))
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_tangent_agrees_with_a_difference_along_the_direction() -> None:
    graph, _, feeds = mlp()
    w, direction = graph["w"], f64(4, 6, seed=7)
    hidden = graph["tanh_1"]
    (tangent,) = ge.jvp([hidden], [w], [graph.constant(None, direction)])
    held = parameters(graph)
    (found,) = values([tangent], feeds, held)
    step = 1e-6
    (ahead,) = values([hidden], feeds, {**held, "w": held["w"] + step * direction})
    (behind,) = values([hidden], feeds, {**held, "w": held["w"] - step * direction})
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("model", [mlp, recurrent])
def test_no_stand_in_for_an_adjoint_remains_in_the_graph(model, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_ins = []

    def recorded(node: Node) -> Node:
        stand_ins.append(placeholder(node))
        return stand_ins[-1]

    placeholder = linear.placeholder
    monkeypatch.setattr(linear, "placeholder", recorded)
    graph, loss, _ = model()
    start = len(graph)
    (tangent,) = ge.jvp([loss], graph.parameters, graph.parameters)
    assert stand_ins
    assert not set(stand_ins) & set(graph.nodes)
    assert set(graph.nodes[start:]) <= set(needed_nodes([tangent]))


@pytest.mark.parametrize("model", [mlp, recurrent])
def test_a_tangent_costs_about_one_more_forward_pass_for_each_operand_of_a_product(model) -> None:
    graph, loss, _ = model()
    forward = compiled([loss]).cost(batch=32).total_flops
    (tangent,) = ge.jvp([loss], graph.parameters, graph.parameters)
    assert compiled([tangent]).cost(batch=32).total_flops < 3.2 * forward


def test_what_no_path_leads_to_has_a_zero_tangent() -> None:
    graph = ge.Graph("apart", dtype="float64")
    x, y = graph.input("x", ("batch", 2)), graph.input("y", (3,))
    tangents = ge.jvp([ge.exp(y), x * 2.0, ge.sign(x), x], [x], [x])
    assert [tangent.type for tangent in tangents] == [y.type, x.type, x.type, x.type]
    found = values(tangents, {"x": f64(5, 2), "y": f64(3)})
    for tangent, expected in zip(found, [np.zeros(3), 2 * f64(5, 2), np.zeros((5, 2)), f64(5, 2)], strict=True):
        np.testing.assert_array_equal(tangent, expected)


def test_several_outputs_and_directions_are_one_pass() -> None:
    graph = ge.Graph("several", dtype="float64")
    x, y = graph.input("x", ()), graph.input("y", ())
    total, product = x + y, x * y
    by_sum, by_product, again = ge.jvp([total, product, total], [x, y, x], [y * 10.0, x * 1.0, y])
    found = values([by_sum, by_product, again], {"x": np.array(3.0), "y": np.array(5.0)})
    assert [float(value) for value in found] == [55 + 3, 5 * 55 + 3 * 3, 55 + 3]


def test_an_output_that_another_depends_on_has_its_own_tangent() -> None:
    graph = ge.Graph("chain", dtype="float64")
    x = graph.input("x", ())
    inside = ge.exp(x)
    inside_dot, outside_dot = ge.jvp([inside, inside * inside], [x], [x * 0.0 + 1.0])
    found = values([inside_dot, outside_dot], {"x": np.array(0.3)})
    np.testing.assert_allclose(found, [np.exp(0.3), 2 * np.exp(0.6)], rtol=1e-14)


def test_tangents_of_tangents_are_higher_derivatives() -> None:
    graph = ge.Graph("powers", dtype="float64")
    x = graph.input("x", ())
    one = graph.scalar(1.0, "float64")
    node, found = x * x * x * x, []
    for _ in range(4):
        (node,) = ge.jvp([node], [x], [one])
        found.append(node)
    np.testing.assert_allclose(values(found, {"x": np.array(0.7)}), [4 * 0.7**3, 12 * 0.7**2, 24 * 0.7, 24], rtol=1e-13)


@pytest.mark.parametrize("model", [mlp, recurrent])
def test_tangents_are_differentiated_like_any_node(model) -> None:
    graph, loss, feeds = model()
    directions = normal_like(graph.parameters)
    (tangent,) = ge.jvp([loss], graph.parameters, directions)
    ge.gradcheck(graph, tangent, feeds, wrt=graph.parameters, tolerance=1e-5)


def test_a_scan_in_a_scan_has_a_tangent() -> None:
    graph = ge.Graph("nested", dtype="float64")
    x, w = graph.input("x", (3, 4, 2)), graph.parameter("w", (2,))

    def outer(total: Node, rows: Node) -> tuple[Node, Node]:
        last, seen = scan(lambda c, row: (ge.tanh(c * w + row), c * row), total, rows)
        return last, ge.sum(seen)

    last, sums = scan(outer, ge.exp(w), x)
    loss = ge.sum(last * last) + ge.sum(ge.sin(sums))
    wrt = [w, x]
    directions = normal_like(wrt)
    (tangent,) = ge.jvp([loss], wrt, directions)
    product = inner(ge.grad(loss, wrt), directions)
    found, expected = values([tangent, product], {"x": f64(3, 4, 2)}, parameters(graph))
    assert found == pytest.approx(expected, rel=1e-12)


def test_a_tangent_may_be_taken_inside_the_body_of_a_scan() -> None:
    graph = ge.Graph("body", dtype="float64")
    x, w = graph.input("x", (4,)), graph.parameter("w", ())

    def step(total: Node, x_t: Node) -> tuple[Node, Node]:
        y = ge.exp(x_t * w)
        (y_dot,) = ge.jvp([y], [w], [x_t])
        return total + y_dot, y_dot

    total, _ = scan(step, ge.sum(x) * 0.0, x)
    data = f64(4)
    (found,) = values([total], {"x": data}, {"w": np.array(0.4)})
    assert found == pytest.approx(np.sum(data * data * np.exp(0.4 * data)), rel=1e-13)


def test_a_rule_that_is_not_linear_in_its_adjoint_is_found_out() -> None:
    @ge.custom_vjp
    def saturating(x: Node) -> Node:
        return x * 1.0

    saturating.defvjp(lambda _, y_bar, __: ge.tanh(y_bar))
    graph = ge.Graph("crooked", dtype="float64")
    x = graph.input("x", (3,))
    y = ge.sum(ge.exp(saturating(x * 2.0, name="bent")))
    before = len(graph)
    with pytest.raises(GraphError, match=r"no tangent passes bent = custom_vjp.*its vjp is not linear"):
        ge.jvp([y], [x], [x])
    assert len(graph) == before


def test_a_rule_in_a_loop_that_is_not_linear_is_found_out() -> None:
    saturating = ge.custom_vjp(lambda x: x * 1.0)
    saturating.defvjp(lambda _, y_bar, __: ge.tanh(y_bar))
    graph = ge.Graph("crooked", dtype="float64")
    x = graph.input("x", (3, 2))
    total, _ = scan(lambda c, row: (saturating(c * row), None), ge.sum(x, axis=0), x, name="loop")
    with pytest.raises(GraphError, match=r"no tangent passes loop = scan.*its vjp is not linear"):
        ge.jvp([ge.sum(total)], [x], [x])


def test_what_has_no_tangent_is_refused() -> None:
    graph, other = ge.Graph("one", dtype="float64"), ge.Graph("two", dtype="float64")
    x, k = graph.input("x", (3,)), graph.input("k", (3,), dtype="int64")
    with pytest.raises(DTypeError, match="no derivative of or by k = input"):
        ge.jvp([x], [k], [k])
    with pytest.raises(DTypeError, match="no derivative of or by k = input"):
        ge.jvp([k], [x], [x])
    with pytest.raises(GraphError, match="2 directions for the 1 nodes of wrt"):
        ge.jvp([x], [x], [x, x])
    with pytest.raises(ShapeError, match=r"the direction for x = input\(\): float64\[3\] is of another type"):
        ge.jvp([x], [x], [ge.sum(x)])
    with pytest.raises(GraphError, match="belongs to graph 'two'"):
        ge.jvp([x], [other.input("x", (3,))], [x])
    assert ge.jvp([], [], []) == []


def test_a_graph_with_tangents_survives_its_document() -> None:
    for model in (mlp, recurrent):
        graph, loss, _ = model()
        (tangent,) = ge.jvp([loss], graph.parameters, graph.parameters)
        graph.output("tangent", tangent)
        assert ge.Graph.from_json(graph.to_json()) == graph


def test_a_tangent_trains_like_any_other_output() -> None:
    graph, loss, feeds = mlp()
    (tangent,) = ge.jvp([loss], [graph["x"]], [graph["x"]])
    graph.output("penalized", loss + tangent * tangent)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exe = ge.compile(graph, loss="penalized", optimizer=ge.SGD(learning_rate=0.1))
    losses = [exe.step(feeds) for _ in range(20)]
    assert losses[-1] < losses[0]

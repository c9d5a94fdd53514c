"""Reverse mode over a graph: seeds in, adjoints out; each emitted once, and only where a path leads."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import GraphError
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase
from graphengine.ir.op import Op
from graphengine.ir.pullback import active_nodes, pullback
from graphengine.ir.types import TensorType
from tests.random_graphs import evaluate


def declared() -> tuple[Graph, Node, Node]:
    graph = ge.Graph("pulled", dtype="float64")
    return graph, graph.input("x", (2,)), graph.input("y", (2,))


def value(node: Node, **given: list[float]) -> Any:
    arrays = {name: np.array(numbers) for name, numbers in given.items()}
    return evaluate(node.graph.nodes, arrays, {})[node.name]


def test_the_adjoint_of_a_seeded_leaf_is_its_seed() -> None:
    _, x, y = declared()
    result = pullback({x: y}, [x], Phase.BACKWARD)
    assert result.adjoints == {x: y}


def test_seeds_of_several_nodes_add_up_where_their_paths_meet() -> None:
    graph, x, y = declared()
    a, b = x * 2.0, ge.square(x)
    bar = graph.input("bar", (2,))
    result = pullback({a: bar, b: y}, [x], Phase.BACKWARD)
    found = value(result.adjoints[x], x=[1, 2], y=[3, 4], bar=[5, 6])
    np.testing.assert_allclose(found, [2 * 5 + 2 * 1 * 3, 2 * 6 + 2 * 2 * 4])


def test_a_seed_inside_another_seeds_path_adds_to_what_comes_from_above() -> None:
    graph, x, y = declared()
    middle = x * 3.0
    end = ge.square(middle)
    bar = graph.input("bar", (2,))
    result = pullback({end: y, middle: bar}, [x], Phase.BACKWARD)
    found = value(result.adjoints[x], x=[1, 1], y=[1, 2], bar=[10, 20])
    np.testing.assert_allclose(found, [3 * (10 + 6 * 1), 3 * (20 + 6 * 2)])


def test_a_node_with_many_children_gets_one_adjoint_of_one_node() -> None:
    graph, x, _ = declared()
    v = x
    for _ in range(30):
        v = v * v + v
    before = len(graph)
    result = pullback({v: graph.input("bar", (2,))}, [x], Phase.BACKWARD)
    assert len(graph) - before < 30 * 8
    assert set(result.adjoints) == set(active_nodes([v], [x]))


def test_nodes_off_the_path_are_neither_visited_nor_given_adjoints() -> None:
    graph, x, y = declared()
    beside = ge.sin(y)
    end = ge.cos(x) * beside
    result = pullback({end: graph.input("bar", (2,))}, [x], Phase.BACKWARD)
    assert y not in result.adjoints
    assert beside not in result.visited
    assert list(result.adjoints)[:: len(result.adjoints) - 1] == [end, x]


def test_what_is_emitted_bears_the_phase_and_inherits_the_line() -> None:
    graph, x, y = declared()
    end = ge.sin(x)
    start = len(graph)
    pullback({end: y}, [x], Phase.BACKWARD)
    new = graph.nodes[start:]
    assert {node.phase for node in new} == {Phase.BACKWARD}
    assert {node.of for node in new} == {end.name}
    assert {node.where for node in new} == {end.where}


def test_without_seeds_there_is_nothing() -> None:
    _, x, _ = declared()
    result = pullback({}, [x], Phase.BACKWARD)
    assert not result.adjoints
    assert not result.visited


def test_a_rule_that_gives_none_is_noted_as_a_block() -> None:
    graph, x, _ = declared()
    end = ge.sign(x) * 2.0
    result = pullback({end: graph.input("bar", (2,))}, [x], Phase.BACKWARD)
    assert x not in result.adjoints
    assert result.blocked[x].op.kind == "sign"


def test_the_adjoints_of_items_reach_their_bundle_together() -> None:
    graph = ge.Graph("bundle", dtype="float64")
    x = graph.input("x", (6,))
    a, _, c = ge.split(x, 3)
    bars = graph.input("p", (2,)), graph.input("q", (2,))
    result = pullback({a: bars[0], c: bars[1]}, [x], Phase.BACKWARD)
    assert [node.op.kind for node in result.visited].count("split") == 1
    found = value(result.adjoints[x], x=[0] * 6, p=[1, 2], q=[3, 4])
    np.testing.assert_array_equal(found, [1, 2, 0, 0, 3, 4])


class Misshapen(Op):
    """An op whose rule gives its parent an adjoint of another type."""

    kind: Literal["misshapen_for_pullback"] = "misshapen_for_pullback"

    def infer(self, x: TensorType) -> TensorType:
        return x

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node]:
        return (ge.sum(y_bar),)


def test_a_rule_that_gives_an_adjoint_of_another_type_is_named() -> None:
    graph, x, y = declared()
    end = graph.add(Misshapen(), [x])
    message = r"the vjp of misshapen_for_pullback gives x, which is float64\[2\], an adjoint of type float64\[\]"
    with pytest.raises(GraphError, match=message):
        pullback({end: y}, [x], Phase.BACKWARD)


def test_active_nodes_are_floats_on_a_path_parents_first() -> None:
    _, x, y = declared()
    a = ge.sin(x)
    whole = ge.cast(ge.cast(a, "int64"), "float64")
    end = a * y + whole
    active = active_nodes([end], [x])
    assert list(active) == sorted(active, key=lambda node: node.index)
    assert {x, a, end} <= set(active)
    assert whole not in active
    assert y not in active
    assert not active_nodes([ge.cos(y)], [x])

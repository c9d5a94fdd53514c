"""Cutting a graph: what lies between, under the names it had, and what it computes."""

from __future__ import annotations

import numpy as np

import graphengine as ge
from graphengine.ir.subgraph import cut, evaluate, needed_nodes


def declared() -> ge.Graph:
    graph = ge.Graph("whole", dtype="float64")
    x, y = graph.input("x", (2,)), graph.input("y", (2,))
    a = ge.sin(x, name="a")
    b = ge.multiply(a, y, name="b")
    ge.add(b, a, name="c")
    ge.cos(y, name="unused")
    return graph


def test_needed_are_the_nodes_that_must_be_computed_parents_first() -> None:
    graph = declared()
    assert [node.name for node in needed_nodes([graph["c"]], [graph["a"]])] == ["y", "b", "c"]
    assert needed_nodes([graph["a"]], [graph["a"]]) == []


def test_a_cut_has_the_inputs_and_outputs_asked_for_and_nothing_unused() -> None:
    graph = declared()
    part = cut("part", [graph["a"], graph["y"]], {"result": graph["c"], "given": graph["a"]})
    assert [node.name for node in part.inputs] == ["a", "y"]
    assert {name: node.name for name, node in part.outputs.items()} == {"result": "c", "given": "a"}
    assert [node.name for node in part.nodes] == ["a", "y", "b", "c"]
    assert part["b"].where == graph["b"].where
    assert len(graph) == 6


def test_a_cut_computes_what_the_graph_does() -> None:
    graph = declared()
    part = cut("part", [graph["a"], graph["y"]], {"c": graph["c"]})
    a, y = np.array([1.0, 2.0]), np.array([3.0, 4.0])
    values = evaluate(part, np, [a, y])
    np.testing.assert_array_equal(values[part.outputs["c"]], a * y + a)

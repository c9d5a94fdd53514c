"""Graphs that compute some nodes more than once: the same values, from the latest copies of what they read."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase
from graphengine.transform.rematerialization import Repeated
from tests.random_graphs import evaluate


@pytest.fixture
def chain() -> tuple[Graph, list[Node]]:
    graph = ge.Graph("chain", dtype="float64")
    x = graph.input("x", (2, 3))
    first = ge.exp(x, name="first")
    second = ge.sin(first, name="second")
    with graph.emitting(Phase.BACKWARD, second):
        third = ge.multiply(second, first, name="third")
    graph.output("y", third)
    return graph, [first, second, third]


def listing(graph: Graph) -> list[str]:
    return [f"{node.name} = {node.op.kind}({', '.join(p.name for p in node.parents)})" for node in graph.nodes]


def test_an_order_without_repetition_copies_the_graph(chain: tuple[Graph, list[Node]]) -> None:
    graph, nodes = chain
    copy = Repeated(graph, nodes)
    assert copy.graph == graph
    assert copy.again == set()


def test_who_comes_after_a_repetition_reads_it(chain: tuple[Graph, list[Node]]) -> None:
    graph, (first, second, third) = chain
    copy = Repeated(graph, [first, second, first, third])
    assert listing(copy.graph)[1:] == [
        "first = exp(x)",
        "second = sin(first)",
        "first.again = exp(x)",
        "third = multiply(second, first.again)",
    ]
    assert copy.again == {"first.again"}


def test_a_value_may_be_computed_any_number_of_times(chain: tuple[Graph, list[Node]]) -> None:
    graph, (first, second, third) = chain
    copy = Repeated(graph, [first, second, first, second, first, third])
    assert listing(copy.graph)[3:] == [
        "first.again = exp(x)",
        "second.again = sin(first.again)",
        "first.again_2 = exp(x)",
        "third = multiply(second.again, first.again_2)",
    ]


def test_a_repetition_bears_the_phase_it_serves_and_tells_of_what_it_is(chain: tuple[Graph, list[Node]]) -> None:
    graph, (first, second, third) = chain
    in_forward = Repeated(graph, [first, second, first, third]).graph["first.again"]
    in_backward = Repeated(graph, [first, second, third, first, third]).graph["first.again"]
    assert (in_forward.phase, in_backward.phase) == (Phase.FORWARD, Phase.BACKWARD)
    assert in_backward.of == "first"
    assert in_backward.where == first.where


def test_names_that_are_taken_are_left_alone(chain: tuple[Graph, list[Node]]) -> None:
    graph, (first, second, third) = chain
    graph.output("z", ge.cos(second, name="first.again"))
    copy = Repeated(graph, [first, second, first, third, graph["first.again"]])
    assert copy.again == {"first.again_2"}


def test_views_are_made_anew_of_what_is_computed_again() -> None:
    graph = ge.Graph("views", dtype="float64")
    first = ge.exp(graph.input("x", (2, 3)), name="first")
    turned = ge.transpose(first, name="turned")
    flat = ge.expand_dims(turned, 0, name="flat")
    last = ge.sin(flat, name="last")
    graph.output("y", last)
    graph.output("turned", turned)
    copy = Repeated(graph, [first, last, first, last], views=[turned, flat])
    assert listing(copy.graph)[1:] == [
        "first = exp(x)",
        "turned = transpose(first)",
        "flat = expand_dims(turned)",
        "last = sin(flat)",
        "first.again = exp(x)",
        "turned.again = transpose(first.again)",
        "flat.again = expand_dims(turned.again)",
        "last.again = sin(flat.again)",
    ]
    assert copy.graph.outputs["turned"].name == "turned"


def test_a_view_first_made_of_what_is_computed_again_bears_its_phase(chain: tuple[Graph, list[Node]]) -> None:
    graph, (first, second, _) = chain
    view = ge.transpose(first, name="view")
    with graph.emitting(Phase.BACKWARD, second):
        last = ge.exp(view, name="last")
    graph.output("last", last)
    copy = Repeated(graph, [first, second, graph["third"], first, last], views=[view])
    assert copy.graph["view"].parents[0].name == "first.again"
    assert copy.graph["view"].phase is Phase.BACKWARD


def test_an_output_that_is_a_view_is_one_of_what_was_computed_first(chain: tuple[Graph, list[Node]]) -> None:
    graph, (first, second, third) = chain
    view = ge.transpose(first, name="view")
    with graph.emitting(Phase.BACKWARD, second):
        last = ge.exp(view, name="last")
    graph.output("view", view)
    copy = Repeated(graph, [first, second, third, first, last], views=[view]).graph
    assert copy["last"].parents[0].parents[0].name == "first.again"
    assert copy.outputs["view"].parents[0].name == "first"
    assert copy.outputs["view"].phase is Phase.FORWARD


def test_outputs_have_the_first_values_and_updates_the_latest() -> None:
    graph = ge.Graph("states", dtype="float64")
    s = graph.state("s", (2,))
    following = ge.exp(s, name="following")
    graph.update(s, following)
    graph.output("y", following)
    copy = Repeated(graph, [following, following]).graph
    assert {leaf.name: node.name for leaf, node in copy.updates.items()} == {"s": "following.again"}
    assert copy.outputs["y"].name == "following"


def test_values_are_the_same(chain: tuple[Graph, list[Node]]) -> None:
    graph, (first, second, third) = chain
    copy = Repeated(graph, [first, second, first, second, third]).graph
    given = {"x": np.linspace(0, 1, 6).reshape(2, 3)}
    expected = evaluate(graph.nodes, given, {})["third"]
    np.testing.assert_array_equal(evaluate(copy.nodes, given, {})["third"], expected)


def test_views_of_views_may_be_many() -> None:
    graph = ge.Graph("deep", dtype="float64")
    first = ge.exp(graph.input("x", (2, 3)))
    views = [first]
    for _ in range(3000):
        views.append(views[-1].T)
    last = ge.sin(views[-1])
    graph.output("y", last)
    copy = Repeated(graph, [first, last, first, last], views=views[1:])
    assert len(copy.again) == 3002

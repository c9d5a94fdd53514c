"""The order of a program: parents first, phases in turn, and each update as soon as it may go."""

from __future__ import annotations

from hypothesis import given, settings

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase
from graphengine.ir.subgraph import needed_nodes
from graphengine.schedule.memory import plan
from graphengine.schedule.order import schedule
from tests.schedule.replay import named
from tests.schedule.tangles import tangles


@settings(max_examples=100, deadline=None, derandomize=True)
@given(tangles())
def test_parents_precede_children_and_nothing_unneeded_is_computed(
    tangle: tuple[Graph, list[Node], dict[Node, Node]],
) -> None:
    _, results, updates = tangle
    order = schedule(needed_nodes([*results, *updates.values()]), updates)
    place = {node: index for index, node in enumerate(order)}
    assert len(place) == len(order)
    assert all(place[parent] < place[node] for node in order for parent in node.parents)
    assert set(order) == set(needed_nodes([*results, *updates.values()]))
    read = {parent for node in order for parent in node.parents} | set(results) | set(updates.values())
    assert set(order) == read


def test_forward_goes_before_backward() -> None:
    graph = ge.Graph("phases", dtype="float64")
    x = graph.state("x", ())
    with graph.emitting(Phase.BACKWARD, x):
        early = ge.exp(x)
    late = ge.sin(x)
    assert [node.name for node in schedule(needed_nodes([late, early]), {})] == ["x", late.name, early.name]


def deep(layers: int, width: int = 32) -> ge.Graph:
    graph = ge.Graph("deep")
    value = graph.input("x", ("batch", width))
    for i in range(layers):
        value = ge.exp(value @ graph.parameter(f"w{i}", (width, width)))
    graph.output("loss", ge.sum(value * value))
    return graph


def test_gradients_are_retired_one_by_one_in_a_step() -> None:
    layers, width = 24, 32
    graph = deep(layers, width)
    step = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1)).plan("step", batch=1)
    gradient = ge.compile(graph, loss="loss").plan("gradient", batch=1)
    all_gradients = layers * width * width * 4
    assert gradient.peak_bytes > all_gradients
    assert step.peak_bytes < all_gradients / 4


def test_weights_are_overwritten_where_they_stand() -> None:
    program = ge.compile(deep(6), loss="loss", optimizer=ge.SGD(learning_rate=0.1)).plan("step", batch=2)
    assert not any(step.op.kind == "copy" for step in program.instructions)
    updated = {step.out.leaf for step in program.instructions if step.out.leaf}
    assert updated == {f"w{i}" for i in range(6)}


def test_an_update_waits_for_the_last_reader_of_its_leaf() -> None:
    graph = ge.Graph("waits", dtype="float64")
    count = graph.state("count", ())
    with graph.emitting(Phase.UPDATE, count):
        following = count + 1.0
    graph.update(count, following)
    last = ge.exp(ge.exp(count)) * count
    order = schedule(needed_nodes([last, following]), graph.updates)
    assert order.index(following) > order.index(last)
    program = plan("step", named([last]), graph.updates, {})
    assert program.instructions[-1].out.leaf == "count"

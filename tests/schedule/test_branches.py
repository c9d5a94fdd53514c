"""Branches are finished one by one where that takes less memory, however the graph was declared."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase
from graphengine.ir.subgraph import needed_nodes
from graphengine.schedule.arena import fullest
from graphengine.schedule.branches import _depth_first, _lifetimes, by_branch
from graphengine.schedule.memory import _Planner
from graphengine.schedule.order import schedule
from tests.schedule.replay import named, prove
from tests.schedule.tangles import tangles

SIDE = 64
BIG = 4 * SIDE * SIDE


def fan(branches: int) -> Graph:
    """Many large values, all declared before the first of them is reduced to a number."""
    graph = ge.Graph("fan")
    x = graph.input("x", (SIDE, SIDE))
    large = [x @ graph.parameter(f"w{i}", (SIDE, SIDE)) for i in range(branches)]
    sums = [ge.sum(ge.exp(value)) for value in large]
    total = sums[0]
    for other in sums[1:]:
        total = total + other
    graph.output("total", total)
    return graph


@pytest.mark.parametrize("branches", [4, 32])
def test_branches_declared_level_by_level_take_the_bytes_of_one(branches: int) -> None:
    program = ge.compile(fan(branches), rewrites=()).plan()
    assert program.peak_bytes <= BIG + 64 * (branches + 2) + BIG // 16  # and what one sum needs


def test_in_the_order_of_declaration_they_would_take_that_of_all() -> None:
    graph = fan(8)
    order = by_branch(graph.nodes, bytes_of(graph.nodes))
    assert most_alive([node for node in graph.nodes if not node.is_leaf]) >= 8 * BIG
    assert order is not None
    assert most_alive([node for node in order if not node.is_leaf]) <= 2 * BIG + 4 * 16


def bytes_of(nodes: list[Node]) -> dict[Node, int]:
    return {node: node.type.nbytes for node in nodes if not node.op.is_view}


def most_alive(order: list[Node], held: tuple[Node, ...] = ()) -> int:
    return fullest(_lifetimes(order, bytes_of(order), held))[0]


def test_the_hungrier_operand_goes_first() -> None:
    graph = ge.Graph("hungry")
    x = graph.input("x", (SIDE,))
    modest = ge.exp(x, name="modest")
    wide = ge.broadcast_to(ge.reshape(ge.sin(x, name="sine"), (SIDE, 1)), (SIDE, SIDE))
    hungry = ge.sum(ge.exp(wide, name="wide"), axis=0, name="hungry")
    last = ge.add(modest, hungry, name="last")
    nodes = [node for node in graph.nodes if not node.is_leaf]
    order = [node.name for node in _depth_first(nodes, bytes_of(graph.nodes)) if not node.op.is_view]
    assert order == ["sine", "wide", "hungry", "modest", "last"]
    assert last.name == order[-1]


def test_a_declared_order_that_takes_no_more_stands() -> None:
    graph = ge.zoo.digits_network().bind({"batch": 8})
    assert by_branch(graph.nodes, bytes_of(graph.nodes)) is None


def test_what_is_held_counts_to_the_end() -> None:
    graph = ge.Graph("held")
    x = graph.input("x", (SIDE, SIDE))
    first = ge.exp(x)
    second = ge.sum(first)
    third = ge.exp(x)
    nodes = [first, second, third]
    assert most_alive(nodes) == BIG + 4
    assert most_alive(nodes, held=(first,)) == 2 * BIG


def test_a_value_lives_as_long_as_its_views() -> None:
    graph = ge.Graph("seen")
    x = graph.input("x", (SIDE, SIDE))
    first = ge.exp(x)
    view = first.T
    other = ge.exp(x)
    last = ge.sum(view)
    assert most_alive([first, view, other, last]) == 2 * BIG


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tangles())
def test_branch_by_branch_everything_is_computed_once_after_its_parents(
    tangle: tuple[Graph, list[Node], dict[Node, Node]],
) -> None:
    _, results, updates = tangle
    nodes = needed_nodes([*results, *updates.values()])
    computed = [node for node in nodes if not node.is_leaf]
    for phase in (Phase.FORWARD, Phase.BACKWARD):
        given = [node for node in computed if node.phase is phase]
        found = _depth_first(given, bytes_of(nodes))
        assert sorted(found, key=lambda node: node.index) == given
        place = {node: number for number, node in enumerate(found)}
        assert all(place.get(parent, -1) < place[node] for node in found for parent in node.parents)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tangles())
def test_programs_in_the_order_of_branches_find_their_operands(
    tangle: tuple[Graph, list[Node], dict[Node, Node]],
) -> None:
    graph, results, updates = tangle
    nodes = needed_nodes([*results, *updates.values()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graphengine.schedule.branches._WORTH_IT", float("inf"))
        nodes = by_branch(nodes, bytes_of(nodes)) or nodes
    program = _Planner(schedule(nodes, updates), named(results), updates, {}, ()).program("tangle")
    prove(program, graph, results, updates)


def test_phases_stay_seams() -> None:
    graph = fan(4)
    exe = ge.compile(graph, loss="total", optimizer=ge.SGD(learning_rate=0.1))
    phases = [step.phase for step in exe.plan("gradient").instructions]
    assert phases == sorted(phases)


def test_long_chains_and_wide_sums_are_ordered_without_recursion() -> None:
    graph = ge.Graph("long", dtype="float64")
    x = graph.input("x", ())
    value = x
    for _ in range(20_000):
        value = ge.exp(value)
    total = ge.concat([ge.reshape(value * float(i), (1,)) for i in range(5_000)], axis=0)
    nodes = needed_nodes([total])
    computed = [node for node in nodes if not node.is_leaf]
    assert len(_depth_first(computed, bytes_of(nodes))) == len(computed)

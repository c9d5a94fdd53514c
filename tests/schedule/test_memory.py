"""The memory plan: no value is lost before its last reader, and memory is shared where it can be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

import graphengine as ge
from graphengine.backends.numpy import NumpyBackend
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.subgraph import needed_nodes
from graphengine.schedule.memory import plan
from graphengine.schedule.program import Buffer, Program
from graphengine.transform.adjoint import differentiate
from tests.random_graphs import evaluate
from tests.schedule.replay import Replay, named, prove
from tests.schedule.tangles import SIDE, tangles


def first_values(graph: Graph) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    values = {node.name: generator.uniform(-1, 1, node.type.static_shape) for node in (*graph.inputs, *graph.states)}
    return values | {node.name: node.op.value for node in graph.nodes if node.op.kind == "constant"}


def agrees_with_naive_evaluation(
    graph: Graph, program: Program, results: list[Node], updates: dict[Node, Node]
) -> None:
    held = first_values(graph)
    expected = evaluate(needed_nodes([*results, *updates.values()]), held, {})
    leaves = {name: array.copy() for name, array in held.items()}
    loaded = NumpyBackend().load(program, leaves)
    loaded.run(0, len(program.instructions))
    for node in results:
        np.testing.assert_allclose(loaded.results[node.name], expected[node.name], rtol=1e-12, atol=1e-12)
    next_values = {target.name: expected[node.name] for target, node in updates.items()}
    for name, array in leaves.items():
        np.testing.assert_allclose(array, next_values.get(name, held[name]), rtol=1e-12, atol=1e-12)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(tangles())
def test_every_instruction_finds_its_operands_and_every_leaf_ends_with_its_next_value(
    tangle: tuple[Graph, list[Node], dict[Node, Node]],
) -> None:
    graph, results, updates = tangle
    program = plan("tangle", named(results), updates, {})
    prove(program, graph, results, updates)
    agrees_with_naive_evaluation(graph, program, results, updates)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(tangles())
def test_gradient_programs_keep_every_residual_to_its_last_reader(
    tangle: tuple[Graph, list[Node], dict[Node, Node]],
) -> None:
    graph, results, updates = tangle
    loss = ge.sum((results or graph.nodes[-1:])[0])
    leaves = [*graph.inputs, *graph.states]
    derivative = differentiate(loss, leaves)
    gradients = [derivative.of(leaf) for leaf in leaves]
    asked = [loss, *gradients]
    program = plan("gradient", named(asked), {}, {})
    prove(program, graph, asked, {})
    agrees_with_naive_evaluation(graph, program, asked, {})
    updates = {**updates, leaves[-1]: gradients[-1]}
    program = plan("step", named([loss]), updates, {})
    prove(program, graph, [loss], updates)


def trading() -> tuple[Graph, list[Node]]:
    graph = ge.Graph("trading", dtype="float64")
    return graph, [graph.state(name, (SIDE, SIDE)) for name in ("a", "b", "c")]


def check(graph: Graph, results: list[Node], updates: dict[Node, Node]) -> Program:
    program = plan("step", named(results), updates, {})
    prove(program, graph, results, updates)
    agrees_with_naive_evaluation(graph, program, results, updates)
    return program


def test_two_states_swap() -> None:
    graph, (a, b, _) = trading()
    check(graph, [], {a: b, b: a})


def test_three_states_go_round() -> None:
    graph, (a, b, c) = trading()
    check(graph, [], {a: b, b: c, c: a})


def test_states_swap_through_views() -> None:
    graph, (a, b, _) = trading()
    check(graph, [], {a: b.T, b: a.T})


def test_a_state_takes_its_own_transpose() -> None:
    graph, (a, _, _) = trading()
    check(graph, [a], {a: a.T})


def test_one_value_is_the_next_of_two_states() -> None:
    graph, (a, b, c) = trading()
    value = a + b
    check(graph, [value], {a: value, b: value, c: value.T})


def test_a_state_keeps_its_last_value_beside_its_next() -> None:
    graph, (a, b, _) = trading()
    check(graph, [a], {a: a * 2.0, b: a})


def test_a_state_takes_what_is_fed() -> None:
    graph, (a, b, _) = trading()
    x = graph.input("x", (SIDE, SIDE))
    check(graph, [x], {a: x, b: x.T})


def test_momentum_and_weights_are_written_where_they_stand() -> None:
    graph, (w, m, g) = trading()
    m_next = m * 0.9 + g
    program = check(graph, [], {m: m_next, w: w - m_next * 0.1})
    assert not any(step.op.kind == "copy" for step in program.instructions)
    assert program.peak_bytes == 128  # 72 bytes of floats, rounded up to cache lines


def test_a_leaf_is_not_overwritten_through_an_operand_seen_as_a_view() -> None:
    graph, (a, _, _) = trading()
    program = check(graph, [], {a: a + a.T})
    assert program.instructions[-1].op.kind == "copy"


def test_a_matrix_product_is_not_written_over_its_own_operand() -> None:
    graph, (a, b, _) = trading()
    check(graph, [], {a: a @ b, b: b @ a})


def test_a_chain_of_elementwise_ops_runs_in_one_slot() -> None:
    graph, (a, _, _) = trading()
    value = a
    for _ in range(10):
        value = ge.exp(-value)
    program = check(graph, [value], {})
    assert program.peak_bytes == 128
    assert sum(step.in_place for step in program.instructions) == 19


def test_a_view_takes_no_memory_and_keeps_what_it_shows_alive() -> None:
    graph, (a, b, _) = trading()
    value = a + b
    view = value.T
    others = -(a * b)
    program = check(graph, [view + others], {})
    assert next(step for step in program.instructions if step.name == view.name).is_view


def test_reshaping_a_transposed_value_copies_it() -> None:
    graph, (a, _, _) = trading()
    flat = ge.reshape(a.T, (SIDE * SIDE,))
    program = check(graph, [flat], {})
    assert not next(step for step in program.instructions if step.name == flat.name).is_view


def test_a_chain_of_views_costs_no_more_for_being_long() -> None:
    graph, (a, _, _) = trading()
    value = a
    for _ in range(3000):
        value = value.T
    program = check(graph, [value + a], {})
    assert program.peak_bytes == 128


def test_the_replay_notices_a_slot_reused_too_early() -> None:
    graph, (a, b, _) = trading()
    first, second = a + b, a * b
    total = first @ second
    program = plan("sabotaged", named([total]), {}, {})
    slots = {step.name: step.out for step in program.instructions}
    slots[second.name].slot = slots[first.name].slot
    with pytest.raises(AssertionError, match="reads"):
        Replay(program, graph).run()


def test_the_replay_notices_a_view_of_memory_that_was_written_since() -> None:
    graph, (a, b, _) = trading()
    first = a + b
    view = first.T
    second = a * b
    total = view @ second
    program = plan("sabotaged", named([total]), {}, {})
    slots = {step.name: step.out for step in program.instructions}
    slots[second.name].slot = slots[first.name].slot
    with pytest.raises(AssertionError, match="view"):
        Replay(program, graph).run()


@pytest.mark.parametrize("side", [0, 1, 8, 100])
def test_an_arena_starts_at_a_cache_line_and_is_as_large_as_planned(side: int) -> None:
    graph = ge.Graph("aligned", dtype="float64")
    graph.output("y", ge.exp(graph.input("x", (side, side))))
    program = plan("forward", graph.outputs, {}, {})
    arena = NumpyBackend().load(program, {"x": np.zeros((side, side))}).arena
    assert arena.nbytes == program.peak_bytes == -(-8 * side * side // 64) * 64
    assert not side or arena.ctypes.data % 64 == 0


def test_arrays_of_no_elements_are_planned() -> None:
    graph = ge.Graph("empty", dtype="float64")
    a = graph.state("a", (0, 3))
    check(graph, [ge.exp(a), ge.sum(a, axis=0)], {a: -a})


def test_scratch_memory_is_checked_by_the_replay() -> None:
    graph, (a, b, _) = trading()
    total = a @ b
    program = plan("sabotaged", named([total]), {}, {})
    (step,) = program.instructions
    clash = replace(step, scratch=(_like(step.out),))
    sabotaged = Program("sabotaged", (clash,), program.slots, 0, program.leaves, program.results, ())
    with pytest.raises(AssertionError, match="work memory"):
        Replay(sabotaged, graph).run()


def _like(buffer: Buffer) -> Buffer:
    return Buffer("scratch", buffer.type, slot=buffer.slot)


def test_a_listing_shows_each_instruction_with_its_slot_and_bytes() -> None:
    graph = ge.Graph("listed")
    x = graph.input("x", ("n",))
    graph.output("y", ge.exp(x) * graph.parameter("w", ()))
    graph.output("third", x[3])
    listing = str(ge.compile(graph, rewrites=[]).plan(n=5)).splitlines()
    assert [" ".join(line.split()) for line in listing] == [
        "program forward (n=5): 3 instructions, 64 bytes",
        "phase instruction type slot bytes",
        "FORWARD exp_1 = exp(x) float32[5] %0 20",
        "FORWARD multiply_1 = multiply(exp_1, w) float32[5] %0 in place 20",
        "FORWARD slice_1 = slice(x) float32[] view of @x 0",
    ]


def test_sizes_that_contradict_what_was_declared_are_refused_with_the_node() -> None:
    graph = ge.Graph("third")
    x = graph.input("x", ("n",))
    graph.output("third", x[3])
    with pytest.raises(ge.FeedError, match="with n = 2: index 3 is out of range for size 2") as caught:
        ge.compile(graph).forward({"x": np.zeros(2, np.float32)})
    assert caught.value.context[0] == "node  slice_1 = slice(x, key='3')"

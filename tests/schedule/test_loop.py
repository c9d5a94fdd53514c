"""The memory of a scan: the second opinion follows it through the steps, and notices what is misplaced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.node import Node
from graphengine.schedule.audit import audit
from graphengine.schedule.program import Instruction, Program, Rows
from tests.arrays import f64
from tests.schedule.replay import prove, prove_plan


def trained(reverse: bool = False) -> ge.Executable:
    """Scans inside and after each other, with a carry that is kept and one that is written over."""
    graph = ge.Graph("trained", dtype="float64")
    x, h = graph.input("x", ("time", 2, 3)), graph.input("h", (2, 3))
    w = graph.parameter("w", (3, 3))

    def inner(c: Node, row: Node) -> Any:
        return ge.tanh(c @ w + row), ge.sin(c)

    def outer(carry: Any, x: Node) -> Any:
        h, total = carry
        last, y = ge.scan(inner, h[0], x)
        return (ge.tanh(h + y), total + ge.sum(last)), last

    (h, total), y = ge.scan(outer, (h, graph.scalar(0.0, "float64")), x, reverse=reverse)
    graph.output("loss", ge.sum(h) + total + ge.sum(y * y))
    return ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1, momentum=0.5), wrt=["w", "x", "h"])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("which", ["forward", "gradient", "step"])
def test_every_step_of_a_scan_finds_its_operands(which: Any, reverse: bool) -> None:
    prove_plan(trained(reverse), which, time=4)


def sabotaged(**changes: Any) -> tuple[Program, ge.Graph]:
    """A gradient program whose first scan is run in another way than it was planned."""
    exe = trained()
    program = exe.plan("gradient", time=4)
    step = next(step for step in program.instructions if step.loop)
    return replace(program, instructions=replaced(program, step, **changes)), exe.graph


def replaced(program: Program, step: Instruction, **changes: Any) -> tuple[Instruction, ...]:
    loop = replace(step.loop, **{key: change(step.loop) for key, change in changes.items()})
    return tuple(replace(step, loop=loop) if other is step else other for other in program.instructions)


def test_the_replay_notices_a_carry_written_where_it_is_read() -> None:
    def same_row(loop: Any) -> dict[str, Rows]:
        return {name: replace(rows, shift=0) for name, rows in loop.rows.items()}

    program, graph = sabotaged(rows=same_row)
    with pytest.raises(AssertionError):
        prove(program, graph, [], {})


def test_the_replay_notices_a_step_beyond_its_stack() -> None:
    program, graph = sabotaged(order=lambda loop: range(len(loop.order) + 1))
    with pytest.raises(AssertionError):
        prove(program, graph, [], {})


def test_the_replay_notices_a_slot_of_the_body_reused_too_early() -> None:
    exe = trained()
    program = exe.plan("gradient", time=4)
    loop = [step.loop for step in program.instructions if step.loop][-1]
    outs = [step.out for step in loop.body.instructions if step.out.slot is not None]
    for out in outs:
        out.slot = outs[0].slot
    with pytest.raises(AssertionError):
        prove(program, exe.graph, [], {})


def test_the_audit_looks_into_bodies() -> None:
    exe = trained()
    program = exe.plan("gradient", time=4)
    assert exe.audit().ok
    step = next(step for step in program.instructions if step.loop)
    twice = replace(step.loop.body, instructions=(*step.loop.body.instructions, step.loop.body.instructions[-1]))
    program = replace(program, instructions=replaced(program, step, body=lambda _: twice))
    (fault,) = audit(program, None).faults
    assert fault.startswith(f"at a step of {step.name}, ")
    assert fault.endswith("is computed 2 times")


def test_the_audit_counts_a_scan_as_one_node() -> None:
    graph = ge.Graph("counted", dtype="float64")
    h, w = graph.parameter("h", ()), graph.parameter("w", ())
    last, y = ge.scan(lambda h, _: (h * w, h), h, length=3)
    graph.output("loss", last + ge.sum(y))
    found = ge.compile(graph, loss="loss", wrt=["h", "w"]).audit()
    assert found.ok
    # last, y, their sum, that of y, and the leaves; each of the leaves has two paths, by way of last and of y
    assert (found.adjoints, found.paths) == (6, 4)


def test_scans_that_follow_each_other_share_memory() -> None:
    def peak(count: int) -> int:
        graph = ge.Graph("chain")
        h = graph.input("h", (64, 64))
        for _ in range(count):
            _, y = ge.scan(lambda c, row: (c, ge.sin(row)), h[0], h)
            h = y
        graph.output("h", h)
        return ge.compile(graph).cost().peak_bytes

    assert peak(2) == peak(20)


def test_constants_of_bodies_count_as_leaves() -> None:
    def leaf_bytes(factor: bool) -> int:
        graph = ge.Graph("constants", dtype="float64")
        h, _ = ge.scan(lambda h, _: (h * 2.5 if factor else h * h, None), graph.input("h", ()), length=3)
        graph.output("h", h)
        return ge.compile(graph).cost().leaf_bytes

    assert leaf_bytes(factor=True) == leaf_bytes(factor=False) + 8


def test_a_steady_step_of_a_scan_allocates_next_to_nothing() -> None:
    import tracemalloc

    exe = trained()
    feeds = {"x": f64(4, 2, 3), "h": f64(2, 3)}
    for _ in range(3):
        exe.step(feeds)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    exe.step(feeds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 4096


def test_steps_are_replayed_bit_by_bit() -> None:
    feeds = {"x": f64(4, 2, 3), "h": f64(2, 3)}
    first, second = trained(), trained()
    for _ in range(3):
        assert first.step(feeds) == second.step(feeds)
    np.testing.assert_array_equal(first.parameters["w"], second.parameters["w"])

"""The audit: each value and each adjoint exactly once, and the audit can tell."""

from __future__ import annotations

from dataclasses import replace

import graphengine as ge
from graphengine.schedule.audit import audit
from graphengine.schedule.memory import plan
from graphengine.transform.adjoint import differentiate
from tests.schedule.replay import named


def ladder(rungs: int) -> ge.Graph:
    graph = ge.Graph("ladder", dtype="float64")
    value = graph.parameter("v", (), init=ge.init.Constant(1e-3))
    for _ in range(rungs):
        value = value * value + value
    graph.output("loss", value)
    return graph


def test_a_ladder_of_40_rungs_has_2_to_the_40_paths_and_120_instructions_or_so() -> None:
    graph = ladder(40)
    exe = ge.compile(graph, loss="loss")
    found = exe.audit()
    assert found.ok
    assert found.paths == 2**40
    assert found.values == 80
    assert found.adjoints == 81
    assert len(exe.program.instructions) < 6 * 80


def test_an_audit_says_in_words_what_it_found() -> None:
    text = str(ge.compile(ladder(3), loss="loss").audit())
    assert "6 values and 7 adjoints" in text
    assert "8 paths" in text
    assert "exactly once" in text


def test_a_forward_only_program_is_audited_too() -> None:
    found = ge.compile(ladder(2)).audit()
    assert (found.ok, found.adjoints, found.paths) == (True, 0, 0)


def test_an_instruction_that_runs_twice_is_found() -> None:
    graph = ladder(2)
    loss = graph.outputs["loss"]
    program = plan("gradient", named([loss]), {}, {})
    twice = replace(program, instructions=(*program.instructions, program.instructions[-1]))
    found = audit(twice, differentiate(loss, graph.parameters))
    assert not found.ok
    assert found.faults == (f"{loss.name} is computed 2 times",)


def test_an_operand_read_before_it_is_computed_is_found() -> None:
    graph = ladder(1)
    program = plan("forward", graph.outputs, {}, {})
    backwards = replace(program, instructions=program.instructions[::-1])
    assert audit(backwards, None).faults == ("add_1 reads multiply_1 before it is computed",)


def test_a_result_that_is_never_computed_is_found() -> None:
    graph = ladder(1)
    program = plan("forward", graph.outputs, {}, {})
    assert "never computed" in str(audit(replace(program, instructions=()), None))


def test_a_step_whose_states_trade_values_passes_its_audit() -> None:
    graph = ladder(2)
    a, b = graph.state("a", ()), graph.state("b", ())
    graph.update(a, b)
    graph.update(b, a)
    assert ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1)).audit().ok

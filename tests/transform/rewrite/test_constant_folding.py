"""What hangs on constants alone is computed once, unless that would take memory."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.transform.rewrite.constant_folding import FOLDED_ELEMENTS
from tests.transform.rewrite.rewriting import Leaves, assert_becomes, assert_same_values, assert_stays, of, rewritten


def constant(t: Leaves, value: object) -> ge.Node:
    return t.graph.constant(None, np.asarray(value, t.graph.dtype))


def test_a_value_of_constants_is_a_constant() -> None:
    assert_becomes("constant_folding", lambda t: t.v * ge.exp(constant(t, 0.0)), "multiply(v, 1.0)")
    assert_becomes(
        "constant_folding", lambda t: t.v + constant(t, [1.0, 2.0, 3.0])[::-1] * 2.0, "add(v, [6.0, 4.0, 2.0])"
    )


def test_a_long_way_of_constants_is_gone() -> None:
    def write(t: Leaves) -> ge.Node:
        x = constant(t, np.ones(3))
        for _ in range(2000):
            x = x * 1.5 - 0.5
        return t.v * x

    before = of(write)
    after = rewritten("constant_folding", before)
    assert [node.op.kind for node in after.nodes if not node.is_leaf] == ["multiply"]
    assert sum(node.op.kind == "constant" for node in after.nodes) == 1
    assert_same_values(before, after)


def test_a_broadcast_becomes_no_array() -> None:
    assert_stays("constant_folding", lambda t: t.a * ge.broadcast_to(constant(t, 2.0), (3, 3)))
    assert_stays("constant_folding", lambda t: ge.broadcast_to(constant(t, [1.0, 2.0, 3.0]), ("batch", 3)) * t.x)


def test_a_large_value_becomes_no_constant() -> None:
    size = FOLDED_ELEMENTS + 1
    assert_stays("constant_folding", lambda t: ge.exp(constant(t, np.ones(size))) * t.s)
    assert_becomes(
        "constant_folding", lambda t: t.s * ge.sum(constant(t, np.ones(size))), f"multiply(s, {float(size)})"
    )


def test_a_size_that_is_not_known_is_not_folded() -> None:
    assert_stays("constant_folding", lambda t: ge.sum(t.x) / ge.sum(ge.broadcast_to(constant(t, 1.0), ("batch",))))


def test_what_is_fed_trained_or_carried_is_not_folded() -> None:
    g = ge.Graph("g")
    g.output("y", ge.exp(g.input("x", ())) + ge.exp(g.parameter("w", ())) + ge.exp(g.state("s", ())))
    assert rewritten("constant_folding", g) is g


def test_a_fault_in_a_constant_is_left_to_the_run() -> None:
    g = ge.Graph("g")
    labels = g.constant("labels", np.array([0, 5]))
    g.output("y", g.input("x", (2, 3)) * ge.one_hot(labels * 1, 3))
    exe = ge.compile(g)
    with pytest.raises(ge.ValueRangeError, match="label 5"):
        exe.forward({"x": np.ones((2, 3))})


def test_overflow_is_folded_in_silence_as_it_is_run() -> None:
    assert_becomes("constant_folding", lambda t: t.s * ge.exp(constant(t, 1e6)), "multiply(s, inf)")


def test_a_result_may_be_a_constant() -> None:
    g = ge.Graph("g", "float64")
    g.output("y", ge.square(g.constant("c", 3.0)))
    g.output("x", g.input("x", ()))
    assert ge.compile(g).forward({"x": 1.0})["y"] == 9.0


def test_the_body_of_a_scan_is_folded_too() -> None:
    g = ge.Graph("g", "float64")
    xs = g.input("x", ("time", 2))
    last, _ = ge.scan(lambda h, x: (h + x * ge.exp(x.graph.scalar(0.0, "float64")), None), g.input("h", (2,)), xs)
    g.output("last", last)
    exe = ge.compile(g, rewrites=["constant_folding", "algebra"])
    assert exe.cost(time=4).total_flops == 4 * 2
    np.testing.assert_array_equal(exe.forward({"x": np.ones((4, 2)), "h": np.zeros(2)})["last"], [4.0, 4.0])


def test_what_hangs_on_a_fault_by_several_steps_is_left_to_the_run_too() -> None:
    g = ge.Graph("g")
    hot = ge.one_hot(g.constant("labels", np.array([0, 7])), 3)
    g.output("y", ge.exp(ge.exp(hot * 2.0)) * g.input("x", (2, 3)))
    exe = ge.compile(g)
    with pytest.raises(ge.ValueRangeError, match="label 7"):
        exe.forward({"x": np.ones((2, 3))})

"""Equal values are computed once; what is only alike is not."""

from __future__ import annotations

import numpy as np

import graphengine as ge
from graphengine.ir.node import Phase
from graphengine.transform.rewrite.cse import COMPARED_ELEMENTS
from graphengine.transform.rewrite.passes import REWRITES, on_copy
from tests.transform.rewrite.rewriting import Leaves, assert_same_values, assert_stays, of, rewritten


def kinds(graph: ge.Graph) -> list[str]:
    return [node.op.kind for node in graph.nodes if not node.is_leaf]


def test_equal_ops_of_equal_operands_are_one() -> None:
    before = of(lambda t: ge.exp(t.x + t.y) * ge.exp(t.x + t.y))
    after = rewritten("cse", before)
    assert kinds(after) == ["add", "exp", "multiply"]
    assert_same_values(before, after)


def test_the_order_of_terms_and_factors_does_not_matter() -> None:
    assert kinds(rewritten("cse", of(lambda t: (t.x * t.y) + (t.y * t.x)))) == ["multiply", "add"]
    assert_stays("cse", lambda t: (t.x - t.y) * (t.y - t.x))


def test_attributes_are_compared() -> None:
    assert_stays("cse", lambda t: ge.sum(t.x, 0) + ge.sum(t.x, 0, keepdims=True))
    twice = of(lambda t: ge.sum(t.x, 0, keepdims=True) + ge.sum(t.x, 0, keepdims=True))
    assert kinds(rewritten("cse", twice)) == ["sum", "add"]


def test_leaves_are_never_one_but_for_constants() -> None:
    def write(t: Leaves) -> ge.Node:
        first, second = (t.graph.parameter(name, (3,)) for name in "pq")
        return (t.x + first) * (t.x + second) * (t.graph.state("r", (3,)) + t.graph.state("s2", (3,)))

    assert_stays("cse", write)


def test_equal_constants_are_one_and_minus_zero_is_not_zero() -> None:
    def twice(a: list[float], b: list[float]) -> ge.Graph:
        return of(lambda t: (t.v * t.graph.constant(None, a)) - (t.v / t.graph.constant(None, b)))

    assert len(rewritten("cse", twice([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]))) == len(twice([1.0] * 3, [1.0] * 3)) - 1
    before = twice([1.0, 2.0, 0.0], [1.0, 2.0, -0.0])
    assert on_copy(REWRITES["cse"], before) is before


def test_large_constants_are_not_compared() -> None:
    values = np.ones(COMPARED_ELEMENTS + 1)
    assert_stays("cse", lambda t: t.s + ge.sum(t.graph.constant(None, values) / t.graph.constant(None, values)))


def test_dropout_of_two_nodes_draws_twice() -> None:
    g = ge.Graph("g")
    x = g.input("x", (8, 8))
    g.output("y", ge.dropout(x, 0.5) + ge.dropout(x, 0.5))
    assert kinds(rewritten("cse", g)).count("dropout") == 2


def test_an_adjoint_that_is_a_value_of_the_forward_pass_is_not_computed_again() -> None:
    g = ge.Graph("g")
    x = g.input("x", (3,))
    g.output("loss", ge.sum(ge.sin(x)) + ge.sum(ge.cos(x)))
    plain, merged = (ge.compile(g, loss="loss", wrt=["x"], rewrites=names) for names in ((), ["cse"]))
    assert merged.cost().total_flops < plain.cost().total_flops
    assert sum(step.op.kind == "cos" for step in merged.program.instructions) == 1
    assert merged.audit().ok


def test_what_is_forward_does_not_come_to_read_what_is_an_update() -> None:
    g = ge.Graph("g")
    count = g.state("count", ())
    with g.emitting(Phase.UPDATE, count):
        g.update(count, count + 1.0)
    g.output("next", (count + 1.0) * g.input("x", ()))
    assert on_copy(REWRITES["cse"], g) is g
    exe = ge.compile(g)
    assert exe.forward({"x": 2.0})["next"] == 2.0


def test_results_and_updates_may_become_one_node() -> None:
    g = ge.Graph("g", "float64")
    x, v, w = g.input("x", ()), g.state("v", ()), g.state("w", ())
    g.output("first", ge.exp(x))
    g.output("second", ge.exp(x))
    g.update(v, ge.exp(x))
    g.update(w, ge.exp(x))
    loss = g.output("loss", x * g.parameter("p", ()))
    exe = ge.compile(g, loss=loss, optimizer=ge.SGD(learning_rate=0.0))
    values = exe.forward({"x": 1.0})
    assert values["first"] == values["second"] == np.exp(1.0)
    exe.step({"x": 1.0})
    assert exe.state["v"] == exe.state["w"] == np.exp(1.0)


def test_equal_scans_are_one_and_so_is_what_is_equal_in_their_bodies() -> None:
    g = ge.Graph("g", "float64")
    xs, h = g.input("x", ("time", 3)), g.input("h", (3,))

    def run() -> ge.Node:
        return ge.scan(lambda s, x: (ge.tanh(s + x) * ge.tanh(x + s), None), h, xs)[0]

    g.output("y", run() + run())
    after = rewritten("cse", g)
    (scan,) = (node for node in after.nodes if node.op.kind == "scan")
    assert [node.op.kind for node in scan.op.body.nodes if not node.is_leaf] == ["add", "tanh", "multiply"]
    feeds = {"x": np.linspace(-1, 1, 12).reshape(4, 3), "h": np.zeros(3)}
    values = [ge.compile(g, rewrites=names).forward(feeds)["y"] for names in ((), None)]
    np.testing.assert_allclose(*values, rtol=1e-13)


def test_an_op_with_an_attribute_that_has_no_hash_is_only_equal_to_itself() -> None:
    from typing import Any, Literal

    from graphengine.ir.node import apply
    from graphengine.ops.support.pointwise import UnaryOp

    class Scaled(UnaryOp):
        kind: Literal["scaled_by_list"] = "scaled_by_list"
        factors: list[float]

        def eval(self, xp: Any, x: Any) -> Any:
            return x * self.factors[0]

    try:
        one = Scaled(factors=[2.0])
        before = of(lambda t: apply(one, t.x) + apply(one, t.x) + apply(Scaled(factors=[2.0]), t.x))
        assert kinds(rewritten("cse", before)).count("scaled_by_list") == 2
    finally:
        del ge.Op.registry["scaled_by_list"]


def test_a_number_that_is_asked_for_later_is_the_one_that_stayed() -> None:
    g = ge.Graph("g")
    one = g.constant("one", 1.0)
    g.output("y", g.input("x", (2,)) * one + 1.0)
    after = on_copy(REWRITES["cse"], g)
    assert after.copy().scalar(1.0, "float32").op.value == 1.0

"""The walk that rules are given to: what a rule sees, what becomes of what it gives, and what is left."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.ops.activation import Tanh
from graphengine.ops.elementwise import Add, Cos, Exp, Multiply, Sin
from graphengine.ops.support.pointwise import Elementwise, UnaryOp
from graphengine.transform.rewrite.check import check_rewrite
from graphengine.transform.rewrite.walk import Apply, Expression, Rules, Site, apply_rules
from tests.transform.rewrite.rewriting import of, text


def walked(graph: Graph, *rules: object, follow: list[ge.Node] | None = None) -> Graph:
    after = graph.copy()
    apply_rules(after, Rules(*rules), follow)
    check_rewrite(graph, after)
    return after


def sin_to_cos(y: Site) -> Expression | None:
    return Apply(Cos(), y.parents[0])


def test_a_graph_in_which_no_rule_finds_anything_stays_as_it_is() -> None:
    graph = of(lambda t: ge.sin(t.x) * ge.exp(t.x))
    before = graph.copy()
    assert not apply_rules(graph, Rules({Tanh: (sin_to_cos,)}))
    assert not apply_rules(graph, Rules({Sin: (lambda _: None,)}))
    assert graph == before


def test_a_rule_of_a_base_class_looks_at_all_ops_of_it_after_their_own() -> None:
    rules = Rules({UnaryOp: (sin_to_cos,), Elementwise: ()}, {Sin: (lambda y: y.parents[0],)})
    assert len(rules[Sin]) == 2
    assert rules[Multiply] == ()
    seen: list[str] = []
    apply_rules(of(lambda t: ge.relu(ge.sin(t.x))), Rules({UnaryOp: (lambda y: seen.append(y.op.kind),)}))
    assert seen == ["sin", "relu"]


def test_what_a_rule_gives_is_looked_at_again() -> None:
    def one_less(y: Site) -> Expression | None:
        inner = y.parents[0]
        return Apply(Exp(), inner.parents[0]) if isinstance(inner.op, Exp) else None

    graph = of(lambda t: ge.exp(ge.exp(ge.exp(ge.exp(t.x)))))
    assert text(walked(graph, {Exp: (one_less,)}).outputs["result"]) == "exp(x)"


def test_operands_have_been_rewritten_when_a_rule_looks() -> None:
    seen: list[str] = []

    def look(y: Site) -> Expression | None:
        seen.append(y.parents[0].op.kind)
        return None

    walked(of(lambda t: ge.exp(ge.sin(t.x))), {Sin: (sin_to_cos,), Exp: (look,)})
    assert seen[-1] == "cos"


def test_the_stand_in_has_the_name_and_what_is_on_the_way_has_a_free_one() -> None:
    graph = of(lambda t: ge.sin(ge.exp(t.x, name="cos_1"), name="wave"))

    def two(y: Site) -> Expression | None:
        return Apply(Add(), Apply(Cos(), y.parents[0]), 1.0)

    after = walked(graph, {Sin: (two,)})
    assert [node.name for node in after.nodes if not node.is_leaf] == ["cos_1", "cos_2", "wave"]
    assert after["cos_2"].where == after["wave"].where == graph["wave"].where


def test_numbers_on_the_way_are_computed() -> None:
    def scaled(y: Site) -> Expression | None:
        return Apply(Multiply(), y.parents[0], Apply(Add(), 2.0, 3.0))

    assert text(walked(of(lambda t: ge.sin(t.x)), {Sin: (scaled,)}).outputs["result"]) == "multiply(x, 5.0)"


def test_a_rule_that_gives_another_type_is_a_fault() -> None:
    with pytest.raises(ge.GraphError, match="which is of another type"):
        apply_rules(of(lambda t: ge.sin(t.x)), Rules({Sin: (lambda _: 1.0,)}))


def test_a_value_with_one_reader_is_told_from_one_with_several() -> None:
    told: dict[str, bool] = {}

    def look(y: Site) -> Expression | None:
        told[y.op.kind] = y.once(y.parents[0])
        return None

    walked(of(lambda t: ge.cos(s := ge.sin(t.x)) + ge.exp(ge.tanh(t.x)) + s), {Cos: (look,), Exp: (look,)})
    assert told == {"cos": False, "exp": True}


def test_a_result_counts_as_a_reader() -> None:
    graph = of(lambda t: ge.exp(ge.sin(t.x, name="inner")))
    graph.output("inner", graph["inner"])
    told: list[bool] = []
    walked(graph, {Exp: (lambda y: told.append(y.once(y.parents[0])),)})
    assert told == [False]


def test_readers_that_go_are_no_longer_counted() -> None:
    told: list[bool] = []

    def look(y: Site) -> Expression | None:
        told.append(y.once(y.parents[0]))
        return None

    def bypass(y: Site) -> Expression | None:
        return y.parents[0].parents[0]

    # cos(sin(x)) becomes x, so that of the readers of sin(x) only exp is left
    walked(of(lambda t: ge.cos(s := ge.sin(t.x)) + ge.exp(s)), {Cos: (bypass,), Exp: (look,)})
    assert told[-1]


def test_with_names_kept_only_what_is_new_goes() -> None:
    graph = of(lambda t: ge.exp(ge.sin(t.x, name="inner"), name="e"))

    def bypass(y: Site) -> Expression | None:
        return Apply(Cos(), y.parents[0].parents[0])

    assert "inner" not in walked(graph, {Exp: (bypass,)})
    kept = walked(graph, {Exp: (bypass,)}, follow=[])
    assert text(kept["inner"]) == "sin(x)"
    assert text(kept["e"]) == "cos(x)"


def test_inputs_that_nobody_reads_any_more_stay() -> None:
    g = ge.Graph("g")
    x = g.input("x", ())
    g.output("y", ge.sin(x) * 0.0)
    after = walked(g, {Multiply: (lambda _: 0.0,)})
    assert [node.op.kind for node in after.nodes] == ["input", "constant"]
    np.testing.assert_array_equal(ge.compile(after).forward({})["y"], 0.0)

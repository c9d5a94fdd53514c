"""What two graphs differ in, told node by node."""

from __future__ import annotations

import graphengine as ge
from graphengine.transform.rewrite.changes import changes
from graphengine.transform.rewrite.passes import REWRITES, on_copy
from tests.transform.rewrite.rewriting import Write, of


def told(name: str, write: Write) -> list[str]:
    """The changes, without the line of declaration."""
    before = of(write)
    return [str(change).partition(", declared at")[0] for change in changes(before, on_copy(REWRITES[name], before))]


def test_a_graph_does_not_differ_from_itself_or_its_copy() -> None:
    graph = of(lambda t: ge.exp(t.x * 2.0))
    assert changes(graph, graph) == changes(graph, graph.copy()) == []


def test_what_is_bypassed_is_gone_and_its_reader_is_not_another() -> None:
    assert told("algebra", lambda t: ge.exp(t.x * 1.0)) == ["gone    multiply_1 = multiply(x, constant_1)"]


def test_what_is_computed_otherwise_is_changed() -> None:
    assert told("algebra", lambda t: t.x**2.0) == ["changed power_1 = power(x, constant_1) -> square(x)"]


def test_what_is_on_the_way_is_new_and_changes_come_first() -> None:
    assert told("algebra", lambda t: ge.exp(ge.identity(t.x) ** 3.0)) == [
        "changed power_1 = power(identity_1, constant_1) -> multiply(square_1, x)",
        "new     square_1 = square(x)",
        "gone    identity_1 = identity(x)",
    ]


def test_a_reader_of_something_else_is_changed() -> None:
    before, after = of(lambda t: t.x + t.v), of(lambda t: t.y + t.v)
    assert [change.becomes for change in changes(before, after)] == ["add(y, v)"]


def test_where_a_node_was_declared_is_told() -> None:
    (change,) = changes(before := of(lambda t: t.x * 1.0), on_copy(REWRITES["algebra"], before))
    assert change.where == before["multiply_1"].where
    assert f"{change.where}" in str(change)

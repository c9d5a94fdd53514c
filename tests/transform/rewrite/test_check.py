"""The checker finds what a rewrite must not do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import graphengine as ge
from graphengine.ir.graph import Graph
from graphengine.ir.node import Phase
from graphengine.transform.rewrite.check import check_rewrite


def model() -> Graph:
    g = ge.Graph("model")
    x, w = g.input("x", (3,)), g.parameter("w", (3,))
    g.output("y", ge.exp(x * w))
    with g.emitting(Phase.UPDATE, w):
        g.update(w, w * 0.5)
    return g


def lose_output(g: Graph) -> None:
    g.outputs.clear()


def change_type(g: Graph) -> None:
    g.outputs["y"] = ge.sum(g.outputs["y"])


def lose_update(g: Graph) -> None:
    g.updates.clear()


def add_leaf(g: Graph) -> None:
    g.outputs["y"] = g.outputs["y"] + g.parameter("v", (3,))


def swap_order(g: Graph) -> None:
    g.nodes[-1], g.nodes[-2] = g.nodes[-2], g.nodes[-1]


def forget_where(g: Graph) -> None:
    g.outputs["y"].where = None


def read_later_phase(g: Graph) -> None:
    (update,) = g.updates.values()
    g.outputs["y"] = ge.exp(update)


def wrong_type(g: Graph) -> None:
    g.outputs["y"].type = g["x"].type.__class__((4,), "float32")


def foreign_result(g: Graph) -> None:
    g.outputs["y"] = model().outputs["y"]


FAULTS: list[tuple[Callable[[Graph], None], str]] = [
    (lose_output, "outputs were"),
    (change_type, "outputs were"),
    (lose_update, "updates were"),
    (add_leaf, "the leaf v"),
    (swap_order, "is not where it says"),
    (forget_where, "does not know where"),
    (read_later_phase, "reads multiply_2"),
    (wrong_type, "should be float32"),
    (foreign_result, "is a result, and no node"),
]


@pytest.mark.parametrize(("spoil", "message"), FAULTS, ids=[spoil.__name__ for spoil, _ in FAULTS])
def test_a_fault_is_found(spoil: Callable[[Graph], None], message: str) -> None:
    before, after = model(), model()
    check_rewrite(before, after)
    spoil(after)
    with pytest.raises(ge.GraphError, match=message):
        check_rewrite(before, after)


def test_a_fault_in_the_body_of_a_scan_is_found() -> None:
    g = ge.Graph("g")
    last, _ = ge.scan(lambda h, x: (h + x, None), g.input("h", (3,)), g.input("x", ("time", 3)))
    g.output("last", last)
    twin = g.copy()
    body = twin["scan_1"].op.body
    body.nodes[-1].where = None
    with pytest.raises(ge.GraphError, match="in the body of scan_1"):
        check_rewrite(g, twin)

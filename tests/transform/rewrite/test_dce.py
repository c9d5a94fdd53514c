"""What nobody needs is left out, in scans too."""

from __future__ import annotations

import numpy as np

import graphengine as ge
from graphengine.transform.rewrite.passes import REWRITES, on_copy
from tests.transform.rewrite.rewriting import rewritten


def two_carries(read_both: bool) -> ge.Graph:
    """A scan with two carries and a result, of which the first carry, or all, are read."""
    g = ge.Graph("g", "float64")
    xs, zs, h = g.input("x", ("time", 3)), g.input("z", ("time", 3)), g.input("h", (3,))

    def step(carry: tuple[ge.Node, ge.Node], x: tuple[ge.Node, ge.Node]) -> tuple[object, ge.Node]:
        first, second = carry
        return (ge.tanh(first + x[0], name="after"), second * x[1]), ge.exp(second)

    (first, second), ys = ge.scan(step, (h, ge.exp(h)), (xs, zs))
    g.output("first", first)
    if read_both:
        g.output("second", second)
        g.output("ys", ys)
    return g


def test_nodes_that_no_result_needs_go() -> None:
    g = ge.Graph("g")
    x = g.input("x", (3,))
    ge.exp(x * 2.0)
    g.output("y", ge.tanh(x))
    assert [node.op.kind for node in rewritten("dce", g).nodes] == ["input", "tanh"]


def test_what_an_update_needs_stays() -> None:
    g = ge.Graph("g")
    count = g.state("count", ())
    g.update(count, count + 1.0)
    g.output("y", ge.tanh(g.input("x", ())))
    assert on_copy(REWRITES["dce"], g) is g


def test_a_scan_loses_the_carries_operands_and_results_that_nobody_reads() -> None:
    g = two_carries(read_both=False)
    after = rewritten("dce", g)
    (scan,) = (node for node in after.nodes if node.op.kind == "scan")
    assert [parent.name for parent in scan.parents] == ["h", "x"]
    assert "exp" not in {node.op.kind for node in after.nodes}
    assert [node.op.kind for node in scan.op.body.nodes if not node.is_leaf] == ["add", "tanh"]
    assert "after" in scan.op.body
    feeds = {name: np.linspace(0.1, 1, 12).reshape(4, 3) for name in "xz"} | {"h": np.ones(3)}
    values = [ge.compile(g, rewrites=names).forward(feeds)["first"] for names in ((), ["dce"], None)]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-13)
    np.testing.assert_allclose(values[2], values[0], rtol=1e-13)


def test_a_scan_all_of_which_is_read_stays() -> None:
    g = two_carries(read_both=True)
    assert on_copy(REWRITES["dce"], g) is g


def test_a_scan_whose_residuals_are_read_keeps_them() -> None:
    g = two_carries(read_both=True)
    loss = g.output("loss", ge.sum(ge.square(g.outputs["ys"])))
    feeds = {name: np.linspace(0.1, 1, 12).reshape(4, 3) for name in "xz"} | {"h": np.ones(3)}
    plain = ge.compile(g, loss=loss, wrt=["h", "z"], rewrites=())
    narrowed = ge.compile(g, loss=loss, wrt=["h", "z"], rewrites=["dce"])
    plain.forward(feeds, outputs=["loss"])
    narrowed.forward(feeds, outputs=["loss"])
    for name, value in plain.backward().items():
        np.testing.assert_allclose(narrowed.backward()[name], value, rtol=1e-13)

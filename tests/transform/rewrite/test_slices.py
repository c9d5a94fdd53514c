"""Many parts of one array, whose adjoints are added where they belong."""

import numpy as np

import graphengine as ge
from graphengine.ir.graph import Graph


def parts(count: int) -> Graph:
    """A sum of squares of single elements of one array."""
    graph = Graph("parts", "float64")
    x = graph.parameter("x", (count,))
    total = ge.square(x[0])
    for place in range(1, count):
        total = total + ge.square(x[place])
    graph.output("loss", total)
    return graph


def test_the_adjoint_of_parts_costs_what_the_parts_do() -> None:
    with_rewrite, without = (ge.compile(parts(50), loss="loss", rewrites=names) for names in (["slices"], []))
    assert with_rewrite.cost().flops["BACKWARD"] < 4 * 50
    assert without.cost().flops["BACKWARD"] > 49 * 50
    for executable in (with_rewrite, without):
        executable.forward({})
        np.testing.assert_array_equal(executable.backward()["x"], 2 * executable.parameters["x"])


def test_an_array_of_zeros_that_is_read_elsewhere_stays() -> None:
    graph = Graph("twice", "float64")
    x = graph.parameter("x", (4,))
    x_bar = ge.grad(ge.sum(ge.square(x[:2])) + ge.sum(x), [x])[0]
    graph.output("x_bar", x_bar)
    graph.output("again", x_bar + next(node for node in graph.nodes if node.op.kind == "slice_adjoint"))
    (run,) = [ge.compile(graph, rewrites=["slices"])]
    assert not any(step.op.kind == "add_slice" for step in run.program.instructions if step.name == x_bar.name)
    expected = ge.compile(graph, rewrites=[]).forward({})
    assert all(np.array_equal(value, expected[name]) for name, value in run.forward({}).items())

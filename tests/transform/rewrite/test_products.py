"""Products added where a matrix stands, and those that are left as they are."""

import numpy as np

import graphengine as ge
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from tests.arrays import f64


def kinds(executable: Executable) -> list[str]:
    return [step.op.kind for step in executable.program.instructions]


def layer() -> Graph:
    graph = Graph("layer", "float64")
    x, y = graph.input("x", ("batch", 3)), graph.input("y", ("batch", 2))
    graph.output("loss", ge.half_squared_error(x @ graph.parameter("w", (3, 2)), y))
    return graph


def test_a_step_of_descent_on_a_weight_is_one_product_where_the_weight_stands() -> None:
    feeds = {"x": f64(5, 3), "y": f64(5, 2)}
    ours, plain = (
        ge.compile(layer(), loss="loss", optimizer=ge.SGD(learning_rate=0.1), rewrites=names)
        for names in (["products"], [])
    )
    (step,) = [step for step in ours.program.instructions if step.op.kind == "add_product"]
    assert step.in_place
    assert step.out.place == "@w"
    assert kinds(ours).count("matmul") == kinds(plain).count("matmul") - 1
    for _ in range(3):
        assert ours.step(feeds) == plain.step(feeds)
    np.testing.assert_allclose(ours.parameters["w"], plain.parameters["w"], rtol=1e-14)


def test_a_gradient_that_is_asked_for_is_computed() -> None:
    executable = ge.compile(layer(), loss="loss", rewrites=["products"])
    assert "add_product" not in kinds(executable)


def test_two_products_in_a_sum_are_one_memory() -> None:
    graph = Graph("cell", "float64")
    x, h = graph.input("x", (4, 3)), graph.input("h", (4, 5))
    graph.output("z", x @ graph.parameter("w", (3, 6)) + h @ graph.parameter("u", (5, 6)))
    ours, plain = (ge.compile(graph, rewrites=names) for names in (["products"], []))
    assert kinds(ours) == ["matmul", "add_product"]
    feeds = {"x": f64(4, 3), "h": f64(4, 5)}
    np.testing.assert_allclose(ours.forward(feeds)["z"], plain.forward(feeds)["z"], rtol=1e-14)


def test_a_product_that_somebody_else_reads_stays() -> None:
    graph = Graph("shared", "float64")
    x, h = graph.input("x", (4, 3)), graph.input("h", (4, 3))
    w = graph.parameter("w", (3, 6))
    first, second = x @ w, h @ w
    graph.output("z", first + second)
    graph.output("both", first * second)
    assert "add_product" not in kinds(ge.compile(graph, rewrites=["products"]))

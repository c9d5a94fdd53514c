"""A product added to a matrix, where that stands."""

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import DTypeError, ShapeError
from graphengine.ops.matmul import AddProduct
from graphengine.testing import check_op
from tests.arrays import f64


@pytest.mark.parametrize(
    ("c", "a", "b"),
    [
        (f64(3, 2), f64(3, 4), f64(4, 2)),
        (f64(1, 1), f64(1, 1), f64(1, 1)),
        (f64(1, 5), f64(1, 7), f64(7, 5)),
    ],
)
@pytest.mark.parametrize("factor", [1.0, -0.5])
def test_add_product_keeps_the_op_contract(c: np.ndarray, a: np.ndarray, b: np.ndarray, factor: float) -> None:
    check_op(AddProduct(factor=factor), c, a, b, f64())


def test_the_sum_is_written_where_the_matrix_stands() -> None:
    graph = ge.Graph("in_place")
    c = ge.tanh(graph.input("c", (3, 2)))
    y = graph.output("y", ge.add_product(c, graph.input("a", (3, 4)), graph.input("b", (4, 2))))
    plan = ge.compile(graph).plan()
    (step,) = [step for step in plan.instructions if step.name == y.name]
    assert step.in_place


def test_what_does_not_fit_is_named() -> None:
    graph = ge.Graph("misfit")
    c, a, b = graph.input("c", (3, 2)), graph.input("a", (3, 4)), graph.input("b", (4, 2))
    with pytest.raises(ShapeError, match=r"inner sizes differ: float32\[4, 2\] @ float32\[3, 4\]"):
        ge.add_product(c, b, a)
    with pytest.raises(ShapeError, match="takes matrices c"):
        ge.add_product(a, a, b)
    with pytest.raises(ShapeError, match="the scale of a product is a scalar"):
        ge.add_product(c, a, b, graph.input("s", (1,)))
    with pytest.raises(DTypeError, match="takes one dtype"):
        ge.add_product(c, a, b, graph.input("t", (), dtype="float64"))

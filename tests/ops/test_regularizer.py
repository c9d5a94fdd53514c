"""Regularizers: their values against hand formulas, their gradients, and what they refuse."""

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, ShapeError
from graphengine.ir.op import Op
from graphengine.ops.regularizer import L1, L2, ElasticNet, GroupLasso
from graphengine.testing import check_op
from tests.arrays import f64


@pytest.mark.parametrize("op", [L1(), L2(), ElasticNet(ratio=0.0), ElasticNet(ratio=0.3), ElasticNet(ratio=1.0)])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4), (2, 3, 2)])
def test_a_regularizer_keeps_the_op_contract(op: Op, shape: tuple[int, ...]) -> None:
    check_op(op, f64(*shape))


@pytest.mark.parametrize(
    ("shape", "axis"), [((4,), (0,)), ((3, 4), (0,)), ((3, 4), (-1,)), ((2, 3, 4), (0, 2)), ((1, 3), (0,))]
)
def test_group_lasso_keeps_the_op_contract(shape: tuple[int, ...], axis: tuple[int, ...]) -> None:
    check_op(GroupLasso(axis=axis), f64(*shape))


def value_and_gradient(w: np.ndarray, regularizer: str, **attributes: object) -> tuple[np.ndarray, np.ndarray]:
    graph = ge.Graph(dtype="float64")
    node = graph.input("w", w.shape)
    graph.output("r", getattr(ge, regularizer)(node, **attributes))
    exe = ge.compile(graph, loss="r", wrt=["w"])
    return exe.forward({"w": w})["r"], exe.backward()["w"]


W = np.array([[3.0, 0.0, -1.0], [4.0, 0.0, 0.0]])


def test_l1_is_the_sum_of_sizes_and_its_slope_the_sign() -> None:
    value, slope = value_and_gradient(W, "l1")
    assert value == 8
    np.testing.assert_array_equal(slope, [[1, 0, -1], [1, 0, 0]])


def test_l2_is_the_sum_of_squares_without_a_half() -> None:
    value, slope = value_and_gradient(W, "l2")
    assert value == 26
    np.testing.assert_array_equal(slope, 2 * W)


def test_elastic_net_is_between_l1_and_l2() -> None:
    value, slope = value_and_gradient(W, "elastic_net", ratio=0.25)
    assert value == 0.25 * 8 + 0.75 * 26
    np.testing.assert_array_equal(slope, 0.25 * np.sign(W) + 1.5 * W)


def test_group_lasso_is_the_sum_of_norms_and_a_zero_group_has_slope_zero() -> None:
    value, slope = value_and_gradient(W, "group_lasso", axis=0)
    assert value == 5 + 0 + 1
    np.testing.assert_allclose(slope, [[0.6, 0, -1], [0.8, 0, 0]], rtol=1e-15)


def test_the_second_derivative_of_group_lasso_is_finite_at_a_zero_group() -> None:
    graph = ge.Graph(dtype="float64")
    w = graph.input("w", (2, 3))
    (w_bar,) = ge.grad(ge.group_lasso(w, axis=0), [w])
    (second,) = ge.grad(ge.sum(w_bar * np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])), [w])
    graph.output("second", second)
    value = ge.compile(graph).forward({"w": W})["second"]
    np.testing.assert_array_equal(value[:, 1], [0, 0])
    u, v = np.array([0.6, 0.8]), np.array([1.0, 4.0])
    np.testing.assert_allclose(value[:, 0], (v - u * (u @ v)) / 5, rtol=1e-14)


def test_weights_that_are_not_floats_are_refused() -> None:
    w = ge.Graph().input("w", (3,), "int64")
    with pytest.raises(DTypeError, match=r"l1 takes floats, not int64\[3\]"):
        ge.l1(w)


def test_a_ratio_outside_of_0_to_1_is_refused() -> None:
    w = ge.Graph().input("w", (3,))
    with pytest.raises(AttributeValueError, match="ratio"):
        ge.elastic_net(w, ratio=1.5)


@pytest.mark.parametrize("axis", [1, (0, 0)])
def test_an_axis_that_is_not_there_or_named_twice_is_refused(axis: int | tuple[int, ...]) -> None:
    w = ge.Graph().input("w", (3,))
    with pytest.raises(ShapeError, match="axis"):
        ge.group_lasso(w, axis=axis)

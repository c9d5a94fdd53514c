"""Powers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import graphengine as ge
from graphengine.errors import DTypeError
from graphengine.ops.elementwise import Power
from graphengine.testing import check_op, gradcheck
from tests.arrays import f64
from tests.ops.evaluate import derivatives, evaluate


@pytest.mark.parametrize(
    ("a", "b"), [((3, 4), (3, 4)), ((), ()), ((3, 4), ()), ((), (2, 3)), ((3, 1), (4,)), ((2, 1, 3), (4, 1))]
)
def test_power_keeps_the_op_contract(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    check_op(Power(), f64(*a, low=0.5), f64(*b, seed=1))


@given(shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
@settings(max_examples=10, deadline=None)
def test_power_has_right_gradients_however_shapes_broadcast(shapes: object) -> None:
    a, b = shapes.input_shapes
    check_op(Power(), f64(*a, low=0.5), f64(*b, seed=1))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, -1, 0.5, -1.5])
def test_a_number_as_exponent_has_the_derivative_of_the_textbook(exponent: float) -> None:
    x = f64(5, low=0.5)
    np.testing.assert_allclose(evaluate(lambda x: x**exponent, x), x**exponent, rtol=1e-14)
    np.testing.assert_allclose(derivatives(lambda x: x**exponent, x), [exponent * x ** (exponent - 1)], rtol=1e-14)


@pytest.mark.parametrize(("exponent", "slope"), [(0, 0.0), (1, 1.0), (2, 0.0), (3, 0.0), (1.5, 0.0), (0.5, np.inf)])
def test_the_derivative_at_0_is_right(exponent: float, slope: float) -> None:
    zero = np.array([0.0])
    np.testing.assert_array_equal(derivatives(lambda x: x**exponent, zero), [[slope]])
    np.testing.assert_array_equal(derivatives(ge.power, zero, np.array([float(exponent)]))[0], [slope])


@pytest.mark.parametrize(("exponent", "curvature"), [(0, 0.0), (1, 0.0), (2, 2.0), (3, 0.0)])
def test_the_second_derivative_at_0_is_right(exponent: float, curvature: float) -> None:
    def slope(x: ge.Node) -> ge.Node:
        (x_bar,) = ge.grad(ge.sum(x**exponent), [x])
        return x_bar

    np.testing.assert_array_equal(derivatives(slope, np.array([0.0, 0.0])), [[curvature, curvature]])


def test_whole_powers_of_negative_numbers_have_gradients() -> None:
    np.testing.assert_allclose(derivatives(lambda x: x**3, np.array([-2.0])), [[12.0]])
    np.testing.assert_allclose(derivatives(lambda x: x**-2, np.array([-2.0])), [[0.25]])


def test_the_derivative_by_the_exponent_is_0_for_base_0_and_nan_below() -> None:
    _, b_bar = derivatives(ge.power, np.array([0.0, -2.0, np.e]), np.array([2.0, 2.0, 3.0]))
    np.testing.assert_allclose(b_bar, [0.0, np.nan, np.e**3])


def test_an_array_of_exponents_holds_whatever_mixture() -> None:
    x = np.zeros(4)
    exponents = np.array([0.0, 1.0, 2.0, 3.0])
    np.testing.assert_array_equal(derivatives(lambda x: x**exponents, x), [[0, 1, 0, 0]])


def test_powers_of_a_number_are_exponentials() -> None:
    x = f64(5)
    np.testing.assert_allclose(derivatives(lambda x: 2.0**x, x), [np.log(2) * 2**x], rtol=1e-14)


def test_a_polynomial_agrees_with_differences() -> None:
    graph = ge.Graph("polynomial", "float64")
    x = graph.input("x", (7,))
    graph.output("loss", ge.sum(x**4 - 3 * x**3 + x**2 - x**1 + x**0))
    gradcheck(graph, "loss", {"x": f64(7)}, wrt=["x"])


def test_powers_of_integers_are_refused_and_named() -> None:
    x = ge.Graph("integers").input("x", (3,), dtype="int64")
    with pytest.raises(DTypeError, match=r"power takes floats, not int64\[3\] and int64\[\]"):
        x**2

"""The error function."""

import math

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import DTypeError
from graphengine.ops.elementwise import Erf
from graphengine.testing import check_op
from tests.arrays import f64
from tests.ops.evaluate import derivatives, evaluate


@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (2, 1, 3)])
def test_erf_keeps_the_op_contract(shape: tuple[int, ...]) -> None:
    check_op(Erf(), f64(*shape))


def test_erf_is_that_of_the_math_module_to_the_last_bits() -> None:
    x = np.concatenate(
        [np.linspace(-7, 7, 20_001), [0.46875, np.nextafter(0.46875, 1), 4, 6, 1e-300, 1e-12, 30, 1e300]]
    )
    expected = [math.erf(value) for value in x]
    np.testing.assert_allclose(evaluate(ge.erf, x), expected, rtol=5e-16, atol=0)
    np.testing.assert_allclose(Erf().eval(np, x), expected, rtol=5e-16, atol=0)


def test_erf_in_float32_is_right_to_float32() -> None:
    x = np.concatenate([np.linspace(-5, 5, 20_001), [1e-30, 3.92, np.nextafter(3.92, 4), 1e30]]).astype(np.float32)
    value = evaluate(ge.erf, x)
    np.testing.assert_allclose(value, [math.erf(place) for place in x.tolist()], rtol=4e-7)
    assert np.abs(value).max() == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erf_is_odd_and_ends_in_1(dtype: str) -> None:
    x = np.array([-np.inf, -1000.0, -0.0, 0.0, 1000.0, np.inf, np.nan], dtype)
    value = evaluate(ge.erf, x)
    np.testing.assert_array_equal(value, [-1, -1, 0, 0, 1, 1, np.nan])
    assert np.signbit(value[2])


def test_the_derivative_of_erf_is_the_bell_curve() -> None:
    x = f64(9, low=-4, high=4)
    np.testing.assert_allclose(derivatives(ge.erf, x), [2 / math.sqrt(math.pi) * np.exp(-x * x)], rtol=1e-14)


def test_erf_refuses_integers() -> None:
    with pytest.raises(DTypeError, match=r"erf takes floats, not int64\[3\]"):
        ge.erf(ge.Graph("integers").input("x", (3,), dtype="int64"))

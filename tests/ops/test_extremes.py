"""Pointwise ops at infinities, NaN and zeros of both signs: on every backend, as one region and op by op."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from tests.ops.evaluate import derivatives, evaluate

INF, NAN = np.inf, np.nan
WAYS: list[dict[str, Any]] = [
    {"backend": backend, "rewrites": rewrites} for backend in installed_backends() for rewrites in (None, ())
]
DTYPES = ["float32", "float64"]
PLACES = 19
"""More than a vector has, and no multiple of it."""


def repeated(numbers: list[float], dtype: str) -> np.ndarray:
    """Each number at many places, so that it is met in a vector and behind the last one."""
    return np.repeat(np.array(numbers, dtype), PLACES)


def assert_everywhere(actual: np.ndarray, expected: list[float]) -> None:
    """That each number is as expected, with the sign of a zero, at all of its places."""
    wanted = repeated(expected, str(actual.dtype))
    np.testing.assert_array_equal(actual, wanted)
    np.testing.assert_array_equal(np.signbit(actual)[wanted == 0], np.signbit(wanted)[wanted == 0])


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "slopes"),
    [
        (ge.relu, [0, 0, 0, 1, 1, 1]),
        (ge.hard_tanh, [0, 0, 1, 1, 0, 1]),
        (lambda x: ge.clip(x, -1.0, 1.0), [0, 0, 1, 1, 0, 1]),
        (lambda x: ge.clip(x, low=-1.0), [0, 0, 1, 1, 1, 1]),
        (lambda x: ge.clip(x, high=0.0), [1, 1, 0, 0, 0, 1]),
        (lambda x: ge.leaky_relu(x, 0.5), [0.5, 0.5, 0.5, 1, 1, 1]),
        (lambda x: ge.leaky_relu(x, 0.0), [0, 0, 0, 1, 1, 1]),
        (lambda x: ge.elu(x, 0.0), [0, 0, 0, 1, 1, 1]),
        (ge.abs, [-1, -1, 0, 1, 1, NAN]),
    ],
)
def test_a_nan_is_not_hidden_behind_a_gradient_of_0(
    function: Callable[..., ge.Node], slopes: list[float], dtype: str, way: dict[str, Any]
) -> None:
    x = repeated([-INF, -1.0, 0.0, 0.5, INF, NAN], dtype)
    (x_bar,) = derivatives(function, x, **way)
    np.testing.assert_array_equal(x_bar, repeated(slopes, dtype))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("function", [ge.maximum, ge.minimum])
def test_beside_nan_the_adjoint_goes_to_both(function: Callable[..., ge.Node], way: dict[str, Any]) -> None:
    a, b = repeated([NAN, NAN, 1.0, 1.0], "float32"), repeated([NAN, 2.0, NAN, 1.0], "float32")
    a_bar, b_bar = derivatives(function, a, b, **way)
    np.testing.assert_array_equal(a_bar, repeated([1, 1, 1, 1], "float32"))
    np.testing.assert_array_equal(b_bar, repeated([1, 1, 1, 0], "float32"))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(("function", "slopes"), [(ge.hinge, [-1, 0, 0, -1]), (ge.perceptron_loss, [0, 0, 0, -1])])
def test_losses_with_a_kink_pass_the_gradient_at_nan(
    function: Callable[..., ge.Node], slopes: list[float], way: dict[str, Any]
) -> None:
    z = repeated([0.5, 1.0, INF, NAN], "float32")
    z_bar, _ = derivatives(lambda z, y: function(z, y, "none"), z, np.ones_like(z), **way)
    np.testing.assert_array_equal(z_bar, repeated(slopes, "float32"))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "values"),
    [
        (ge.relu, [0.0, 0.0, 0.0, INF, NAN]),
        (lambda x: ge.leaky_relu(x, 0.0), [0.0, 0.0, 0.0, INF, NAN]),
        (lambda x: ge.leaky_relu(x, 0.5), [-INF, -0.0, 0.0, INF, NAN]),
        (lambda x: ge.elu(x, 0.5), [-0.5, 0.0, 0.0, INF, NAN]),
        (lambda x: ge.clip(x, -0.0, 1.0), [0.0, 0.0, 0.0, 1.0, NAN]),
        (lambda x: ge.clip(x, 0.0, 1.0), [0.0, 0.0, 0.0, 1.0, NAN]),
        (lambda x: ge.clip(x, -1.0, 0.0), [-1.0, 0.0, 0.0, 0.0, NAN]),
        (lambda x: ge.clip(x, -1.0, -0.0), [-1.0, 0.0, 0.0, 0.0, NAN]),
        (lambda x: ge.maximum(x, 0.0), [0.0, 0.0, 0.0, INF, NAN]),
        (lambda x: ge.maximum(0.0, x), [0.0, -0.0, 0.0, INF, NAN]),
        (lambda x: ge.minimum(x, -0.0), [-INF, -0.0, -0.0, -0.0, NAN]),
        (lambda x: ge.maximum(x, -x), [INF, 0.0, -0.0, INF, NAN]),
        (lambda x: ge.minimum(x, -x), [-INF, 0.0, -0.0, -INF, NAN]),
    ],
)
def test_bounds_have_one_sign_of_zero_and_stand_infinity(
    function: Callable[..., ge.Node], values: list[float], dtype: str, way: dict[str, Any]
) -> None:
    assert_everywhere(evaluate(function, repeated([-INF, -0.0, 0.0, INF, NAN], dtype), **way), values)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("adjoint", [INF, NAN])
@pytest.mark.parametrize(
    ("function", "flat"),
    [
        (ge.relu, -1.0),
        (ge.hard_tanh, 2.0),
        (ge.abs, 0.0),
        (lambda x: ge.leaky_relu(x, 0.0), -1.0),
        (lambda x: ge.elu(x, 0.0), -1.0),
        (lambda x: ge.clip(x, low=0.0), -1.0),
        (lambda x: ge.where(x > 0.0, x, 0.0), -1.0),
        (lambda x: ge.maximum(x, 0.0), -1.0),
        (lambda x: ge.minimum(0.6, x), 1.0),
    ],
)
def test_where_the_slope_is_0_no_adjoint_comes_through(
    function: Callable[..., ge.Node], flat: float, adjoint: float, way: dict[str, Any]
) -> None:
    x, y_bar = repeated([flat, 0.5], "float32"), repeated([adjoint, 3.0], "float32")
    x_bar, _ = derivatives(lambda x, y_bar: function(x) * y_bar, x, y_bar, **way)
    np.testing.assert_array_equal(x_bar, repeated([0.0, 3.0], "float32"))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("adjoint", [INF, NAN])
@pytest.mark.parametrize(("function", "place"), [(ge.max, 36), (ge.min, 0)])
def test_what_is_not_the_extreme_gets_no_adjoint(
    function: Callable[..., ge.Node], place: int, adjoint: float, way: dict[str, Any]
) -> None:
    x = np.arange(37, dtype="float32")
    x_bar, _ = derivatives(lambda x, y_bar: function(x) * y_bar, x, np.float32(adjoint), **way)
    np.testing.assert_array_equal(x_bar, np.where(x == place, adjoint, 0))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 0), (2, 1, 0), ((3, 2), 2, 1), ((1, 2), (1, 2), 0)])
def test_a_pool_hides_what_is_not_its_greatest(
    window: Any, stride: Any, padding: int, dtype: str, way: dict[str, Any]
) -> None:
    def pooled(x: ge.Node) -> ge.Node:
        return ge.max_pool2d(x, window, stride, padding)

    x = -np.arange(2 * 6 * 18, dtype=dtype).reshape(2, 1, 6, 18)
    greatest = evaluate(pooled, x, **way)
    (places,) = derivatives(pooled, x, **way)
    (x_bar,) = derivatives(lambda x: ge.sqrt(pooled(x) - pooled(x)), x, **way)
    np.testing.assert_array_equal(np.isnan(x_bar) | (x_bar == INF), places > 0)  # inf - inf where both paths meet
    np.testing.assert_array_equal(x_bar[places == 0], 0)
    hidden = np.where(places > 0, 1, NAN).astype(dtype)
    dots = evaluate(lambda x, x_dot: ge.jvp([pooled(x)], [x], [x_dot])[0], x, hidden, **way)
    np.testing.assert_array_equal(dots, np.ones_like(greatest))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("padding", [0, 1])
def test_the_gradient_of_a_window_with_nan_goes_to_the_first_nan(padding: int, way: dict[str, Any]) -> None:
    x = np.full((1, 1, 4, 40), -INF, "float32")
    x[0, 0, 1, ::4] = NAN
    x[0, 0, 0, 1::4] = 3.0
    x[0, 0, 3, 1::4] = NAN
    (x_bar,) = derivatives(lambda x: ge.max_pool2d(x, 2, padding=padding), x, **way)
    np.testing.assert_array_equal(x_bar[np.isnan(x)], 1)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hidden", [INF, -INF, NAN])
def test_what_dropout_drops_is_0_be_it_what_it_may(hidden: float, dtype: str, way: dict[str, Any]) -> None:
    x = np.ones((7, 11), dtype)
    y = evaluate(lambda x: ge.dropout(x, 0.5), x, seed=3, **way)
    assert set(np.unique(y)) == {0, 2}
    x[y == 0] = hidden
    np.testing.assert_array_equal(evaluate(lambda x: ge.dropout(x, 0.5), x, seed=3, **way), y)


def slope_of_silu(x: float) -> float:
    return 1.0 if x > 0 else math.exp(x) * (1 + x)  # far out, where s(-x) is 0 or 1


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "slopes"),
    [
        (ge.silu, {1e6 + 0.5: 1.0, 1e8: 1.0, 1e30: 1.0, INF: 1.0, -60.0: slope_of_silu(-60), -1e30: 0.0, -INF: 0.0}),
        (ge.gelu, {1e8: 1.0, 1e30: 1.0, INF: 1.0, -1e30: 0.0, -INF: 0.0}),
        (lambda x: ge.gelu(x, "tanh"), {1e4: 1.0, 1e30: 1.0, INF: 1.0, -1e30: 0.0, -INF: 0.0}),
        (ge.softplus, {1e30: 1.0, INF: 1.0, -60.0: math.exp(-60), -INF: 0.0}),
        (ge.expm1, {-20.0: math.exp(-20), -60.0: math.exp(-60), -INF: 0.0, 0.0: 1.0, INF: INF}),
        (ge.elu, {-20.0: math.exp(-20), -60.0: math.exp(-60), -INF: 0.0, 0.0: 1.0, 1e30: 1.0, INF: 1.0}),
        (ge.erf, {5.0: 2 / math.sqrt(math.pi) * math.exp(-25), 1e30: 0.0, INF: 0.0}),
        (lambda x: x**0, {0.0: 0.0, 1e-40: 0.0, 1e30: 0.0, INF: 0.0}),
    ],
)
def test_slopes_keep_their_small_and_their_large_term(
    function: Callable[..., ge.Node], slopes: dict[float, float], dtype: str, way: dict[str, Any]
) -> None:
    (x_bar,) = derivatives(function, repeated([*slopes], dtype), **way)
    np.testing.assert_allclose(x_bar, repeated([*slopes.values()], dtype), rtol=1e-5, atol=0)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "function", [ge.silu, ge.gelu, lambda x: ge.gelu(x, "tanh"), ge.erf, ge.softplus, lambda x: x**0, lambda x: x**1]
)
def test_second_slopes_vanish_far_out(function: Callable[..., ge.Node], dtype: str, way: dict[str, Any]) -> None:
    most = float(np.finfo(dtype).max)
    x = repeated([-most, -1e30, -1e8, 1e8, 1e30, most], dtype)
    (x_bar_bar,) = derivatives(lambda x: ge.grad(ge.sum(function(x)), [x])[0] + 0.0 * x, x, **way)
    np.testing.assert_array_equal(x_bar_bar, np.zeros_like(x))


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", [ge.silu, ge.gelu, lambda x: ge.gelu(x, "tanh")])
def test_gates_are_closed_at_minus_infinity(function: Callable[..., ge.Node], dtype: str, way: dict[str, Any]) -> None:
    y = evaluate(function, repeated([-INF, -1e30, 1e30, INF, NAN], dtype), **way)
    np.testing.assert_array_equal(y, repeated([0, 0, 1e30, INF, NAN], dtype))


# x, x Phi(x) and its slope, by mpmath
TAIL_OF_GELU = [
    (-1.0, -0.15865525393145705, -0.0833154705876863),
    (-3.0, -0.0040496940948902835, -0.011945647204183927),
    (-5.0, -1.4332578593959695e-06, -7.146946001792295e-06),
    (-8.0, -4.976768459417427e-15, -3.979607261086796e-14),
    (-12.0, -2.1317785344932147e-32, -2.5578956616748956e-31),
    (-30.0, -1.472014178144456e-196, -4.416031690708495e-195),
    (0.0, 0.0, 0.5),
    (5.0, 4.999998566742141, 1.000007146946002),
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tail_of_gelu_is_not_lost(dtype: str, way: dict[str, Any]) -> None:
    places, values, slopes = (repeated([*column], dtype) for column in zip(*TAIL_OF_GELU, strict=True))
    rtol = 4 * np.finfo(dtype).eps * (1 + places**2)  # what rounding x^2 comes to
    y, (y_bar,) = evaluate(ge.gelu, places, **way), derivatives(ge.gelu, places, **way)
    assert (np.abs(y - values) <= rtol * np.abs(values)).all()
    assert (np.abs(y_bar - slopes) <= rtol * np.abs(slopes)).all()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_tail_of_gelu_by_tanh_is_not_lost(way: dict[str, Any]) -> None:
    expected = -5 / (1 + math.exp(2 * math.sqrt(2 / math.pi) * 5 * (1 + 0.044715 * 25)))
    y = evaluate(lambda x: ge.gelu(x, "tanh"), repeated([-5.0], "float32"), **way)
    np.testing.assert_allclose(y, expected, rtol=1e-5)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_product_of_adjoints_overflows_only_where_the_slope_does(way: dict[str, Any]) -> None:
    x = np.array([1e25, 1e-25, 3e38], "float32")
    y_bar = np.array([1e20, 1e-20, 0.0], "float32")
    x_bar, _ = derivatives(lambda x, y_bar: ge.reciprocal(x) * y_bar, x, y_bar, **way)
    np.testing.assert_allclose(x_bar[:2], [-1e-30, -1e30], rtol=1e-5)
    x_bar, _ = derivatives(lambda x, y_bar: ge.square(x) * y_bar, x, y_bar, **way)
    assert x_bar[2] == 0


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_cross_entropy_of_two_keeps_what_a_sure_score_leaves(way: dict[str, Any]) -> None:
    def loss(z: ge.Node, t: ge.Node) -> ge.Node:
        return ge.binary_cross_entropy(z, t, "none")

    z = np.array([20.0, -20.0, 100.0, INF, -INF, INF, 1e8], "float32")
    t = np.array([1.0, 0.0, 0.999, 1.0, 0.0, 0.0, 1.0], "float32")
    left = math.exp(-20)
    apart = 1 - float(t[2])
    np.testing.assert_allclose(evaluate(loss, z, t, **way), [left, left, 100 * apart, 0, 0, INF, 0], rtol=1e-5)
    z_bar, _ = derivatives(loss, z, t, **way)
    np.testing.assert_allclose(z_bar, [-left, left, apart, 0, 0, 1, 0], rtol=1e-5)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_huber_loss_is_finite_as_far_as_its_value_is(way: dict[str, Any]) -> None:
    u = repeated([3e38, 1e-3, INF], "float32")
    y = evaluate(lambda u: ge.huber(u, 0.0 * ge.stop_gradient(ge.clip(u, 0, 1)), reduction="none"), u, **way)
    np.testing.assert_allclose(y, repeated([3e38, 5e-7, INF], "float32"), rtol=1e-5)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_group_with_nan_has_a_gradient_of_nan_and_one_of_zeros_has_0(way: dict[str, Any]) -> None:
    w = np.array([[NAN, 0.0, 3.0], [1.0, 0.0, 4.0]], "float32")
    (w_bar,) = derivatives(lambda w: ge.group_lasso(w, 0), w, **way)
    np.testing.assert_allclose(w_bar, [[NAN, 0, 0.6], [NAN, 0, 0.8]], rtol=1e-6)

"""How accurate sums are: against wider floats, over long axes, of values whose rounding adds up; and their edges."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

import graphengine as ge
from graphengine.ir.node import Node

BACKENDS = ["numpy", *(["numba"] if importlib.util.find_spec("numba") else [])]
AXES = [
    ((1_000_000,), 0),
    ((100_000, 10), 0),
    ((10, 100_000), 1),
    ((1_000, 1_000), (0, 1)),
    ((2, 50_000, 10), 1),
    ((50_000, 2, 10), (0, 2)),
    ((10_000, 5, 20), (0, 1)),
    ((1_000, 1_000), 0),
    ((2_500_000, 4), 0),
]
UNITS = 24.0
"""How far a sum may be from the right one, in units of the rounding of sum |x|: what pairwise sums promise for 10^6."""

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def values(shape: Sequence[int], dtype: str) -> np.ndarray:
    """Numbers near 100 that are rounded downwards when a large sum takes them up, most of them."""
    return (np.random.default_rng(0).random(shape) * 0.25 + 100.1).astype(dtype)


def value_of(build: Callable[[Node], Node], x: np.ndarray, backend: str) -> np.ndarray:
    graph = ge.Graph("sums", dtype=x.dtype.name)
    graph.output("y", build(graph.input("x", x.shape)))
    return ge.compile(graph, backend=backend).forward({"x": x})["y"]


def gradient_of(build: Callable[[Node], Node], x: np.ndarray, backend: str) -> np.ndarray:
    graph = ge.Graph("sums", dtype=x.dtype.name)
    graph.output("L", ge.sum(build(graph.input("x", x.shape))))
    exe = ge.compile(graph, loss="L", wrt=["x"], backend=backend)
    exe.forward({"x": x})
    return exe.backward()["x"]


def assert_near(y: np.ndarray, exact: np.ndarray, size: np.ndarray, units: float = UNITS) -> None:
    """`y` is `exact` but for so many roundings of `size`."""
    far = np.abs(y - exact) / size / (np.finfo(y.dtype).eps / 2)
    assert np.max(far) <= units


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), AXES)
def test_sums_and_means_do_not_lose_digits(
    shape: tuple[int, ...], axis: int | tuple[int, ...], dtype: str, backend: str
) -> None:
    x = values(shape, dtype)
    exact = x.astype(np.longdouble)
    for build, right in ((ge.sum, exact.sum(axis)), (ge.mean, exact.mean(axis))):
        assert_near(value_of(lambda n, build=build: build(n, axis), x, backend), right, right)


@pytest.mark.parametrize(("shape", "axis"), AXES)
def test_variances_and_logarithms_of_sums_do_not_lose_digits(
    shape: tuple[int, ...], axis: int | tuple[int, ...], backend: str
) -> None:
    x = values(shape, "float32")
    exact = x.astype(float)
    assert_near(value_of(lambda n: ge.variance(n, axis), x, backend), exact.var(axis), exact.var(axis), 64.0)
    top = exact.max(axis, keepdims=True)
    right = np.log(np.exp(exact - top).sum(axis)) + top.reshape(exact.max(axis).shape)
    assert_near(value_of(lambda n: ge.logsumexp(n, axis), x, backend), right, right)


@pytest.mark.parametrize(("shape", "axis"), AXES)
def test_sums_of_what_is_computed_with_them_do_not_lose_digits(
    shape: tuple[int, ...], axis: int | tuple[int, ...], backend: str
) -> None:
    x = values(shape, "float32")
    right = np.square(x.astype(float)).sum(axis)
    assert_near(value_of(lambda n: ge.sum(ge.square(n), axis), x, backend), right, right)


def test_reductions_of_one_region_over_different_axes_do_not_lose_digits(backend: str) -> None:
    x = values((1000, 20, 50), "float32")
    graph = ge.Graph("several")
    squares = ge.square(graph.input("x", x.shape))
    axes = [0, 1, 2, (0, 1), (0, 2), (1, 2)]
    for place, axis in enumerate(axes):
        graph.output(f"y{place}", ge.sum(squares, axis))
    graph.output("squares", squares)
    found = ge.compile(graph, backend=backend).forward({"x": x})
    exact = np.square(x.astype(float))
    np.testing.assert_array_equal(found["squares"], x * x)
    for place, axis in enumerate(axes):
        assert_near(found[f"y{place}"], exact.sum(axis), exact.sum(axis))


def test_a_sum_that_overflows_is_infinite_and_not_nan(backend: str) -> None:
    for dtype in ("float32", "float64"):
        x = np.full((1000, 300), np.finfo(dtype).max / 4, dtype)
        for axis in (0, 1, None):
            assert np.all(value_of(lambda n, axis=axis: ge.sum(n, axis), x, backend) == np.inf)
            assert np.all(value_of(lambda n, axis=axis: ge.sum(n * 2.0, axis), x, backend) == np.inf)


@pytest.mark.parametrize("axis", [0, 1])
def test_softmaxes_of_long_axes_add_up_to_one(axis: int, backend: str) -> None:
    x = np.zeros((200_000, 4) if axis == 0 else (4, 200_000), "float32")
    x[...] = np.random.default_rng(0).random(x.shape) * 0.01
    exact = np.exp(x.astype(float))
    exact /= exact.sum(axis, keepdims=True)
    assert_near(value_of(lambda n: ge.softmax(n, axis), x, backend), exact, exact)
    assert_near(value_of(lambda n: ge.log_softmax(n, axis), x, backend), np.log(exact), -np.log(exact))


def test_losses_and_regularizers_do_not_lose_digits(backend: str) -> None:
    x = values((1_000_000,), "float32")
    exact = x.astype(float)
    for build, right in (
        (lambda n: ge.squared_error(n, n * 0.0, "mean"), np.square(exact).mean()),
        (lambda n: ge.absolute_error(n, n * 0.0, "sum"), exact.sum()),
        (ge.l1, exact.sum()),
        (ge.l2, np.square(exact).sum()),
        (lambda n: ge.group_lasso(n, 0), np.sqrt(np.square(exact).sum())),
    ):
        assert_near(value_of(build, x, backend), right, right)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_added_up_by_number_do_not_lose_digits(dtype: str, backend: str) -> None:
    x = values((200_000, 3), dtype)
    numbers = np.random.default_rng(1).integers(0, 2, x.shape[0]) * 2
    right = np.stack([x[numbers == k].astype(np.longdouble).sum(0) for k in range(4)])
    found = value_of(lambda n: ge.scatter_add(n, numbers, 4), x, backend)
    assert_near(found[::2], right[::2], right[::2])
    assert not found[1::2].any()


def test_adjoints_of_what_is_repeated_do_not_lose_digits(backend: str) -> None:
    x = values((100_000, 8), "float32")
    graph = ge.Graph("bias")
    graph.output("L", ge.sum((graph.input("x", x.shape) + graph.parameter("b", (8,))) * graph.input("w", x.shape)))
    exe = ge.compile(graph, loss="L", backend=backend)
    exe.forward({"x": x, "w": x})
    right = x.astype(float).sum(0)
    assert_near(exe.backward()["b"], right, right)


def test_rows_of_any_size_are_normalized(backend: str) -> None:
    unit = np.array([[1, 2, 3, -4] * 8, [0.5, 0, 0, 0] * 8])
    for dtype, sizes in (("float32", (1e30, 1e-30, 1e-40)), ("float64", (1e200, 1e-200, 1e-300))):
        slopes = np.linspace(0, 1, unit.size).reshape(unit.shape)
        for size in sizes:
            x = (unit * size).astype(dtype)
            atol = 1e-4 if size == 1e-40 else 1e-6  # of numbers so small the mean has few digits
            for centered in (True, False):
                exact = x.astype(np.longdouble)
                exact -= exact.mean(1, keepdims=True) if centered else 0
                root = np.sqrt(np.square(exact).mean(1, keepdims=True))

                def normalized(n: Node, centered: bool = centered, dtype: str = dtype) -> Node:
                    scale, shift = (n.graph.constant(None, np.full(32, k, dtype)) for k in (1.0, 0.0))
                    return ge.layer_norm(n, scale, shift, 0.0) if centered else ge.rms_norm(n, scale, 0.0)

                np.testing.assert_allclose(value_of(normalized, x, backend), exact / root, rtol=2e-6, atol=atol)
                if size > 1e-40:
                    weighted = slopes - (slopes.mean(1, keepdims=True) if centered else 0)
                    right = weighted - exact / root * (slopes * exact / root).mean(1, keepdims=True)
                    factors = slopes.astype(dtype)

                    def loss(n: Node, of: Callable[[Node], Node] = normalized, by: np.ndarray = factors) -> Node:
                        return of(n) * n.graph.constant(None, by)

                    found = gradient_of(loss, x, backend)
                    np.testing.assert_allclose(found * root, right, rtol=1e-5, atol=1e-5)


def test_a_norm_does_not_overflow_where_its_squares_do(backend: str) -> None:
    for dtype, sizes in (("float32", (1e30, 1e-30)), ("float64", (1e200, 1e-200))):
        for size in sizes:
            w = (np.array([[3, 0, 1], [4, 0, 0]]) * size).astype(dtype)
            for axis, right in ((0, [[0.6, 0, 1], [0.8, 0, 0]]), (1, [[3 / 10**0.5, 0, 10**-0.5], [1, 0, 0]])):
                norms = np.sqrt(np.square(w.astype(np.longdouble)).sum(axis)).sum()
                build = partial(ge.group_lasso, axis=axis)
                np.testing.assert_allclose(value_of(build, w, backend), norms, rtol=1e-6)
                np.testing.assert_allclose(gradient_of(build, w, backend), right, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 1e30), ("float32", 1e-30), ("float64", 1e200), ("float64", 1e-200)]
)
def test_gradients_of_any_size_are_clipped_by_their_norm(dtype: str, size: float, backend: str) -> None:
    graph = ge.Graph("clip", dtype=dtype)
    w, v = (graph.parameter(name, (2,), init=ge.init.Zeros()) for name in "wv")
    graph.output("L", ge.sum((w + 2.0 * v) * graph.input("c", (2,))))
    clip = ge.ClipByGlobalNorm(size)
    exe = ge.compile(graph, loss="L", optimizer=ge.SGD(1 / size, clip=clip), backend=backend)
    exe.step({"c": np.array([size, size], dtype)})
    np.testing.assert_allclose(exe.parameters["w"], [-(0.1**0.5)] * 2, rtol=1e-6)
    np.testing.assert_allclose(exe.parameters["v"], [-2 * 0.1**0.5] * 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_all_minus_infinity_has_no_gradient(dtype: str, backend: str) -> None:
    x = np.array([[-np.inf, -np.inf], [0.0, -np.inf], [1.0, 1.0]], dtype)
    np.testing.assert_array_equal(value_of(lambda n: ge.logsumexp(n, 1), x[:2], backend), [-np.inf, 0.0])
    found = gradient_of(lambda n: ge.logsumexp(n, 1), x, backend)
    np.testing.assert_allclose(found, [[0, 0], [1, 0], [0.5, 0.5]], rtol=1e-6)


def test_a_huber_loss_does_not_overflow_where_twice_the_error_does(backend: str) -> None:
    x = np.array([3e38, 2.0, 0.5], "float32")
    found = value_of(lambda n: ge.huber(n, n * 0.0, reduction="none"), x, backend)
    np.testing.assert_allclose(found, [3e38, 1.5, 0.125], rtol=1e-6)

"""Pools against a naive loop, at ties, in the padding; and their adjoints."""

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, GraphError, ShapeError
from graphengine.ops.pool import (
    AvgPool2D,
    AvgPool2DAdjoint,
    MaxPool2D,
    MaxPool2DGather,
    MaxPool2DPlace,
    MaxPool2DScatter,
)
from graphengine.testing import check_op
from tests.arrays import f64, i64
from tests.ops.evaluate import derivatives, evaluate

BACKENDS = ["numpy", *(["numba"] if importlib.util.find_spec("numba") else [])]
ATTRIBUTES = [
    ({"window": 2, "stride": 2}, (2, 3, 5, 6)),
    ({"window": 3, "stride": 2, "padding": 1}, (2, 3, 5, 6)),
    ({"window": 3, "stride": 1, "padding": "same"}, (2, 3, 4, 5)),
    ({"window": (2, 3), "stride": (3, 1), "padding": ((0, 1), (2, 0))}, (2, 3, 5, 4)),
    ({"window": 1, "stride": 1}, (1, 1, 2, 2)),
    ({"window": 1, "stride": 2}, (1, 2, 3, 1)),
    ({"window": 4, "stride": 4, "padding": 3}, (1, 1, 2, 3)),
]


@pytest.mark.parametrize(("attributes", "shape"), ATTRIBUTES)
def test_pools_and_their_adjoints_keep_the_op_contract(attributes: dict[str, object], shape: tuple[int, ...]) -> None:
    x = f64(*shape)
    check_op(MaxPool2D(**attributes), x)
    y = MaxPool2D(**attributes).eval(np, x)
    place = MaxPool2DPlace(**attributes).eval(np, x, y)
    check_op(MaxPool2DPlace(**attributes), x, y, differentiable=False)
    check_op(MaxPool2DScatter(size=shape[2:], **attributes), y, place)
    check_op(MaxPool2DGather(**attributes), x, place)
    for count in (False, True):
        check_op(AvgPool2D(count_include_pad=count, **attributes), x)
        check_op(AvgPool2DAdjoint(count_include_pad=count, size=shape[2:], **attributes), y)


def naive_windows(
    x: np.ndarray, window: tuple[int, int], stride: tuple[int, int], pads: tuple[tuple[int, int], tuple[int, int]]
) -> tuple[list[list[tuple[int, int]]], tuple[int, int]]:
    """For every place, row by row, the elements of an image that lie in the window; and how many places there are."""
    counts = [(size + sum(pad) - k) // s + 1 for size, pad, k, s in zip(x.shape[2:], pads, window, stride, strict=True)]
    inside = []
    for i, j in np.ndindex(*counts):
        rows = [i * stride[0] - pads[0][0] + k for k in range(window[0])]
        columns = [j * stride[1] - pads[1][0] + k for k in range(window[1])]
        met = [(r, c) for r in rows for c in columns if 0 <= r < x.shape[2] and 0 <= c < x.shape[3]]
        inside.append(met)
    return inside, (counts[0], counts[1])


@st.composite
def pools(draw: st.DrawFn) -> tuple[np.ndarray, dict[str, object]]:
    window = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    pads = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in window)
    sizes = [max(1, k - sum(pad)) + draw(st.integers(0, 3)) for k, pad in zip(window, pads, strict=True)]
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    # Small integers tie often.
    x = draw(st.sampled_from([f64, lambda *shape: i64(*shape, high=3).astype(float)]))(2, 2, *sizes)
    return x, {"window": window, "stride": stride, "padding": pads}


@given(pools())
@settings(max_examples=80, deadline=None)
def test_pools_are_the_loops_that_define_them(case: tuple[np.ndarray, dict[str, object]]) -> None:
    x, attributes = case
    inside, counts = naive_windows(x, *attributes.values())
    expected = {"max": np.empty((2, 2, len(inside))), "mean": np.empty((2, 2, len(inside)))}
    max_bar, mean_bar = np.zeros_like(x), np.zeros_like(x)
    for n, c, place in np.ndindex(2, 2, len(inside)):
        met = inside[place]
        values = [x[n, c, r, k] for r, k in met]
        expected["max"][n, c, place] = max(values)
        expected["mean"][n, c, place] = np.mean(values)
        max_bar[(n, c, *met[values.index(max(values))])] += 1
        for at in met:
            mean_bar[(n, c, *at)] += 1 / len(met)
    for name, function, bar in (("max", ge.max_pool2d, max_bar), ("mean", ge.avg_pool2d, mean_bar)):
        pool = _with(function, attributes)
        y = evaluate(pool, x)
        np.testing.assert_allclose(y, expected[name].reshape(2, 2, *counts), atol=1e-12)
        np.testing.assert_allclose(derivatives(pool, x)[0], bar, atol=1e-12)


def _with(function: Callable[..., ge.Node], attributes: dict[str, object]) -> Callable[[ge.Node], ge.Node]:
    return lambda x: function(x, **attributes)


def test_the_adjoint_of_a_tie_goes_to_the_first_row_by_row() -> None:
    x = np.zeros((1, 1, 2, 4))
    x[0, 0, 1, 0] = x[0, 0, 0, 1] = 1.0
    (x_bar,) = derivatives(lambda x: ge.max_pool2d(x, 2), x)
    assert x_bar.tolist() == [[[[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]]


def test_overlapping_windows_add_up_their_adjoints() -> None:
    x = np.array([[[[0.0, 5.0, 1.0, 2.0]]]])
    (x_bar,) = derivatives(lambda x: ge.max_pool2d(x, (1, 2), 1), x)
    assert x_bar.tolist() == [[[[0.0, 2.0, 0.0, 1.0]]]]


def test_padding_is_never_the_greatest_and_counts_only_if_asked() -> None:
    x = -np.ones((1, 1, 2, 2))
    assert evaluate(lambda x: ge.max_pool2d(x, 2, 1, 1), x).max() == -1
    assert evaluate(lambda x: ge.avg_pool2d(x, 2, 1, 1), x).tolist() == (-np.ones((1, 1, 3, 3))).tolist()
    counted = evaluate(lambda x: ge.avg_pool2d(x, 2, 1, 1, count_include_pad=True), x)
    assert counted[0, 0].tolist() == [[-0.25, -0.5, -0.25], [-0.5, -1.0, -0.5], [-0.25, -0.5, -0.25]]


def test_not_a_number_is_the_greatest_and_has_the_gradient() -> None:
    x = np.array([[[[1.0, np.nan, 2.0, 3.0]]]])
    assert np.isnan(evaluate(lambda x: ge.max_pool2d(x, (1, 2)), x)).tolist() == [[[[True, False]]]]
    (x_bar,) = derivatives(lambda x: ge.max_pool2d(x, (1, 2)), x)
    assert x_bar.tolist() == [[[[0.0, 1.0, 0.0, 1.0]]]]


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_mean_of_a_large_window_does_not_lose_digits(backend: str, include: bool) -> None:
    x = (100 + np.random.default_rng(0).random((1, 2, 400, 400))).astype(np.float32)
    y = evaluate(lambda x: ge.avg_pool2d(x, 400, count_include_pad=include), x, backend=backend)
    np.testing.assert_allclose(y, x.mean((2, 3), np.float64, keepdims=True), rtol=1e-6)
    x[0, 0, 3, 5] = np.inf
    y = evaluate(lambda x: ge.avg_pool2d(x, 400, count_include_pad=include), x, backend=backend)
    assert np.isinf(y).ravel().tolist() == [True, False]


def test_windows_of_many_elements_are_counted_beyond_a_byte() -> None:
    x = f64(1, 1, 20, 17)
    op = MaxPool2D(window=(20, 17), stride=1)
    place = MaxPool2DPlace(window=(20, 17), stride=1)
    check_op(place, x, op.eval(np, x), differentiable=False)
    assert place.eval(np, x, op.eval(np, x)).item() == x.argmax()
    (x_bar,) = derivatives(lambda x: ge.max_pool2d(x, (20, 17)), x)
    assert x_bar.argmax() == x.argmax()


@pytest.mark.parametrize("function", [ge.max_pool1d, ge.avg_pool1d])
def test_pools_of_sequences_are_those_of_images_of_one_row(function: Callable[..., ge.Node]) -> None:
    x = f64(2, 3, 7)
    wide = {ge.max_pool1d: ge.max_pool2d, ge.avg_pool1d: ge.avg_pool2d}[function]
    for stride, padding in ((None, 0), (2, (0, 1)), (1, "same")):
        y = evaluate(lambda x, s=stride, p=padding: function(x, 3, s, p), x)
        both = padding if isinstance(padding, str) else (0, padding)
        expected = evaluate(lambda x, s=stride, p=both: wide(x, (1, 3), (1, s or 3), p), x[:, :, None])
        np.testing.assert_array_equal(y, expected[:, :, 0])


def test_global_pools_leave_one_number_a_channel() -> None:
    x = f64(2, 3, 4, 5)
    np.testing.assert_array_equal(evaluate(ge.global_max_pool, x), x.max(axis=(2, 3)))
    np.testing.assert_allclose(evaluate(ge.global_avg_pool, x), x.mean(axis=(2, 3)), rtol=1e-14)
    assert evaluate(lambda x: ge.global_avg_pool(x, keepdims=True), x[:, :, 0]).shape == (2, 3, 1)


@pytest.mark.parametrize("function", [ge.max_pool2d, ge.avg_pool2d])
def test_batches_and_images_of_any_size_run(function: Callable[..., ge.Node]) -> None:
    graph = ge.Graph("g", "float64")
    x = graph.input("x", ("batch", 2, "height", 6))
    y = graph.output("y", function(x, 3, (1, 2), padding=1))
    graph.output("loss", ge.sum(y * y))
    assert y.shape == ("batch", 2, "height", 3)
    exe = ge.compile(graph, loss="loss", wrt=["x"])
    for shape in ((1, 2, 4, 6), (3, 2, 5, 6)):
        feeds = {"x": f64(*shape)}
        np.testing.assert_allclose(exe.forward(feeds)["y"], y.op.eval(np, feeds["x"]), atol=1e-12)
        assert exe.backward()["x"].shape == shape
        ge.gradcheck(graph, "loss", feeds, wrt=["x"])


def test_documents_of_pools_come_back_equal() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", ("batch", 2, 8, 8))
    graph.output("y", ge.avg_pool2d(ge.max_pool2d(x, 2), (2, 1), 1, "same", count_include_pad=True))
    assert ge.Graph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize(
    ("attributes", "shape", "error", "message"),
    [
        (
            {"window": 3},
            (1, 1, 2, 4),
            ShapeError,
            "the window, which reaches over 3, is larger than the 2 of the padded",
        ),
        ({"window": 0}, (1, 1, 2, 4), AttributeValueError, "window is at least 1"),
        ({"window": 2, "stride": 0}, (1, 1, 2, 4), AttributeValueError, "stride is at least 1"),
        ({"window": 2, "padding": 2}, (1, 1, 2, 4), ShapeError, "is not smaller than the window"),
        ({"window": 2, "padding": 1}, (1, 1, 0, 4), ShapeError, "a window over no elements"),
        ({"window": 2}, (1, 2, 4), ShapeError, "images have 4 axes"),
        ({"window": 2}, (1, 1, "height", 4), ShapeError, "stride 2 along the named axis height"),
    ],
)
@pytest.mark.parametrize("function", [ge.max_pool2d, ge.avg_pool2d])
def test_what_does_not_fit_is_refused_with_its_type(
    function: Callable[..., ge.Node],
    attributes: dict[str, object],
    shape: tuple[int, ...],
    error: type[GraphError],
    message: str,
) -> None:
    x = ge.Graph("g").input("x", shape)
    with pytest.raises(error, match=message) as caught:
        function(x, **attributes)
    assert str(x.type) in caught.value.message


def test_other_operands_are_refused() -> None:
    graph = ge.Graph("g")
    with pytest.raises(DTypeError, match=r"max_pool2d takes floats, not int64\[1, 1, 2, 2\]"):
        ge.max_pool2d(graph.input("n", (1, 1, 2, 2), dtype="int64"), 2)
    with pytest.raises(ShapeError, match=r"max_pool1d of float32\[2, 3\]"):
        ge.max_pool1d(graph.input("x", (2, 3)), 2)
    with pytest.raises(ShapeError, match="a global pool of"):
        ge.global_avg_pool(graph["x"])


def test_flops_count_the_elements_that_windows_hold() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (2, 3, 4, 4))
    graph.output("y", ge.max_pool2d(x, 3, 2, 1))
    met = (2 + 3) * (2 + 3)
    assert ge.compile(graph).cost().total_flops == 2 * 3 * (met - 4)

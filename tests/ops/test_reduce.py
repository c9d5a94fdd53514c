"""Reductions against NumPy, their ties, their stability, and their named axes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.errors import DTypeError, FeedError, ShapeError
from graphengine.ops.reduce import ArgMax, ArgMin, First, LogSumExp, Max, Mean, Min
from graphengine.testing import check_op
from tests.arrays import f64, i64

SHAPES_AND_AXES = [
    (f64(), None),
    (f64(), ()),
    (f64(5), None),
    (f64(3, 4), (0,)),
    (f64(3, 4), (-1,)),
    (f64(1, 4), (0,)),
    (f64(3, 1), (1,)),
    (f64(2, 3, 4), None),
    (f64(2, 3, 4), (0, 2)),
    (f64(2, 3, 4), (2, 0)),
    (f64(2, 3, 4), (1,)),
    (f64(2, 3), ()),
]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("x", "axis"), SHAPES_AND_AXES)
@pytest.mark.parametrize("op", [Mean, Max, Min, LogSumExp, ArgMax, ArgMin])
def test_reductions_keep_the_op_contract(op: type, x: np.ndarray, axis: tuple[int, ...] | None, keepdims: bool) -> None:
    check_op(op(axis=axis, keepdims=keepdims), x)


@pytest.mark.parametrize("of", ["max", "min"])
@pytest.mark.parametrize(("x", "axis"), SHAPES_AND_AXES)
def test_first_keeps_the_op_contract(x: np.ndarray, axis: tuple[int, ...] | None, of: str) -> None:
    check_op(First(of=of, axis=axis), x, differentiable=False)


@pytest.mark.parametrize("op", [Max, Min, ArgMax, ArgMin])
def test_extremes_take_integers(op: type) -> None:
    check_op(op(axis=(0,)), i64(4, 3, high=9), differentiable=False)
    check_op(op(), i64(4, 3, high=9).astype(np.uint8), differentiable=False)


def test_an_empty_axis_that_is_kept_gives_no_elements() -> None:
    for op in (Mean, Max, LogSumExp, ArgMax):
        check_op(op(axis=(1,)), np.zeros((0, 3)))
    check_op(First(of="max", axis=(1,)), np.zeros((0, 3)), differentiable=False)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_reductions_agree_with_numpy(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), max_size=4)))
    axes = tuple(data.draw(st.lists(st.sampled_from(range(len(shape))), unique=True))) if shape else ()
    keepdims = data.draw(st.booleans())
    array = np.random.default_rng(len(shape)).integers(-3, 3, shape).astype(np.float64)
    graph = ge.Graph("g", "float64")
    x = graph.input("x", shape)
    functions = {"mean": np.mean, "max": np.max, "min": np.min, "sum": np.sum}
    for name in functions:
        graph.output(name, getattr(ge, name)(x, axes, keepdims))
    graph.output("argmax", ge.argmax(x, axes, keepdims))
    values = ge.compile(graph).forward({"x": array})
    for name, function in functions.items():
        np.testing.assert_allclose(values[name], function(array, axis=axes, keepdims=keepdims), rtol=1e-14)
    kept = [place for place in range(len(shape)) if place not in axes]
    rows = array.transpose([*kept, *sorted(axes)]).reshape([*(shape[place] for place in kept), -1])
    assert values["argmax"].reshape(rows.shape[:-1]).tolist() == rows.argmax(-1).tolist()


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (None, [[0, 6, 0], [0, 0, 0]]),
        (0, [[1, 2, 3], [0, 0, 0]]),
        (1, [[0, 1, 0], [2, 0, 0]]),
        ((), [[1, 2, 3], [4, 5, 6]]),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_adjoint_goes_to_the_first_of_equals(axis: object, expected: list[list[int]], sign: int) -> None:
    graph = ge.Graph("g", "float64")
    x = graph.input("x", (2, 3))
    y = (ge.max if sign > 0 else ge.min)(x, axis)
    size = {None: (), 0: (3,), 1: (2,), (): (2, 3)}[axis]
    weight = 6.0 if axis is None else np.arange(1.0, 1 + np.prod(size)).reshape(size)
    graph.output("loss", ge.sum(y * weight))
    exe = ge.compile(graph, loss="loss", wrt=["x"])
    ties = {None: [[0, 1, 1], [1, 0, 1]], 0: [[1, 1, 1], [1, 1, 1]], 1: [[0, 1, 1], [1, 1, 0]], (): [[0, 0, 0]] * 2}
    exe.forward({"x": sign * np.array(ties[axis], float)})
    assert exe.backward()["x"].tolist() == expected


def test_ties_over_several_axes_go_to_the_first_row_by_row() -> None:
    x = np.zeros((2, 3, 4))
    x[1, :, 1] = x[0, :, 3] = 1
    first = First(of="max", axis=(0, 2)).eval(np, x)
    assert np.argwhere(first).tolist() == [[0, 0, 3], [0, 1, 3], [0, 2, 3]]


def test_the_derivative_of_a_max_of_nan_goes_to_the_nan() -> None:
    assert First(of="max").eval(np, np.array([1.0, np.nan, 3.0])).tolist() == [0, 1, 0]


def run(function, array: np.ndarray) -> np.ndarray:
    graph = ge.Graph("g")
    graph.output("y", function(graph.input("x", array.shape)))
    return ge.compile(graph).forward({"x": array})["y"]


@pytest.mark.parametrize("sign", [1, -1])
def test_logsumexp_is_stable_for_large_values(sign: int) -> None:
    array = np.full(4, sign * 1000, np.float32)
    np.testing.assert_allclose(run(ge.logsumexp, array), sign * 1000 + np.log(4), rtol=1e-6)


def test_logsumexp_of_infinities_is_what_the_sum_is() -> None:
    rows = np.array([[-np.inf, -np.inf], [np.inf, 0], [-np.inf, 3]], np.float32)
    assert run(lambda x: ge.logsumexp(x, 1), rows).tolist() == [-np.inf, np.inf, 3]


def test_the_derivative_of_logsumexp_is_softmax_also_for_large_values() -> None:
    graph = ge.Graph("g")
    graph.output("loss", ge.logsumexp(graph.input("x", (3,))))
    exe = ge.compile(graph, loss="loss", wrt=["x"])
    exe.forward({"x": np.array([1000, -1000, 1000], np.float32)})
    np.testing.assert_allclose(exe.backward()["x"], [0.5, 0, 0.5], rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 5])
def test_reductions_over_named_axes_divide_by_the_actual_size(batch: int) -> None:
    graph = ge.Graph("g", "float64")
    x = graph.input("x", ("batch", "time", 2))
    y = ge.mean(x * x, (0, 1)) + ge.logsumexp(x, (0, 1)) + ge.max(x, (0, 1))
    graph.output("loss", ge.mean(y))
    exe = ge.compile(graph, loss="loss", wrt=["x"])
    array = f64(batch, 3, 2)
    value = exe.forward({"x": array})["loss"]
    total = np.exp(array).sum((0, 1))
    expected = (array**2).mean((0, 1)) + np.log(total) + array.max((0, 1))
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-12)
    x_bar = (2 * array / (3 * batch) + np.exp(array) / total + (array == array.max((0, 1)))) / 2
    np.testing.assert_allclose(exe.backward()["x"], x_bar, rtol=1e-12)


def test_argmax_passes_no_gradient() -> None:
    graph = ge.Graph("g")
    w = graph.parameter("w", (3,))
    graph.output("loss", ge.sum(ge.cast(ge.argmax(w), "float32")))
    with pytest.warns(ge.UnreachedParameterWarning, match="no gradient reaches w"):
        ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1))


@pytest.mark.parametrize("function", [ge.mean, ge.max, ge.min, ge.logsumexp, ge.argmax, ge.argmin])
def test_a_reduction_of_no_elements_is_refused_when_it_is_declared(function) -> None:
    graph = ge.Graph("g")
    with pytest.raises(ShapeError, match=r"of no elements: an axis of float32\[2, 0\] that it reduces has size 0"):
        function(graph.input("x", (2, 0)), 1)


def test_a_reduction_of_no_elements_is_refused_when_it_is_fed() -> None:
    graph = ge.Graph("g")
    graph.output("y", ge.max(graph.input("x", ("batch",))[1:]))
    with pytest.raises(FeedError, match=r"with batch = 1: max of no elements"):
        ge.compile(graph).forward({"x": np.zeros(1, np.float32)})


@pytest.mark.parametrize("function", [ge.mean, ge.logsumexp])
def test_means_take_floats(function) -> None:
    graph = ge.Graph("g")
    with pytest.raises(DTypeError, match=r"takes floats, not int64\[3\]; cast it"):
        function(graph.input("x", (3,), dtype="int64"))


def test_extremes_do_not_take_bools() -> None:
    graph = ge.Graph("g")
    with pytest.raises(DTypeError, match=r"max takes numbers, not bool\[3\]"):
        ge.max(graph.input("x", (3,), dtype="bool"))


def test_an_axis_that_is_not_there_is_an_error_that_quotes_the_operand() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", ("batch", 3))
    with pytest.raises(ShapeError, match=r"axis 2 of a value with 2 axes") as caught:
        ge.mean(x, 2)
    assert "x is float32[batch, 3], declared at" in str(caught.value)


def test_a_name_can_be_given() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (3,))
    for function in (ge.mean, ge.max, ge.min, ge.logsumexp, ge.argmax, ge.argmin):
        assert function(x, name=f"my_{function.__name__}").name == f"my_{function.__name__}"


@pytest.mark.parametrize(("op", "flops"), [(Mean, 12), (Max, 9), (Min, 9), (ArgMax, 9), (LogSumExp, 4 * 12 + 2 * 3)])
def test_a_reduction_of_rows_of_4_counts_3_steps_a_row_and_what_it_does_beside(op: type, flops: int) -> None:
    op = op(axis=(1,))
    x = ge.Graph().input("x", (3, 4)).type
    assert op.flops(op.infer(x), x) == flops

"""Broadcasting, its adjoint, sums, reshaping, and sizes as values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, GraphError, ShapeError
from graphengine.ir.types import TensorType
from graphengine.ops.broadcast import BroadcastTo, DimSize, Reshape, Sum, dim_size, full, sum_to
from graphengine.testing import check_op
from tests.arrays import boolean, f64, i64


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (f64(), ()),
        (f64(), (2, 3)),
        (f64(3), (3,)),
        (f64(3), (2, 3)),
        (f64(2, 1), (2, 3)),
        (f64(1, 1), (2, 3)),
        (f64(1, 3, 1), (4, 2, 3, 2)),
        (f64(1), (0,)),
    ],
)
def test_broadcast_to_keeps_the_op_contract(x: np.ndarray, shape: tuple[int, ...]) -> None:
    check_op(BroadcastTo(shape=shape), x)


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (f64(), ()),
        (f64(), (1, 1)),
        (f64(1), ()),
        (f64(6), (2, 3)),
        (f64(2, 3), (3, 2)),
        (f64(2, 3), (-1,)),
        (f64(2, 3, 4), (2, -1, 2)),
        (f64(2, 3), (1, 6, -1)),
        (np.zeros((0, 3)), (-1, 3)),
        (np.zeros((0, 3)), (3, 0)),
    ],
)
def test_reshape_keeps_the_op_contract(x: np.ndarray, shape: tuple[int, ...]) -> None:
    check_op(Reshape(shape=shape), x)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(
    ("x", "axis"),
    [
        (f64(), None),
        (f64(), ()),
        (f64(5), None),
        (f64(3, 4), (0,)),
        (f64(3, 4), (-1,)),
        (f64(3, 4), ()),
        (f64(1, 4), (0,)),
        (f64(2, 3, 4), (2, 0)),
        (f64(2, 3, 4), None),
        (np.zeros((2, 0)), (1,)),
        (np.zeros((2, 0)), (0,)),
    ],
)
def test_sum_keeps_the_op_contract(x: np.ndarray, axis: tuple[int, ...] | None, keepdims: bool) -> None:
    check_op(Sum(axis=axis, keepdims=keepdims), x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [(0,), (1, 0)])
def test_rows_are_summed_as_exactly_as_one_after_the_other(axis: tuple[int, ...], keepdims: bool, dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((40, 50, 3)).astype(dtype)
    expected = x.astype(np.longdouble).sum(axis, keepdims=keepdims)
    out = np.full(expected.shape, np.nan, dtype)
    op = Sum(axis=axis, keepdims=keepdims)
    of, to = TensorType(x.shape, dtype), TensorType(expected.shape, dtype)
    scratch = [np.empty(type_.static_shape, dtype) for type_ in op.scratch(to, of)]
    function, arguments = op.bind(out, x, scratch=scratch)
    function(*arguments)
    assert np.abs(out - expected).max() <= np.abs(x.sum(axis, keepdims=keepdims) - expected).max() + np.finfo(dtype).eps


def test_a_sum_of_rows_is_inf_or_nan_as_numpys_is() -> None:
    x = np.array([[1.0, np.inf, np.inf, np.nan, -np.inf], [2.0, 1.0, -np.inf, 1.0, -np.inf]])
    out = np.empty(5)
    function, arguments = Sum(axis=(0,)).bind(out, x)
    with np.errstate(invalid="ignore"):
        function(*arguments)
    np.testing.assert_array_equal(out, [3.0, np.inf, np.nan, np.nan, -np.inf])


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_a_sum_of_integers_keeps_their_dtype(dtype: str) -> None:
    check_op(Sum(axis=(1,)), i64(3, 4, high=200).astype(dtype))
    assert Sum().infer(ge.Graph().input("x", (3,), dtype).type).dtype == dtype


def test_views_take_integers_and_bools() -> None:
    for x in (i64(2, 3, high=9), boolean(2, 3)):
        check_op(BroadcastTo(shape=(4, 2, 3)), x)
        check_op(Reshape(shape=(3, 2)), x)


@pytest.mark.parametrize(("dtype", "size"), [("float64", 7), ("float32", 1), ("int64", 0)])
def test_dim_size_keeps_the_op_contract(dtype: str, size: int) -> None:
    check_op(DimSize(size=size, dtype=dtype))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_sum_to_is_the_adjoint_of_broadcasting(data: st.DataObject) -> None:
    wide = tuple(data.draw(st.lists(st.integers(1, 3), max_size=4)))
    narrow = tuple(data.draw(st.sampled_from([1, size])) for size in wide)[data.draw(st.integers(0, len(wide))) :]
    graph = ge.Graph("g", "float64")
    x, y_bar = graph.input("x", narrow), graph.input("y_bar", wide)
    graph.output("y", ge.broadcast_to(x, wide))
    graph.output("x_bar", sum_to(y_bar, narrow))
    feeds = {"x": f64(*narrow), "y_bar": f64(*wide, seed=1)}
    values = ge.compile(graph).forward(feeds)
    assert values["x_bar"].shape == narrow
    np.testing.assert_allclose((values["y"] * feeds["y_bar"]).sum(), (feeds["x"] * values["x_bar"]).sum(), atol=1e-12)


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (3, 4)])
def test_named_axes_are_merged_and_split_again(batch: int, time: int) -> None:
    graph = ge.Graph("g", "float64")
    x = graph.input("x", ("batch", "time", 6))
    flat = ge.reshape(x, (-1, 3))
    assert flat.shape == ("2*batch*time", 3)
    assert ge.reshape(flat, ("batch", "time", -1)).shape == x.shape
    assert ge.reshape(x, ("batch", -1)).shape == ("batch", "6*time")
    graph.output("loss", ge.sum(ge.reshape(flat, ("time", "batch", 6)) ** 2))
    exe = ge.compile(graph, loss="loss", wrt=["x"])
    array = f64(batch, time, 6)
    np.testing.assert_allclose(exe.forward({"x": array})["loss"], (array**2).sum(), rtol=1e-12)
    np.testing.assert_allclose(exe.backward()["x"], 2 * array, rtol=1e-12)


@pytest.mark.parametrize("batch", [1, 5])
def test_a_size_as_a_value_and_a_row_for_each_example(batch: int) -> None:
    graph = ge.Graph("g", "float64")
    x, w = graph.input("x", ("batch", 2)), graph.parameter("w", (2,), ge.init.Ones())
    rows = ge.broadcast_to(w, ("batch", 2))
    graph.output("loss", ge.sum(rows * x) / dim_size(graph, "2*batch", "float64"))
    exe = ge.compile(graph, loss="loss")
    array = f64(batch, 2)
    np.testing.assert_allclose(exe.forward({"x": array})["loss"], array.mean(), rtol=1e-12)
    np.testing.assert_allclose(exe.backward()["w"], array.sum(0) / (2 * batch), rtol=1e-12)


def test_a_size_that_is_known_is_a_constant() -> None:
    graph = ge.Graph("g")
    assert dim_size(graph, 6, "float32").op.kind == "constant"
    assert dim_size(graph, "2*batch", "float32").op.attributes() == {"size": "2*batch", "dtype": "float32"}


def test_full_takes_memory_for_one_element() -> None:
    graph = ge.Graph("g")
    graph.output("y", full(graph, 2.5, (1000, 1000), "float32"))
    exe = ge.compile(graph)
    assert exe.program.peak_bytes == 0
    assert (exe.forward({})["y"] == 2.5).all()


def test_a_contiguous_value_is_reshaped_as_a_view_and_a_transposed_one_is_copied() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (2, 3))
    graph.output("a", ge.reshape(x, (6,)))
    graph.output("b", ge.reshape(x.T, (6,)))
    exe = ge.compile(graph)
    assert [step.is_view for step in exe.program.instructions] == [True, True, False]
    values = exe.forward({"x": np.arange(6).reshape(2, 3)})
    assert values["a"].tolist() == [0, 1, 2, 3, 4, 5]
    assert values["b"].tolist() == [0, 3, 1, 4, 2, 5]


def test_a_shape_may_be_one_dim_and_an_axis_may_be_an_int_of_numpy() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", ("batch", 1))
    assert ge.reshape(x, "batch").shape == ("batch",)
    assert ge.reshape(x, -1).shape == ("batch",)
    assert ge.broadcast_to(ge.sum(x), np.int64(3)).shape == (3,)
    assert ge.sum(x, np.int64(0)).shape == (1,)
    assert ge.sum(x, (np.int32(-1),)).op.attributes() == {"axis": [-1]}


def test_what_changes_nothing_is_no_node_unless_it_is_named() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (2, 3))
    assert ge.reshape(x, (2, 3)) is x
    assert ge.broadcast_to(x, [2, 3]) is x
    assert ge.reshape(x, (2, 3), name="again").name == "again"


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        ((4, 2), r"float32\[batch, 6\] has 6\*batch elements, and \[4, 2\] has 8"),
        (("batch", 5), r"float32\[batch, 6\] has 6\*batch elements, and \[batch, 5\] has 5\*batch"),
        (("batch", 4, -1), r"float32\[batch, 6\] has 6\*batch elements, which 4\*batch does not divide"),
        (("time", -1), r"float32\[batch, 6\] has 6\*batch elements, which time does not divide"),
        ((0, -1), r"float32\[batch, 6\] has 6\*batch elements, which 0 does not divide"),
    ],
)
def test_a_shape_of_another_size_is_refused(shape: tuple[object, ...], fault: str) -> None:
    graph = ge.Graph("g")
    with pytest.raises(ShapeError, match=fault):
        ge.reshape(graph.input("x", ("batch", 6)), shape)


@pytest.mark.parametrize("shape", [(-1, -1), (-2, 3), (1.5,), (True,), ("2 2",)])
def test_what_is_no_shape_is_refused(shape: tuple[object, ...]) -> None:
    graph = ge.Graph("g")
    with pytest.raises(AttributeValueError, match="Reshape: shape: "):
        ge.reshape(graph.input("x", (6,)), shape)


@pytest.mark.parametrize("shape", [(2, 4), (3,), (6,), ("time", 3), (2, 1)])
def test_a_shape_that_is_not_reached_by_repeating_is_refused(shape: tuple[object, ...]) -> None:
    graph = ge.Graph("g")
    with pytest.raises(GraphError, match="broadcast") as caught:
        ge.broadcast_to(graph.input("x", (2, 3)), shape)
    assert "x is float32[2, 3], declared at" in str(caught.value)


def test_sums_that_do_not_fit_are_errors() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", ("batch", 3))
    with pytest.raises(ShapeError, match="axis 2 of a value with 2 axes") as caught:
        ge.sum(x, 2)
    assert "x is float32[batch, 3], declared at" in str(caught.value)
    with pytest.raises(ShapeError, match=r"an axis is named twice in \(1, -1\)"):
        ge.sum(x, (1, -1))
    with pytest.raises(DTypeError, match=r"sum takes numbers, not bool\[3\]; cast it"):
        ge.sum(graph.input("mask", (3,), dtype="bool"))
    with pytest.raises(AttributeValueError, match=r"Sum: axis.0: it should be a valid integer"):
        ge.sum(x, 0.5)


@pytest.mark.parametrize(
    ("axis", "keepdims", "kinds"),
    [
        (None, False, ["broadcast_to"]),
        (0, False, ["broadcast_to"]),
        (1, True, ["broadcast_to"]),
        (1, False, ["reshape", "broadcast_to"]),
    ],
)
def test_the_adjoint_of_a_sum_is_reshaped_only_where_it_would_not_broadcast(
    axis: int | None, keepdims: bool, kinds: list[str]
) -> None:
    graph = ge.Graph("g")
    y = ge.sum(graph.input("x", (2, 3)), axis, keepdims)
    start = len(graph)
    y.op.vjp(y, graph.input("y_bar", y.shape), *y.parents)
    assert [node.op.kind for node in graph.nodes[start + 1 :]] == kinds

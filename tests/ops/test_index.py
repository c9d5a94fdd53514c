"""Slices, rows by number, one-hot rows, and their adjoints."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, FeedError, ShapeError, ValueRangeError
from graphengine.ops.index import AddSlice, Gather, OneHot, ScatterAdd, Slice, SliceAdjoint
from graphengine.testing import check_op
from tests.arrays import f64, i64


@pytest.mark.parametrize(
    ("x", "key"),
    [
        (f64(), ()),
        (f64(), None),
        (f64(5), 0),
        (f64(5), -1),
        (f64(5), slice(1, 4, 2)),
        (f64(3, 4), slice(None, None, -1)),
        (f64(3, 4), (slice(1, None), slice(None, -1))),
        (f64(3, 4), (Ellipsis, 1)),
        (f64(3, 4), (slice(None), None, slice(None, 3))),
        (f64(1, 4), (0, slice(3, 0, -2))),
        (f64(2, 3, 4), (1, 2, 3)),
        (f64(2, 3, 4), (None, 1, Ellipsis, 0)),
        (f64(3, 4), slice(2, 2)),
    ],
)
def test_slice_and_its_adjoint_keep_the_op_contract(x: np.ndarray, key: object) -> None:
    check_op(Slice(key=key), x)
    check_op(SliceAdjoint(key=key, shape=x.shape), np.asarray(x[key]))
    check_op(AddSlice(key=key), x, np.asarray(x[key]) + 1.0)


def test_slices_take_integers_and_bools() -> None:
    check_op(Slice(key=1), i64(3, 2, high=9))
    check_op(Slice(key=slice(None, None, -1)), i64(3, 2, high=2).astype(bool))


@st.composite
def shapes_and_keys(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[object, ...]]:
    """A shape of up to three axes, and a basic index of some of them, as Python writes it."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    bound = st.none() | st.integers(-7, 7)
    keys: list[object] = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        slices = st.builds(slice, bound, bound, st.none() | st.integers(-3, 3).filter(bool))
        keys.append(draw(slices | st.integers(-size, size - 1) if size else slices))
    for extra in draw(st.lists(st.sampled_from([None, Ellipsis]), unique=True)):
        # Ahead of all, as an Ellipsis elsewhere would have the keys behind it fall on other axes.
        keys.insert(0 if extra is None else len(keys), extra)
    return shape, tuple(keys)


@given(shapes_and_keys())
@settings(max_examples=300, deadline=None)
def test_slices_agree_with_numpy(case: tuple[tuple[int, ...], tuple[object, ...]]) -> None:
    shape, key = case
    array = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    graph = ge.Graph("g", "float64")
    y = graph.input("x", shape)[key]
    assert y.shape == array[key].shape
    np.testing.assert_array_equal(y.op.view(array), array[key])
    adjoint = SliceAdjoint(key=key, shape=shape)
    out, expected = np.full(shape, np.nan), np.zeros(shape)
    function, arguments = adjoint.bind(out, array[key])
    function(*arguments)
    expected[key] = array[key]
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("batch", "time"), [(2, 4), (5, 7)])
def test_slices_of_named_axes_run_at_every_size(batch: int, time: int) -> None:
    graph = ge.Graph("g", "float64")
    x = graph.input("x", ("batch", "time"))
    pairs = x[:, 1:] * x[:, :-1]
    assert pairs.shape == ("batch", "time-1")
    graph.output("loss", ge.sum(pairs[::-1]) + ge.sum(x[-1, 2:] ** 2) + ge.sum(x[:2, -3:]) + x[0, 0])
    exe = ge.compile(graph, loss="loss", wrt=["x"])
    array = f64(batch, time)
    value = exe.forward({"x": array})["loss"]
    parts = (array[:, 1:] * array[:, :-1]).sum() + (array[-1, 2:] ** 2).sum() + array[:2, -3:].sum() + array[0, 0]
    np.testing.assert_allclose(value, parts, rtol=1e-12)
    expected = np.zeros_like(array)
    expected[:, 1:] += array[:, :-1]
    expected[:, :-1] += array[:, 1:]
    expected[-1, 2:] += 2 * array[-1, 2:]
    expected[:2, -3:] += 1
    expected[0, 0] += 1
    np.testing.assert_allclose(exe.backward()["x"], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("key", [slice(3), 2, slice(3, None)])
def test_a_feed_too_short_for_a_slice_is_an_error_and_not_cut_short(key: object) -> None:
    graph = ge.Graph("g")
    graph.output("y", graph.input("x", ("time",))[key])
    with pytest.raises(FeedError, match="with time = 2"):
        ge.compile(graph).forward({"x": np.zeros(2, np.float32)})


def test_a_key_that_is_no_basic_index_names_what_to_use() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (3, 4))
    for key in ([0, 1], np.array([0, 1]), graph.input("i", (2,), dtype="int64"), (0, 1.5)):
        with pytest.raises(AttributeValueError, match=r"rows are taken by number with ge\.gather"):
            x[key]


def test_a_key_that_does_not_fit_quotes_the_operand() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", ("batch", 3))
    with pytest.raises(ShapeError, match=r"index 3 is out of range for size 3, at axis 1 of \[batch, 3\]") as caught:
        x[0, 3]
    assert "x is float32[batch, 3], declared at" in str(caught.value)


def test_a_slice_reads_in_json_as_in_python() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", ("batch", 3))
    assert x[:, ::-1].op.attributes() == {"key": ":, ::-1"}
    assert ge.slice(x, (0, slice(1, None)), name="row").op.attributes() == {"key": "0, 1:"}


def test_a_slice_is_a_view() -> None:
    graph = ge.Graph("g")
    graph.output("y", graph.input("x", (6,))[1:-1:2])
    exe = ge.compile(graph)
    assert exe.program.peak_bytes == 0
    assert exe.forward({"x": np.arange(6)})["y"].tolist() == [1, 3]


def test_an_adjoint_that_does_not_fit_its_place_is_refused() -> None:
    graph = ge.Graph("g")
    with pytest.raises(ShapeError, match=r"float32\[3\] does not fit the place that \[1:\] picks, float32\[4\]"):
        graph.add(SliceAdjoint(key="1:", shape=(5,)), [graph.input("x", (3,))])


@pytest.mark.parametrize(
    ("x", "indices", "axis"),
    [
        (f64(5), i64(high=5), 0),
        (f64(5), i64(7, high=5), 0),
        (f64(5, 3), i64(2, 4, high=5), 0),
        (f64(5, 3), i64(4, high=3).astype(np.int32), -1),
        (f64(2, 5, 3), i64(7, high=5), 1),
        (f64(2, 5, 3), i64(high=5).astype(np.uint8), 1),
        (f64(1, 3), i64(2, high=1), 0),
        (f64(5, 1), i64(2, 1, high=5), 0),
        (f64(5, 3), i64(0, high=5), 0),
    ],
)
def test_gather_and_scatter_add_keep_the_op_contract(x: np.ndarray, indices: np.ndarray, axis: int) -> None:
    indices = np.asarray(indices, indices.dtype)
    check_op(Gather(axis=axis), x, indices, differentiable=True)
    rows = np.take(x, indices, axis=axis)
    check_op(ScatterAdd(axis=axis, size=x.shape[axis]), rows, indices)


def test_gather_takes_rows_of_integers() -> None:
    check_op(Gather(), i64(4, 2, high=9), i64(3, high=4))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_scatter_add_is_the_adjoint_of_gather(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    axis = data.draw(st.integers(0, len(shape) - 1))
    rank = data.draw(st.lists(st.integers(1, 3), max_size=2))
    seed = data.draw(st.integers(0, 1000))
    indices = np.random.default_rng(seed).integers(0, shape[axis], rank)
    indices = np.asarray(indices)
    x = f64(*shape)
    y_bar = f64(*np.take(x, indices, axis).shape, seed=1)
    y = Gather(axis=axis).eval(np, x, indices)
    out = np.full(shape, np.nan)
    op = ScatterAdd(axis=axis, size=shape[axis])
    function, arguments = op.bind(out, y_bar, indices, scratch=[np.empty(y_bar.shape, np.int64)])
    function(*arguments)
    np.testing.assert_allclose((y * y_bar).sum(), (x * out).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch", [1, 6])
def test_rows_of_a_named_axis_are_gathered_and_their_adjoints_added(batch: int) -> None:
    graph = ge.Graph("g", "float64")
    x = graph.input("x", ("batch", 2))
    i = graph.input("i", ("n",), dtype="int64")
    y = ge.gather(x, i, name="rows")
    assert y.shape == ("n", 2)
    graph.output("loss", ge.sum(y * y))
    exe = ge.compile(graph, loss="loss", wrt=["x"])
    array, numbers = f64(batch, 2), i64(9, high=batch)
    np.testing.assert_allclose(exe.forward({"x": array, "i": numbers})["loss"], (array[numbers] ** 2).sum())
    counts = np.bincount(numbers, minlength=batch)[:, None]
    np.testing.assert_allclose(exe.backward()["x"], 2 * array * counts, rtol=1e-12)


def test_indices_may_be_an_array() -> None:
    graph = ge.Graph("g")
    graph.output("y", ge.gather(graph.input("x", (3,)), [2, 0], 0))
    assert ge.compile(graph).forward({"x": [5, 6, 7]})["y"].tolist() == [7, 5]


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_out_of_range_is_an_error_that_names_value_size_and_node(index: int) -> None:
    graph = ge.Graph("g")
    x, i = graph.input("x", (3, 2)), graph.input("i", (2, 2), dtype="int64")
    graph.output("rows", ge.gather(x, i, name="rows"))
    exe = ge.compile(graph)
    with pytest.raises(ValueRangeError) as caught:
        exe.forward({"x": np.zeros((3, 2)), "i": [[0, 1], [index, 2]]})
    assert caught.value.message == f"index {index} at [1, 0] is out of range: it must lie in [0, 3)"
    assert "node  rows = gather(x, i)" in str(caught.value)


def test_scatter_add_checks_its_indices_too() -> None:
    graph = ge.Graph("g")
    x, i = graph.input("x", (2,)), graph.input("i", (2,), dtype="int32")
    graph.output("y", ge.scatter_add(x, i, 3))
    exe = ge.compile(graph)
    assert exe.forward({"x": [1, 2], "i": np.array([2, 2], np.int32)})["y"].tolist() == [0, 0, 3]
    with pytest.raises(ValueRangeError, match=r"index 3 at \[0\] is out of range: it must lie in \[0, 3\)"):
        exe.forward({"x": [1, 2], "i": np.array([3, 2], np.int32)})


def test_gather_takes_integer_indices() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (3, 2))
    with pytest.raises(DTypeError, match=r"gather takes integers .*, not float32\[2\] with float32\[3, 2\]"):
        ge.gather(x, graph.input("i", (2,)))


def test_rows_that_the_indices_do_not_number_are_refused() -> None:
    graph = ge.Graph("g")
    x, i = graph.input("x", (3, 2)), graph.input("i", (2,), dtype="int64")
    with pytest.raises(ShapeError, match=r"rows float32\[3, 2\] at axis 0 are not numbered by indices int64\[2\]"):
        ge.scatter_add(x, i, 5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("labels", [np.array(2), i64(5, high=4), i64(2, 3, high=4).astype(np.uint8), i64(0, high=1)])
def test_one_hot_keeps_the_op_contract(labels: np.ndarray, dtype: str) -> None:
    check_op(OneHot(depth=4, dtype=dtype), labels, differentiable=False)
    assert np.array_equal(OneHot(depth=4, dtype=dtype).eval(np, labels), np.eye(4)[labels])


def test_one_hot_takes_the_dtype_of_the_graph_if_that_is_a_float() -> None:
    for dtype, expected in (("float64", "float64"), ("int64", "float32")):
        graph = ge.Graph("g", dtype)
        labels = graph.input("labels", ("batch",), dtype="int64")
        assert ge.one_hot(labels, 3).type == ge.one_hot(labels, 3, expected).type
        assert ge.one_hot(labels, 3).shape == ("batch", 3)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_an_error(label: int) -> None:
    graph = ge.Graph("g")
    graph.output("y", ge.one_hot(graph.input("labels", ("batch",), dtype="int64"), 3))
    with pytest.raises(ValueRangeError, match=rf"label {label} at \[1\] is out of range: it must lie in \[0, 3\)"):
        ge.compile(graph).forward({"labels": [0, label]})


def test_one_hot_of_floats_is_refused() -> None:
    graph = ge.Graph("g")
    with pytest.raises(DTypeError, match=r"one_hot takes integers for numbers of rows, not float32\[3\]"):
        ge.one_hot(graph.input("labels", (3,)), 3)


def test_kernels_allocate_no_arrays() -> None:
    graph = ge.Graph("g")
    table = graph.parameter("table", (500, 64))
    i = graph.input("i", (1000,), dtype="int32")
    rows = ge.gather(table, i)
    loss = ge.sum(ge.logsumexp(rows, 1) * ge.max(rows, 1)) + ge.sum(rows[1:] * rows[:-1]) + ge.mean(ge.one_hot(i, 500))
    graph.output("loss", loss)
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    feeds = {"i": i64(1000, high=500).astype(np.int32)}
    for _ in range(3):
        exe.step(feeds)
    tracemalloc.start()
    try:
        exe.step(feeds)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        exe.step(feeds)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 8192  # of which ufunc.at takes some 5,000 for itself, however few the indices

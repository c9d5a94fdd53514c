"""Joining, padding, cropping; axes of size 1."""

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, FeedError, GraphError, ShapeError
from graphengine.ops.shape import Concat, Crop, ExpandDims, Pad, Squeeze, Stack
from graphengine.testing import check_op
from tests.arrays import boolean, f64, i64


@pytest.mark.parametrize(
    ("operands", "axis"),
    [
        ([f64(3)], 0),
        ([f64(3), f64(2)], 0),
        ([f64(3, 4), f64(3, 1), f64(3, 2)], 1),
        ([f64(3, 4), f64(1, 4)], -2),
        ([f64(1, 1), f64(1, 1, seed=1)], 1),
        ([f64(2, 3, 2), f64(2, 0, 2), f64(2, 1, 2)], 1),
    ],
)
def test_concat_keeps_the_op_contract(operands: list[np.ndarray], axis: int) -> None:
    check_op(Concat(axis=axis), *operands)


@pytest.mark.parametrize(("shape", "axis"), [((), 0), ((), -1), ((3,), 0), ((3,), 1), ((2, 3), 1), ((1, 3), -1)])
@pytest.mark.parametrize("count", [1, 3])
def test_stack_keeps_the_op_contract(shape: tuple[int, ...], axis: int, count: int) -> None:
    check_op(Stack(axis=axis), *(f64(*shape, seed=seed) for seed in range(count)))


@pytest.mark.parametrize(
    ("x", "before", "after", "value"),
    [
        (f64(), (), (), 0.0),
        (f64(3), (1,), (2,), 0.0),
        (f64(3), (0,), (0,), 7.0),
        (f64(3, 4), (1, 0), (0, 2), -2.5),
        (f64(1, 1), (2, 2), (2, 2), 1.0),
        (np.zeros((0, 2)), (1, 0), (0, 1), 3.0),
        (i64(2, 3, high=9), (1, 1), (0, 1), 4.0),
        (boolean(2, 3), (1, 1), (0, 1), 1.0),
    ],
)
def test_pad_keeps_the_op_contract(
    x: np.ndarray, before: tuple[int, ...], after: tuple[int, ...], value: float
) -> None:
    check_op(Pad(before=before, after=after, value=value), x)


@pytest.mark.parametrize(
    ("x", "start", "shape"),
    [
        (f64(), (), ()),
        (f64(3), (0,), (3,)),
        (f64(3), (1,), (1,)),
        (f64(3, 4), (0, 1), (3, 2)),
        (f64(3, 4), (3, 0), (0, 4)),
        (f64(1, 4, 2), (0, 3, 1), (1, 1, 1)),
    ],
)
def test_crop_keeps_the_op_contract(x: np.ndarray, start: tuple[int, ...], shape: tuple[int, ...]) -> None:
    check_op(Crop(start=start, shape=shape), x)


@pytest.mark.parametrize(
    ("x", "axis"),
    [(f64(), ()), (f64(), (0,)), (f64(), (0, 1)), (f64(3), (1,)), (f64(3, 4), (-1, 0)), (f64(2, 3), (1,))],
)
def test_expand_dims_and_squeeze_keep_the_op_contract(x: np.ndarray, axis: tuple[int, ...]) -> None:
    check_op(ExpandDims(axis=axis), x)
    check_op(Squeeze(axis=axis), np.expand_dims(x, axis))


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (3, 5)])
def test_named_axes_are_joined_and_the_adjoint_comes_apart_at_the_seams(batch: int, time: int) -> None:
    graph = ge.Graph("g", "float64")
    a, b = graph.input("a", ("batch", 2)), graph.input("b", ("time", 2))
    y = ge.concat([a, b, a, graph.constant("c", np.ones((1, 2)))])
    assert y.shape == ("2*batch+time+1", 2)
    graph.output("y", y)
    graph.output("loss", ge.sum(ge.pad(y, [(1, 2), (0, 1)]) ** 2) + ge.sum(ge.stack([a, 3 * a], 1)))
    exe = ge.compile(graph, loss="loss", wrt=["a", "b"])
    feeds = {"a": f64(batch, 2), "b": f64(time, 2)}
    values = exe.forward(feeds)
    np.testing.assert_array_equal(values["y"], np.concatenate([feeds["a"], feeds["b"], feeds["a"], np.ones((1, 2))]))
    gradients = exe.backward()
    np.testing.assert_allclose(gradients["a"], 4 * feeds["a"] + 4)
    np.testing.assert_allclose(gradients["b"], 2 * feeds["b"])


def test_crop_undoes_pad_over_a_named_axis() -> None:
    graph = ge.Graph("g", "float64")
    x = graph.input("x", ("batch", 2))
    y = ge.pad(x, [(2, 1), (0, 0)], value=5)
    assert y.shape == ("batch+3", 2)
    graph.output("same", ge.crop(y, (2, 0), x.shape))
    graph.output("ahead", ge.crop(y, (0, 0), (2, 2)))
    graph.output("behind", ge.crop(y, ("batch+2", 0), (1, 2)))
    values = ge.compile(graph).forward({"x": f64(4, 2)})
    np.testing.assert_array_equal(values["same"], f64(4, 2))
    assert (values["ahead"] == 5).all()
    assert (values["behind"] == 5).all()


def test_a_feed_too_short_for_a_crop_is_an_error() -> None:
    graph = ge.Graph("g")
    graph.output("y", ge.crop(graph.input("x", ("batch",)), (2,), (3,)))
    with pytest.raises(FeedError, match=r"with batch = 4: .* does not lie inside float32\[4\]"):
        ge.compile(graph).forward({"x": np.zeros(4, np.float32)})


def test_concat_takes_arrays_beside_nodes() -> None:
    graph = ge.Graph("g")
    graph.output("y", ge.concat([graph.input("x", (2,)), np.array([3.0, 4.0])]))
    assert ge.compile(graph).forward({"x": [1, 2]})["y"].tolist() == [1, 2, 3, 4]


def test_shapes_that_do_not_join_are_errors_that_name_both() -> None:
    graph = ge.Graph("g")
    a, b, c = graph.input("a", (2, 3)), graph.input("b", (2, 4)), graph.input("c", (2,))
    with pytest.raises(ShapeError, match=r"sizes differ beside axis 0: float32\[2, 3\] and float32\[2, 4\]"):
        ge.concat([a, b])
    with pytest.raises(ShapeError, match=r"sizes differ beside axis 0: float32\[2, 3\] and float32\[2\]"):
        ge.concat([a, c])
    with pytest.raises(ShapeError, match=r"stack takes operands of one shape, not float32\[2, 3\] and float32\[2, 4\]"):
        ge.stack([a, b])
    with pytest.raises(ShapeError, match="axis 2 of a value with 2 axes"):
        ge.concat([a, a], axis=2)
    with pytest.raises(ShapeError, match="axis 0 of a value with 0 axes"):
        ge.concat([ge.sum(a)])
    with pytest.raises(DTypeError, match="dtypes differ"):
        ge.stack([c, graph.input("i", (2,), dtype="int32")])
    with pytest.raises(GraphError, match="concat needs at least one node"):
        ge.concat([])


def test_widths_that_do_not_fit_are_errors() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (2, 3))
    with pytest.raises(ShapeError, match=r"pad takes widths before and after each axis of float32\[2, 3\]"):
        ge.pad(x, [(1, 1)])
    with pytest.raises(AttributeValueError, match="at least 0, not -1"):
        ge.pad(x, [(1, 1), (-1, 0)])
    with pytest.raises(ShapeError, match=r"does not lie inside float32\[2, 3\]"):
        ge.crop(x, (1, 1), (2, 1))
    with pytest.raises(ShapeError, match=r"crop takes a start and a size for each axis of float32\[2, 3\]"):
        ge.crop(x, (1,), (1,))


@pytest.mark.parametrize(
    ("dtype", "value"), [("int32", 0.5), ("int32", 2.0**31), ("uint8", -1), ("bool", 2), ("float32", 1e300)]
)
def test_a_value_that_the_dtype_does_not_hold_is_no_padding(dtype: str, value: float) -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (2,), dtype=dtype)
    with pytest.raises(DTypeError, match=rf"{dtype}\[2\] is not padded with .* does not fit {dtype}"):
        ge.pad(x, [(1, 1)], value)


def test_squeeze_without_axes_leaves_a_named_axis_whatever_is_fed() -> None:
    graph = ge.Graph("g")
    y = ge.squeeze(graph.input("x", (1, "batch", 1, 2)))
    assert y.shape == ("batch", 2)
    graph.output("y", y)
    assert ge.compile(graph).forward({"x": np.zeros((1, 1, 1, 2))})["y"].shape == (1, 2)


def test_axes_of_size_1_are_views() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (2, 1))
    graph.output("y", ge.reshape(ge.expand_dims(ge.squeeze(x, 1, name="flat"), (0, 2), name="wide"), (2,)))
    assert graph["wide"].op.attributes() == {"axis": [0, 2]}
    assert ge.compile(graph).program.peak_bytes == 0


def test_axes_that_cannot_be_squeezed_or_put_in_are_errors() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", ("batch", 3))
    with pytest.raises(ShapeError, match=r"axis 1 of float32\[batch, 3\] is not squeezed away: its size is 3, not 1"):
        ge.squeeze(x, 1)
    with pytest.raises(ShapeError, match="its size is batch, not 1"):
        ge.squeeze(x, 0)
    with pytest.raises(ShapeError, match="axis 3 of a value with 3 axes"):
        ge.expand_dims(x, 3)
    with pytest.raises(ShapeError, match="an axis is named twice"):
        ge.expand_dims(x, (0, 0))


def test_values_with_different_numbers_of_axes_are_not_joined() -> None:
    g = ge.Graph()
    x, s = g.input("x", (2,)), g.input("s", ())
    with pytest.raises(ShapeError, match=r"float32\[2\] and float32\[\]"):
        ge.concat([x, s])

"""Types: broadcasting, dtypes, axes, binding; one object for all that are equal."""

import copy
import pickle
import re
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

import graphengine as ge
from graphengine.errors import DTypeError, ShapeError
from graphengine.ir.types import TensorType, broadcast_shapes, check_axes, check_axis, check_dtype, common_dtype


@given(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=4, min_side=0))
def test_shapes_broadcast_as_numpys_do(shapes: hnp.BroadcastableShapes) -> None:
    assert broadcast_shapes(*shapes.input_shapes) == shapes.result_shape


@given(hnp.array_shapes(max_dims=3, max_side=3), hnp.array_shapes(max_dims=3, max_side=3))
def test_shapes_are_refused_as_numpy_refuses_them(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    try:
        expected = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(ShapeError, match="do not broadcast"):
            broadcast_shapes(a, b)
    else:
        assert broadcast_shapes(a, b) == expected


def test_names_broadcast_against_themselves_and_1_only() -> None:
    assert broadcast_shapes(("batch", 1), (1, 3), ("batch", 3)) == ("batch", 3)
    assert broadcast_shapes((), ("batch",)) == ("batch",)
    for other in (3, "time", 0):
        with pytest.raises(ShapeError, match=r"\[batch\]"):
            broadcast_shapes(("batch",), (other,))


def test_a_type_is_written_as_it_is_spoken() -> None:
    assert str(TensorType(("batch", 784), "float32")) == "float32[batch, 784]"
    assert str(TensorType((), "bool")) == "bool[]"


def test_size_and_bytes_are_known_when_the_dims_are() -> None:
    type_ = TensorType(("batch", 3), "float64")
    assert type_.bind({"batch": 4}) == TensorType((4, 3), "float64")
    assert type_.bind({"batch": 4}).nbytes == 96
    assert TensorType((), "uint8").size == 1
    assert type_.names() == {"batch"}
    with pytest.raises(ShapeError, match="known only when batch is"):
        _ = type_.size


@pytest.mark.parametrize(
    ("given_", "name"), [("float32", "float32"), (np.float64, "float64"), (np.dtype("int32"), "int32"), (bool, "bool")]
)
def test_a_dtype_may_be_given_in_numpys_ways(given_: object, name: str) -> None:
    assert check_dtype(given_) == name


@pytest.mark.parametrize("wrong", ["float16", "complex64", "object", "no", np.int8, "U3"])
def test_other_dtypes_are_refused_with_those_that_there_are(wrong: object) -> None:
    with pytest.raises(DTypeError, match="there are bool, uint8, int32, int64, float32, float64"):
        check_dtype(wrong)


def test_dtypes_that_differ_are_not_mixed() -> None:
    a, b = TensorType((2,), "float32"), TensorType((2,), "float64")
    assert common_dtype((a, a)) == "float32"
    with pytest.raises(DTypeError, match=r"float32\[2\] and float64\[2\]; cast one"):
        common_dtype((a, b))


def test_axes_count_from_either_end() -> None:
    assert [check_axis(axis, 3) for axis in (0, 2, -1, -3)] == [0, 2, 2, 0]
    assert check_axes(None, 3) == (0, 1, 2)
    assert check_axes((-1, 0), 3) == (0, 2)
    for wrong in (3, -4):
        with pytest.raises(ShapeError, match=f"axis {wrong} of a value with 3 axes"):
            check_axis(wrong, 3)
    with pytest.raises(ShapeError, match="named twice"):
        check_axes((0, -3), 3)


def test_equal_types_are_one_object_that_goes_when_nobody_holds_it() -> None:
    first = TensorType((3, "never_seen"), "float32")
    assert TensorType((3, "never_seen"), "float32") is first
    assert TensorType((3, "never_seen"), "float64") != first
    assert pickle.loads(pickle.dumps(first)) is copy.deepcopy(first) is first
    gone = weakref.ref(first)
    del first
    assert gone() is None
    assert TensorType((3, "never_seen"), "float32").shape == (3, "never_seen")


@pytest.mark.parametrize("size", [np.int64(4111), 4111])
def test_sizes_are_ints_whoever_asks_first(size: object) -> None:
    type_ = TensorType((size, True), "float32")
    assert [type(dim) for dim in type_.shape] == [int, int]
    assert [type(dim) for dim in TensorType((4111, 1), "float32").shape] == [int, int]


def test_threads_that_make_a_type_at_once_have_the_same() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            for trial in range(200):
                start = threading.Barrier(4)

                def made(_: int, start: threading.Barrier = start, trial: int = trial) -> TensorType:
                    start.wait()
                    return TensorType((trial, 77), "float32")

                assert len({id(type_) for type_ in list(pool.map(made, range(4)))}) == 1
    finally:
        sys.setswitchinterval(before)


def test_a_type_never_changes() -> None:
    with pytest.raises(AttributeError, match="never changes"):
        TensorType((3,), "float32").shape = (4,)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1,) * 65, "at most 64 axes"),
        ((2, -1), "at least 0"),
        ((2**40, 2**40), "at most 2^63"),
        ((2**62, 0, 4), "more"),
    ],
)
def test_a_shape_that_no_array_has_is_refused(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ShapeError, match=re.escape(said)):
        TensorType(shape, "float32")


def test_sizes_that_are_multiplied_beyond_64_bits_are_refused_at_the_node() -> None:
    g = ge.Graph()
    x = g.input("x", (2**30, 2**30))
    with pytest.raises(ShapeError, match="bytes, and"):
        ge.stack([x, x], axis=0)
    y = g.input("y", (1,) * 64)
    with pytest.raises(ShapeError, match="at most 64 axes"):
        ge.expand_dims(y, 0)
    with pytest.raises(ShapeError, match="at most 64 axes"):
        ge.gather(g.input("table", (2,) * 40), g.input("index", (1,) * 30, "int64"))

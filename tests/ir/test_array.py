"""Arrays as attributes: what a constant takes, and what it refuses to take for what it is not."""

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError
from graphengine.ir.array import cast, from_json_value, to_json_value
from graphengine.ir.leaf import Constant


def test_nested_lists_are_rows() -> None:
    assert to_json_value(np.arange(6, dtype="int32").reshape(2, 3)) == [[0, 1, 2], [3, 4, 5]]
    assert to_json_value(np.array(True)) is True
    assert to_json_value(np.array([[0.5], [np.nan]])) == [[0.5], ["NaN"]]
    assert from_json_value([[1], [2]], "float32").shape == (2, 1)


@pytest.mark.parametrize("depth", [1, 32, 64])
def test_a_constant_may_have_as_many_axes_as_numpy_allows(depth: int) -> None:
    array = np.zeros((1,) * depth)
    assert from_json_value(to_json_value(array), "float64").shape == array.shape


def test_more_axes_than_numpy_allows_are_refused() -> None:
    value: object = 1.0
    for _ in range(65):
        value = [value]
    with pytest.raises(ValueError, match="rows of equal length"):
        from_json_value(value, "float64")


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [
        (0.5, "int32", "0.5 does not fit int32"),
        (np.nan, "int64", "nan does not fit int64"),
        (256, "uint8", "256 does not fit uint8"),
        (-1, "uint8", "-1 does not fit uint8"),
        (2**31, "int32", "2147483648 does not fit int32"),
        (2.0**63, "int64", "does not fit int64"),
        (np.uint64(2**63), "int64", "does not fit int64"),
        (1e300, "float32", r"1e\+300 does not fit float32"),
        (2, "bool", "2 does not fit bool"),
    ],
)
def test_a_value_that_a_cast_would_change_is_refused(value: object, dtype: str, words: str) -> None:
    with pytest.raises(AttributeValueError, match=words):
        ge.Graph().constant("c", value, dtype=dtype)


@pytest.mark.parametrize(
    ("value", "dtype"), [(1.0, "int32"), (1, "bool"), (255, "uint8"), (0.1, "float32"), (np.inf, "float32")]
)
def test_a_value_that_a_cast_keeps_or_rounds_is_taken(value: object, dtype: str) -> None:
    assert ge.Graph().constant("c", value, dtype=dtype).dtype == dtype


@pytest.mark.parametrize("value", [np.array("a"), np.array(None), np.array(1j), np.array("2020", "datetime64")])
def test_what_is_no_number_is_refused(value: np.ndarray) -> None:
    with pytest.raises(ValueError, match="numbers or booleans are needed"):
        cast(value, "float64")


def test_a_constant_is_a_copy_that_cannot_be_written_to() -> None:
    array = np.zeros(3)
    node = ge.Graph().constant("c", array)
    array[0] = 1
    assert node.op.value[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        node.op.value[0] = 1


def test_constants_are_equal_by_their_bits() -> None:
    def constant(*values: float, dtype: str = "float64") -> Constant:
        return Constant(value=np.array(values), dtype=dtype)

    assert constant(1.0, np.nan) == constant(1.0, np.nan)
    assert hash(constant(1.0)) == hash(constant(1.0))
    assert constant(0.0) != constant(-0.0)
    assert constant(1.0) != constant(1.0, dtype="float32")
    assert constant(0.0, 0.0) != Constant(value=np.zeros((2, 1)), dtype="float64")


def test_all_nans_are_one() -> None:
    other = np.array([0x7FF8000000000001, -1], np.int64).view(np.float64)
    assert Constant(value=other, dtype="float64") == Constant(value=[np.nan] * 2, dtype="float64")


def test_a_digest_is_of_the_elements_in_order() -> None:
    array = np.arange(6.0).reshape(2, 3)
    digest = Constant(value=array, dtype="float64").digest()
    assert digest == Constant(value=np.asfortranarray(array), dtype="float64").digest()
    assert digest != Constant(value=array.T, dtype="float64").digest()

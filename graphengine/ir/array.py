"""Arrays as JSON values: nested lists in which every float is exact and every element is of its dtype's own kind."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir.types import Array, ValueType
from graphengine.wording import shown

_EXPLICIT = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
_ELEMENTS: dict[str, tuple[str, set[type]]] = {
    "f": ('numbers, "NaN", "Infinity" or "-Infinity"', {int, float, str}),
    "i": ("ints", {int}),
    "u": ("ints", {int}),
    "b": ("true or false", {bool}),
}


def _exact(value: Any) -> Any:
    if isinstance(value, int) and 53 < value.bit_length() < 1024 and float(value) != value:
        raise ValueError(f"{value} does not fit float64, which does not hold every integer beyond 2^53")
    return value


ExactFloat = Annotated[float, BeforeValidator(_exact)]
"""A number for elements of any dtype: an int is not rounded."""


def to_json_value(array: Array) -> Any:
    """Nested lists of JSON values, floats by their shortest exact text; NaN and the infinities are strings."""
    if array.dtype.kind != "f":
        return array.tolist()
    written = np.empty(array.size, dtype=object)
    written[:] = [_number(element) for element in array.reshape(-1)]
    return written.reshape(array.shape).tolist()


def from_json_value(value: Any, dtype: str) -> Array:
    """The array of nested lists (or of one number); raises ValueError for any element that `dtype` does not hold."""
    wanted, kinds = _ELEMENTS[np.dtype(dtype).kind]
    try:
        nested = np.array(value, dtype=object)
    except ValueError:
        raise ValueError("rows of equal length are needed, in at most 64 axes") from None
    elements = nested.reshape(-1).tolist()
    found = set(map(type, elements))
    if list in found:
        raise ValueError("rows of equal length are needed")
    if not found <= kinds:
        raise ValueError(f"the elements of a {dtype} array are {wanted}")
    return cast(np.array([_read(element) for element in elements]).reshape(nested.shape), dtype)


def as_array(value: Any) -> Array:
    """The array of a value; raises ValueError for what would be lost by that, in words that go on after "given"."""
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())  # to import it takes 10 ms
    if isinstance(value, masked) and np.ma.is_masked(value):
        raise ValueError("masked elements; fill them, by array.filled(0) for example")
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError("rows of unequal length") from None
    if array.dtype.kind == "O" and array.size and all(type(element) is int for element in array.flat):
        raise ValueError(f"{shown(max(array.flat, key=abs))}, which no integer dtype holds")
    return array


def assignable(value: Any, type_: ValueType, what: str) -> Array:
    """`value` as an array of `type_`; raises ShapeError or DTypeError, about `what`, if it does not fit."""
    try:
        array = as_array(value)
    except ValueError as error:
        raise DTypeError(f"{what} is {type_}, and is given {error}") from None
    if array.shape != type_.shape:
        raise ShapeError(f"{what} is {type_}, and the value has shape {list(array.shape)}")
    if not np.can_cast(array.dtype, type_.dtype, "same_kind"):
        raise DTypeError(f"{what} is {type_}, and the value is {array.dtype}")
    try:
        return fitted(array, type_.dtype)
    except ValueError as error:
        raise DTypeError(f"{what} is {type_}, and {error}") from None


def cast(array: Array, dtype: str) -> Array:
    """`array` in `dtype`: a copy in C order, with one kind of NaN; ValueError where more changes than by rounding."""
    result = np.array(fitted(array, dtype), order="C")
    if result.dtype.kind == "f":
        np.copyto(result, np.nan, where=np.isnan(result))
    return result


def fitted(array: Array, dtype: str) -> Array:
    """`array` in `dtype`, itself if it has that; ValueError, which names an element, where one is not just rounded."""
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "biuf":
        raise ValueError("numbers or booleans are needed")
    with np.errstate(over="ignore", invalid="ignore"):
        result = array.astype(dtype)
    if np.can_cast(array.dtype, result.dtype):
        return result
    lost = np.isinf(result) if result.dtype.kind == "f" else result != array
    if lost.any() and result.dtype.kind == "f":
        lost &= np.isfinite(array)
    if lost.any():
        index = tuple(np.argwhere(lost)[0].tolist())
        at = f"; it stands at {list(index)}" if index else ""
        raise ValueError(f"{array[index].item()!r} does not fit {dtype}, which holds {_bounds(result.dtype)}{at}")
    return result


def _bounds(dtype: np.dtype[Any]) -> str:
    """What arrays of `dtype` hold, for people."""
    if dtype.kind == "b":
        return "False and True"
    if dtype.kind == "f":
        return f"numbers up to {np.finfo(dtype).max!s}"
    info = np.iinfo(dtype)
    return f"the integers from {info.min} to {info.max}"


def _number(element: np.floating[Any]) -> float | str:
    if not np.isfinite(element):
        return "NaN" if np.isnan(element) else "Infinity" if element > 0 else "-Infinity"
    short = float(np.format_float_scientific(element))
    # A reader rounds the text to a float64 and that to a float32, which is not the rounding to float32 in one step.
    return short if element.dtype.type(short) == element else float(element)


def _read(element: Any) -> Any:
    if not isinstance(element, str):
        return element
    if element not in _EXPLICIT:
        raise ValueError(f"{element[:20]!r} is not a number: numbers have no quotes, except {', '.join(_EXPLICIT)}")
    return _EXPLICIT[element]

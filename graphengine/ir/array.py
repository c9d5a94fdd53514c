"""Arrays as JSON values: nested lists in which every float is exact and every element is of its dtype's own kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphengine.ir.op import Array

_EXPLICIT = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
_ELEMENTS: dict[str, tuple[str, set[type]]] = {
    "f": ('numbers, "NaN", "Infinity" or "-Infinity"', {int, float, str}),
    "i": ("ints", {int}),
    "u": ("ints", {int}),
    "b": ("true or false", {bool}),
}


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


def cast(array: Array, dtype: str) -> Array:
    """`array` in `dtype`: a copy in C order, with one kind of NaN; ValueError where more changes than by rounding."""
    if array.dtype.kind not in "biuf":
        raise ValueError("numbers or booleans are needed")
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.array(array, dtype=dtype, order="C")
    is_float = result.dtype.kind == "f"
    lost = np.isinf(result) & np.isfinite(array) if is_float else result != array
    if lost.any():
        raise ValueError(f"{array[lost][0].item()!r} does not fit {dtype}")
    if is_float:
        np.copyto(result, np.nan, where=np.isnan(result))
    return result


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
        raise ValueError(f"{element[:20]!r} is no number: numbers stand without quotes, but for {', '.join(_EXPLICIT)}")
    return _EXPLICIT[element]

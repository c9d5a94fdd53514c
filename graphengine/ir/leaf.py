"""The four leaves of a graph: what is fed, what is fixed, what is trained, what is carried."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

from graphengine.ir.init import AnyInitializer, Zeros
from graphengine.ir.op import Array, Dims, Op
from graphengine.ir.types import DType, TensorType


class Leaf(Op):
    """A node without parents, whose value is given."""

    is_leaf: ClassVar[bool] = True


class Input(Leaf):
    """An array that is fed at run time."""

    kind: Literal["input"] = "input"
    shape: Dims
    dtype: DType

    def infer(self) -> TensorType:
        return TensorType(self.shape, self.dtype)


class Parameter(Leaf):
    """An array that training changes; `init` draws its first value. Its dims are ints."""

    kind: Literal["parameter"] = "parameter"
    shape: Dims
    dtype: DType
    init: AnyInitializer
    trainable: bool = True

    def infer(self) -> TensorType:
        return TensorType(self.shape, self.dtype)


class State(Leaf):
    """An array that is carried from step to step: statistics, an optimizer's slots, counters. Its dims are ints."""

    kind: Literal["state"] = "state"
    shape: Dims
    dtype: DType
    init: AnyInitializer = Zeros()

    def infer(self) -> TensorType:
        return TensorType(self.shape, self.dtype)


_EXPLICIT = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


def to_json_value(array: Array) -> Any:
    """Nested lists of JSON values, floats by their shortest exact text, "NaN", "Infinity" and "-Infinity" as strings."""
    if array.dtype.kind != "f":
        return array.tolist()
    if array.ndim:
        return [to_json_value(row) for row in array]
    number = float(str(array[()])) if array.dtype == np.float32 else float(array)
    if np.isfinite(number):
        return number
    return "NaN" if np.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _explicit(value: Any) -> Any:
    if isinstance(value, list):
        return [_explicit(item) for item in value]
    if isinstance(value, str):
        if value not in _EXPLICIT:
            raise PydanticCustomError("value", 'a number, "NaN", "Infinity" or "-Infinity" is needed')
        return _EXPLICIT[value]
    return value


def _array(value: Any) -> Array:
    try:
        array = value if isinstance(value, np.ndarray) else np.array(_explicit(value))
    except ValueError:
        raise PydanticCustomError("value", "rows of equal length are needed") from None
    if array.dtype.kind not in "biuf":
        raise PydanticCustomError("value", "numbers or booleans are needed")
    return array


ArrayValue = Annotated[Any, BeforeValidator(_array), PlainSerializer(to_json_value), WithJsonSchema({})]


class Constant(Leaf):
    """An array that never changes."""

    kind: Literal["constant"] = "constant"
    dtype: DType
    value: ArrayValue

    def model_post_init(self, context: Any) -> None:
        array = np.array(self.value, dtype=self.dtype, order="C")
        array.flags.writeable = False
        object.__setattr__(self, "value", array)

    def infer(self) -> TensorType:
        return TensorType(self.value.shape, self.dtype)

    def eval(self, xp: Any) -> Any:
        return xp.asarray(self.value)

    def digest(self) -> str:
        """The SHA-256 of the elements, in C order and little-endian."""
        return hashlib.sha256(self.value.astype(self.value.dtype.newbyteorder("<")).tobytes()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Constant)
            and self.dtype == other.dtype
            and self.value.shape == other.value.shape
            and self.value.tobytes() == other.value.tobytes()
        )

    def __hash__(self) -> int:
        return hash((self.dtype, self.value.shape, self.value.tobytes()))

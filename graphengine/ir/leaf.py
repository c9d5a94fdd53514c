"""The four leaves of a graph: what is fed, what is fixed, what is trained, what is carried."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, PlainSerializer, ValidationInfo

from graphengine.errors import ShapeError
from graphengine.ir import dims
from graphengine.ir.array import cast, from_json_value, to_json_value
from graphengine.ir.init import AnyInitializer, Zeros
from graphengine.ir.op import Dims, Op
from graphengine.ir.types import DType, TensorType


class Leaf(Op):
    """A node without parents, whose value is given."""

    is_leaf: ClassVar[bool] = True


class Input(Leaf):
    """An array that is fed at run time; in the body of a scan, what a step is given.

    Its dims are ints and names. Those of a body may be any: no feed says there what a name is.
    """

    kind: Literal["input"] = "input"
    shape: Dims
    dtype: DType

    def infer(self) -> TensorType:
        return TensorType(self.shape, self.dtype)

    def check_dims(self) -> None:
        """Raise ShapeError unless a feed says what the dims are."""
        for dim in self.shape:
            if isinstance(dim, str) and not dims.is_name(dim):
                raise ShapeError(f"a dim of an input is an int or a name, not {dim!r}")


class Stored(Leaf):
    """An array that an executable holds from step to step, and that updates overwrite. Its dims are ints."""

    shape: Dims
    dtype: DType
    init: AnyInitializer

    def infer(self) -> TensorType:
        for dim in self.shape:
            if isinstance(dim, str):
                raise ShapeError(f"the dims of a parameter or a state are ints, not {dim!r}")
        return TensorType(self.shape, self.dtype)


class Parameter(Stored):
    """An array that training changes; `init` draws its first value."""

    kind: Literal["parameter"] = "parameter"
    trainable: bool = True


class State(Stored):
    """An array that is carried from step to step: statistics, an optimizer's slots, counters."""

    kind: Literal["state"] = "state"
    init: AnyInitializer = Zeros()


def _array(value: Any, info: ValidationInfo) -> Any:
    """The array that a Constant of `dtype` holds: of an array, or of JSON's nested lists."""
    dtype = info.data.get("dtype")
    if dtype is None:  # which has been found wrong already
        return value
    is_array = isinstance(value, np.ndarray | np.generic)
    array = cast(np.asarray(value), dtype) if is_array else from_json_value(value, dtype)
    array.flags.writeable = False
    return array


ArrayValue = Annotated[Any, BeforeValidator(_array), PlainSerializer(to_json_value)]


class Constant(Leaf):
    """An array that never changes."""

    kind: Literal["constant"] = "constant"
    dtype: DType
    value: ArrayValue

    def infer(self) -> TensorType:
        return TensorType(self.value.shape, self.dtype)

    def eval(self, xp: Any) -> Any:
        return xp.asarray(self.value)

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        self.value.flags.writeable = False  # which no pickle tells

    def digest(self) -> str:
        """The SHA-256 of the elements, in C order and little-endian."""
        return hashlib.sha256(self.value.astype(self.value.dtype.newbyteorder("<")).tobytes()).hexdigest()

    def _bits(self) -> tuple[object, ...]:
        return self.dtype, self.value.shape, self.value.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._bits() == other._bits()

    def __hash__(self) -> int:
        return hash(self._bits())

    def exactly(self) -> Hashable:
        return self

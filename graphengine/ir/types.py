"""What a node holds: a shape and a dtype, known before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal, get_args

import numpy as np

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim, Shape

DType = Literal["bool", "uint8", "int32", "int64", "float32", "float64"]
DTYPES: frozenset[str] = frozenset(get_args(DType))
FLOATS: frozenset[str] = frozenset({"float32", "float64"})
INTEGERS: frozenset[str] = frozenset({"uint8", "int32", "int64"})


@dataclass(frozen=True, slots=True)
class TensorType:
    """A shape (ints and names) and a dtype; written float32[batch, 784]."""

    shape: Shape
    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether it holds floats, so that there is a derivative by it."""
        return self.dtype in FLOATS

    @property
    def size(self) -> int:
        """The number of elements; for a type whose dims are bound."""
        total = 1
        for dim in self.shape:
            if not isinstance(dim, int):
                raise ShapeError(f"the size of {self} is known only when {dim} is")
            total *= dim
        return total

    @property
    def nbytes(self) -> int:
        """The bytes that an array of this type takes; for a type whose dims are bound."""
        return self.size * np.dtype(self.dtype).itemsize

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as ints; for a type whose dims are bound."""
        return tuple(dim if isinstance(dim, int) else self.size for dim in self.shape)

    def names(self) -> frozenset[str]:
        """The names that stand in the shape."""
        return frozenset(name for dim in self.shape if isinstance(dim, str) for name in dims.names(dim))

    def bind(self, binding: Mapping[str, int]) -> TensorType:
        """The type with its names given sizes."""
        if all(isinstance(dim, int) for dim in self.shape):
            return self
        return TensorType(tuple(dims.bind(dim, binding) for dim in self.shape), self.dtype)


def check_dtype(dtype: object) -> DType:
    """The name of `dtype`, which may be a name, a NumPy dtype or a NumPy scalar type."""
    try:
        name = np.dtype(dtype).name  # type: ignore[call-overload]  # whatever NumPy takes for a dtype
    except TypeError:
        name = str(dtype)
    if name not in DTYPES:
        raise DTypeError(f"no such dtype here: {dtype!r}; there are {', '.join(get_args(DType))}")
    return name  # type: ignore[no-any-return]


def common_dtype(types: Sequence[TensorType]) -> DType:
    """The dtype that all of `types` share."""
    first = types[0].dtype
    for other in types[1:]:
        if other.dtype != first:
            raise DTypeError(f"dtypes differ: {' and '.join(map(str, types))}; cast one to the other's")
    return first


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape that `shapes` have together by NumPy's rule: from the right, equal sizes or 1."""
    if all(shape == shapes[0] for shape in shapes[1:]):
        return shapes[0]
    result: list[Dim] = []
    for sizes in zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1):
        wide = {size for size in sizes if size != 1}
        if len(wide) > 1:
            texts = " and ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes)
            raise ShapeError(f"shapes do not broadcast: {texts} ({' against '.join(sorted(map(str, wide)))})")
        result.append(wide.pop() if wide else 1)
    return tuple(reversed(result))


def check_axis(axis: int, ndim: int) -> int:
    """`axis` counted from the front; raise ShapeError if there is none such."""
    if not -ndim <= axis < ndim:
        raise ShapeError(f"axis {axis} of a value with {ndim} {'axis' if ndim == 1 else 'axes'}")
    return axis % ndim


def check_axes(axes: Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """`axes` counted from the front, ascending; all of them for None."""
    if axes is None:
        return tuple(range(ndim))
    result = sorted(check_axis(axis, ndim) for axis in axes)
    if len(set(result)) < len(result):
        raise ShapeError(f"an axis is named twice in {tuple(axes)}")
    return tuple(result)

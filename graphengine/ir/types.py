"""What a node holds: a shape and a dtype, known before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
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

_ITEM_BYTES = {dtype: np.dtype(dtype).itemsize for dtype in DTYPES}


@dataclass(frozen=True, slots=True, eq=False)
class TensorType:
    """A shape (ints and names) and a dtype; written float32[batch, 784]."""

    shape: Shape
    dtype: DType

    def __eq__(self, other: object) -> bool:
        if self is other:  # as it is mostly
            return True
        if type(other) is not TensorType:
            return NotImplemented
        return self.dtype == other.dtype and self.shape == other.shape

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

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
        size = _product(self.shape)
        if size is None:
            dim = next(dim for dim in self.shape if not isinstance(dim, int))
            raise ShapeError(f"the size of {self} is known only when {dim} is")
        return size

    @property
    def nbytes(self) -> int:
        """The bytes that an array of this type takes; for a type whose dims are bound."""
        nbytes = _nbytes(self.shape, self.dtype)
        return self.size if nbytes is None else nbytes  # in the first case, the size says what is not known

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as ints; for a type whose dims are bound."""
        return self.shape if _product(self.shape) is not None else (self.size,)  # type: ignore[return-value]  # all ints

    def names(self) -> frozenset[str]:
        """The names that stand in the shape."""
        return _names(self.shape)

    def bind(self, binding: Mapping[str, int]) -> TensorType:
        """The type with its names given sizes."""
        if not _names(self.shape):
            return self
        return TensorType(tuple(dims.bind(dim, binding) for dim in self.shape), self.dtype)


@lru_cache(maxsize=4096)
def _product(shape: Shape) -> int | None:
    """The product of the sizes; None if one is a name."""
    total = 1
    for dim in shape:
        if not isinstance(dim, int):
            return None
        total *= dim
    return total


@lru_cache(maxsize=4096)
def _nbytes(shape: Shape, dtype: DType) -> int | None:
    size = _product(shape)
    return None if size is None else size * _ITEM_BYTES[dtype]


@lru_cache(maxsize=4096)
def _names(shape: Shape) -> frozenset[str]:
    """The names that stand in the sizes."""
    return frozenset(name for dim in shape if isinstance(dim, str) for name in dims.names(dim))


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
    first = shapes[0]
    if shapes.count(first) == len(shapes):
        return first
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

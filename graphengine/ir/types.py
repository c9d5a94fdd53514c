"""What a node holds: a shape and a dtype, known before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal, NoReturn, get_args
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from graphengine.errors import DTypeError, ShapeError
from graphengine.forks import TYPES
from graphengine.ir import dims
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.size import as_size
from graphengine.wording import cut, shown

Array = npt.NDArray[Any]

DType = Literal["bool", "uint8", "int32", "int64", "float32", "float64"]
DTYPES: frozenset[str] = frozenset(get_args(DType))
FLOATS: frozenset[str] = frozenset({"float32", "float64"})
INTEGERS: frozenset[str] = frozenset({"uint8", "int32", "int64"})

_SHOWN = 3
"""How many of the types of a tuple are written out."""

MAX_AXES = 64
"""The maximum number of axes of a NumPy array."""

_MAX_BYTES = 2**63 - 1
"""The maximum size of a NumPy array, in bytes, were its axes of size 0 of size 1."""

_ITEM_BYTES = {dtype: np.dtype(dtype).itemsize for dtype in DTYPES}


class TensorType:
    """A shape (ints and names) and a dtype, written float32[batch, 784].

    Equal types are the same object as long as one is in use, so comparing and hashing them takes no time.
    """

    __slots__ = ("__weakref__", "_names", "_nbytes", "dtype", "shape")
    shape: Shape
    dtype: DType
    _names: frozenset[str]
    _nbytes: int | None

    def __new__(cls, shape: Shape, dtype: DType) -> TensorType:
        """The type of this shape and dtype: one that is in use, or a new one."""
        known = _in_use.get((shape, dtype))
        if known is not None:
            return known
        shape = tuple([as_size(dim) for dim in shape])  # 4 == np.int64(4) == 4.0
        _check(shape, dtype)
        names = frozenset[str]().union(*map(dims.names, shape))
        nbytes = None if names else math.prod(shape) * _ITEM_BYTES[dtype]
        made = super().__new__(cls)
        for slot, value in (("shape", shape), ("dtype", dtype), ("_names", names), ("_nbytes", nbytes)):
            object.__setattr__(made, slot, value)
        with TYPES:  # a thread that is in the middle of this may run finalizers, which make types too
            return _in_use.setdefault((shape, dtype), made)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a type never changes")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.shape, self.dtype)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"

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
        return self.nbytes // _ITEM_BYTES[self.dtype]

    @property
    def nbytes(self) -> int:
        """The bytes that an array of this type takes; for a type whose dims are bound."""
        if self._nbytes is None:
            dim = next(dim for dim in self.shape if not isinstance(dim, int))
            raise ShapeError(f"the size of {self} is known only when {dim} is")
        return self._nbytes

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as ints; for a type whose dims are bound."""
        _ = self.nbytes  # raises if they are not
        return self.shape  # type: ignore[return-value]  # all are ints

    def names(self) -> frozenset[str]:
        """The names in the shape."""
        return self._names

    def bind(self, binding: Mapping[str, int]) -> TensorType:
        """The type with its names given sizes."""
        if not self._names:
            return self
        return TensorType(tuple(dims.bind(dim, binding) for dim in self.shape), self.dtype)


def _check(shape: Shape, dtype: DType) -> None:
    """Raise ShapeError for a shape that no array has."""
    sizes = [dim for dim in shape if isinstance(dim, int)]
    text = cut(f"{dtype}[{', '.join(map(str, shape))}]")
    if len(shape) > MAX_AXES:
        raise ShapeError(f"an array has at most {MAX_AXES} axes, and {text} has {len(shape)}")
    if min(sizes, default=0) < 0:
        raise ShapeError(f"a size is at least 0, and one of {text} is {min(sizes)}")
    if math.prod(size or 1 for size in sizes) * _ITEM_BYTES[dtype] > _MAX_BYTES:
        raise ShapeError(f"an array has at most 2^63 - 1 bytes, and {text} has more; take smaller sizes")


@dataclass(frozen=True, slots=True)
class TupleType:
    """The types of several results of one node. `get_item` takes one out; no other op takes a tuple."""

    items: tuple[ValueType, ...]

    def __str__(self) -> str:
        more = len(self.items) - _SHOWN
        texts = [*map(str, self.items[:_SHOWN]), *([f"{more} more"] if more > 0 else ())]
        return f"tuple({', '.join(texts)})"

    def __getattr__(self, name: str) -> NoReturn:
        if name in ("shape", "dtype", "ndim", "static_shape"):
            raise ShapeError(f"{self} is several values, which have no {name}; take one out by get_item")
        raise AttributeError(name)

    @property
    def is_float(self) -> bool:
        return any(item.is_float for item in self.items)

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)

    @property
    def nbytes(self) -> int:
        return sum(item.nbytes for item in self.items)

    def names(self) -> frozenset[str]:
        return frozenset(name for item in self.items for name in item.names())

    def bind(self, binding: Mapping[str, int]) -> TupleType:
        return TupleType(tuple([item.bind(binding) for item in self.items]))


ValueType = TensorType | TupleType
"""The type of the value of a node."""


_in_use: WeakValueDictionary[tuple[Shape, DType], TensorType] = WeakValueDictionary()


def check_dtype(dtype: object) -> DType:
    """The name of `dtype`, which may be a name, a NumPy dtype or a NumPy scalar type."""
    try:
        name = np.dtype(dtype).name  # type: ignore[call-overload]  # whatever NumPy takes for a dtype
    except (TypeError, ValueError):
        name = str(dtype)
    if name not in DTYPES:
        raise DTypeError(f"no such dtype: {shown(dtype)}; there are {', '.join(get_args(DType))}")
    return name  # type: ignore[no-any-return]


def common_dtype(types: Sequence[TensorType]) -> DType:
    """The dtype of all `types`; raises DTypeError if they differ."""
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

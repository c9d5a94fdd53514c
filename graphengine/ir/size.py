"""A size that has a name until a feed says what it is: the string that a shape holds, with the arithmetic of sizes."""

from __future__ import annotations

from collections.abc import Callable
from operator import index
from typing import Any, NoReturn, SupportsIndex

from graphengine.errors import ShapeError, UsageError
from graphengine.ir import dims
from graphengine.ir.dims import Dim


def as_size(dim: SupportsIndex | str) -> Dim:
    """`dim`, whose arithmetic gives dims: `2 * x.shape[0]` is "2*batch", where a string would become "batchbatch"."""
    return NamedSize(dim) if isinstance(dim, str) else index(dim)


def _arithmetic(make: Callable[[Dim, Dim], Dim]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """An operator's method, and that for a size on its right."""

    def method(self: NamedSize, other: object) -> Any:
        return _made(self, other, lambda dim: make(self, dim))

    def reflected(self: NamedSize, other: object) -> Any:
        return _made(self, other, lambda dim: make(dim, self))

    return method, reflected


def _made(size: NamedSize, other: object, make: Callable[[Dim], Dim]) -> Any:
    if isinstance(other, int | str):
        return as_size(make(other))
    return _unknown(size) if isinstance(other, float) else NotImplemented  # a node says itself what it takes


def _added(a: Dim, b: Dim) -> Dim:
    try:
        return dims.add(a, b)
    except ShapeError:  # of text, and no dim, as in "size: " + dim
        return str.__add__(str(a), str(b))


def _divided(a: Dim, b: Dim) -> Dim:
    quotient = dims.divide(a, b) if b else None
    if quotient is None:
        raise ShapeError(f"{a} / {b} is not a size for every size of its names; write a size that {b} divides")
    return quotient


def _unknown(self: NamedSize, *_: object) -> NoReturn:
    raise UsageError(
        f"the size {str(self)!r} is not known before a feed says it; give the input an int instead of the name, or use "
        "the name itself in shapes: its +, - and * give sizes, and // where it leaves no rest"
    )


class NamedSize(str):
    """A named size, or an expression in such: equal to its text."""

    __slots__ = ()
    __add__, __radd__ = _arithmetic(_added)
    __sub__, __rsub__ = _arithmetic(dims.subtract)
    __mul__, __rmul__ = _arithmetic(dims.multiply)
    __floordiv__, __rfloordiv__ = _arithmetic(_divided)
    __truediv__ = __rtruediv__ = __mod__ = __pow__ = __int__ = __float__ = __index__ = _unknown

    def __lt__(self, other: object) -> bool:
        return str.__lt__(self, other) if isinstance(other, str) else _unknown(self)

    def __le__(self, other: object) -> bool:
        return str.__le__(self, other) if isinstance(other, str) else _unknown(self)

    def __gt__(self, other: object) -> bool:
        return str.__gt__(self, other) if isinstance(other, str) else _unknown(self)

    def __ge__(self, other: object) -> bool:
        return str.__ge__(self, other) if isinstance(other, str) else _unknown(self)

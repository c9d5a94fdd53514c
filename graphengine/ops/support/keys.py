"""Keys of basic indexing, x[1:, ::-1, 0]: as text, as Python has them, and the shapes that they pick.

The text is what is between the brackets, in canonical form, so a key is hashable, and reads the same in JSON.
"""

from __future__ import annotations

import builtins
import operator
import re
from collections.abc import Iterator
from functools import lru_cache
from types import EllipsisType
from typing import Annotated

from pydantic import BeforeValidator

from graphengine.errors import ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim, Shape

Key = int | builtins.slice | EllipsisType | None

_INT = r"[+-]?\d+"
_INDEX = re.compile(_INT)
_SLICE = re.compile(rf"({_INT})?:({_INT})?(?::({_INT})?)?")


@lru_cache(maxsize=4096)
def read_key(text: str) -> tuple[Key, ...]:
    """The keys, one an axis, that `text` writes; raises ValueError for what is not one."""
    keys = tuple(_read(part.strip()) for part in text.split(",")) if text else ()
    if keys.count(Ellipsis) > 1:
        raise ValueError("... stands at most once in a key")
    return keys


def write_key(key: object) -> str:
    """The canonical text of what is between brackets; raises ValueError for what is no basic index."""
    keys = read_key(key) if isinstance(key, str) else key if isinstance(key, tuple) else (key,)
    text = ", ".join(map(_write, keys))
    read_key(text)
    return text


Keys = Annotated[str, BeforeValidator(write_key)]


def key_shape(text: str, shape: Shape) -> Shape:
    """The shape of what the key picks from a value of `shape`; raises ShapeError if it does not fit, or cannot be told.

    A named axis is taken to be as long as the key asks for, so [1:] leaves "batch-1" and [:3] leaves 3.
    """
    return tuple(_picked(text, shape))


def _picked(text: str, shape: Shape) -> Iterator[Dim]:
    sizes = iter(enumerate(shape))
    for key in one_an_axis(read_key(text), shape):
        if key is None:
            yield 1
            continue
        axis, size = next(sizes)
        try:
            if isinstance(key, builtins.slice):
                yield _length(key, size)
            elif isinstance(size, int) and not -size <= key < size:
                raise ShapeError(f"index {key} is out of range for size {size}")
        except ShapeError as error:
            raise ShapeError(f"{error.message}, at axis {axis} of [{', '.join(map(str, shape))}]") from None


def one_an_axis(keys: tuple[Key, ...], shape: Shape) -> list[int | builtins.slice | None]:
    """`keys` with full slices instead of the Ellipsis, or at the end."""
    given = sum(key is not None and key is not Ellipsis for key in keys)
    if given > len(shape):
        raise ShapeError(f"{given} axes are indexed, of a value of shape [{', '.join(map(str, shape))}]")
    result: list[int | builtins.slice | None] = []
    for key in keys if Ellipsis in keys else (*keys, Ellipsis):
        if isinstance(key, EllipsisType):
            result.extend([builtins.slice(None)] * (len(shape) - given))
        else:
            result.append(key)
    return result


def _length(key: builtins.slice, size: Dim) -> Dim:
    if isinstance(size, int):
        return len(range(*key.indices(size)))
    low, high = _bounds(key, size)
    span = dims.subtract(high, low)
    step: int = abs(key.step or 1)
    if isinstance(span, int):
        return max(0, -(-span // step))
    rest = dims.bind(span, dict.fromkeys(dims.names(span), 0))
    count = dims.divide(dims.add(span, -rest % step), step) if isinstance(low, int) else None  # rounded up
    if count is None:
        raise ShapeError(
            f"the size of slice {_write(key)} cannot be told from the name {size!r}; "
            "count both bounds from one end, or give the axis an int size"
        )
    return count


def _bounds(key: builtins.slice, size: Dim) -> tuple[Dim, Dim]:
    """The half-open range that a slice of a named axis spans, whichever way it goes through it."""

    def position(bound: int | None, default: Dim) -> Dim:
        return default if bound is None else bound if bound >= 0 else dims.add(size, bound)

    if key.step is None or key.step > 0:
        return position(key.start, 0), position(key.stop, size)
    return dims.add(position(key.stop, -1), 1), dims.add(position(key.start, dims.subtract(size, 1)), 1)


def _read(part: str) -> Key:
    if part in ("...", "newaxis"):
        return Ellipsis if part == "..." else None
    if _INDEX.fullmatch(part):
        return int(part)
    match = _SLICE.fullmatch(part)
    if match is None:
        raise ValueError(f"not an index: {part!r}; there are ints, start:stop:step, ... and newaxis")
    start, stop, step = (int(bound) if bound else None for bound in match.groups())
    if step == 0:
        raise ValueError("the step of a slice is not 0")
    return builtins.slice(start, stop, step)


def _write(key: object) -> str:
    if key is Ellipsis or key is None:
        return "..." if key is Ellipsis else "newaxis"
    if not isinstance(key, builtins.slice):
        return str(_as_int(key))
    start, stop, step = (None if bound is None else _as_int(bound) for bound in (key.start, key.stop, key.step))
    if start == 0 and (step is None or step > 0):
        start = None
    bounds = (start, stop) if step in (None, 1) else (start, stop, step)
    return ":".join("" if bound is None else str(bound) for bound in bounds)


def _as_int(index: object) -> int:
    try:
        position = operator.index(index)  # type: ignore[arg-type]  # whether it is one is what is found out
    except TypeError:
        position = None
    if position is None or isinstance(index, bool):
        raise ValueError("an index is an int, a slice, ... or None; rows are taken by number with ge.gather")
    return position

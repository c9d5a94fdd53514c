"""Windows that slide over images: how they are declared, where they are, and which elements they meet.

An image is [batch, channels, height, width]. Window i along an axis, at its position i, begins at element
i * stride - before, where `before` elements of padding lie ahead of the axis; its element k lies k * dilation on.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, WithJsonSchema

from graphengine.errors import AttributeValueError, ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.op import Op
from graphengine.ir.types import TensorType

Padding = int | str | Sequence[int | Sequence[int]]
"""How padding is given: for all sides, for (rows, columns), as ((top, bottom), (left, right)), "same" or "valid"."""

Part = tuple[Any, ...]
"""A basic index of an array."""


def as_pair(value: Any) -> tuple[int, int]:
    """An int, for rows and columns alike, or two; raises ValueError for what is neither."""
    pair = tuple(value) if isinstance(value, list | tuple) else (value, value)
    if len(pair) != 2:
        raise ValueError("an int is needed, or two: for rows and for columns")
    return _as_int(pair[0]), _as_int(pair[1])


def _as_padding(value: Any) -> str | tuple[tuple[int, int], tuple[int, int]]:
    if value == "same":
        return "same"
    if value == "valid":
        return (0, 0), (0, 0)
    if isinstance(value, str):
        raise ValueError('the words for padding are "same" and "valid"')
    rows, columns = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    return as_pair(rows), as_pair(columns)


def _as_int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError("an int is needed, not a bool")
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError("an int is needed") from None


def _schema_of_two(item: dict[str, Any], *others: dict[str, Any]) -> WithJsonSchema:
    two = {"type": "array", "items": item, "minItems": 2, "maxItems": 2}
    return WithJsonSchema({"anyOf": [item, two, *others]})


# Minima are in the schema alone: it is `infer` that checks them, as its errors name operands and line.
_INT = {"type": "integer", "minimum": 0}
_PADS = {"anyOf": [_INT, {"type": "array", "items": _INT, "minItems": 2, "maxItems": 2}]}
Pair = Annotated[tuple[int, int], BeforeValidator(as_pair), _schema_of_two(_INT)]
FixedPads = Annotated[
    tuple[tuple[int, int], tuple[int, int]],
    BeforeValidator(_as_padding),
    _schema_of_two(_PADS, {"const": "valid"}),
]
Pads = Annotated[
    Literal["same"] | tuple[tuple[int, int], tuple[int, int]],
    BeforeValidator(_as_padding),
    _schema_of_two(_PADS, {"enum": ["same", "valid"]}),
]
NO_PADS = (0, 0), (0, 0)


@dataclass(frozen=True, slots=True)
class Sweep:
    """The positions of a window along one axis."""

    size: Dim
    """Of the axis, without padding."""
    window: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def reach(self) -> int:
        """How many elements lie between the first element of a window and its last, both counted."""
        return self.dilation * (self.window - 1) + 1

    @property
    def padded(self) -> Dim:
        """The size of the axis with its padding."""
        return dims.add(self.size, self.before + self.after)

    @property
    def count(self) -> Dim:
        """The number of positions; raises ShapeError if there is none, or if it depends on a name in no simple way."""
        span = dims.subtract(self.padded, self.reach)
        if isinstance(span, int) and span < 0:
            raise ShapeError(
                f"the window, which reaches over {self.reach}, is larger than the {self.padded} of the padded axis"
            )
        # (stride * a + rest) / stride, rounded down, is a, also where a is not known.
        rest = dims.bind(span, dict.fromkeys(dims.names(span), 0)) % self.stride
        steps = dims.divide(dims.subtract(span, rest), self.stride)
        if steps is None:
            raise ShapeError(
                f"stride {self.stride} along the named axis {self.size}: write its size as a number, or take stride 1"
            )
        return dims.add(steps, 1)

    @property
    def rest(self) -> int:
        """How many elements at the end of the padded axis no window reaches, as the stride steps over them."""
        swept = dims.add(dims.multiply(dims.subtract(self.count, 1), self.stride), self.reach)
        return dims.bind(dims.subtract(self.padded, swept), {})

    @property
    def positions(self) -> int:
        """The number of positions along an axis whose size is bound."""
        return dims.bind(self.count, {})

    @property
    def is_padded(self) -> bool:
        """Whether some element of some window may lie outside the axis."""
        return self.before > 0 or self.after > 0

    @property
    def is_disjoint(self) -> bool:
        """Whether no element lies in two windows."""
        return self.stride >= self.reach

    def meets(self, k: int) -> tuple[slice, slice]:
        """The positions at which element `k` of the window is inside the axis, and the elements that it meets there."""
        offset = k * self.dilation - self.before
        size = dims.bind(self.size, {})
        first = max(0, -(offset // self.stride))
        stop = min(self.positions, (size - 1 - offset) // self.stride + 1)
        if stop <= first:
            return slice(0, 0), slice(0, 0)
        start = first * self.stride + offset
        return slice(first, stop), slice(start, start + (stop - first - 1) * self.stride + 1, self.stride)

    @property
    def elements(self) -> Iterable[int]:
        """The elements of the window that meet something at some position, in order.

        Of a window that is mostly in the padding, they are few.
        """
        size = dims.bind(self.size, {})
        if self.positions * size >= self.window:
            return range(self.window)
        offsets = product(range(self.positions), range(size))
        places = (element + self.before - position * self.stride for position, element in offsets)
        inside = {place // self.dilation for place in places if place % self.dilation == 0}
        return sorted(k for k in inside if 0 <= k < self.window)

    @property
    def met_in_all(self) -> int:
        """How many elements of the window lie inside the axis, added up over all positions; without dilation."""
        size = dims.bind(self.size, {})
        return self._below(self.before + size) - self._below(self.before)

    def _below(self, end: int) -> int:
        """How many elements of the window, added up over all positions, lie ahead of the padded axis's element `end`.

        At position i there are end - i * stride, but at least 0 and at most all.
        """
        whole = min(max((end - self.window) // self.stride + 1, 0), self.positions)
        some = min(max(-(-end // self.stride), whole), self.positions)
        return whole * self.window + (some - whole) * end - self.stride * (whole + some - 1) * (some - whole) // 2

    def met(self) -> list[int]:
        """For every position, how many elements of the window lie inside the axis."""
        inside = np.zeros(self.positions, int)
        for k in self.elements:
            inside[self.meets(k)[0]] += 1
        return inside.tolist()


Sweeps = tuple[Sweep, Sweep]
"""Along the height and the width of images."""


def sweeps(image: Shape, window: Shape, stride: Sequence[int], dilation: Sequence[int], pads: Any) -> Sweeps:
    """How a window moves over images of this shape; raises ShapeError or AttributeValueError unless it fits into them.

    "same" pads such that there are ceil(size / stride) positions; of an odd number of elements of padding the one more
    goes behind (as SAME_UPPER of ONNX has it).
    """
    sizes = []
    for size in window:
        if isinstance(size, str):
            raise ShapeError(f"the height and the width of a window are numbers, not {size}")
        sizes.append(size)
    check_minimum(1, window=sizes, stride=stride, dilation=dilation)
    check_minimum(0, padding=0 if pads == "same" else pads)
    rows, columns = (
        Sweep(size, sizes[axis], stride[axis], dilation[axis], *(() if pads == "same" else pads[axis]))
        for axis, size in enumerate(image[2:])
    )
    found = (_same(rows), _same(columns)) if pads == "same" else (rows, columns)
    for sweep in found:
        _ = sweep.count
    return found


def _same(sweep: Sweep) -> Sweep:
    if isinstance(sweep.size, int):
        total = max(0, (-(-sweep.size // sweep.stride) - 1) * sweep.stride + sweep.reach - sweep.size)
    elif sweep.stride == 1:
        total = sweep.reach - 1
    else:
        raise ShapeError(
            f'padding "same" with stride {sweep.stride} along the named axis {sweep.size}: '
            "write its size, or the padding, as a number"
        )
    ahead = total // 2
    return Sweep(sweep.size, sweep.window, sweep.stride, sweep.dilation, ahead, total - ahead)


def check_minimum(minimum: int, **attributes: Any) -> None:
    """Raise AttributeValueError unless all numbers of every attribute are at least `minimum`."""
    for name, value in attributes.items():
        if np.min(value) < minimum:
            raise AttributeValueError(f"{name} is at least {minimum}, not {value}")


@contextmanager
def naming(op: Op, *types: TensorType) -> Iterator[None]:
    """Errors raised inside say of which op and of which operands they tell."""
    try:
        yield
    except (ShapeError, AttributeValueError) as error:
        layout = _layout(types[0]) if isinstance(error, ShapeError) else ""
        raise type(error)(f"{op.kind} of {' and '.join(map(str, types))}: {error.message}{layout}") from None


def _layout(images: TensorType) -> str:
    """The remedy, if the channels of images seem to be last."""
    sizes = images.shape[1:]
    if len(sizes) < 3 or not isinstance(sizes[-1], int) or sizes[-1] > 4 or sizes[0] in (1, 2, 3, 4):
        return ""
    return (
        "; images are [batch, channels, height, width]: of [batch, height, width, channels] they are made by "
        "ge.transpose(x, (0, 3, 1, 2))"
    )


def along_width(padding: int | str | Sequence[int]) -> Padding:
    """The padding of a sequence as that of images which are 1 high."""
    return padding if isinstance(padding, str) else (0, padding)


def meetings(sweeps: Sweeps) -> Iterator[tuple[int, Part, Part]]:
    """For every element of the window, row by row: its number, where it is inside, and what it meets.

    Those that meet nothing may be left out.
    """
    rows, columns = ([(k, *sweep.meets(k)) for k in sweep.elements] for sweep in sweeps)
    for (i, high, met_high), (j, wide, met_wide) in product(rows, columns):
        yield i * sweeps[1].window + j, (..., high, wide), (..., met_high, met_wide)


def windows(xp: Any, x: Any, sweeps: Sweeps, outside: float) -> list[Any]:
    """For every element of the window, row by row, what it meets at all positions: `outside` in the padding."""
    pads = [*[(0, 0)] * (x.ndim - 2), *((sweep.before, sweep.after) for sweep in sweeps)]
    padded = xp.pad(x, pads, constant_values=outside)
    starts = (range(0, sweep.reach, sweep.dilation) for sweep in sweeps)
    high, wide = ((sweep.positions - 1) * sweep.stride + 1 for sweep in sweeps)
    rows, columns = (sweep.stride for sweep in sweeps)
    return [padded[..., i : i + high : rows, j : j + wide : columns] for i, j in product(*starts)]


def spread(xp: Any, values: Sequence[Any], sweeps: Sweeps) -> Any:
    """The adjoint of `windows`: an image of sums, of all elements of `values` that `windows` would take from there."""
    rows, columns = sweeps
    total: Any = 0.0
    for k, value in enumerate(values):
        i, j = divmod(k, columns.window)
        tall = xp.swapaxes(_spread(xp, xp.swapaxes(value, -1, -2), rows, i), -1, -2)
        total = total + _spread(xp, tall, columns, j)
    return total


def _spread(xp: Any, value: Any, sweep: Sweep, k: int) -> Any:
    """`value` along the last axis, with each element where element `k` of its window is, and zeros between."""
    gaps = [(0, 0)] * value.ndim
    spaced = xp.pad(value[..., None], [*gaps, (0, sweep.stride - 1)])
    spaced = spaced.reshape(*value.shape[:-1], value.shape[-1] * sweep.stride)
    ahead, size = k * sweep.dilation, dims.bind(sweep.padded, {})
    gaps[-1] = (ahead, max(0, size - ahead - spaced.shape[-1]))
    return xp.pad(spaced, gaps)[..., sweep.before : size - sweep.after]

"""Pooling: the greatest, or the mean, of the elements in a window that slides over images; and the adjoints.

Images are [batch, channels, height, width], sequences [batch, channels, length]. Elements of a window that lie in the
padding count for nothing. The padding is smaller than the window, so that every window holds some element.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Shape
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Dims, Op
from graphengine.ir.types import Array, DType, TensorType, common_dtype
from graphengine.ops.compare import Mask
from graphengine.ops.reduce import max as maximum
from graphengine.ops.reduce import mean
from graphengine.ops.shape import expand_dims, squeeze
from graphengine.ops.support.pool_calls import reduce_calls, spread_calls
from graphengine.ops.support.window import (
    NO_PADS,
    Padding,
    Pads,
    Pair,
    Sweeps,
    along_width,
    in_turn,
    meetings,
    naming,
    spread,
    sweeps,
    windows,
)

__all__ = ["avg_pool1d", "avg_pool2d", "global_avg_pool", "global_max_pool", "max_pool1d", "max_pool2d"]

Ints = int | Sequence[int]


class Pool(Op):
    """How a window moves over images: what the pooling ops and their adjoints have in common."""

    kind: str
    window: Pair
    stride: Pair
    padding: Pads = NO_PADS

    def moves(self, images: Shape) -> Sweeps:
        """How the window moves over images of this shape."""
        if len(images) != 4:
            raise ShapeError("images have 4 axes: [batch, channels, height, width]")
        found = sweeps(images, self.window, self.stride, (1, 1), self.padding)
        for sweep in found:
            if max(sweep.before, sweep.after) >= sweep.window:
                raise ShapeError(f"padding {self.padding} is not smaller than the window {self.window}")
            if sweep.size == 0:
                raise ShapeError("a window over no elements holds no element")
        return found

    def pooled(self, images: Shape) -> Shape:
        """The shape of one number for every window."""
        return (*images[:2], *(sweep.count for sweep in self.moves(images)))

    def fixed(self) -> dict[str, Any]:
        """The attributes that adjoints have in common with this op."""
        return {"window": self.window, "stride": self.stride, "padding": self.padding}

    def check(self, *types: TensorType) -> DType:
        """The dtype that all of `types` share; raises DTypeError unless it is a float's."""
        dtype = common_dtype(types)
        if not types[0].is_float:
            raise DTypeError(f"{self.kind} takes floats, not {' and '.join(map(str, types))}")
        return dtype


class PoolOfImages(Pool):
    """A pooling op with one operand: images in, one number for every window out."""

    def infer(self, x: TensorType) -> TensorType:
        dtype = self.check(x)
        with naming(self, x):
            return TensorType(self.pooled(x.shape), dtype)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return (_between(y, x),)


class MaxPool2D(PoolOfImages):
    """y[n, c, i, j] = the maximum of x[n, c] in the window at (i, j); the adjoint goes to its first NaN or maximum."""

    kind: Literal["max_pool2d"] = "max_pool2d"

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.max(xp.stack(windows(xp, x, self.moves(x.shape), -xp.inf)), axis=0)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return in_turn(reduce_calls(_maximum, out, scratch[0], operands[0], self.moves(operands[0].shape), -np.inf))

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        place = apply(MaxPool2DPlace(**self.fixed()), x, y)
        return (apply(MaxPool2DScatter(size=x.shape[2:], **self.fixed()), y_bar, place),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return _met(y, self.moves(x.shape)) - y.size


class MaxPool2DPlace(Pool):
    """Which element of a window of x is `greatest`, its maximum: how many of them are ahead of it, row by row.

    Of equal ones it is the first; of a window that holds NaN it is the first NaN.
    """

    kind: Literal["max_pool2d_place"] = "max_pool2d_place"

    def infer(self, x: TensorType, greatest: TensorType) -> TensorType:
        self.check(x, greatest)
        with naming(self, x, greatest):
            if greatest.shape != self.pooled(x.shape):
                raise ShapeError("the maxima are not one for every window")
        return TensorType(greatest.shape, _counting(self.window))

    def eval(self, xp: Any, x: Any, greatest: Any) -> Any:
        moves = self.moves(x.shape)
        parts = zip(windows(xp, x, moves, xp.nan), windows(xp, x, moves, 0.0), strict=True)
        others = xp.stack([(part != greatest) & (inside == inside) for part, inside in parts])
        return xp.sum(xp.cumprod(others, axis=0), axis=0).astype(_counting(self.window))

    def scratch(self, y: TensorType, x: TensorType, greatest: TensorType) -> tuple[TensorType, ...]:
        return TensorType(y.shape, "bool"), TensorType(y.shape, "bool")

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x, greatest), (ahead, other) = operands, scratch
        moves = self.moves(x.shape)
        calls: list[Call] = [(out.fill, (0,)), (ahead.fill, (True,))]
        for _, places, met in meetings(moves):
            if any(sweep.is_padded for sweep in moves):
                calls.append((other.fill, (True,)))
            calls.append((np.not_equal, (x[met], greatest[places], other[places])))
            calls.append((np.logical_and, (ahead, other, ahead)))
            calls.append((np.add, (out, ahead.view(np.uint8), out)))
        parts = [(k, x[met], out[places]) for k, places, met in meetings(moves)]
        calls.append((_first_nans, (out, self.window[0] * self.window[1], parts)))
        return in_turn(calls)

    def flops(self, y: TensorType, x: TensorType, greatest: TensorType) -> int:
        return _met(y, self.moves(x.shape))


class MaxPool2DScatter(Pool):
    """The adjoint of `max_pool2d`: images of `size`, every x added to that element of its window."""

    kind: Literal["max_pool2d_scatter"] = "max_pool2d_scatter"
    size: Dims

    def infer(self, x: TensorType, place: TensorType) -> TensorType:
        dtype = self.check(x)
        with naming(self, x, place):
            images = (*x.shape[:2], *self.size)
            if place != TensorType(self.pooled(images), _counting(self.window)) or x.shape != place.shape:
                raise ShapeError(f"images of size {self.size} have not these windows")
        return TensorType(images, dtype)

    def eval(self, xp: Any, x: Any, place: Any) -> Any:
        zero = xp.zeros((), x.dtype)
        shares = [xp.where(place == k, x, zero) for k in range(self.window[0] * self.window[1])]
        return spread(xp, shares, self.moves((*x.shape[:2], *self.size)))

    def scratch(self, y: TensorType, x: TensorType, place: TensorType) -> tuple[TensorType, ...]:
        here = TensorType(place.shape, "bool")
        return here, x, *_bits(x, here)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x, place), (here, share, bits) = operands, scratch
        moves = self.moves(out.shape)
        calls: list[Call] = [(out.fill, (0,))]
        for k, places, met in meetings(moves):
            calls.append((np.equal, (place, np.asarray(k, place.dtype), here)))
            if all(sweep.is_disjoint for sweep in moves):
                calls.append(Mask().bind(out[met], x[places], here[places], scratch=(bits[places],)))
            else:
                calls.append(Mask().bind(share, x, here, scratch=(bits,)))
                calls.append((np.add, (out[met], share[places], out[met])))
        return in_turn(calls)

    def vjp(self, y: Node, y_bar: Node, x: Node, place: Node) -> tuple[Node | None, ...]:
        return apply(MaxPool2DGather(**self.fixed()), y_bar, place), None

    def flops(self, y: TensorType, x: TensorType, place: TensorType) -> int:
        return x.size


class MaxPool2DGather(Pool):
    """The element of every window of x that `place` says, 0 where it says none: the adjoint of the scatter."""

    kind: Literal["max_pool2d_gather"] = "max_pool2d_gather"

    def infer(self, x: TensorType, place: TensorType) -> TensorType:
        dtype = self.check(x)
        with naming(self, x, place):
            if place != TensorType(self.pooled(x.shape), _counting(self.window)):
                raise ShapeError("the places are not one for every window")
        return TensorType(place.shape, dtype)

    def eval(self, xp: Any, x: Any, place: Any) -> Any:
        parts, zero = windows(xp, x, self.moves(x.shape), 0.0), xp.zeros((), x.dtype)
        return sum(xp.where(place == k, part, zero) for k, part in enumerate(parts))

    def scratch(self, y: TensorType, x: TensorType, place: TensorType) -> tuple[TensorType, ...]:
        here = TensorType(place.shape, "bool")
        return here, y, *_bits(y, here)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x, place), (here, part, bits) = operands, scratch
        calls: list[Call] = [(out.fill, (0,))]
        for k, places, met in meetings(self.moves(x.shape)):
            calls.append((np.equal, (place, np.asarray(k, place.dtype), here)))
            calls.append(Mask().bind(part[places], x[met], here[places], scratch=(bits[places],)))
            calls.append((np.add, (out[places], part[places], out[places])))
        return in_turn(calls)

    def vjp(self, y: Node, y_bar: Node, x: Node, place: Node) -> tuple[Node | None, ...]:
        return apply(MaxPool2DScatter(size=x.shape[2:], **self.fixed()), y_bar, place), None


class AvgPool2D(PoolOfImages):
    """y[n, c, i, j] = the mean of the elements of x[n, c] in the window at (i, j)."""

    kind: Literal["avg_pool2d"] = "avg_pool2d"
    count_include_pad: bool = False

    def eval(self, xp: Any, x: Any) -> Any:
        moves = self.moves(x.shape)
        total = sum(windows(xp, x, moves, 0.0))
        return total / xp.asarray(_counts(moves, self.count_include_pad), dtype=x.dtype)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        moves = self.moves(operands[0].shape)
        counts = _counts(moves, self.count_include_pad).astype(out.dtype)
        sums = reduce_calls(np.add, out, scratch[0], operands[0], moves, 0)
        return in_turn([*sums, (np.divide, (out, counts, out))])

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        op = AvgPool2DAdjoint(size=x.shape[2:], count_include_pad=self.count_include_pad, **self.fixed())
        return (apply(op, y_bar),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return _met(y, self.moves(x.shape))


class AvgPool2DAdjoint(Pool):
    """The adjoint of `avg_pool2d`: images of `size`, x over its count added to all of its window."""

    kind: Literal["avg_pool2d_adjoint"] = "avg_pool2d_adjoint"
    count_include_pad: bool = False
    size: Dims

    def infer(self, x: TensorType) -> TensorType:
        dtype = self.check(x)
        with naming(self, x):
            images = (*x.shape[:2], *self.size)
            if x.shape != self.pooled(images):
                raise ShapeError(f"images of size {self.size} have not these windows")
        return TensorType(images, dtype)

    def eval(self, xp: Any, x: Any) -> Any:
        moves = self.moves((*x.shape[:2], *self.size))
        share = x / xp.asarray(_counts(moves, self.count_include_pad), dtype=x.dtype)
        return spread(xp, [share] * (self.window[0] * self.window[1]), moves)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return x, _between(x, y)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (share, between) = operands, scratch
        moves = self.moves(out.shape)
        counts = _counts(moves, self.count_include_pad).astype(out.dtype)
        return in_turn([(np.divide, (x, counts, share)), *spread_calls(out, between, share, moves)])

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (apply(AvgPool2D(count_include_pad=self.count_include_pad, **self.fixed()), y_bar),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return x.size + _met(x, self.moves(y.shape))


def max_pool2d(
    x: Node, window: Ints, stride: Ints | None = None, padding: Padding = 0, *, name: str | None = None
) -> Node:
    """Maximum of every window of images [batch, channels, height, width].

    `window` and `stride` (the window if left out) are ints or pairs for rows and columns. `padding`, less than the
    window, is an int, a pair, ((top, bottom), (left, right)), "same" or "valid"; it is never the maximum. x: numbers;
    returns the same dtype. Of equal maxima, or of NaNs, the first gets the gradient.
    Raises DTypeError for bools, ShapeError for axes and windows that do not fit, AttributeValueError for other
    arguments.
    """
    op = MaxPool2D(window=window, stride=window if stride is None else stride, padding=padding)
    return apply(op, x, name=name)


def avg_pool2d(
    x: Node,
    window: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    count_include_pad: bool = False,
    *,
    name: str | None = None,
) -> Node:
    """Mean of every window of images [batch, channels, height, width]; the arguments are those of `max_pool2d`.

    Padding is not counted, or counted as zeros with `count_include_pad`. x: floats; returns the same dtype.
    Raises DTypeError for other dtypes, ShapeError for axes and windows that do not fit, AttributeValueError for other
    arguments.
    """
    step = window if stride is None else stride
    op = AvgPool2D(window=window, stride=step, padding=padding, count_include_pad=count_include_pad)
    return apply(op, x, name=name)


def max_pool1d(
    x: Node,
    window: int,
    stride: int | None = None,
    padding: int | str | Sequence[int] = 0,
    *,
    name: str | None = None,
) -> Node:
    """Maximum of every window of sequences [batch, channels, length]; `padding` may be a pair (before, after).

    x: numbers; returns the same dtype.
    Raises DTypeError for bools, ShapeError for axes and windows that do not fit, AttributeValueError for other
    arguments.
    """
    y = max_pool2d(_as_images(x, "max_pool1d"), (1, window), _along(window, stride), along_width(padding))
    return squeeze(y, 2, name=name)


def avg_pool1d(
    x: Node,
    window: int,
    stride: int | None = None,
    padding: int | str | Sequence[int] = 0,
    count_include_pad: bool = False,
    *,
    name: str | None = None,
) -> Node:
    """Mean of every window of sequences [batch, channels, length], as `avg_pool2d` has it.

    x: floats; returns the same dtype.
    Raises DTypeError for other dtypes, ShapeError for axes and windows that do not fit, AttributeValueError for other
    arguments.
    """
    images = _as_images(x, "avg_pool1d")
    y = avg_pool2d(images, (1, window), _along(window, stride), along_width(padding), count_include_pad)
    return squeeze(y, 2, name=name)


def global_max_pool(x: Node, keepdims: bool = False, *, name: str | None = None) -> Node:
    """Maximum of every channel of x [batch, channels, ...].

    x: numbers; returns [batch, channels], or with `keepdims` [batch, channels, 1, ...], of the same dtype.
    Raises DTypeError for bools, ShapeError for fewer than three axes.
    """
    return maximum(x, _behind_channels(x), keepdims, name=name)


def global_avg_pool(x: Node, keepdims: bool = False, *, name: str | None = None) -> Node:
    """Mean of every channel of x [batch, channels, ...].

    x: floats; returns [batch, channels], or with `keepdims` [batch, channels, 1, ...], of the same dtype.
    Raises DTypeError for other dtypes, ShapeError for fewer than three axes.
    """
    return mean(x, _behind_channels(x), keepdims, name=name)


def _as_images(x: Node, what: str) -> Node:
    if x.ndim != 3:
        raise ShapeError(f"{what} of {x.type}: sequences have 3 axes, [batch, channels, length]")
    return expand_dims(x, 2)


def _along(window: int, stride: int | None) -> tuple[int, int]:
    return 1, window if stride is None else stride


def _behind_channels(x: Node) -> tuple[int, ...]:
    if x.ndim < 3:
        raise ShapeError(f"a global pool of {x.type}: a batch, channels, and something to pool are needed")
    return tuple(range(2, x.ndim))


def _counting(window: tuple[int, int]) -> DType:
    """The dtype that counts the elements of a window."""
    return "uint8" if window[0] * window[1] <= np.iinfo(np.uint8).max else "int32"


def _counts(moves: Sweeps, include_pad: bool) -> Array:
    """By how much the sum over the window at every place is divided."""
    rows, columns = ([sweep.window] * sweep.places if include_pad else sweep.met() for sweep in moves)
    return np.outer(rows, columns)


def _met(y: TensorType, moves: Sweeps) -> int:
    """How many elements of images lie in windows, counted once for every window."""
    rows, columns = (sum(sweep.met()) for sweep in moves)
    return dims.bind(dims.product(y.shape[:2]), {}) * rows * columns


def _bits(like: TensorType, here: TensorType) -> tuple[TensorType, ...]:
    """The work memory of a mask by `here` on elements of the dtype of `like`."""
    x = TensorType(here.shape, like.dtype)
    return Mask().scratch(x, x, here)


def _between(pooled: TensorType, images: TensorType) -> TensorType:
    """The type of what is pooled along the height alone."""
    return TensorType((*pooled.shape[:3], images.shape[3]), images.dtype)


def _first_nans(out: Array, size: int, parts: Sequence[tuple[int, Array, Array]]) -> None:
    """Where no element was the greatest, as one is NaN, write the number of the first of these into `out`."""
    if out.size and np.maximum.reduce(out, None) == size:
        for k, elements, places in reversed(parts):
            np.copyto(places, k, "unsafe", np.isnan(elements))


def _maximum(a: Array, b: Array, out: Array) -> None:
    np.maximum(a, b, out=out)

"""Pooling: the maximum, or the mean, of the elements in a window that slides over images; and the adjoints.

Images are [batch, channels, height, width], sequences [batch, channels, length]. Elements of a window that lie in the
padding count for nothing. The padding is smaller than the window, so that every window holds some element.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from graphengine.errors import AttributeValueError, DTypeError, ShapeError
from graphengine.ir.dims import Shape
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Dims, Op
from graphengine.ir.types import Array, DType, TensorType, common_dtype
from graphengine.ops.compare import Mask
from graphengine.ops.reduce import max as maximum
from graphengine.ops.reduce import mean
from graphengine.ops.shape import expand_dims, squeeze
from graphengine.ops.support.run_all import as_one
from graphengine.ops.support.window import (
    NO_PADS,
    Padding,
    Pads,
    Pair,
    Part,
    Sweep,
    Sweeps,
    along_width,
    meetings,
    naming,
    spread,
    sweeps,
    windows,
)

__all__ = ["avg_pool1d", "avg_pool2d", "global_avg_pool", "global_max_pool", "max_pool1d", "max_pool2d"]

Ints = int | Sequence[int]

MOST_ELEMENTS = 2**31 - 1
"""How many elements a window has at most: their numbers are int32."""


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
        if self.window[0] * self.window[1] > MOST_ELEMENTS:
            raise AttributeValueError(f"a window has at most {MOST_ELEMENTS} elements, and {self.window} has more")
        for sweep in found:
            if max(sweep.before, sweep.after) >= sweep.window:
                raise ShapeError(f"padding {self.padding} is not smaller than the window {self.window}")
            if sweep.size == 0:
                raise ShapeError("a window over no elements holds no element")
        return found

    def pooled(self, images: Shape) -> Shape:
        """The shape of one number for every window."""
        return (*images[:2], *(sweep.count for sweep in self.moves(images)))

    def images(self, x: TensorType, size: Shape) -> TensorType:
        """The type of images of this size, given that of x, one number for every window; raises ShapeError."""
        shape = (*x.shape[:2], *size)
        if x.shape != self.pooled(shape):
            raise ShapeError(f"images of size {size} have not these windows")
        return TensorType(shape, x.dtype)

    def places(self, pooled: Shape) -> TensorType:
        """The type of an element's number for every window."""
        return TensorType(pooled, "uint8" if self.window[0] * self.window[1] <= np.iinfo(np.uint8).max else "int32")

    def fixed(self) -> dict[str, Any]:
        """The attributes that adjoints have in common with this op."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in ("kind", "size")}

    def met(self, images: TensorType) -> int:
        """How many elements of images lie in windows, counted once for every window."""
        rows, columns = (sweep.met_in_all for sweep in self.moves(images.shape))
        return math.prod(images.static_shape[:2]) * rows * columns

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
        return (TensorType((*y.shape[:3], x.shape[3]), x.dtype),)  # pooled along the height alone


class MaxPool2D(PoolOfImages):
    """y[n, c, i, j] = the maximum of x[n, c] in the window at (i, j); the adjoint goes to its first NaN or maximum."""

    kind: Literal["max_pool2d"] = "max_pool2d"

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.max(xp.stack(windows(xp, x, self.moves(x.shape), -xp.inf)), axis=0)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (between,) = operands, scratch
        return as_one(_reduce_calls(_maximum, out, between, x, self.moves(x.shape), -np.inf))

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        place = apply(MaxPool2DPlace(**self.fixed()), x, y)
        return (apply(MaxPool2DScatter(size=x.shape[2:], **self.fixed()), y_bar, place),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return self.met(x) - y.size


class MaxPool2DPlace(Pool):
    """Which element of a window of x is `maxima`, its maximum: how many of them are ahead of it, row by row.

    Of equal ones it is the first; of a window that holds NaN it is the first NaN.
    """

    kind: Literal["max_pool2d_place"] = "max_pool2d_place"

    def infer(self, x: TensorType, maxima: TensorType) -> TensorType:
        self.check(x, maxima)
        with naming(self, x, maxima):
            if maxima.shape != self.pooled(x.shape):
                raise ShapeError("the maxima are not one for every window")
        return self.places(maxima.shape)

    def eval(self, xp: Any, x: Any, maxima: Any) -> Any:
        moves = self.moves(x.shape)
        parts = zip(windows(xp, x, moves, xp.nan), windows(xp, x, moves, 0.0), strict=True)
        others = xp.stack([(part != maxima) & (inside == inside) for part, inside in parts])
        return xp.sum(xp.cumprod(others, axis=0), axis=0).astype(self.places(maxima.shape).dtype)

    def scratch(self, y: TensorType, x: TensorType, maxima: TensorType) -> tuple[TensorType, ...]:
        return (TensorType(y.shape, "bool"),) * 2

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x, maxima), (ahead, other) = operands, scratch
        moves = self.moves(x.shape)
        calls: list[Call] = [(out.fill, (0,)), (ahead.fill, (True,))]
        size, past = self.window[0] * self.window[1], 0
        for k, places, met in meetings(moves):
            calls += _skipped(out, ahead, k - past)
            past = k + 1
            if any(sweep.is_padded for sweep in moves):
                calls.append((other.fill, (True,)))
            calls.append((np.not_equal, (x[met], maxima[places], other[places])))
            calls.append((np.logical_and, (ahead, other, ahead)))
            calls.append((np.add, (out, ahead.view(np.uint8), out)))
        parts = [(k, x[met], out[places]) for k, places, met in meetings(moves)]
        return as_one([*calls, *_skipped(out, ahead, size - past), (_first_nans, (out, size, parts))])

    def flops(self, y: TensorType, x: TensorType, maxima: TensorType) -> int:
        return self.met(x)


class PoolByPlace(Pool):
    """An op of x and `place`, both with one number for every window, or x of images and `place` with one."""

    def scratch(self, y: TensorType, x: TensorType, place: TensorType) -> tuple[TensorType, ...]:
        here, part = TensorType(place.shape, "bool"), TensorType(place.shape, x.dtype)
        return here, part, *Mask().scratch(part, part, here)


class MaxPool2DScatter(PoolByPlace):
    """The adjoint of `max_pool2d`: images of `size`, every x added to that element of its window."""

    kind: Literal["max_pool2d_scatter"] = "max_pool2d_scatter"
    size: Dims

    def infer(self, x: TensorType, place: TensorType) -> TensorType:
        self.check(x)
        with naming(self, x, place):
            images = self.images(x, self.size)
            if place != self.places(x.shape):
                raise ShapeError("the places are not one for every window")
        return images

    def eval(self, xp: Any, x: Any, place: Any) -> Any:
        zero = xp.zeros((), x.dtype)
        contributions = [xp.where(place == k, x, zero) for k in range(self.window[0] * self.window[1])]
        return spread(xp, contributions, self.moves((*x.shape[:2], *self.size)))

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x, place), moves = operands, self.moves(out.shape)
        parts = [(k, places, x[places], out[met]) for k, places, met in meetings(moves)]
        disjoint = all(sweep.is_disjoint for sweep in moves)
        return as_one([(out.fill, (0,)), *_masked_calls(place, parts, scratch, disjoint)])

    def vjp(self, y: Node, y_bar: Node, x: Node, place: Node) -> tuple[Node | None, ...]:
        return apply(MaxPool2DGather(**self.fixed()), y_bar, place), None

    def flops(self, y: TensorType, x: TensorType, place: TensorType) -> int:
        return x.size


class MaxPool2DGather(PoolByPlace):
    """The element of every window of x that `place` says, 0 where it says none: the adjoint of the scatter."""

    kind: Literal["max_pool2d_gather"] = "max_pool2d_gather"

    def infer(self, x: TensorType, place: TensorType) -> TensorType:
        dtype = self.check(x)
        with naming(self, x, place):
            if place != self.places(self.pooled(x.shape)):
                raise ShapeError("the places are not one for every window")
        return TensorType(place.shape, dtype)

    def eval(self, xp: Any, x: Any, place: Any) -> Any:
        parts, zero = windows(xp, x, self.moves(x.shape), 0.0), xp.zeros((), x.dtype)
        return sum(xp.where(place == k, part, zero) for k, part in enumerate(parts))

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        x, place = operands
        parts = [(k, places, x[met], out[places]) for k, places, met in meetings(self.moves(x.shape))]
        return as_one([(out.fill, (0,)), *_masked_calls(place, parts, scratch, disjoint=False)])

    def vjp(self, y: Node, y_bar: Node, x: Node, place: Node) -> tuple[Node | None, ...]:
        return apply(MaxPool2DScatter(size=x.shape[2:], **self.fixed()), y_bar, place), None


class AvgPool2D(PoolOfImages):
    """y[n, c, i, j] = the mean of the elements of x[n, c] in the window at (i, j)."""

    kind: Literal["avg_pool2d"] = "avg_pool2d"
    count_include_pad: bool = False

    def eval(self, xp: Any, x: Any) -> Any:
        moves = self.moves(x.shape)
        return sum(windows(xp, x, moves, 0.0)) / xp.asarray(_counts(self, moves, x.dtype))

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (between,), moves = operands, scratch, self.moves(operands[0].shape)
        counts = _counts(self, moves, out.dtype)
        return as_one([*_reduce_calls(np.add, out, between, x, moves, 0), (np.divide, (out, counts, out))])

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (apply(AvgPool2DAdjoint(size=x.shape[2:], **self.fixed()), y_bar),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return self.met(x)


class AvgPool2DAdjoint(Pool):
    """The adjoint of `avg_pool2d`: images of `size`, x over its count added to all of its window."""

    kind: Literal["avg_pool2d_adjoint"] = "avg_pool2d_adjoint"
    count_include_pad: bool = False
    size: Dims

    def infer(self, x: TensorType) -> TensorType:
        self.check(x)
        with naming(self, x):
            return self.images(x, self.size)

    def eval(self, xp: Any, x: Any) -> Any:
        moves = self.moves((*x.shape[:2], *self.size))
        contribution = x / xp.asarray(_counts(self, moves, x.dtype))
        return spread(xp, [contribution] * (self.window[0] * self.window[1]), moves)

    def scratch(self, y: TensorType, x: TensorType) -> tuple[TensorType, ...]:
        return x, TensorType((*x.shape[:3], y.shape[3]), x.dtype)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,), (quotient, between), moves = operands, scratch, self.moves(out.shape)
        counts = _counts(self, moves, out.dtype)
        return as_one([(np.divide, (x, counts, quotient)), *_spread_calls(out, between, quotient, moves)])

    def vjp(self, y: Node, y_bar: Node, x: Node) -> tuple[Node | None]:
        return (apply(AvgPool2D(**self.fixed()), y_bar),)

    def flops(self, y: TensorType, x: TensorType) -> int:
        return x.size + self.met(y)


def max_pool2d(
    x: Node, window: Ints, stride: Ints | None = None, padding: Padding = 0, *, name: str | None = None
) -> Node:
    """Maximum of every window of images [batch, channels, height, width].

    `window` and `stride` (the window if left out) are ints or pairs for rows and columns. `padding`, less than the
    window, is an int, a pair, ((top, bottom), (left, right)), "same" or "valid"; it is never the maximum. x: floats;
    returns the same dtype. Of equal maxima, or of NaNs, the first gets the gradient.
    Raises DTypeError for other dtypes, ShapeError for axes and windows that do not fit, AttributeValueError for other
    arguments.
    """
    return apply(MaxPool2D(window=window, stride=window if stride is None else stride, padding=padding), x, name=name)


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
    x: Node, window: int, stride: int | None = None, padding: int | str | Sequence[int] = 0, *, name: str | None = None
) -> Node:
    """Maximum of every window of sequences [batch, channels, length]; `padding` may be a pair (before, after).

    x: floats; returns the same dtype.
    Raises DTypeError for other dtypes, ShapeError for axes and windows that do not fit, AttributeValueError for other
    arguments.
    """
    return _of_sequences("max_pool1d", MaxPool2D, x, window, stride, name, padding=along_width(padding))


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
    attributes = {"padding": along_width(padding), "count_include_pad": count_include_pad}
    return _of_sequences("avg_pool1d", AvgPool2D, x, window, stride, name, **attributes)


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


def _of_sequences(
    what: str, op: type[Pool], x: Node, window: int, stride: int | None, name: str | None, **attributes: Any
) -> Node:
    """A pool of sequences, as one of images that are 1 high."""
    if x.ndim != 3:
        raise ShapeError(f"{what} of {x.type}: sequences have 3 axes, [batch, channels, length]")
    step = window if stride is None else stride
    return squeeze(apply(op(window=(1, window), stride=(1, step), **attributes), expand_dims(x, 2)), 2, name=name)


def _behind_channels(x: Node) -> tuple[int, ...]:
    if x.ndim < 3:
        raise ShapeError(f"a global pool of {x.type}: a batch, channels, and something to pool are needed")
    return tuple(range(2, x.ndim))


def _counts(op: AvgPool2D | AvgPool2DAdjoint, moves: Sweeps, dtype: npt.DTypeLike) -> Array:
    """By how much the sum over each window is divided."""
    rows, columns = ([sweep.window] * sweep.positions if op.count_include_pad else sweep.met() for sweep in moves)
    return np.outer(rows, columns).astype(dtype)


def _skipped(out: Array, ahead: Array, count: int) -> list[Call]:
    """The calls that add, where the maximum is not among what went before, elements that meet nothing."""
    return [(partial(np.add, out=out, where=ahead), (out, np.asarray(count, out.dtype)))] if count else []


def _first_nans(out: Array, size: int, parts: Sequence[tuple[int, Array, Array]]) -> None:
    """Where no element was the maximum, as one is NaN, write the number of the first of these into `out`."""
    if out.size and np.maximum.reduce(out, None) == size:
        for k, elements, places in reversed(parts):
            np.copyto(places, k, "unsafe", np.isnan(elements))


def _maximum(a: Array, b: Array, out: Array) -> None:
    np.maximum(a, b, out=out)


def _masked_calls(
    place: Array, parts: Iterable[tuple[int, Part, Array, Array]], scratch: Sequence[Array], disjoint: bool
) -> Iterable[Call]:
    """The calls that, for each part k, add to its target its source where `place`, at these windows, is k."""
    here, work, bits = scratch
    for k, places, source, target in parts:
        yield np.equal, (place, np.asarray(k, place.dtype), here)
        yield Mask().bind(target if disjoint else work[places], source, here[places], scratch=(bits[places],))
        if not disjoint:
            yield np.add, (target, work[places], target)


def _reduce_calls(
    function: Callable[..., object], out: Array, between: Array, x: Array, moves: Sweeps, start: float
) -> list[Call]:
    """The calls that reduce every window by `function`: along the height, where memory is contiguous, then the width.

    So a window of h * w elements takes h + w calls and not h * w.
    """
    calls: list[Call] = []
    for axis, sweep, source, target in ((-2, moves[0], x, between), (-1, moves[1], between, out)):
        parts = [_parts(axis, sweep, k, target, source) for k in sweep.elements]
        if sweep.is_padded or len(parts) == 1:
            calls.append((target.fill, (start,)))
        else:
            (_, first), (_, second), *parts = parts
            calls.append((function, (first, second, target)))
        calls += [(function, (to, part, to)) for to, part in parts]
    return calls


def _spread_calls(out: Array, between: Array, x: Array, moves: Sweeps) -> list[Call]:
    """The calls that do the adjoint of summing over windows: along the width, then the height."""
    calls: list[Call] = []
    for axis, sweep, source, target in ((-1, moves[1], x, between), (-2, moves[0], between, out)):
        calls.append((target.fill, (0,)))
        for k in sweep.elements:
            part, to = _parts(axis, sweep, k, source, target)
            calls.append((np.copyto, (to, part)) if sweep.is_disjoint else (np.add, (to, part, to)))
    return calls


def _parts(axis: int, sweep: Sweep, k: int, pooled: Array, images: Array) -> tuple[Array, Array]:
    """Views of the windows that have their element `k` inside of the images, and of these elements."""
    places, met = sweep.meets(k)
    of_pooled: Part = (..., places) if axis == -1 else (..., places, slice(None))
    of_images: Part = (..., met) if axis == -1 else (..., met, slice(None))
    return pooled[of_pooled], images[of_images]

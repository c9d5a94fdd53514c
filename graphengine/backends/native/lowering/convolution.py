"""Convolutions, transposed ones too, as sums of weighted lines: see images.py for lines, tiles.py for the sums."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from math import prod

import numpy as np

from graphengine.backends.native.kernel import LoopCall, kernel_of
from graphengine.backends.native.lowering.copies import fills
from graphengine.backends.native.lowering.images import Packed, least_lanes, packed, strides, swept
from graphengine.backends.native.lowering.products import products, total_products
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.backends.native.lowering.tiles import PLACES, SLOTS, Tile, tile_of, tile_sums
from graphengine.backends.native.lowering.weight_gradient import Dots, weight_gradient
from graphengine.backends.native.vocabulary import share
from graphengine.ir import dims
from graphengine.ir.types import Array, DType, TensorType
from graphengine.ops.conv import Conv2D, Conv2DTranspose, Conv2DWeightGrad, matrices
from graphengine.ops.support.layout import ascending
from graphengine.ops.unfold import pixels
from graphengine.ops.window import Sweep, Sweeps

Typed = TensorType | Array
"""What has a shape, whose dims are bound, and a dtype."""

Taps = tuple[tuple[int, int], ...]
"""Which elements of the window, along one axis, meet something, and where that stands in the row or column of x."""


def _scratch_conv2d(op: Conv2D, y: TensorType, x: TensorType, weight: TensorType) -> tuple[TensorType, ...]:
    return () if op.is_pointwise(weight.shape[2:]) else _sums(op, x, weight).scratch(y.dtype)


@register_lowering(Conv2D, scratch=_scratch_conv2d)
def lower_conv2d(op: Conv2D, out: Array, x: Array, weight: Array, *, scratch: Sequence[Array]) -> Calls:
    """Sums of weighted lines; where the window is one element, products of matrices."""
    if op.is_pointwise(weight.shape[2:]):
        images, values = pixels(op.groups, x, out)
        return products(values, matrices(weight, op.groups), images)
    return _sums(op, x, weight).calls(out, x, weight, scratch)


def _sums(op: Conv2D, x: Typed, weight: Typed) -> Sums:
    return _convolution(_sizes(x), _sizes(weight), op.groups, op.moves(x.shape, weight.shape[2:]), _itemsize(x))


def _scratch_transpose(op: Conv2DTranspose, y: TensorType, x: TensorType, weight: TensorType) -> tuple[TensorType, ...]:
    return () if op.is_pointwise(weight.shape[2:]) else _transposed_sums(op, y, x, weight).scratch(y.dtype)


@register_lowering(Conv2DTranspose, scratch=_scratch_transpose)
def lower_transpose(op: Conv2DTranspose, out: Array, x: Array, weight: Array, *, scratch: Sequence[Array]) -> Calls:
    """Like `conv2d`: each element of the result is a sum over the places whose windows meet it."""
    if op.is_pointwise(weight.shape[2:]):
        values, images = pixels(op.groups, x, out)
        return products(images, matrices(weight, op.groups).swapaxes(-1, -2), values)
    return _transposed_sums(op, out, x, weight).calls(out, x, weight, scratch)


def _transposed_sums(op: Conv2DTranspose, y: Typed, x: Typed, weight: Typed) -> Sums:
    return transposed(_sizes(x), _sizes(weight), op.groups, op.moves(y.shape, weight.shape[2:]), _itemsize(x))


def _scratch_weight_grad(
    op: Conv2DWeightGrad, y: TensorType, x: TensorType, values: TensorType
) -> tuple[TensorType, ...]:
    return () if op.is_pointwise(op.window) else _dots(op, x, values).scratch(y.dtype)


@register_lowering(Conv2DWeightGrad, scratch=_scratch_weight_grad)
def lower_weight_grad(op: Conv2DWeightGrad, out: Array, x: Array, values: Array, *, scratch: Sequence[Array]) -> Calls:
    """Dot products of lines; where the window is one element, a sum of products of matrices."""
    if not (x.size and values.size):
        return fills(out, 0.0)
    if op.is_pointwise(op.window):
        images, rows = ([part for image in view for part in image] for view in pixels(op.groups, x, values))
        return total_products(matrices(out, op.groups), rows, images)
    return _dots(op, x, values).calls(out, x, values, scratch)


def _dots(op: Conv2DWeightGrad, x: Typed, values: Typed) -> Dots:
    return weight_gradient(_sizes(x), _sizes(values), op.groups, op.moves(x.shape, op.window), _itemsize(x))


def _sizes(x: Typed) -> tuple[int, ...]:
    return tuple(dims.bind(size, {}) for size in x.shape)


def _itemsize(x: Typed) -> int:
    return np.dtype(x.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Sums:
    """A result [N, groups * filters, height, width], each element a sum over channels and over taps."""

    x: Packed
    """What is summed up; every group has as many of its channels."""
    groups: int
    filters: int
    """Of the result, in one group."""
    window: tuple[int, int]
    rows: tuple[Taps, ...]
    columns: tuple[Taps, ...]
    """Of each row and of each column of the result."""
    step: int
    """By how many columns of the result neighbours in x lie apart."""
    axes: tuple[int, int]
    """Those of the weight along filters and along channels."""
    itemsize: int

    @property
    def channels(self) -> int:
        """What one group reads."""
        return self.x.channels // self.groups

    @property
    def tile(self) -> Tile:
        """What is summed up at once."""
        return tile_of(self.filters, self.itemsize)

    @property
    def parts(self) -> int:
        """How many tiles hold the filters of a group."""
        return -(-self.filters // self.tile.filters)

    @property
    def part(self) -> int:
        """The weights of so many filters."""
        return prod(self.window) * self.channels * self.tile.filters

    @property
    def slots(self) -> int:
        """How many threads may take part."""
        items = self.x.blocks * self.groups * len(self.rows) * len(self.pieces()) * self.parts
        return max(1, min(SLOTS, items))

    def scratch(self, dtype: DType) -> tuple[TensorType, ...]:
        """The types of the work arrays: images, weights, and buffers."""
        sizes = self.x.size, self.groups * self.parts * self.part, self.slots * self.tile.buffer
        return tuple(TensorType((size,), dtype) for size in sizes)

    def pieces(self) -> list[range]:
        """The columns of the result, in parts that fit into a buffer."""
        most = max(1, PLACES // self.x.lanes)
        phases = [range(len(self.columns))[phase :: self.step] for phase in range(self.step)]
        return [phase[first : first + most] for phase in phases for first in range(0, len(phase), most)]

    def calls(self, out: Array, x: Array, weight: Array, scratch: Sequence[Array]) -> list[LoopCall]:
        """The calls that compute the result."""
        if not out.size:
            return []
        images, weights, buffers = scratch
        steps = strides(weight)
        sizes = self.groups, self.filters, self.channels, *self.window, self.tile.filters
        group = steps[0] * (weight.shape[0] // self.groups)
        first, start = ascending(weight)
        pack = first, weights, start, *sizes, group, *(steps[axis] for axis in self.axes), *steps[2:]
        tables = self._rows(), self._columns()
        sums = images, weights, out, buffers, *tables[0], *tables[1], *self._numbers(), *strides(out)[:3], self.step
        return [
            *self.x.calls(images, x),
            (kernel_of(pack_weights), pack),
            (tile_sums(self.tile), (*sums, self.slots)),
        ]

    def _numbers(self) -> tuple[int, ...]:
        """What the kernel is told of sizes, and of steps in x and in the packed weights."""
        x = self.x
        sizes = len(self.rows), len(self.pieces()), x.images, x.lanes, self.groups, self.filters, self.channels
        return *sizes, x.block, self.channels * x.line, x.line, self.part

    def _rows(self) -> tuple[Array, Array]:
        """The tables `rows` and `down` of the kernel."""
        weights = self.window[1] * self.channels * self.tile.filters
        down = [(at * self.x.row, k * weights) for taps in self.rows for k, at in taps]
        return _table(_ranges(map(len, self.rows))), _table(down)

    def _columns(self) -> tuple[Array, Array, Array]:
        """The tables `pieces`, `segments` and `across` of the kernel."""
        weights = self.channels * self.tile.filters
        pieces = self.pieces()
        segments = [self._segments(piece) for piece in pieces]
        flat = [segment for piece in segments for segment in piece]
        across = [(at, k * weights) for _, taps in flat for k, at in taps]
        begins = zip(pieces, _ranges(map(len, segments)), strict=True)
        ends = zip(flat, _ranges(len(taps) for _, taps in flat), strict=True)
        return (
            _table([(piece.start, len(piece), *span) for piece, span in begins]),
            _table([(*places, *span) for (places, _), span in ends]),
            _table(across),
        )

    def _segments(self, piece: range) -> list[tuple[tuple[int, int], Taps]]:
        """The parts of a piece with the same taps: from which place to which, and the taps of the first."""
        lanes = self.x.lanes

        def relative(number: int) -> Taps:
            return tuple((k, at - number * lanes) for k, at in self.columns[piece[number]])

        groups = [list(group) for _, group in groupby(range(len(piece)), relative)]
        return [
            ((numbers[0] * lanes, (numbers[-1] + 1) * lanes), self.columns[piece[numbers[0]]]) for numbers in groups
        ]


def _convolution(x: tuple[int, ...], weight: tuple[int, ...], groups: int, moves: Sweeps, itemsize: int) -> Sums:
    """`conv2d` of images x."""
    source = swept(x, moves, least_lanes(x[0]), moves[1].places)
    rows, columns = (
        [[(k, place * sweep.stride + k * sweep.dilation) for k in range(sweep.window)] for place in range(sweep.places)]
        for sweep in moves
    )
    wide = tuple(tuple((k, source.column(at)) for k, at in taps) for taps in columns)
    high = tuple(map(tuple, rows))
    return Sums(source, groups, weight[0] // groups, (weight[2], weight[3]), high, wide, 1, (0, 1), itemsize)


def transposed(x: tuple[int, ...], weight: tuple[int, ...], groups: int, moves: Sweeps, itemsize: int) -> Sums:
    """The adjoint, of values x at the places of `moves`."""
    source = packed(x, least_lanes(x[0]), x[3])
    rows, columns = map(_places, moves)
    wide = tuple(tuple((k, at * source.lanes) for k, at in taps) for taps in columns)
    return Sums(source, groups, weight[1], (weight[2], weight[3]), rows, wide, moves[1].stride, (1, 0), itemsize)


def _places(sweep: Sweep) -> tuple[Taps, ...]:
    """For each element of the axis, by which element of the window which place meets it."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(int(sweep.size))]
    for k in range(sweep.window):
        places, met = sweep.meets(k)
        for number, place in enumerate(range(places.start, places.stop)):
            found[met.start + number * sweep.stride].append((k, place))
    return tuple(map(tuple, found))


def _ranges(counts: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Where parts of so many elements begin and end, one behind the other."""
    return pairwise(accumulate(counts, initial=0))


def _table(rows: Iterable[tuple[int, ...]]) -> Array:
    return np.array(list(rows), np.int64).reshape(-1)


def pack_weights(
    weight: Array,
    out: Array,
    start: int,
    groups: int,
    filters: int,
    channels: int,
    height: int,
    width: int,
    together: int,
    by_group: int,
    by_filter: int,
    by_channel: int,
    by_row: int,
    by_column: int,
    rank: int,
    ranks: int,
) -> None:
    """The weights of so many filters together side by side, for each element of the window and each channel."""
    parts = (filters + together - 1) // together
    for item in share(groups * parts * channels, rank, ranks):
        part = item // channels
        channel = item - part * channels
        group = part // parts
        first = (part - group * parts) * together
        count = filters - first if filters - first < together else together
        begin = (part * height * width * channels + channel) * together
        for i in range(together):
            at = start + group * by_group + (first + i) * by_filter + channel * by_channel
            to = begin + i
            for row in range(height):
                for column in range(width):
                    out[to] = weight[at + row * by_row + column * by_column] if i < count else 0.0
                    to += channels * together

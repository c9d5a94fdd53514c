"""Convolutions, transposed ones too, as sums of weighted lines: see images.py for lines, tiles.py for the sums."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import prod

import numpy as np

from graphengine.ir.kernel import LoopCall, kernel_of
from graphengine.ir.op import Array
from graphengine.ir.vocabulary import share
from graphengine.ops.kernels.images import Packed, packed, strides, swept
from graphengine.ops.kernels.tiles import PLACES, SLOTS, Tile, tile_of, tile_sums
from graphengine.ops.window import Sweep, Sweeps
from graphengine.ops.work import cut

__all__ = ["Sums", "convolution", "transposed"]

Taps = tuple[tuple[int, int], ...]
"""Which elements of the window, along one axis, meet something, and where that stands in the row or column of x."""


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
        return min(SLOTS, items)

    @property
    def shapes(self) -> tuple[tuple[int], ...]:
        """Of the work arrays: of the images, of the weights, and of buffers."""
        return (self.x.size,), (self.groups * self.parts * self.part,), (self.slots * self.tile.buffer,)

    def pieces(self) -> list[range]:
        """The columns of the result, in parts that fit into a buffer."""
        most = max(1, PLACES // self.x.lanes)
        phases = [range(len(self.columns))[phase :: self.step] for phase in range(self.step)]
        return [phase[first : first + most] for phase in phases for first in range(0, len(phase), most)]

    def calls(self, out: Array, x: Array, weight: Array, scratch: Sequence[Array]) -> list[LoopCall]:
        """The calls that compute the result."""
        images, weights, _ = work = cut(scratch[0], self.shapes)
        steps = strides(weight)
        group = steps[0] * (weight.shape[0] // self.groups)
        sizes = self.groups, self.filters, self.channels, *self.window, self.tile.filters
        pack = weight, weights, *sizes, group, *(steps[axis] for axis in self.axes), *steps[2:]
        return [*self.x.calls(images, x), (kernel_of(pack_weights), pack), self._sum(out, work)]

    def _sum(self, out: Array, work: Sequence[Array]) -> LoopCall:
        step, x = self.channels * self.tile.filters, self.x
        taps = [(at * x.row, k * self.window[1] * step) for row in self.rows for k, at in row]
        rows = _ranges([len(row) for row in self.rows])
        segments = [list(self._segments(piece)) for piece in self.pieces()]
        across = [(at, k * step) for piece in segments for _, taps in piece for k, at in taps]
        places = [place for piece in segments for place, _ in piece]
        listed = _ranges([len(taps) for piece in segments for _, taps in piece])
        ends = _ranges([len(piece) for piece in segments])
        pieces = [(piece.start, len(piece), *end) for piece, end in zip(self.pieces(), ends, strict=True)]
        tables = rows, taps, pieces, [(*place, *of) for place, of in zip(places, listed, strict=True)], across
        sizes = len(self.rows), len(pieces), x.images, x.lanes, self.groups, self.filters, self.channels
        inwards = x.block, self.channels * x.plane, x.plane, self.part
        outwards = (*strides(out)[:3], self.step)
        arrays = [np.array(table, np.int64).reshape(-1) for table in tables]
        return tile_sums(self.tile), (*work[:2], out, work[2], *arrays, *sizes, *inwards, *outwards, self.slots)

    def _segments(self, piece: range) -> Iterator[tuple[tuple[int, int], Taps]]:
        """The parts of a piece with the same taps: from which place to which, and the taps of the first."""
        lanes = self.x.lanes

        def relative(number: int) -> Taps:
            return tuple((k, at - number * lanes) for k, at in self.columns[piece[number]])

        for _, group in groupby(range(len(piece)), relative):
            numbers = list(group)
            yield (numbers[0] * lanes, (numbers[-1] + 1) * lanes), self.columns[piece[numbers[0]]]


def convolution(x: tuple[int, ...], weight: tuple[int, ...], groups: int, moves: Sweeps, itemsize: int) -> Sums:
    """`conv2d` of images x."""
    source = swept(x, moves)
    rows, columns = (
        [[(k, place * sweep.stride + k * sweep.dilation) for k in range(sweep.window)] for place in range(sweep.places)]
        for sweep in moves
    )
    wide = tuple(tuple((k, source.column(at)) for k, at in taps) for taps in columns)
    high = tuple(map(tuple, rows))
    return Sums(source, groups, weight[0] // groups, (weight[2], weight[3]), high, wide, 1, (0, 1), itemsize)


def transposed(x: tuple[int, ...], weight: tuple[int, ...], groups: int, moves: Sweeps, itemsize: int) -> Sums:
    """The adjoint, of values x at the places of `moves`."""
    source = packed(x)
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


def _ranges(counts: Sequence[int]) -> list[tuple[int, int]]:
    """Where parts of so many elements begin and end, one behind the other."""
    return list(pairwise(np.cumsum([0, *counts]).tolist()))


def pack_weights(
    weight: Array,
    out: Array,
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
        start = (part * height * width * channels + channel) * together
        for i in range(together):
            at = group * by_group + (first + i) * by_filter + channel * by_channel
            to = start + i
            for row in range(height):
                for column in range(width):
                    out[to] = weight[at + row * by_row + column * by_column] if i < count else 0.0
                    to += channels * together

"""Convolutions, transposed ones too, as sums of weighted lines: see images.py for lines, tiles.py for the sums."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, groupby, pairwise
from math import prod

import numpy as np

from graphengine.backends.native.kernel import LoopCall, Read, kernel_of
from graphengine.backends.native.lowering.images import Packed, least_lanes, packed, sizes_of, strides, swept
from graphengine.backends.native.lowering.products import products
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.backends.native.lowering.tiles import POSITIONS, Tiled, Typed, scratch_of, slots_of, tile_of, tile_sums
from graphengine.backends.native.vocabulary import share
from graphengine.ir.types import Array
from graphengine.ops.convolution import Conv2D, Conv2DTranspose
from graphengine.ops.support.layout import ascending
from graphengine.ops.support.unfold import matrices, pixels
from graphengine.ops.support.window import Sweep

Taps = list[tuple[int, int]]
"""Which elements of the window, along one axis, meet something, and where that is in the row or column of x."""


def _convolved(op: Conv2D, y: Typed, x: Typed, weight: Typed) -> Tiled | None:
    """A convolution; None where the window is one element."""
    if op.is_pointwise(weight.shape[2:]):
        return None
    images = sizes_of(x)
    moves = op.moves(x.shape, weight.shape[2:])
    source = swept(images, moves, least_lanes(images[0]), moves[1].positions)

    def taps() -> tuple[list[Taps], list[Taps]]:
        rows, columns = (
            [[(k, i * sweep.stride + k * sweep.dilation) for k in range(sweep.window)] for i in range(sweep.positions)]
            for sweep in moves
        )
        return rows, [[(k, source.column(at)) for k, at in taps] for taps in columns]

    return _sums(source, op.groups, weight, (0, 1), sizes_of(y)[2:], taps, 1)


@register_lowering(Conv2D, scratch=scratch_of(_convolved))
def lower_conv2d(op: Conv2D, out: Array, x: Array, weight: Array, *, scratch: Sequence[Array]) -> Calls:
    """Sums of weighted lines; where the window is one element, products of matrices."""
    sums = _convolved(op, out, x, weight)
    if sums is None:
        images, values = pixels(op.groups, x, out)
        return products(values, matrices(weight, op.groups), images)
    return sums.calls(out, x, weight, scratch)


def _transposed(op: Conv2DTranspose, y: Typed, x: Typed, weight: Typed) -> Tiled | None:
    """The adjoint of a convolution; None where the window is one element."""
    if op.is_pointwise(weight.shape[2:]):
        return None
    values, moves = sizes_of(x), op.moves(y.shape, weight.shape[2:])
    source = packed(values, least_lanes(values[0]), values[3])

    def taps() -> tuple[list[Taps], list[Taps]]:
        rows, columns = map(taps_of_adjoint, moves)
        return rows, [[(k, at * source.lanes) for k, at in taps] for taps in columns]

    return _sums(source, op.groups, weight, (1, 0), sizes_of(y)[2:], taps, moves[1].stride)


@register_lowering(Conv2DTranspose, scratch=scratch_of(_transposed))
def lower_transpose(op: Conv2DTranspose, out: Array, x: Array, weight: Array, *, scratch: Sequence[Array]) -> Calls:
    """Like `conv2d`: each element of the result is a sum over the positions whose windows meet it."""
    sums = _transposed(op, out, x, weight)
    if sums is None:
        values, images = pixels(op.groups, x, out)
        return products(images, matrices(weight, op.groups).swapaxes(-1, -2), values)
    return sums.calls(out, x, weight, scratch)


def taps_of_adjoint(sweep: Sweep) -> list[Taps]:
    """For each element of the axis, by which element of the window which position meets it."""
    found: list[Taps] = [[] for _ in range(int(sweep.size))]
    for k in range(sweep.window):
        positions, met = sweep.meets(k)
        for number, position in enumerate(range(positions.start, positions.stop)):
            found[met.start + number * sweep.stride].append((k, position))
    return found


def _sums(
    x: Packed,
    groups: int,
    weight: Typed,
    axes: tuple[int, int],
    plane: Sequence[int],
    taps: Callable[[], tuple[list[Taps], list[Taps]]],
    step: int,
) -> Tiled:
    """A result [N, groups * filters, height, width], each element a sum over channels and over taps.

    `axes` are those of the weight along filters and along channels; `plane` is the height and width, and `taps` gives
    the taps of each row and of each column of it, in which neighbours in x are `step` columns apart.
    """
    sizes = sizes_of(weight)
    window, channels = sizes[2:], x.shape[1] // groups
    filters = sizes[0] // groups if axes[0] == 0 else sizes[1]
    tile = tile_of(filters, np.dtype(weight.dtype).itemsize)
    parts, part = -(-filters // tile.filters), prod(window) * channels * tile.filters
    most = max(1, POSITIONS // x.lanes)
    height, width = plane
    each, longer = divmod(width, step)  # columns of a phase, and how many phases have one more
    count = longer * -(-(each + 1) // most) + (step - longer) * -(-each // most)
    slots = slots_of(x.blocks * groups * height * count * parts)

    def calls(out: Array, images: Array, weight: Array, scratch: Sequence[Array]) -> list[LoopCall]:
        if not out.size:
            return []
        rows, columns = taps()
        phases = [range(width)[phase::step] for phase in range(min(step, width))]
        pieces = [phase[first : first + most] for phase in phases for first in range(0, len(phase), most)]
        by = strides(weight)
        first, start = ascending(weight)
        pack = [start, groups, filters, channels, *window, tile.filters]
        pack += [by[0] * (weight.shape[0] // groups), *(by[axis] for axis in axes), *by[2:]]
        by_tap = channels * tile.filters
        tables = *_listed(rows, x.row, window[1] * by_tap), *_column_tables(pieces, columns, x.lanes, by_tap)
        numbers = len(rows), len(pieces), x.shape[0], x.lanes, groups, filters, channels
        distances = x.block, channels * x.line, x.line, part, *strides(out)[:3], step
        packed_x, packed_weight, buffers = scratch
        return [
            *x.calls(packed_x, images),
            (kernel_of(pack_weights), (first, packed_weight, np.array(pack, np.int64))),
            (tile_sums(tile), (packed_x, packed_weight, out, buffers, *tables, *numbers, *distances, slots)),
        ]

    return Tiled((x.size, groups * parts * part, slots * tile.buffer), calls)


def _listed(lists: Sequence[Taps], by_element: int, by_tap: int) -> tuple[Array, Array]:
    """Where each list begins and ends in a table of all taps, and this table: where a tap is in x, and where in w."""
    ends = accumulate(map(len, lists), initial=0)
    return _table(pairwise(ends)), _table((at * by_element, k * by_tap) for taps in lists for k, at in taps)


def _column_tables(pieces: list[range], columns: list[Taps], lanes: int, by_tap: int) -> tuple[Array, Array, Array]:
    """The tables `pieces`, `segments` and `across` of the kernel: columns of a segment have the same taps."""
    spans: list[tuple[int, ...]] = []
    bounds: list[tuple[int, ...]] = []
    lists: list[Taps] = []
    for piece in pieces:
        begin = len(lists)
        relative = [[(k, at - i * lanes) for k, at in columns[column]] for i, column in enumerate(piece)]
        for _, run in groupby(range(len(piece)), relative.__getitem__):
            numbers = list(run)
            bounds.append((numbers[0] * lanes, (numbers[-1] + 1) * lanes))
            lists.append(columns[piece[numbers[0]]])
        spans.append((piece.start, len(piece), begin, len(lists)))
    ends, across = _listed(lists, 1, by_tap)
    segments = ((*bound, *end) for bound, end in zip(bounds, ends.reshape(-1, 2), strict=True))
    return _table(spans), _table(segments), across


def _table(rows: Iterable[tuple[int, ...]]) -> Array:
    return np.array(list(rows), np.int64).reshape(-1)


def pack_weights(weight: Read, out: Array, sizes: Read, rank: int, ranks: int) -> None:
    """The weights of so many filters together side by side, for each element of the window and each channel."""
    start, groups, filters, channels = sizes[0], sizes[1], sizes[2], sizes[3]
    height, width, together = sizes[4], sizes[5], sizes[6]
    by_group, by_filter, by_channel, by_row, by_column = sizes[7], sizes[8], sizes[9], sizes[10], sizes[11]
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

"""The adjoint of convolutions by their kernel, as dot products of lines of values and of images; see images.py."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from graphengine.backends.native.kernel import LoopCall
from graphengine.backends.native.lowering.copies import fills
from graphengine.backends.native.lowering.images import LINE, packed, sizes_of, swept, whole_vectors
from graphengine.backends.native.lowering.products import total_products
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.backends.native.lowering.tiles import Tiled, Typed, scratch_of, slots_of, tile_dots
from graphengine.ir.types import Array
from graphengine.ops.convolution import Conv2DWeightGrad
from graphengine.ops.support.unfold import matrices, pixels

STRETCH = 2048
"""How many products are added up in each lane of a register before they are added to the result."""


def _dots(op: Conv2DWeightGrad, y: Typed, x: Typed, values: Typed) -> Tiled | None:
    """A result [groups * filters, taps], each element the dot product of a channel of values and of shifted images.

    Rows of positions are whole vectors. None where the window is one element.
    """
    if op.is_pointwise(op.window):
        return None
    vector = LINE // np.dtype(x.dtype).itemsize
    moves = rows, columns = op.moves(x.shape, op.window)
    lanes, positions = whole_vectors(sizes_of(x)[0], sizes_of(values)[3], vector)
    images, found = swept(sizes_of(x), moves, lanes, positions), packed(sizes_of(values), lanes, positions)
    filters, channels = found.shape[1] // op.groups, images.shape[1] // op.groups
    count = channels * prod(op.window)
    tile = (4, 5) if filters > 2 else (1, 12)  # of how many filters and taps products are added up at once
    slots = slots_of(op.groups * -(-filters // tile[0]) * -(-count // tile[1]))

    def calls(out: Array, x: Array, values: Array, scratch: Sequence[Array]) -> list[LoopCall]:
        taps = [
            channel * images.line + k * rows.dilation * images.row + images.column(j * columns.dilation)
            for channel in range(channels)
            for k in range(rows.window)
            for j in range(columns.window)
        ]
        taps += taps[-1:] * (-len(taps) % tile[1])
        packed_x, packed_values, buffers = scratch
        sizes = op.groups, filters, count, found.blocks * found.rows, found.rows
        distances = found.block, found.row, found.line, images.block, channels * images.line, rows.stride * images.row
        numbers = *sizes, *distances, max(1, STRETCH * vector // found.line), slots
        return [
            *images.calls(packed_x, x),
            *found.calls(packed_values, values),
            (tile_dots(*tile, vector), (packed_x, packed_values, out, buffers, np.array(taps, np.int64), *numbers)),
        ]

    return Tiled((images.size, found.size, slots * prod(tile) * vector), calls)


@register_lowering(Conv2DWeightGrad, scratch=scratch_of(_dots))
def lower_weight_grad(op: Conv2DWeightGrad, out: Array, x: Array, values: Array, *, scratch: Sequence[Array]) -> Calls:
    """Dot products of lines; where the window is one element, a sum of products of matrices."""
    if not (x.size and values.size):
        return fills(out, 0.0)
    dots = _dots(op, out, x, values)
    if dots is None:
        images, rows = ([part for image in view for part in image] for view in pixels(op.groups, x, values))
        return total_products(matrices(out, op.groups), rows, images)
    return dots.calls(out, x, values, scratch)

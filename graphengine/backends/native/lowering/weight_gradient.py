"""The adjoint of convolutions by their kernel, as dot products of lines of values and of images; see images.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np

from graphengine.backends.native.kernel import Kernel, LoopCall
from graphengine.backends.native.lowering.images import LINE, Packed, packed, swept, whole_vectors
from graphengine.backends.native.lowering.tiles import SLOTS
from graphengine.ir.types import Array, DType, TensorType
from graphengine.ops.window import Sweeps

STRETCH = 2048
"""How many products are added up in each lane of a register before they are added to the result."""


@dataclass(frozen=True, slots=True)
class Dots:
    """A result [groups * filters, taps], each element the dot product of a channel of values and of shifted images."""

    x: Packed
    values: Packed
    groups: int
    window: tuple[int, int]
    dilation: tuple[int, int]
    step: int
    """How many rows of x lie between rows of places."""
    itemsize: int

    @property
    def filters(self) -> int:
        """Of one group."""
        return self.values.channels // self.groups

    @property
    def channels(self) -> int:
        """Of one group."""
        return self.x.channels // self.groups

    @property
    def tile(self) -> tuple[int, int]:
        """Of how many filters and of how many taps products are added up at once."""
        return (4, 5) if self.filters > 2 else (1, 12)

    @property
    def vector(self) -> int:
        """How many places are multiplied at once."""
        return LINE // self.itemsize

    @property
    def slots(self) -> int:
        """How many threads may take part."""
        filters, taps = self.tile
        items = self.groups * -(-self.filters // filters) * -(-self.channels * prod(self.window) // taps)
        return max(1, min(SLOTS, items))

    def scratch(self, dtype: DType) -> tuple[TensorType, ...]:
        """The types of the work arrays: images, values, and buffers."""
        sizes = self.x.size, self.values.size, self.slots * prod(self.tile) * self.vector
        return tuple(TensorType((size,), dtype) for size in sizes)

    def calls(self, out: Array, x: Array, values: Array, scratch: Sequence[Array]) -> list[LoopCall]:
        """The calls that compute the result, which is contiguous."""
        images, places, _ = scratch
        return [*self.x.calls(images, x), *self.values.calls(places, values), self._multiply(out, scratch)]

    def _multiply(self, out: Array, work: Sequence[Array]) -> LoopCall:
        x, values, (high, wide) = self.x, self.values, self.window
        taps = [
            channel * x.line + k * self.dilation[0] * x.row + x.column(j * self.dilation[1])
            for channel in range(self.channels)
            for k in range(high)
            for j in range(wide)
        ]
        taps += taps[-1:] * (-len(taps) % self.tile[1])
        sizes = self.groups, self.filters, self.channels * high * wide, values.blocks * values.rows, values.rows
        steps = values.block, values.row, values.line, x.block, self.channels * x.line, self.step * x.row
        stretch = max(1, STRETCH * self.vector // values.line)
        arguments = (*work[:2], out, work[2], np.array(taps, np.int64), *sizes, *steps, stretch, self.slots)
        return dots(*self.tile, self.vector), arguments


def weight_gradient(x: tuple[int, ...], values: tuple[int, ...], groups: int, moves: Sweeps, itemsize: int) -> Dots:
    """`conv2d_weight_grad` of images x and of values at the places of `moves`. Rows of places are whole vectors."""
    lanes, places = whole_vectors(x[0], values[3], LINE // itemsize)
    return Dots(
        swept(x, moves, lanes, places),
        packed(values, lanes, places),
        groups,
        (moves[0].window, moves[1].window),
        (moves[0].dilation, moves[1].dilation),
        moves[0].stride,
        itemsize,
    )


@lru_cache(maxsize=1024)
def dots(f: int, t: int, vector: int) -> Kernel:
    """The kernel for tiles of so many filters and taps. They are kept in registers, as tiles.py says."""
    cells = [f"buffer[cell + {number * vector}]" for number in range(f * t)]
    starts = [f"v{i} = values + ({i} if {i} < last else last) * v_line" for i in range(f)]
    starts += [f"x{j} = image + taps[first + {j}]" for j in range(t)]
    loads = [f"a{i} = v[v{i} + p + q]" for i in range(f)] + [f"b{j} = x[x{j} + p + q]" for j in range(t)]
    sums = [f"{cell} = plus({cell}, a{i // t} * b{i % t})" for i, cell in enumerate(cells)]
    name = f"dot_tiles_{f}x{t}_{vector}"
    lines = {"starts": "; ".join(starts), "loads": "; ".join(loads), "sums": "; ".join(sums)}
    return Kernel(name, _TEXT.format(name=name, f=f, t=t, vector=vector, **lines))


_TEXT = """\
def {name}(
    x, v, out, buffer, taps, groups, filters, count, rows, height, v_block, v_row, v_line, x_block, x_group, x_row,
    stretch, slots, rank, ranks
):
    tall = (filters + {f} - 1) // {f}
    wide = (count + {t} - 1) // {t}
    team = ranks if ranks < slots else slots
    to = rank * {f} * {t} * {vector}
    for item in share(groups * tall * wide if rank < slots else 0, rank, team):
        first = item % wide * {t}
        part = item // wide % tall * {f}
        group = item // (wide * tall)
        last = filters - part - 1
        for begin in range(0, rows, stretch):
            for q in range({f} * {t} * {vector}):
                buffer[to + q] = 0.0
            for row in range(begin, begin + stretch if begin + stretch < rows else rows):
                block = row // height
                place = row - block * height
                values = block * v_block + (group * filters + part) * v_line + place * v_row
                image = block * x_block + group * x_group + place * x_row
                {starts}
                for p in range(0, v_line, {vector}):
                    for q in range({vector}):
                        {loads}
                        cell = to + q
                        {sums}
            for i in range({f} if {f} <= last else last + 1):
                for j in range({t} if first + {t} <= count else count - first):
                    total = 0.0
                    for q in range({vector}):
                        total = plus(total, buffer[to + (i * {t} + j) * {vector} + q])
                    cell = (group * filters + part + i) * count + first + j
                    out[cell] = total if begin == 0 else out[cell] + total
"""

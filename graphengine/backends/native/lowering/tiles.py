"""The kernels of convolutions: sums of weighted lines and dot products of lines, in tiles that stay in registers.

A tile is computed in a buffer at constant distances from its first element. That lets the compiler keep it in registers
through all loops over what is summed up; it would not know that tiles of the result itself do not overlap. From the
buffer a thread writes its positions, few enough to stay in the nearest cache, to where they belong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from graphengine.backends.native.kernel import Kernel, LoopCall
from graphengine.backends.native.lowering.images import LINE
from graphengine.ir.op import Op
from graphengine.ir.types import Array, TensorType

POSITIONS = 512
"""How many positions of a filter a thread computes before it writes them."""

SLOTS = 16
"""How many threads have a buffer: no more of them take part."""

Typed = TensorType | Array
"""What has a shape, whose dims are bound, and a dtype."""


@dataclass(frozen=True, slots=True)
class Tiled:
    """How a convolution is computed: the elements of each work array, and the calls for arrays and these."""

    work: tuple[int, ...]
    calls: Callable[[Array, Array, Array, Sequence[Array]], list[LoopCall]]


def scratch_of(plan: Callable[..., Tiled | None]) -> Callable[..., tuple[TensorType, ...]]:
    """The work arrays of a lowering by `plan`, which is given the op and the types of its result and operands."""

    def scratch(op: Op, y: TensorType, *types: TensorType) -> tuple[TensorType, ...]:
        tiled = plan(op, y, *types)
        return () if tiled is None else tuple(TensorType((size,), y.dtype) for size in tiled.work)

    return scratch


def slots_of(items: int) -> int:
    """How many threads may take part, where they share so many items."""
    return max(1, min(SLOTS, items))


@dataclass(frozen=True, slots=True)
class Tile:
    """How many filters and how many positions are summed up at once."""

    filters: int
    positions: int

    @property
    def pitch(self) -> int:
        """The positions of a filter in the buffer; not a power of two, whose multiples share few lines of a cache."""
        return POSITIONS + self.positions + 16

    @property
    def buffer(self) -> int:
        """The elements of a thread's buffer."""
        return self.filters * self.pitch


def tile_of(filters: int, itemsize: int) -> Tile:
    """The tile for so many filters: of those that fit into the registers, one that leaves little of itself empty.

    Places are two vectors, or four where few filters would leave the processor waiting for its own results.
    """
    together = (
        max(1, filters) if filters <= 2 else 4 if filters <= 4 else min(_FILTERS, key=lambda some: -filters % some)
    )
    return Tile(together, (4 if filters <= 2 else 2) * LINE // itemsize)


_FILTERS = (8, 10, 12)


@lru_cache(maxsize=1024)
def tile_sums(tile: Tile) -> Kernel:
    """The kernel for tiles of this size.

    Result rows are cut into pieces, and these into segments whose positions have the same taps: elements of the window
    that meet something there. `rows` and `down` list the taps of each row, `segments` and `across` those along it: each
    where it is in x, and where in w, which holds the weights of a part of the filters side by side.
    """
    cells = [f"buffer[cell + {i * tile.pitch}]" for i in range(tile.filters)]
    sums = [f"{cell} = plus({cell}, w[v + {i}] * a)" for i, cell in enumerate(cells)]
    name = f"sum_tiles_{tile.filters}x{tile.positions}"
    return Kernel(name, _SUMS.format(name=name, tile=tile, sums="; ".join(sums)))


_SUMS = """\
def {name}(
    x, w, out, buffer, rows, down, pieces, segments, across, height, width, batch, lanes, groups, filters, channels,
    x_block, x_group, x_plane, w_part, out_image, out_plane, out_row, out_step, slots, rank, ranks
):
    blocks = (batch + lanes - 1) // lanes
    parts = (filters + {tile.filters} - 1) // {tile.filters}
    team = ranks if ranks < slots else slots
    own = rank * {tile.buffer}
    for item in share(blocks * groups * height * width * parts if rank < slots else 0, rank, team):
        part = item % parts
        piece = item // parts % width
        row = item // (parts * width) % height
        group = item // (parts * width * height) % groups
        block = item // (parts * width * height * groups)
        x_start = block * x_block + group * x_group
        w_start = (group * parts + part) * w_part
        for segment in range(pieces[4 * piece + 2], pieces[4 * piece + 3]):
            for tile in range(segments[4 * segment], segments[4 * segment + 1], {tile.positions}):
                to = own + tile
                for i in range({tile.filters}):
                    for p in range({tile.positions}):
                        buffer[to + i * {tile.pitch} + p] = 0.0
                for k in range(rows[2 * row], rows[2 * row + 1]):
                    for l in range(segments[4 * segment + 2], segments[4 * segment + 3]):
                        at = x_start + down[2 * k] + across[2 * l] + tile - segments[4 * segment]
                        v = w_start + down[2 * k + 1] + across[2 * l + 1]
                        for c in range(channels):
                            for p in range({tile.positions}):
                                a = x[at + p]
                                cell = to + p
                                {sums}
                            at += x_plane
                            v += {tile.filters}
        images = batch - block * lanes if batch - block * lanes < lanes else lanes
        columns = pieces[4 * piece + 1]
        rest = filters - part * {tile.filters}
        for i in range({tile.filters} if {tile.filters} < rest else rest):
            plane = (block * lanes) * out_image + (group * filters + part * {tile.filters} + i) * out_plane
            start = plane + row * out_row + pieces[4 * piece]
            here = own + i * {tile.pitch}
            if out_step == 1 and columns >= 8:
                for first in range(0, columns, 8):
                    column = first if first + 8 <= columns else columns - 8
                    for image in range(images):
                        for p in range(8):
                            out[start + image * out_image + column + p] = buffer[here + (column + p) * lanes + image]
            else:
                for image in range(images):
                    for column in range(columns):
                        out[start + image * out_image + column * out_step] = buffer[here + column * lanes + image]
"""


@lru_cache(maxsize=1024)
def tile_dots(f: int, t: int, vector: int) -> Kernel:
    """The kernel for tiles of so many filters and taps."""
    cells = [f"buffer[cell + {number * vector}]" for number in range(f * t)]
    starts = [f"v{i} = values + ({i} if {i} < last else last) * v_line" for i in range(f)]
    starts += [f"x{j} = image + taps[first + {j}]" for j in range(t)]
    loads = [f"a{i} = v[v{i} + p + q]" for i in range(f)] + [f"b{j} = x[x{j} + p + q]" for j in range(t)]
    sums = [f"{cell} = plus({cell}, a{i // t} * b{i % t})" for i, cell in enumerate(cells)]
    name = f"dot_tiles_{f}x{t}_{vector}"
    lines = {"starts": "; ".join(starts), "loads": "; ".join(loads), "sums": "; ".join(sums)}
    return Kernel(name, _DOTS.format(name=name, f=f, t=t, vector=vector, **lines))


_DOTS = """\
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
                position = row - block * height
                values = block * v_block + (group * filters + part) * v_line + position * v_row
                image = block * x_block + group * x_group + position * x_row
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

"""Images as convolutions read them: the images of a block side by side, so that vectors hold one pixel of many images.

What a window meets at places of a row is then contiguous for each of its elements: a line. Where windows move on by a
stride, columns are dealt out to as many phases, each of which is contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphengine.ir import dims
from graphengine.ir.kernel import LoopCall, kernel_of
from graphengine.ir.op import Array
from graphengine.ir.vocabulary import share
from graphengine.ops.window import Sweeps

__all__ = ["LINE", "SLACK", "Packed", "elements", "packed", "strides", "swept"]

LINE = 64
"""The bytes of a vector: those of AVX-512, which narrower vectors divide."""

SLACK = 128
"""How many elements behind the last one are read, of which nothing is used."""

MOST_LANES = 32
"""How many images lie side by side at most."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Images as [blocks, channels, rows, phases, columns, lanes]; zeros stand in the padding and for missing images."""

    images: int
    channels: int
    height: int
    width: int
    """Of the images as they are."""
    rows: int
    top: int
    """How many rows there are, and how many of them lie ahead of the images."""
    phases: int
    columns: int
    left: int
    """Of each phase how many columns, and how many of all lie ahead of the images."""
    lanes: int

    @property
    def blocks(self) -> int:
        """How many blocks the images make."""
        return -(-self.images // self.lanes)

    @property
    def row(self) -> int:
        """The elements of a row."""
        return self.phases * self.columns * self.lanes

    @property
    def plane(self) -> int:
        """The elements of a channel."""
        return self.rows * self.row

    @property
    def block(self) -> int:
        """The elements of a block."""
        return self.channels * self.plane

    @property
    def size(self) -> int:
        """All elements, and some behind them that are only read."""
        return self.blocks * self.block + SLACK

    def column(self, place: int) -> int:
        """Where a column, counted from the left edge of the padding, stands in a row."""
        return (place % self.phases * self.columns + place // self.phases) * self.lanes

    def calls(self, out: Array, images: Array) -> list[LoopCall]:
        """The calls that pack `images`."""
        sizes = (self.images, self.channels, self.height, self.width)
        into = (self.rows, self.top, self.phases, self.columns, self.left, self.lanes)
        return [(kernel_of(pack_images), (images, out, *sizes, *strides(images), *into))]


def packed(images: tuple[int, ...], multiple: int = 1) -> Packed:
    """How images of this shape are packed as they are. The lanes of a block are a multiple of `multiple`."""
    batch, channels, height, width = images
    lanes = _lanes(batch, multiple)
    return Packed(batch, channels, height, width, height, 0, 1, width, 0, lanes)


def swept(images: tuple[int, ...], moves: Sweeps, multiple: int = 1) -> Packed:
    """How images of this shape are packed with the padding that windows meet."""
    batch, channels, height, width = images
    rows, columns = moves
    met = [(sweep.places - 1) * sweep.stride + sweep.reach for sweep in moves]
    wide = -(-met[1] // columns.stride)
    lanes = _lanes(batch, multiple)
    return Packed(batch, channels, height, width, met[0], rows.before, columns.stride, wide, columns.before, lanes)


def elements(shape: tuple[dims.Dim, ...]) -> tuple[int, ...]:
    """A shape whose dims are bound."""
    return tuple([dims.bind(size, {}) for size in shape])


def strides(x: Array) -> list[int]:
    """By how many elements x moves on along each axis."""
    return [step // x.itemsize for step in x.strides]


def _lanes(batch: int, multiple: int) -> int:
    blocks = max(1, -(-batch // MOST_LANES))
    return -(-max(1, -(-batch // blocks)) // multiple) * multiple


def pack_images(
    x: Array,
    out: Array,
    batch: int,
    channels: int,
    height: int,
    width: int,
    x_image: int,
    x_channel: int,
    x_row: int,
    x_column: int,
    rows: int,
    top: int,
    phases: int,
    columns: int,
    left: int,
    lanes: int,
    rank: int,
    ranks: int,
) -> None:
    """Each row of each channel by itself: sixteen images at a time, column after column."""
    blocks = (batch + lanes - 1) // lanes
    for line in share(blocks * channels * rows, rank, ranks):
        block = line // (channels * rows)
        channel = line // rows - block * channels
        row = line - (block * channels + channel) * rows - top
        images = batch - block * lanes if batch - block * lanes < lanes else lanes
        for phase in range(phases):
            start = (line * phases + phase) * columns * lanes
            first = (left - phase + phases - 1) // phases if left > phase else 0
            last = (width + left - phase + phases - 1) // phases
            last = last if last < columns else columns
            if row < 0 or row >= height or last <= first:
                first = columns
                last = columns
            for p in range(first * lanes):
                out[start + p] = 0.0
            for p in range(last * lanes, columns * lanes):
                out[start + p] = 0.0
            many = images // 16 * 16
            origin = block * lanes * x_image + channel * x_channel + row * x_row + (phase - left) * x_column
            for image in range(0, many, 16):
                for column in range(first, last):
                    at = origin + image * x_image + column * phases * x_column
                    to = start + column * lanes + image
                    for p in range(16):
                        out[to + p] = x[at + p * x_image]
            for image in range(many, images):
                for column in range(first, last):
                    at = origin + image * x_image + column * phases * x_column
                    out[start + column * lanes + image] = x[at]
            for image in range(images, lanes):
                for column in range(first, last):
                    out[start + column * lanes + image] = 0.0

"""Images as convolutions read them: the images of a block side by side, so that vectors hold one pixel of many images.

What a window meets at the positions of a row is then contiguous for each of its elements: a line. Where windows move
by a stride, columns are dealt out to as many phases, each of which is contiguous.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

from graphengine.backends.native.kernel import LoopCall, Read, kernel_of
from graphengine.backends.native.vocabulary import share
from graphengine.ir import dims
from graphengine.ir.types import Array, TensorType
from graphengine.ops.support.layout import ascending
from graphengine.ops.support.window import Sweeps

LINE = 64
"""The bytes of a vector: those of AVX-512, which narrower vectors divide."""

SLACK = 128
"""How many elements behind the last one are read, of which nothing is used."""

MOST_LANES = 32
"""How many images lie side by side at most."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Images as [blocks, rows, channels, phases, columns, lanes]; zeros are in the padding and for missing images."""

    shape: tuple[int, ...]
    """Of the images as they are: [batch, channels, height, width]."""
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
        return -(-self.shape[0] // self.lanes)

    @property
    def line(self) -> int:
        """The elements of a row of one channel."""
        return self.phases * self.columns * self.lanes

    @property
    def row(self) -> int:
        """The elements of a row of all channels."""
        return self.shape[1] * self.line

    @property
    def block(self) -> int:
        """The elements of a block."""
        return self.rows * self.row

    @property
    def size(self) -> int:
        """All elements, and some behind them that are only read."""
        return self.blocks * self.block + SLACK

    def column(self, index: int) -> int:
        """Where a column, counted from the left edge of the padding, is in a line."""
        return (index % self.phases * self.columns + index // self.phases) * self.lanes

    def calls(self, out: Array, images: Array) -> list[LoopCall]:
        """The calls that pack `images`."""
        x, start = ascending(images)
        into = self.rows, self.top, self.phases, self.columns, self.left, self.lanes
        sizes = np.array([start, *self.shape, *strides(images), *into], np.int64)
        return [(kernel_of(pack_images), (x, out, sizes))]


def sizes_of(x: TensorType | Array) -> tuple[int, ...]:
    """The sizes of what has a shape whose dims are bound."""
    return tuple(dims.bind(size, {}) for size in x.shape)


def packed(images: tuple[int, ...], lanes: int, columns: int) -> Packed:
    """How images of this shape are packed as they are, but for zeros up to so many columns."""
    return Packed(images, images[2], 0, 1, columns, 0, lanes)


def swept(images: tuple[int, ...], moves: Sweeps, lanes: int, positions: int) -> Packed:
    """How images of this shape are packed with the padding that windows meet, and zeros for rows of `positions`."""
    rows, columns = moves
    high = (rows.positions - 1) * rows.stride + rows.reach
    wide = positions - 1 + -(-columns.reach // columns.stride)
    return Packed(images, high, rows.before, columns.stride, wide, columns.before, lanes)


def least_lanes(batch: int) -> int:
    """How many images are to lie side by side at least, for as few blocks as can be."""
    blocks = max(1, -(-batch // MOST_LANES))
    return max(1, -(-batch // blocks))


def whole_vectors(batch: int, positions: int, vector: int) -> tuple[int, int]:
    """The fewest images side by side, and positions to a row, for which rows are whole vectors."""
    least = least_lanes(batch)
    multiples = [(lanes, vector // gcd(vector, lanes)) for lanes in range(least, least + vector)]
    return min(((lanes, -(-positions // step) * step) for lanes, step in multiples), key=lambda pair: pair[0] * pair[1])


def strides(x: Array) -> list[int]:
    """By how many elements x moves on along each axis."""
    return [step // x.itemsize for step in x.strides]


def pack_images(x: Read, out: Array, sizes: Read, rank: int, ranks: int) -> None:
    """Each row of each channel by itself: sixteen images at a time, column after column."""
    start, batch, channels, height, width = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    x_image, x_channel, x_row, x_column = sizes[5], sizes[6], sizes[7], sizes[8]
    rows, top, phases, columns, left, lanes = sizes[9], sizes[10], sizes[11], sizes[12], sizes[13], sizes[14]
    blocks = (batch + lanes - 1) // lanes
    for line in share(blocks * channels * rows, rank, ranks):
        block = line // (channels * rows)
        row = line // channels - block * rows - top
        channel = line - line // channels * channels
        images = batch - block * lanes if batch - block * lanes < lanes else lanes
        for phase in range(phases):
            to_line = (line * phases + phase) * columns * lanes
            first = (left - phase + phases - 1) // phases if left > phase else 0
            last = (width + left - phase + phases - 1) // phases
            last = last if last < columns else columns
            if row < 0 or row >= height or last < first:
                last = first
            if last - first < columns or images < lanes:
                for p in range(columns * lanes):
                    out[to_line + p] = 0.0
            many = images // 16 * 16
            origin = start + block * lanes * x_image + channel * x_channel + row * x_row + (phase - left) * x_column
            for image in range(0, many, 16):
                for column in range(first, last):
                    at = origin + image * x_image + column * phases * x_column
                    to = to_line + column * lanes + image
                    for p in range(16):
                        out[to + p] = x[at + p * x_image]
            for image in range(many, images):
                for column in range(first, last):
                    at = origin + image * x_image + column * phases * x_column
                    out[to_line + column * lanes + image] = x[at]

"""Images unfolded, so that a convolution is a matrix product.

Images are unfolded along their width alone (Cho and Brand 2017, "MEC"): for every row of the image and every column of
the kernel, what that column meets along the row. The patches of one row of positions are then rows of this array that
lie side by side, and those of the next row of positions begin `stride` rows on: matrices overlap in memory, and each
element is copied as many times as the kernel is wide, not as many times as it has elements. A kernel dilated along the
height has its rows apart; there they are copied as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import as_strided

from graphengine.ir import dims
from graphengine.ir.op import Call
from graphengine.ir.types import Array
from graphengine.ops.support.window import Sweep

Size = tuple[int, ...]
Role = Literal["images", "kernel", "values"]
"""What an array is to a convolution: see `Convolution`."""


@dataclass(frozen=True, slots=True)
class Unfolding:
    """How one image type is unfolded for one kernel; all sizes are bound. G counts groups, N the images."""

    images: int
    groups: int
    channels: int
    """Of one group of the image."""
    filters: int
    """Of one group of the kernel."""
    rows: Sweep
    columns: Sweep

    @property
    def shapes(self) -> tuple[Size, Size, Size]:
        """Of what is packed: images [G, rows, kernel width, channels, N, width], kernel, and values, a matrix for each
        row of positions: [height, G, filters, N * width].
        """
        width = self.columns.positions
        images = self.groups, self._height, self.columns.window, self.channels, self.images, width
        return images, self.kernel_shape, (self.rows.positions, self.groups, self.filters, self.images * width)

    @property
    def kernel_shape(self) -> Size:
        """Of the kernel as matrices: [G, filters, inner]."""
        return self.groups, self.filters, self.rows.window * self._inner

    @property
    def matrix_shape(self) -> Size:
        """Of the patches of one row of positions: [G, inner, N * width]."""
        return self.groups, self.kernel_shape[-1], self.images * self.columns.positions

    def pack(self, role: Role, packed: Array, array: Array) -> list[Call]:
        """The calls that copy `array` into the array of `shapes` that it has."""
        is_padded = role == "images" and (self.rows.is_padded or self.columns.is_padded)
        calls: list[Call] = [(packed.fill, (0,))] if is_padded else []
        return calls + [(np.copyto, pair) for pair in self._pairs(role, packed, array)]

    def unpack(self, role: Role, array: Array, packed: Array) -> list[Call]:
        """The calls that do the adjoint: make every element of `array` the sum of what would be packed from it."""
        pairs = self._pairs(role, packed, array)
        if role != "images":
            return [(np.copyto, (part, from_)) for from_, part in pairs]
        return [(array.fill, (0,)), *((np.add, (met, part, met)) for part, met in pairs)]

    def matrices(self, unfolded: Array) -> Array:
        """The patches, [height, G, inner, N * width], as a view: matrices that overlap unless they are disjoint."""
        row = self.images * self.columns.positions
        flat = unfolded.reshape(self.groups, self._height * self._inner, row)
        step = self._step * self._inner * flat.strides[1]
        return as_strided(flat, (self.rows.positions, *self.matrix_shape), (step, *flat.strides))

    @property
    def _inner(self) -> int:
        return self.columns.window * self.channels

    @property
    def _height(self) -> int:
        """How many rows are unfolded: those that windows meet once each, or for every position its own."""
        if self.rows.dilation > 1:
            return self.rows.positions * self.rows.window
        return (self.rows.positions - 1) * self.rows.stride + self.rows.window

    @property
    def _step(self) -> int:
        """How many rows lie between the matrices of two positions."""
        return self.rows.window if self.rows.dilation > 1 else self.rows.stride

    def _pairs(self, role: Role, packed: Array, array: Array) -> list[tuple[Array, Array]]:
        """Parts of what is packed and of the array, as views of one shape, that together are all."""
        groups, filters, channels, images = self.groups, self.filters, self.channels, self.images
        height, width = array.shape[2:]
        if role == "values":
            part = array.reshape(images, groups, filters, height, width).transpose(3, 1, 2, 0, 4)
            return [(packed.reshape(part.shape), part)]
        if role == "kernel":
            part = array.reshape(groups, filters, channels, height, width).transpose(0, 1, 3, 4, 2)
            return [(packed.reshape(part.shape), part)]
        split = array.reshape(images, groups, channels, height, width).transpose(1, 3, 2, 0, 4)
        pairs = []
        for rows, (high, met_high) in self._bands(packed):
            for j in range(self.columns.window):
                wide, met_wide = self.columns.meets(j)
                pairs.append((rows[:, high, j, ..., wide], split[:, met_high, ..., met_wide]))
        return pairs

    def _bands(self, unfolded: Array) -> list[tuple[Array, tuple[slice, slice]]]:
        """Views of the unfolded rows that one slice of the image's rows fills."""
        rows = self.rows
        if rows.dilation == 1:
            behind = self._height - rows.before - dims.bind(rows.size, {})
            return [(unfolded, Sweep(rows.size, 1, before=rows.before, after=behind).meets(0))]
        apart = unfolded.reshape(self.groups, rows.positions, rows.window, *unfolded.shape[2:])
        return [(apart[:, :, i], rows.meets(i)) for i in range(rows.window)]


def pixels(groups: int, *images: Array) -> list[Array]:
    """Images of equal height and width as views [N, rows, G, channels of a group, pixels of a row].

    There is one row of all pixels where each of the images admits that.
    """
    height, width = images[0].shape[2:]
    rows = 1 if all(_is_flat(image) for image in images) else height
    views = []
    for image in images:
        batch, channels = image.shape[:2]
        split = image.reshape(batch, groups, channels // groups, rows, height * width // rows)
        views.append(split.transpose(0, 3, 1, 2, 4))
    return views


def _is_flat(image: Array) -> bool:
    """Whether an image's pixels lie at equal distances, row after row."""
    height, width = image.shape[2:]
    return bool(height == 1 or width == 1 or image.strides[2] == width * image.strides[3])


def matrices(weight: Any, groups: int) -> Any:
    """A kernel as a matrix [filters, channels * elements] of each group; of one element it is a view."""
    return weight.reshape(groups, weight.shape[0] // groups, math.prod(weight.shape[1:]))

"""Images unfolded, so that a convolution is a matrix product.

Images are unfolded along their width alone (Cho and Brand 2017, "MEC"): for every row of the image and every column of
the kernel, what that column meets along the row. The patches of one row of places are then rows of this array that
lie side by side, and those of the next row of places begin `stride` rows on: the matrices overlap in memory, and each
element is copied as many times as the kernel is wide, not as many times as it has elements. A kernel dilated along the
height has its rows apart; there they are copied as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from graphengine.ir import dims
from graphengine.ir.op import Call
from graphengine.ir.types import Array
from graphengine.ops.support.window import Sweep, Sweeps

Size = tuple[int, ...]


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
    def shape(self) -> Size:
        """Of the unfolded images: [G, rows, kernel width, channels, N, width]."""
        return self.groups, self._height, self.columns.window, self.channels, self.images, self.columns.places

    @property
    def kernel_shape(self) -> Size:
        """Of the kernel whose rows are what a matrix multiplies: [G, filters, inner]."""
        return self.groups, self.filters, self.rows.window * self._inner

    @property
    def values_shape(self) -> Size:
        """Of the values at all places, a matrix for each row of places: [G, height, filters, N * width]."""
        return self.groups, self.rows.places, self.filters, self.images * self.columns.places

    @property
    def matrix_shape(self) -> Size:
        """Of the patches of one row of places: [G, inner, N * width]."""
        return self.groups, self.kernel_shape[-1], self.values_shape[-1]

    @property
    def shapes(self) -> tuple[Size, Size, Size, Size]:
        """Of the unfolded images, of the kernel, of the values, and of the patches of a row."""
        return self.shape, self.kernel_shape, self.values_shape, self.matrix_shape

    def unfold(self, unfolded: Array, image: Array) -> list[Call]:
        """The calls that unfold `image`."""
        calls: list[Call] = [(unfolded.fill, (0,))] if self.rows.is_padded or self.columns.is_padded else []
        return calls + [(np.copyto, pair) for pair in self._pairs(unfolded, image)]

    def fold(self, image: Array, unfolded: Array) -> list[Call]:
        """The calls that do the adjoint: make every element of `image` the sum of what was unfolded from it."""
        pairs = self._pairs(unfolded, image)
        return [(image.fill, (0,)), *((np.add, (met, part, met)) for part, met in pairs)]

    def matrices(self, unfolded: Array) -> Array:
        """The patches, [G, height, inner, N * width], as a view: matrices that overlap unless they are disjoint."""
        row = self.images * self.columns.places
        flat = unfolded.reshape(self.groups, self._height * self._inner, row)
        step = self._step * self._inner * flat.strides[1]
        shape = self.groups, self.rows.places, self.rows.window * self._inner, row
        return as_strided(flat, shape, (flat.strides[0], step, *flat.strides[1:]))

    def kernel(self, weight: Array) -> Array:
        """The weight, [G * filters, channels, kernel height, kernel width], as the matrices need it; a view."""
        split = weight.reshape(self.groups, self.filters, self.channels, self.rows.window, self.columns.window)
        return split.transpose(0, 1, 3, 4, 2)

    def kernel_parts(self, kernel: Array) -> Array:
        """An array of `kernel_shape`, of the shape that `kernel` has."""
        window = self.rows.window, self.columns.window
        return kernel.reshape(self.groups, self.filters, *window, self.channels)

    def values(self, values: Array) -> Array:
        """Values at places, [N, G * filters, height, width], with the axes in the order of `values_shape`; a view."""
        height, width = self.rows.places, self.columns.places
        split = values.reshape(self.images, self.groups, self.filters, height, width)
        return split.transpose(1, 3, 2, 0, 4)

    def values_parts(self, values: Array) -> Array:
        """An array of `values_shape`, of the shape that `values` has."""
        return values.reshape(*values.shape[:3], self.images, self.columns.places)

    @property
    def _inner(self) -> int:
        return self.columns.window * self.channels

    @property
    def _height(self) -> int:
        """How many rows are unfolded: those that windows meet once each, or for every place its own."""
        if self.rows.dilation > 1:
            return self.rows.places * self.rows.window
        return (self.rows.places - 1) * self.rows.stride + self.rows.window

    @property
    def _step(self) -> int:
        """How many rows lie between the matrices of two places."""
        return self.rows.window if self.rows.dilation > 1 else self.rows.stride

    def _pairs(self, unfolded: Array, image: Array) -> list[tuple[Array, Array]]:
        """Parts of the unfolded images and of the images, as views of one shape, that together are all."""
        height, width = image.shape[2:]
        split = image.reshape(self.images, self.groups, self.channels, height, width).transpose(1, 3, 2, 0, 4)
        pairs = []
        for rows, (high, met_high) in self._bands(unfolded):
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
        apart = unfolded.reshape(self.groups, rows.places, rows.window, *unfolded.shape[2:])
        return [(apart[:, :, i], rows.meets(i)) for i in range(rows.window)]


def unfolding(images: int, kernel: Sequence[int], groups: int, sweeps: Sweeps) -> Unfolding:
    """The unfolding of so many images for a kernel of shape [groups * filters, channels, height, width]."""
    return Unfolding(images, groups, kernel[1], kernel[0] // groups, *sweeps)


def product_calls(matrices: Array, kernel: Array, values: Array, work: Array) -> list[Call]:
    """The calls that add kernel[g] @ values[g, i] to matrices[g, i], one i after another, as these may overlap."""
    calls: list[Call] = []
    for i in range(values.shape[1]):
        target = matrices[:, i]
        calls += [(np.matmul, (kernel, values[:, i], work)), (np.add, (target, work, target))]
    return calls


def total_calls(total: Array, values: Sequence[Array], matrices: Sequence[Array], work: Array) -> list[Call]:
    """The calls that make `total` the sum over i of values[i] @ matrices[i].T."""
    calls: list[Call] = []
    for left, right in zip(values, matrices, strict=True):
        calls.append((np.matmul, (left, right.swapaxes(-1, -2), work if calls else total)))
        if len(calls) > 1:
            calls.append((np.add, (total, work, total)))
    return calls or [(total.fill, (0,))]


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

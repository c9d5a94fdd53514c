"""Convolutions of images, and their adjoints, each of which is the adjoint of the others.

Images are [batch, channels, height, width], kernels [filters, channels of a group, height, width]. A kernel is not
flipped: this is cross-correlation, as in ONNX and PyTorch. Elements outside of an image, in the padding, are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from graphengine.errors import AttributeValueError, DTypeError, ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, common_dtype
from graphengine.ops.broadcast import full
from graphengine.ops.shape import expand_dims, squeeze
from graphengine.ops.support.unfold import Unfolding, pixels, product_calls, total_calls, unfolding
from graphengine.ops.support.window import (
    NO_PADS,
    FixedPads,
    Padding,
    Pads,
    Pair,
    Sweeps,
    along_width,
    check_least,
    in_turn,
    naming,
    spread,
    sweeps,
    windows,
)

__all__ = ["conv1d", "conv2d", "conv2d_transpose"]

Ints = int | Sequence[int]


class Convolution(Op):
    """How a kernel moves over images: what a convolution has in common with its adjoints.

    Each of the three takes two of (images, kernel, values at the places of the kernel) and gives the third.
    """

    kind: str
    stride: Pair = (1, 1)
    padding: Pads = NO_PADS
    dilation: Pair = (1, 1)
    groups: int = 1

    operands: ClassVar[str]
    """What the operands are, in words."""

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        dtype = common_dtype((a, b))
        if not a.is_float:
            raise DTypeError(f"{self.kind} takes floats, not {a} and {b}")
        with naming(self, a, b):
            if a.ndim != 4 or b.ndim != 4:
                raise ShapeError(f"{self.operands} have 4 axes each")
            check_least(1, stride=self.stride, groups=self.groups)
            return TensorType(self.shape(a.shape, b.shape), dtype)

    def shape(self, a: Shape, b: Shape) -> Shape:
        """The shape of the value; raises ShapeError or AttributeValueError."""
        raise NotImplementedError

    def moves(self, images: Shape, window: Shape) -> Sweeps:
        """How a kernel of this window moves over the images."""
        return sweeps(images, window, self.stride, self.dilation, self.padding)

    def plan(self, images: Shape, kernel: Shape) -> Unfolding:
        """How the images are unfolded for the kernel; both shapes are bound."""
        sizes, kernel_sizes = ([dims.bind(size, {}) for size in shape] for shape in (images, kernel))
        return unfolding(sizes[0], kernel_sizes, self.groups, self.moves(images, kernel[2:]))

    def per_group(self, channels: Dim, what: str) -> Dim:
        """The channels of one group; raises ShapeError unless the groups divide them."""
        size = dims.divide(channels, self.groups)
        if size is None:
            raise ShapeError(f"{self.groups} groups do not divide {channels} {what}")
        return size

    def is_pointwise(self, window: Shape) -> bool:
        """Whether every place is one element of the image, so that images are matrices as they are."""
        return tuple(window) == self.stride == (1, 1) and self.padding in ("same", NO_PADS)

    def values_from(self, moves: Sweeps, images: Node, kernel: Node) -> Node:
        """The node of the values at places."""
        return apply(Conv2D(**self._fixed(moves)), images, kernel)

    def images_from(self, moves: Sweeps, values: Node, kernel: Node) -> Node:
        """The node of the images; where they have no elements, there is only padding, and nothing to compute."""
        if 0 in (moves[0].size, moves[1].size):
            rows = moves[0].size, moves[1].size
            channels = dims.multiply(kernel.shape[1], self.groups)
            return full(values.graph, 0.0, (values.shape[0], channels, *rows), values.dtype)
        rest = moves[0].rest, moves[1].rest
        return apply(Conv2DTranspose(output_padding=rest, **self._fixed(moves)), values, kernel)

    def kernel_from(self, moves: Sweeps, images: Node, values: Node) -> Node:
        """The node of the kernel."""
        window = moves[0].window, moves[1].window
        return apply(Conv2DWeightGrad(window=window, **self._fixed(moves)), images, values)

    def _fixed(self, moves: Sweeps) -> dict[str, Any]:
        """The attributes that an adjoint has in common with this op, padding as numbers."""
        pads = tuple((sweep.before, sweep.after) for sweep in moves)
        return {"stride": self.stride, "padding": pads, "dilation": self.dilation, "groups": self.groups}


class Conv2D(Convolution):
    """y[n, o, i, j] = sum over c, k, l of x[n, c, i * stride + k * dilation - top, ...] * weight[o, c, k, l].

    The dots stand for the same in j and l. With groups, the channels of x and y fall into so many parts, and each part
    of y is made of the same part of x.
    """

    kind: Literal["conv2d"] = "conv2d"
    operands: ClassVar[str] = "images and a kernel"

    def shape(self, x: Shape, weight: Shape) -> Shape:
        self.per_group(weight[0], "filters")
        if self.per_group(x[1], "channels") != weight[1]:
            taken = dims.multiply(weight[1], self.groups)
            raise ShapeError(f"the images have {x[1]} channels, and the kernel takes {taken} ({self.groups} groups)")
        rows, columns = self.moves(x, weight[2:])
        return x[0], weight[0], rows.count, columns.count

    def eval(self, xp: Any, x: Any, weight: Any) -> Any:
        moves = self.moves(x.shape, weight.shape[2:])
        kernel = weight.reshape(self.groups, weight.shape[0] // self.groups, *weight.shape[1:])
        total: Any = 0.0
        for k, part in enumerate(windows(xp, x, moves, 0.0)):
            i, j = divmod(k, weight.shape[3])
            total = total + xp.matmul(kernel[..., i, j], _grouped(part, self.groups))
        return total.reshape(self.shape(x.shape, weight.shape))

    def scratch(self, y: TensorType, x: TensorType, weight: TensorType) -> tuple[TensorType, ...]:
        if self.is_pointwise(weight.shape[2:]):
            return ()
        return _types(y, *self.plan(x.shape, weight.shape).shapes[:3])

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        x, weight = operands
        if self.is_pointwise(weight.shape[2:]):
            images, values = pixels(self.groups, x, out)
            return np.matmul, (matrices(weight, self.groups), images, values)
        plan = self.plan(x.shape, weight.shape)
        unfolded, kernel, values = scratch
        return in_turn(
            [
                *plan.unfold(unfolded, x),
                (np.copyto, (plan.kernel_parts(kernel), plan.kernel(weight))),
                (np.matmul, (kernel[:, None], plan.matrices(unfolded), values)),
                (np.copyto, (plan.values(out), plan.values_parts(values))),
            ]
        )

    def vjp(self, y: Node, y_bar: Node, x: Node, weight: Node) -> tuple[Node | None, ...]:
        moves = self.moves(x.shape, weight.shape[2:])
        return self.images_from(moves, y_bar, weight), self.kernel_from(moves, x, y_bar)

    def flops(self, y: TensorType, x: TensorType, weight: TensorType) -> int:
        return _flops_of_sums(y, dims.product(weight.shape[1:]))


class Conv2DTranspose(Convolution):
    """The adjoint of `conv2d` by its images: every x[n, o, i, j] adds x * weight[o] to the window at (i, j) of y."""

    kind: Literal["conv2d_transpose"] = "conv2d_transpose"
    operands: ClassVar[str] = "images and a kernel"
    padding: FixedPads = NO_PADS
    output_padding: Pair = (0, 0)

    def shape(self, x: Shape, weight: Shape) -> Shape:
        if any(not 0 <= more < stride for more, stride in zip(self.output_padding, self.stride, strict=True)):
            raise AttributeValueError(
                f"output_padding is at least 0 and below the stride {self.stride}, not {self.output_padding}"
            )
        if x[1] != weight[0]:
            raise ShapeError(f"the images have {x[1]} channels, and the kernel takes {weight[0]}")
        self.per_group(x[1], "channels")
        sizes = self._sizes(x, weight)
        if any(isinstance(size, int) and size < 1 for size in sizes):
            raise ShapeError(f"padding {self.padding} leaves nothing of the images, but sizes {sizes}")
        images = (x[0], dims.multiply(weight[1], self.groups), *sizes)
        self.moves(images, weight[2:])
        return images

    def eval(self, xp: Any, x: Any, weight: Any) -> Any:
        images = self.shape(x.shape, weight.shape)
        kernel = weight.reshape(self.groups, weight.shape[0] // self.groups, *weight.shape[1:]).swapaxes(1, 2)
        parts = [
            xp.matmul(kernel[..., i, j], _grouped(x, self.groups)).reshape(*images[:2], *x.shape[2:])
            for i in range(weight.shape[2])
            for j in range(weight.shape[3])
        ]
        return spread(xp, parts, self.moves(images, weight.shape[2:]))

    def scratch(self, y: TensorType, x: TensorType, weight: TensorType) -> tuple[TensorType, ...]:
        if self.is_pointwise(weight.shape[2:]):
            return ()
        return _types(y, *self.plan(y.shape, weight.shape).shapes)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        x, weight = operands
        if self.is_pointwise(weight.shape[2:]):
            values, images = pixels(self.groups, x, out)
            return np.matmul, (matrices(weight, self.groups).swapaxes(-1, -2), values, images)
        plan = self.plan(out.shape, weight.shape)
        unfolded, kernel, values, work = scratch
        return in_turn(
            [
                (np.copyto, (plan.kernel_parts(kernel), plan.kernel(weight))),
                (np.copyto, (plan.values_parts(values), plan.values(x))),
                (unfolded.fill, (0,)),
                *product_calls(plan.matrices(unfolded), kernel.swapaxes(-1, -2), values, work),
                *plan.fold(out, unfolded),
            ]
        )

    def vjp(self, y: Node, y_bar: Node, x: Node, weight: Node) -> tuple[Node | None, ...]:
        moves = self.moves(y.shape, weight.shape[2:])
        return self.values_from(moves, y_bar, weight), self.kernel_from(moves, y_bar, x)

    def flops(self, y: TensorType, x: TensorType, weight: TensorType) -> int:
        return 2 * x.size * dims.bind(dims.product(weight.shape[1:]), {})

    def _sizes(self, x: Shape, weight: Shape) -> Shape:
        """The height and the width of the value."""
        sizes = []
        for axis, (ahead, behind) in enumerate(self.padding):
            last = dims.multiply(dims.subtract(x[2 + axis], 1), self.stride[axis])
            reach = dims.multiply(self.dilation[axis], dims.subtract(weight[2 + axis], 1))
            more = 1 + self.output_padding[axis] - ahead - behind
            sizes.append(dims.add(dims.add(last, reach), more))
        return tuple(sizes)


class Conv2DWeightGrad(Convolution):
    """The adjoint of `conv2d` by its kernel, of images x and values v at the places of a kernel.

    y[o, c, k, l] = sum over n, i, j of x[n, c, i * stride + k * dilation - top, ...] * v[n, o, i, j].
    """

    kind: Literal["conv2d_weight_grad"] = "conv2d_weight_grad"
    operands: ClassVar[str] = "images and values at the places of a kernel"
    padding: FixedPads = NO_PADS
    window: Pair

    def shape(self, x: Shape, values: Shape) -> Shape:
        self.per_group(values[1], "filters")
        rows, columns = self.moves(x, self.window)
        if (x[0], rows.count, columns.count) != (values[0], *values[2:]):
            raise ShapeError(f"the kernel has {rows.count} by {columns.count} places in each of {x[0]} images")
        return values[1], self.per_group(x[1], "channels"), *self.window

    def eval(self, xp: Any, x: Any, values: Any) -> Any:
        left = _grouped(values, self.groups)
        parts = [
            xp.sum(xp.matmul(left, _grouped(part, self.groups).swapaxes(-1, -2)), axis=0)
            for part in windows(xp, x, self.moves(x.shape, self.window), 0.0)
        ]
        return xp.stack(parts, axis=-1).reshape(self.shape(x.shape, values.shape))

    def scratch(self, y: TensorType, x: TensorType, values: TensorType) -> tuple[TensorType, ...]:
        if self.is_pointwise(self.window):
            filters, channels = y.static_shape[:2]
            return _types(y, (self.groups, filters // self.groups, channels))
        return _types(y, *_of_totals(self.plan(x.shape, y.shape)))

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        x, v = operands
        if self.is_pointwise(self.window):
            images, rows = ([part for image in view for part in image] for view in pixels(self.groups, x, v))
            return in_turn(total_calls(matrices(out, self.groups), rows, images, scratch[0]))
        plan = self.plan(x.shape, out.shape)
        unfolded, values, total, work = scratch
        return in_turn(
            [
                *plan.unfold(unfolded, x),
                (np.copyto, (plan.values_parts(values), plan.values(v))),
                *total_calls(total, [*values.swapaxes(0, 1)], [*plan.matrices(unfolded).swapaxes(0, 1)], work),
                (np.copyto, (plan.kernel(out), plan.kernel_parts(total))),
            ]
        )

    def vjp(self, y: Node, y_bar: Node, x: Node, values: Node) -> tuple[Node | None, ...]:
        moves = self.moves(x.shape, self.window)
        return self.images_from(moves, values, y_bar), self.values_from(moves, x, y_bar)

    def flops(self, y: TensorType, x: TensorType, values: TensorType) -> int:
        return _flops_of_sums(y, dims.multiply(values.shape[0], dims.product(values.shape[2:])))


def conv2d(
    x: Node,
    weight: Node,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    name: str | None = None,
) -> Node:
    """Cross-correlation of images x [batch, channels, height, width] with a kernel, as networks call convolution.

        y[b, f, i, j] = sum_{c,u,v} x[b, c, i * stride + u * dilation, j * stride + v * dilation] * weight[f, c, u, v]

    weight: [filters, channels / groups, height, width]; `groups` = channels is a depthwise convolution. `stride` and
    `dilation` are ints, or pairs for rows and columns. `padding`, with zeros, is an int, a pair, ((top, bottom), (left,
    right)), "valid" (none) or "same" (ceil(size / stride) elements out; of an odd number the one more is at the end).

    x, weight: floats of one dtype; returns [batch, filters, height, width] of that dtype.
    Raises DTypeError for other dtypes, ShapeError for channels that do not fit, a kernel larger than the padded image,
    and a stride above 1 along a named axis, AttributeValueError for other arguments.
    """
    op = Conv2D(stride=stride, padding=padding, dilation=dilation, groups=groups)
    return apply(op, x, weight, name=name)


def conv1d(
    x: Node,
    weight: Node,
    stride: int = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int = 1,
    groups: int = 1,
    *,
    name: str | None = None,
) -> Node:
    """`conv2d` of sequences x [batch, channels, length] with weight [filters, channels / groups, length].

    `padding` is an int, a pair (before, after), "same" or "valid". Floats of one dtype; returns [batch, filters,
    length].
    Raises DTypeError, ShapeError or AttributeValueError where `conv2d` does.
    """
    if x.ndim != 3 or weight.ndim != 3:
        raise ShapeError(f"conv1d of {x.type} and {weight.type}: sequences and a kernel have 3 axes each")
    images, kernel = expand_dims(x, 2), expand_dims(weight, 2)
    y = conv2d(images, kernel, (1, stride), along_width(padding), (1, dilation), groups)
    return squeeze(y, 2, name=name)


def conv2d_transpose(
    x: Node,
    weight: Node,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    name: str | None = None,
) -> Node:
    """Transposed convolution: the adjoint of `conv2d` with respect to its images, which enlarges x.

    x: [batch, channels, height, width]; weight: [channels, filters / groups, height, width]; floats of one dtype.
    Returns (size - 1) * stride + dilation * (window - 1) + 1 + output_padding - padding elements along an axis.
    `padding` is that of `conv2d`, without "same"; `output_padding`, less than the stride, adds elements at the end.
    Raises DTypeError, ShapeError or AttributeValueError where `conv2d` does.
    """
    op = Conv2DTranspose(
        stride=stride, padding=padding, output_padding=output_padding, dilation=dilation, groups=groups
    )
    return apply(op, x, weight, name=name)


def _types(like: TensorType, *shapes: tuple[int, ...]) -> tuple[TensorType, ...]:
    return tuple(TensorType(shape, like.dtype) for shape in shapes)


def _of_totals(plan: Unfolding) -> list[tuple[int, ...]]:
    """The work arrays of a sum of products: what is unfolded, values, the sum, and one of its terms."""
    return [plan.shape, plan.values_shape, plan.kernel_shape, plan.kernel_shape]


def _grouped(images: Any, groups: int) -> Any:
    """Images as matrices [batch, groups, channels of a group, pixels]."""
    batch, channels, height, width = images.shape
    return images.reshape(batch, groups, channels // groups, height * width)


def matrices(weight: Array, groups: int) -> Array:
    """A kernel of one element, as a matrix for every group; a view."""
    filters, channels = weight.shape[:2]
    return weight[..., 0, 0].reshape(groups, filters // groups, channels)


def _flops_of_sums(y: TensorType, terms: Dim) -> int:
    """Of products summed up, so many for each element of y."""
    return y.size * max(0, 2 * dims.bind(terms, {}) - 1)

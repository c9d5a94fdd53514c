"""Convolutions of images, and their adjoints, each of which is the adjoint of the others.

Images are [batch, channels, height, width], kernels [filters, channels of a group, height, width]. A kernel is not
flipped: this is cross-correlation, as in ONNX and PyTorch. Elements outside of an image, in the padding, are 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np

from graphengine.errors import AttributeValueError, DTypeError, ShapeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim, Shape
from graphengine.ir.node import Node, apply
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType, common_dtype
from graphengine.ops.broadcast import full
from graphengine.ops.shape import expand_dims, squeeze
from graphengine.ops.support.run_all import as_one
from graphengine.ops.support.unfold import Role, Size, Unfolding, matrices, pixels
from graphengine.ops.support.window import (
    NO_PADS,
    FixedPads,
    Padding,
    Pads,
    Pair,
    Sweeps,
    along_width,
    check_minimum,
    naming,
    spread,
    sweeps,
    windows,
)

__all__ = ["conv1d", "conv2d", "conv2d_transpose"]

Ints = int | Sequence[int]
T = TypeVar("T")


class Convolution(Op):
    """How a kernel moves over images: what a convolution has in common with its adjoints.

    There are images x, a kernel w, and values v, one for each filter and position of the window. Each op takes two of
    them and gives the derivative by the third of the sum, over all n, f, c, p and k, of
    v[n, f, p] * w[f, c, k] * x[n, c, element k of the window at p]. So the derivatives of an op are the two other ops.
    """

    kind: str
    stride: Pair = (1, 1)
    padding: Pads = NO_PADS
    dilation: Pair = (1, 1)
    groups: int = 1

    roles: ClassVar[tuple[Role, Role, Role]]
    """What the value and both operands are."""
    operands: ClassVar[str]
    """What the operands are, in words."""

    def infer(self, a: TensorType, b: TensorType) -> TensorType:
        dtype = common_dtype((a, b))
        if not a.is_float:
            raise DTypeError(f"{self.kind} takes floats, not {a} and {b}")
        with naming(self, a, b):
            if a.ndim != 4 or b.ndim != 4:
                raise ShapeError(f"{self.operands} have 4 axes each")
            check_minimum(1, stride=self.stride, groups=self.groups)
            return TensorType(self.shape(a.shape, b.shape), dtype)

    def shape(self, a: Shape, b: Shape) -> Shape:
        """The shape of the value; raises ShapeError or AttributeValueError."""
        raise NotImplementedError

    def moves(self, images: Shape, window: Shape) -> Sweeps:
        """How a kernel of this window moves over the images."""
        return sweeps(images, window, self.stride, self.dilation, self.padding)

    def per_group(self, channels: Dim, what: str) -> Dim:
        """The channels of one group; raises ShapeError unless the groups divide them."""
        size = dims.divide(channels, self.groups)
        if size is None:
            raise ShapeError(f"{self.groups} groups do not divide {channels} {what}")
        return size

    def is_pointwise(self, window: Shape) -> bool:
        """Whether each window is one element of the image, so that images are matrices as they are."""
        return tuple(window) == self.stride == (1, 1) and self.padding in ("same", NO_PADS)

    def scratch(self, y: TensorType, *operands: TensorType) -> tuple[TensorType, ...]:
        images, kernel, _ = (type_.static_shape for type_ in self._sorted(y, *operands))
        plan = self._plan(images, kernel)
        is_direct = self.is_pointwise(kernel[2:])
        shapes = [*(() if is_direct else plan.shapes), *self._work(plan, is_direct)]
        return tuple(TensorType(shape, y.dtype) for shape in shapes)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        images, kernel, values = self._sorted(out, *operands)
        if self.is_pointwise(kernel.shape[2:]):
            images, values = pixels(self.groups, images, values)
            return as_one(self._product(images, matrices(kernel, self.groups), values, *scratch))
        plan = self._plan(images.shape, kernel.shape)
        unfolded, kernels, rows, *work = scratch
        packed: dict[Role, Array] = {"images": unfolded, "kernel": kernels, "values": rows}
        calls: list[Call] = [(unfolded.fill, (0,))] if self.roles[0] == "images" else []  # products are added to it
        for role, operand in zip(self.roles[1:], operands, strict=True):
            calls += plan.pack(role, packed[role], operand)
        calls += self._product(plan.matrices(unfolded), kernels, rows, *work)
        return as_one([*calls, *plan.unpack(self.roles[0], out, packed[self.roles[0]])])

    def vjp(self, y: Node, y_bar: Node, *operands: Node) -> tuple[Node | None, ...]:
        images, kernel, values = self._sorted(y_bar, *operands)
        moves = self.moves(images.shape, kernel.shape[2:])
        return tuple(self._node(role, moves, images, kernel, values) for role in self.roles[1:])

    def flops(self, y: TensorType, *operands: TensorType) -> int:
        _, kernel, values = self._sorted(y, *operands)
        products = values.size * math.prod(kernel.static_shape[1:])
        return max(0, 2 * products - (0 if self.roles[0] == "images" else y.size))

    def _sorted(self, y: T, *operands: T) -> tuple[T, T, T]:
        """Images, kernel and values."""
        found = dict(zip(self.roles, (y, *operands), strict=True))
        return found["images"], found["kernel"], found["values"]

    def _plan(self, images: Size, kernel: Size) -> Unfolding:
        """How the images are unfolded for the kernel."""
        filters, channels, *window = kernel
        moves = self.moves(images, tuple(window))
        return Unfolding(images[0], self.groups, channels, filters // self.groups, *moves)

    def _work(self, plan: Unfolding, is_direct: bool) -> tuple[Size, ...]:
        """The shapes of the work arrays of `_product`."""
        return ()

    def _product(self, images: Array, kernel: Array, values: Array, *work: Array) -> list[Call]:
        """The calls that compute the value as matrices: images [..., G, inner, n], kernel [G, filters, inner], values
        [..., G, filters, n].
        """
        raise NotImplementedError

    def _node(self, role: Role, moves: Sweeps, images: Node, kernel: Node, values: Node) -> Node:
        """The node of what has this role, from the two others."""
        rows, columns = moves
        fixed: dict[str, Any] = {"stride": self.stride, "dilation": self.dilation, "groups": self.groups}
        fixed["padding"] = (rows.before, rows.after), (columns.before, columns.after)
        if role == "values":
            return apply(Conv2D(**fixed), images, kernel)
        if role == "kernel":
            return apply(Conv2DWeightGrad(window=(rows.window, columns.window), **fixed), images, values)
        if 0 in (rows.size, columns.size):  # there is only padding, and nothing to compute
            return full(values.graph, 0.0, images.shape, values.dtype)
        return apply(Conv2DTranspose(output_padding=(rows.rest, columns.rest), **fixed), values, kernel)

    def _patches(self, xp: Any, images: Any, window: Shape) -> Any:
        """What windows hold, [batch, groups, channels of a group * elements of a window, positions]."""
        found = xp.stack(windows(xp, images, self.moves(images.shape, window), 0.0), axis=2)
        batch, channels, count, height, width = found.shape
        return found.reshape(batch, self.groups, channels // self.groups * count, height * width)


class Conv2D(Convolution):
    """y[n, o, i, j] = sum over c, k, l of x[n, c, i * stride + k * dilation - top, ...] * weight[o, c, k, l].

    The dots stand for the same in j and l. With groups, the channels of x and y fall into so many parts, and each part
    of y is made of the same part of x.
    """

    kind: Literal["conv2d"] = "conv2d"
    roles: ClassVar[tuple[Role, Role, Role]] = ("values", "images", "kernel")
    operands: ClassVar[str] = "images and a kernel"

    def shape(self, x: Shape, weight: Shape) -> Shape:
        self.per_group(weight[0], "filters")
        if self.per_group(x[1], "channels") != weight[1]:
            taken = dims.multiply(weight[1], self.groups)
            raise ShapeError(f"the images have {x[1]} channels, and the kernel takes {taken} ({self.groups} groups)")
        rows, columns = self.moves(x, weight[2:])
        return x[0], weight[0], rows.count, columns.count

    def eval(self, xp: Any, x: Any, weight: Any) -> Any:
        y = xp.matmul(matrices(weight, self.groups), self._patches(xp, x, weight.shape[2:]))
        return y.reshape(self.shape(x.shape, weight.shape))

    def _product(self, images: Array, kernel: Array, values: Array, *work: Array) -> list[Call]:
        return [(np.matmul, (kernel, images, values))]


class Conv2DTranspose(Convolution):
    """The adjoint of `conv2d` by its images: every x[n, o, i, j] adds x * weight[o] to the window at (i, j) of y."""

    kind: Literal["conv2d_transpose"] = "conv2d_transpose"
    roles: ClassVar[tuple[Role, Role, Role]] = ("images", "values", "kernel")
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
        sizes = tuple(self._size(axis, x[2 + axis], weight[2 + axis]) for axis in range(2))
        if any(isinstance(size, int) and size < 1 for size in sizes):
            raise ShapeError(f"padding {self.padding} leaves nothing of the images, but sizes {sizes}")
        images = (x[0], dims.multiply(weight[1], self.groups), *sizes)
        self.moves(images, weight[2:])
        return images

    def _size(self, axis: int, size: Dim, window: Dim) -> Dim:
        """The height (axis 0) or the width of the value."""
        last = dims.multiply(dims.subtract(size, 1), self.stride[axis])
        reach = dims.multiply(self.dilation[axis], dims.subtract(window, 1))
        return dims.add(dims.add(last, reach), 1 + self.output_padding[axis] - sum(self.padding[axis]))

    def eval(self, xp: Any, x: Any, weight: Any) -> Any:
        images = self.shape(x.shape, weight.shape)
        values = x.reshape(x.shape[0], self.groups, x.shape[1] // self.groups, math.prod(x.shape[2:]))
        patches = xp.matmul(xp.swapaxes(matrices(weight, self.groups), -1, -2), values)
        parts = patches.reshape(*images[:2], math.prod(weight.shape[2:]), *x.shape[2:])
        return spread(xp, [parts[:, :, k] for k in range(parts.shape[2])], self.moves(images, weight.shape[2:]))

    def _work(self, plan: Unfolding, is_direct: bool) -> tuple[Size, ...]:
        return () if is_direct else (plan.matrix_shape,)

    def _product(self, images: Array, kernel: Array, values: Array, *work: Array) -> list[Call]:
        turned = kernel.swapaxes(-1, -2)
        if not work:
            return [(np.matmul, (turned, values, images))]
        calls: list[Call] = []
        for target, part in zip(images, values, strict=True):  # one after another, as windows may overlap
            calls += [(np.matmul, (turned, part, work[0])), (np.add, (target, work[0], target))]
        return calls


class Conv2DWeightGrad(Convolution):
    """The adjoint of `conv2d` by its kernel, of images x and values v, one for each position of a window.

    y[o, c, k, l] = sum over n, i, j of x[n, c, i * stride + k * dilation - top, ...] * v[n, o, i, j].
    """

    kind: Literal["conv2d_weight_grad"] = "conv2d_weight_grad"
    roles: ClassVar[tuple[Role, Role, Role]] = ("kernel", "images", "values")
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
        batch, filters, height, width = values.shape
        left = values.reshape(batch, self.groups, filters // self.groups, height * width)
        products = xp.matmul(left, xp.swapaxes(self._patches(xp, x, self.window), -1, -2))
        return xp.sum(products, axis=0).reshape(self.shape(x.shape, values.shape))

    def _work(self, plan: Unfolding, is_direct: bool) -> tuple[Size, ...]:
        return (plan.kernel_shape,)

    def _product(self, images: Array, kernel: Array, values: Array, *work: Array) -> list[Call]:
        calls: list[Call] = []
        for index in np.ndindex(values.shape[:-3]):
            pair = values[index], images[index].swapaxes(-1, -2)
            calls.append((np.matmul, (*pair, work[0] if calls else kernel)))
            if len(calls) > 1:
                calls.append((np.add, (kernel, work[0], kernel)))
        return calls or [(kernel.fill, (0,))]


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

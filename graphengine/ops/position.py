"""Values that follow from a place along an axis alone: its number, and the waves that tell places apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from graphengine.errors import DTypeError
from graphengine.ir import dims
from graphengine.ir.dims import Dim
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import Call, OneDim, Op
from graphengine.ir.types import FLOATS, Array, DType, TensorType

_WAVELENGTH = 10000
"""The base of the lengths of the waves, as published."""


class Fixed(Op):
    """A value that is the same in every run: written out when the kernel is bound."""

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        return np.copyto, (out, self.eval(np))


class Arange(Fixed):
    """y_i = i, for i below `size`; int64."""

    kind: Literal["arange"] = "arange"
    size: OneDim

    def infer(self) -> TensorType:
        return TensorType((self.size,), "int64")

    def eval(self, xp: Any) -> Any:
        return xp.arange(dims.bind(self.size, {}), dtype="int64")


class SinusoidalPositions(Fixed):
    """y[p, 2i] = sin(p / 10000^(2i / units)), y[p, 2i + 1] = cos of the same (Vaswani et al. 2017, section 3.5)."""

    kind: Literal["sinusoidal_positions"] = "sinusoidal_positions"
    length: OneDim
    units: int = Field(ge=1)
    dtype: DType

    def infer(self) -> TensorType:
        if self.dtype not in FLOATS:
            raise DTypeError(f"sinusoidal_positions gives floats, not {self.dtype}")
        return TensorType((self.length, self.units), self.dtype)

    def eval(self, xp: Any) -> Any:
        # In float64 throughout: an angle of thousands of turns has no digits left for its sine in float32.
        columns = np.arange(self.units)
        angles = np.arange(dims.bind(self.length, {}))[:, None] / _WAVELENGTH ** ((columns - columns % 2) / self.units)
        return xp.asarray(np.where(columns % 2, np.cos(angles), np.sin(angles)).astype(self.dtype))


def arange(graph: Graph, size: Dim) -> Node:
    """The node of 0, 1, ..., size - 1."""
    return graph.add(Arange(size=size))

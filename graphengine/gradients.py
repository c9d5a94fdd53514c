"""The gradients of one batch: arrays in one block of memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

import numpy as np

from graphengine.errors import ExecutionError, NamingError
from graphengine.ir.array import assignable
from graphengine.ir.names import did_you_mean
from graphengine.ir.types import Array, ValueType


class Gradients(Mapping[str, Array]):
    """Gradients by the names of their parameters. The arrays are views of `block`, and may be written to.

    `block` is one flat array in which they are one behind the other: of their dtype, or of bytes if they have several
    dtypes. `loss` is the loss that they are the gradients of. They can be pickled, for another process.
    """

    __slots__ = ("_views", "block", "loss", "types")

    def __init__(self, types: Mapping[str, ValueType], block: Array | None = None, loss: float = math.nan) -> None:
        """Views of `block`, or of a new block that is filled with zeros."""
        self.loss = loss
        self.types = dict(types)
        """The type of each."""
        dtypes = {np.dtype(type_.dtype) for type_ in types.values()}
        if block is None:
            size = sum(type_.nbytes for type_ in types.values())
            block = np.zeros(size, np.uint8).view(dtypes.pop() if len(dtypes) == 1 else np.uint8)
        self.block = block
        aligned = sorted(types.items(), key=lambda item: -np.dtype(item[1].dtype).itemsize)
        ends = accumulate(type_.nbytes for _, type_ in aligned)
        memory = block.view(np.uint8)
        views = {
            name: memory[end - type_.nbytes : end].view(type_.dtype).reshape(type_.static_shape)
            for (name, type_), end in zip(aligned, ends, strict=True)
        }
        self._views = {name: views[name] for name in types}

    def copy(self) -> Gradients:
        """The same values in a block of their own."""
        return Gradients(self.types, self.block.copy(), self.loss)

    __copy__ = copy

    def spoil(self) -> None:
        """Set all to NaN, as those of a batch that gives none."""
        for view in self._views.values():
            view.fill(math.nan)

    def assign(self, values: Mapping[str, Any]) -> None:
        """Write these values into the block; raises before anything is written where one does not fit."""
        if values is self:
            return
        if not isinstance(values, Mapping):
            names = ", ".join(self.types) or "none"
            given = type(values).__name__
            raise ExecutionError(f"gradients are arrays by the names of parameters ({names}), not a {given}")
        for name in values:
            if name not in self.types:
                raise NamingError(f"no gradient {name!r}{did_you_mean(name, self.types)}")
        arrays = {}
        for name, type_ in self.types.items():
            if name not in values:
                raise NamingError(f"the gradient of {name!r} is not given; it is {type_}")
            array = assignable(values[name], type_, f"the gradient of {name!r}")
            overlaps = array is not self._views[name] and np.may_share_memory(array, self.block)
            arrays[name] = array.copy() if overlaps else array
        for name, array in arrays.items():
            self._views[name][...] = array

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}: {type_}" for name, type_ in self.types.items())
        return f"Gradients({{{shown}}}, loss={self.loss!r})"

    def __reduce__(self) -> tuple[type[Gradients], tuple[Mapping[str, ValueType], Array, float]]:
        return Gradients, (self.types, self.block, self.loss)

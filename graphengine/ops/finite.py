"""The check that a step makes before it updates anything: whether all elements of a value are finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphengine.errors import NonFiniteError
from graphengine.ir.op import Call, Op
from graphengine.ir.types import Array, TensorType


class CheckFinite(Op):
    """Nothing, an array without elements; of a value that has NaN or infinities a NonFiniteError about `what`.

    It is not registered: the program of a step has it, and no document does.
    """

    what: str

    def infer(self, _: TensorType) -> TensorType:
        return TensorType((0,), "bool")

    def eval(self, xp: Any, x: Any) -> Any:
        return xp.zeros((0,), bool)

    def bind(self, out: Array, *operands: Array, scratch: Sequence[Array] = ()) -> Call:
        (x,) = operands
        return (_check_elements if x.ndim else _check_number), (x, self.what)


def _check_number(x: Array, what: str) -> None:
    if not math.isfinite(x):
        raise NonFiniteError(f"{what} is {x}")


def _check_elements(x: Array, what: str) -> None:
    """By the maximum and the minimum, which are NaN if an element is: no array of truth values is made for it."""
    if x.size and not (math.isfinite(np.max(x)) and math.isfinite(np.min(x))):
        index = np.argwhere(~np.isfinite(x))[0].tolist()
        raise NonFiniteError(f"{what} is {x[tuple(index)]} at {index}")

"""What a program must give, and how far off it may be: node by node in wide floats, exactly and with rounding shaken.

Here it is said what is comparable. A graph is evaluated by `eval` in the widest floats of the machine, and then again
and again with every value moved at random as rounding to its node's dtype may move it: by a unit in the last place; to
an infinity where it overflows; by a unit where it is denormal; a zero that is computed to either sign. What sums up or
compares operands inside of one op has these moved as well.

- Where all runs are NaN, or the same infinity, a program must give just that.
- Where all are finite, it must lie within a multiple of their spread, and of the rounding of the value itself.
- Where they differ in kind, an intermediate value overflows, or hangs on how zero is signed or on a tie: then anything
  goes, for rewrites may compute it by other intermediate values.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphengine.errors import GraphEngineError
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.subgraph import needed_nodes
from tests.random_graphs import evaluate

RUNS = 8
"""How often rounding is shaken."""

SPREAD = 16.0
"""How many times as far from the exact value as the farthest run a program may be."""

ROUNDING = 32.0
"""How many units in the last place it may be off in any case."""

INSIDE = 4
"""By how many units in the last place the operands of an op that sums up are moved, for all that it rounds inside."""

CHOOSING = {"argmax", "argmin", "first", "max", "max_pool2d", "max_pool2d_gather", "max_pool2d_place", "min"}
"""Kinds that give operands as they are, or the places of such, and so round nothing."""


@dataclass
class Expected:
    """The value of one node: what exact arithmetic gives, and what each run with shaken rounding does."""

    exact: np.ndarray
    runs: np.ndarray
    dtype: str

    def decided(self) -> np.ndarray:
        """The elements that are comparable."""
        if self.exact.dtype.kind != "f":
            return np.all(self.runs == self.exact, axis=0)
        return np.all(kind_of(self.runs) == kind_of(self.exact), axis=0)

    def missed(self, actual: np.ndarray) -> np.ndarray:
        """The elements of a program's result that are wrong."""
        if self.exact.dtype.kind != "f":
            return self.decided() & (actual != self.exact)
        with np.errstate(all="ignore"):
            return self._missed(actual)

    def _missed(self, actual: np.ndarray) -> np.ndarray:
        info = np.finfo(self.dtype)
        wide = actual.astype(self.exact.dtype)
        spread = np.max(np.abs(self.runs - self.exact), axis=0, initial=0.0)
        allowed = SPREAD * spread + ROUNDING * info.eps * (np.abs(self.exact) + info.tiny * ROUNDING)
        is_off = (kind_of(wide) != kind_of(self.exact)) | ~(np.isinf(wide) | (np.abs(wide - self.exact) <= allowed))
        return self.decided() & np.where(np.isnan(self.exact), ~np.isnan(wide), is_off)


def kind_of(values: np.ndarray) -> np.ndarray:
    """0 for what is finite, 1 and -1 for the infinities, 2 for NaN."""
    return np.where(np.isnan(values), 2, np.where(np.isinf(values), np.sign(values), 0)).astype(int)


def expect(
    nodes: Mapping[str, Node], given: Mapping[str, np.ndarray], binding: Mapping[str, int], seed: int = 0
) -> dict[str, Expected]:
    """What is expected of `nodes`, by name, for these values of the leaves."""
    wide = {name: value.astype(np.longdouble) if value.dtype.kind == "f" else value for name, value in given.items()}
    order = needed_nodes(list(nodes.values()))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means of no elements
        exact = evaluate(order, wide, binding)
        runs = [evaluate(order, wide, binding, run=Shaken(seed, run)) for run in range(RUNS)]
    return {
        name: Expected(np.asarray(exact[node.name]), np.stack([run[node.name] for run in runs]), node.dtype)
        for name, node in nodes.items()
    }


class Shaken:
    """An evaluation of nodes whose values are moved as rounding may move them; in run 0 they are just rounded."""

    def __init__(self, seed: int, run: int) -> None:
        self.random = np.random.default_rng([seed, run])
        self.units = min(run, 1)

    def __call__(self, node: Node, op: Op, operands: list[Any]) -> Any:
        if op.is_leaf or op.is_view or op.kind in CHOOSING:
            return op.eval(np, *operands)
        is_exact = op.is_elementwise and op.kind not in ("gelu", "gelu_slope")  # e to the power of a rounded square
        value = op.eval(np, *operands) if is_exact else self.inside(node, op, operands)
        if isinstance(value, tuple):
            return tuple(self.rounded(part, item.dtype) for part, item in zip(value, node.type.items, strict=True))
        return self.rounded(np.asarray(value), node.dtype)

    def inside(self, node: Node, op: Op, operands: list[Any]) -> Any:
        """The value of an op that sums up or compares, off by what moved operands make of it, and by what it rounds.

        Infinite where a sum may be.
        """
        dtypes = [parent.dtype for parent in node.parents]
        pairs = list(zip(operands, dtypes, strict=True))
        try:
            value = op.eval(np, *[self.moved(x, dtype, INSIDE) for x, dtype in pairs])
            narrow = op.eval(np, *[x.astype(dtype) if is_float(x) else x for x, dtype in pairs])
            largest = op.eval(np, *[np.abs(x) if is_float(x) else x for x in operands])
        except GraphEngineError:  # an operand has been moved out of the op's range
            return op.eval(np, *operands)
        if not is_float(value):
            return value
        value = np.where(
            np.isfinite(value) & np.isfinite(narrow), value + self.sides(value.shape, 2) * (narrow - value), value
        )
        terms = max([1, *(np.size(x) // max(1, value.size) for x in operands)])  # of the sum that a mean is made of
        return np.where(np.isfinite(value) & (largest * terms > np.finfo(node.dtype).max), np.inf, value)

    def rounded(self, value: Any, dtype: str) -> Any:
        """`value` as `dtype` may hold it: a zero of either sign; what is at most 1, a probability say, stays so."""
        if not is_float(value):
            return value
        near = self.moved(value, dtype, self.units).astype(dtype).astype(np.longdouble)
        near = np.where(np.abs(value) <= 1, np.clip(near, -1, 1), near)
        return np.where(near == 0, np.copysign(near, self.random.integers(0, 2, near.shape) - 0.5), near)

    def moved(self, value: Any, dtype: str, units: int) -> Any:
        """`value`, by so many units in the last place at most; zeros stay, and signs."""
        if not is_float(value):
            return value
        info, size = np.finfo(dtype), np.abs(value)
        near = size + self.sides(value.shape, units) * np.maximum(size * info.eps, info.smallest_subnormal)
        return np.where(size > 0, np.copysign(np.maximum(near, 0), value), value)

    def sides(self, shape: tuple[int, ...], units: int) -> np.ndarray:
        return self.random.integers(-units, units + 1, shape)


def is_float(value: object) -> bool:
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"

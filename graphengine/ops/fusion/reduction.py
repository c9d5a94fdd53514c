"""The statements of a reduction: in a register for inner loops, in the result's own memory for outer ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from graphengine.ir.types import FLOATS, DType
from graphengine.ops.fusion.lines import Lines, Steps

__all__ = ["Reduction", "start_of"]


def start_of(kind: str, dtype: DType) -> float | int:
    """What the greatest ("max") or the least ("min") of no values is: any value takes its place."""
    low, high = (-np.inf, np.inf) if dtype in FLOATS else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return low if kind == "max" else high


@dataclass(frozen=True, slots=True)
class Reduction:
    """A value, by its name, reduced into an array that moves along the loops that are `kept`.

    Sums of floats that go on over more than one loop add up each turn of the inner one by itself, and the turns in
    twice the digits: in a total of float64 and what that loses. For sums of lines there are totals for a strip of
    them, at `cell`. `start` is the text of what no values are reduced to, `count` that of how many values a mean is of.
    """

    kind: str
    dtype: DType
    floats: DType
    value: str
    array: str
    steps: Steps
    kept: tuple[bool, ...]
    number: int
    start: str
    count: str
    cell: str | None

    def write(self, lines: Lines) -> None:
        """Add the statements to those of the nest."""
        depth = len(self.kept)
        while depth and not self.kept[depth - 1]:
            depth -= 1
        value = self._register(lines, depth) if depth < lines.depth else self.value
        element = lines.element(self.array, self.steps[:depth])
        if all(self.kept[:depth]):
            lines.behind(depth, f"{element} = {self._finished(value)}")
            return
        first, steps = self.kept.index(False), self.steps[:depth]
        lines.ahead(first, *lines.sweep(steps, first, self.array, f"{{}} = {self.start}"))
        lines.behind(depth, f"{element} = {self._folded(element, value)}")
        if self.cell and self._is_sum:
            self._add_lines(lines, first)
        elif self.kind == "mean":
            lines.behind(first, *lines.sweep(steps, first, self.array, "{} = " + self._finished("{}")))

    @property
    def _is_sum(self) -> bool:
        """Whether rounding adds up."""
        return self.kind in ("sum", "mean") and self.dtype in FLOATS

    def _add_lines(self, lines: Lines, first: int) -> None:
        """Have blocks of lines, which are added up in the result's memory, added to totals."""
        total, rest = f"total_{self.number}[{self.cell}]", f"rest_{self.number}[{self.cell}]"
        lines.ahead(0, f"total_{self.number} = totals()", f"rest_{self.number} = totals()")
        zeros = f"{total} = 0.0", f"{rest} = 0.0"
        added = f"{rest} = {rest} + lost({total}, {{}})", f"{total} = {total} + {{}}", f"{{}} = {self.start}"
        lines.ahead(first, *lines.sweep(self.steps, first, self.array, *zeros))
        lines.behind(lines.depth - 2, *lines.sweep(self.steps, lines.depth - 1, self.array, *added))
        value = self._finished(self._rounded(f"{total} + {rest}"))
        lines.behind(first, *lines.sweep(self.steps, first, self.array, f"{{}} = {value}"))

    def _register(self, lines: Lines, depth: int) -> str:
        """The text of the value reduced over all loops from `depth` on."""
        return self._long(lines, depth) if lines.depth - depth > 1 and self._is_sum else self._short(lines, depth)

    def _short(self, lines: Lines, depth: int) -> str:
        """The name of a register for all loops from `depth` on."""
        name = f"{self.kind}_{self.number}"
        lines.ahead(depth, f"{name} = {self.start}")
        lines.behind(lines.depth, f"{name} = {self._folded(name, self.value)}")
        return name

    def _long(self, lines: Lines, depth: int) -> str:
        """The text of a total over all loops from `depth` on, of sums over the innermost."""
        total, rest, name = f"total_{self.number}", f"rest_{self.number}", self._short(lines, lines.depth - 1)
        zero = "0.0" if self.floats == "float64" else "float64(0.0)"
        lines.ahead(depth, f"{total} = {zero}", f"{rest} = {zero}")
        lines.behind(lines.depth - 1, f"{rest} = {rest} + lost({total}, {name})", f"{total} = {total} + {name}")
        return self._rounded(f"{total} + {rest}")

    def _rounded(self, value: str) -> str:
        """A number of float64 in the dtype of the result."""
        return f"({value})" if self.dtype == "float64" else f"float32({value})"

    def _folded(self, a: str, b: str) -> str:
        if self.kind in ("max", "min"):
            return f"{self.kind}imum({a}, {b})"
        if self.dtype in FLOATS:
            return f"plus({a}, {b})"
        return f"{a} + {b}" if self.dtype == "int64" else f"{self.dtype}({a} + {b})"

    def _finished(self, value: str) -> str:
        return f"{value} / {self.count}" if self.kind == "mean" else value

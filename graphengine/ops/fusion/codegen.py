"""The text of a kernel that computes a region: every value is made within as few loops as can be."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from graphengine.ir.kernel import Kernel
from graphengine.ir.op import Op
from graphengine.ir.types import FLOATS, INTEGERS, DType
from graphengine.ops.fusion.lines import Lines, Loop, Steps, reach
from graphengine.ops.fusion.reduction import Reduction, start_of
from graphengine.ops.fusion.region import Load, Number, Region, Result, Step, Value

__all__ = ["Form", "kernel", "numbers"]

_LITERAL = re.compile(r"(?<![\w.])(\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+)")
_NO_LITERAL = re.compile(r"\b(?:inf|nan)\b")
_IN_TEXT = frozenset({0, 0.5, 1, 2, 3, 4})
"""Constants that are likely part of a formula. Others change from model to model, and are parameters of the kernel."""


@dataclass(frozen=True, slots=True)
class Form:
    """All that the text depends on besides the region: loops, dtypes and steps of the array parameters, and sizes.

    `loads` and `stores` give the array parameter of every operand and of every result, and `kept` says along which
    loops a result moves. `cell` is where totals of lines stand, if there are any.
    """

    loops: tuple[Loop, ...]
    dtypes: tuple[DType, ...]
    steps: tuple[Steps, ...]
    sizes: tuple[str, ...]
    loads: tuple[int, ...]
    stores: tuple[int, ...]
    kept: tuple[tuple[bool, ...], ...]
    cell: str | None

    @property
    def floats(self) -> DType:
        """The dtype of the numbers with a point: that of the first array of floats."""
        return next((dtype for dtype in self.dtypes if dtype in FLOATS), "float64")


def numbers(region: Region, counts: Sequence[int]) -> dict[str, float | int]:
    """The numbers that a kernel is given, by name: constants, where extremes start, and how many a mean is of."""
    constants = [value.value for value in region.values if isinstance(value, Number) and not _is_in_text(value)]
    given = {f"c{place}": value for place, value in enumerate(constants)}
    for place, (result, count) in enumerate(zip(region.results, counts, strict=True)):
        if result.reduction in ("max", "min"):
            given[f"start{place}"] = start_of(result.reduction, region.values[result.value].dtype)
        elif result.reduction == "mean":
            given[f"count{place}"] = float(count)
    return given


@lru_cache(maxsize=4096)
def kernel(region: Region, form: Form) -> Kernel | None:
    """The kernel that computes `region` in this form; None if a number in it has no place among the kernel's floats."""
    try:
        return _Writer(region, form).kernel()
    except _UnwritableError:
        return None


class _UnwritableError(Exception):
    """A value has no text."""


class _Writer:
    """Writes one kernel: its values, in order, and then its results."""

    def __init__(self, region: Region, form: Form) -> None:
        self._region = region
        self._form = form
        self._lines = Lines(form.loops)
        self._names: list[str] = []
        self._depths: list[int] = []
        self._loaded: set[int] = set()
        self._constants = 0
        self._steps = 0

    def kernel(self) -> Kernel:
        """The kernel's text."""
        for value in self._region.values:
            name, depth = self._value(value)
            self._names.append(name)
            self._depths.append(depth)
        for place, result in enumerate(self._region.results):
            self._write(place, result)
        arrays = [f"p{place}" for place in range(len(self._form.dtypes))]
        given = numbers(self._region, [1] * len(self._region.results))
        shared = ["rank", "ranks"] if any("ranks" in loop.span for loop in self._form.loops) else []
        head = f"def {self._name()}({', '.join([*arrays, *self._form.sizes, *given, *shared])}):"
        return Kernel(self._name(), "\n".join([head, *self._lines]) + "\n")

    def _name(self) -> str:
        kinds = [_identifier(value.op) for value in self._region.values if isinstance(value, Step)]
        kinds += [result.reduction for result in self._region.results if result.reduction is not None]
        return "_".join(["fused", *list(dict.fromkeys(kinds))[:6]])

    def _value(self, value: Value) -> tuple[str, int]:
        """The name of a value, and within how many loops it is known."""
        if isinstance(value, Number):
            return self._number(value), 0
        if isinstance(value, Load):
            return self._load(self._form.loads[value.place])
        depth = max((self._depths[operand] for operand in value.operands), default=0)
        self._steps += 1
        name = f"{_identifier(value.op)}_{self._steps}"
        self._lines.ahead(depth, f"{name} = {self._expression(value)}")
        return name, depth

    def _load(self, parameter: int) -> tuple[str, int]:
        name, steps = f"x{parameter}", self._form.steps[parameter]
        if parameter not in self._loaded:
            self._loaded.add(parameter)
            element = self._lines.element(f"p{parameter}", steps)
            self._lines.ahead(reach(steps), f"{name} = {element}")
        return name, reach(steps)

    def _number(self, number: Number) -> str:
        self._check_exact(float(number.value), number.dtype)
        if _is_in_text(number):
            return self._typed(repr(number.value), number.dtype)
        self._constants += 1
        return self._typed(f"c{self._constants - 1}", number.dtype)

    def _expression(self, step: Step) -> str:
        """The op's scalar form, in which numbers have the dtype of what they meet, and integers wrap around."""
        form = step.op.scalar(*(self._names[operand] for operand in step.operands))
        if form is None or _NO_LITERAL.search(form):
            raise _UnwritableError
        dtype = self._region.values[step.operands[0]].dtype if step.dtype == "bool" else step.dtype
        if dtype != self._form.floats:
            form = _LITERAL.sub(lambda found: self._literal(found[0], dtype), form)
        is_cast = form.startswith(f"{step.dtype}(")
        return f"{step.dtype}({form})" if step.dtype in INTEGERS and not is_cast else form

    def _literal(self, text: str, dtype: DType) -> str:
        value = float(text)
        if dtype in INTEGERS and value.is_integer():
            return str(int(value))
        self._check_exact(value, dtype)
        return self._typed(text, dtype) if dtype in FLOATS else text

    def _check_exact(self, value: float, dtype: DType) -> None:
        """Among floats of 32 bits, a number of 64 cannot be given."""
        if dtype == "float64" != self._form.floats and value == value != float(np.float32(value)):
            raise _UnwritableError

    def _typed(self, text: str, dtype: DType) -> str:
        """A number of the kernel's floats, an int or a bool, as one of `dtype`."""
        return text if dtype in (self._form.floats, "int64", "bool") else f"{dtype}({text})"

    def _write(self, place: int, result: Result) -> None:
        name, dtype = self._names[result.value], self._region.values[result.value].dtype
        array, kept = self._form.stores[place], self._form.kept[place]
        steps = self._form.steps[array]
        if result.reduction is None or all(kept):
            self._lines.behind(self._lines.depth, f"{self._lines.element(f'p{array}', steps)} = {name}")
            return
        is_sum = result.reduction in ("sum", "mean")
        zero = "0.0" if dtype in FLOATS else "0"
        Reduction(
            kind=result.reduction,
            dtype=dtype,
            floats=self._form.floats,
            value=name,
            array=f"p{array}",
            steps=steps,
            kept=kept,
            number=place + 1,
            start=self._typed(zero if is_sum else f"start{place}", dtype),
            count=self._typed(f"count{place}", dtype),
            cell=self._form.cell,
        ).write(self._lines)


def _identifier(op: Op) -> str:
    """The kind of an op, of a user's perhaps, as a part of a name."""
    return re.sub(r"\W", "_", op.kind, flags=re.ASCII)


def _is_in_text(number: Number) -> bool:
    return number.dtype == "bool" or number.value in _IN_TEXT

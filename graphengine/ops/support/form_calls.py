"""The NumPy calls of a form: one a step, each into memory that is free by then, with the values of `where` as bits.

They are found once for a form and its dtypes, as a `Plan` over numbered slots, and then bound to arrays. The result
may be written over an operand: `out` is work memory too, from the last step on that reads one which it may overwrite.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from graphengine.ir.op import Call
from graphengine.ir.types import DTYPES, Array, DType, TensorType, broadcast_shapes, check_dtype
from graphengine.ops.support.form import Exact, Form, Step, recorded
from graphengine.ops.support.run_all import repeatable

_BITS: dict[int, DType] = {1: "uint8", 4: "int32", 8: "int64"}
"""By the size of a value, the integers that are as wide."""


@repeatable
def maximum_into(a: Array, b: Array, out: Array) -> None:
    """np.maximum, whose `out` is given by name alone; functools.partial would make a dict of it in every call."""
    np.maximum(a, b, out=out)


@repeatable
def minimum_into(a: Array, b: Array, out: Array) -> None:
    """np.minimum, likewise."""
    np.minimum(a, b, out=out)


@repeatable
def clip_into(x: Array, low: Array, high: Array, out: Array) -> None:
    """x.clip: one pass, where np.maximum and np.minimum are two."""
    x.clip(low, high, out)


_INTO: dict[str, Callable[..., object]] = {
    "at_least": maximum_into,
    "at_most": minimum_into,
    "clip": clip_into,
    "maximum": maximum_into,
    "minimum": minimum_into,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Calls of functions on slots: `out`, the operands, the work memory, numbers, and views of those before.

    A view is a slot with the dtype in which it is seen. Work memory is told by its dtype and by the operands to whose
    common shape it belongs: -1 for the shape of the result.
    """

    calls: tuple[tuple[Callable[..., object], tuple[int, ...]], ...]
    work: tuple[tuple[DType, frozenset[int]], ...]
    numbers: tuple[object, ...]
    views: tuple[tuple[int, DType], ...]


def calls(op: Any, out: Array, operands: Sequence[Array], work: Sequence[Array]) -> list[Call]:
    """The calls that compute the form of `op` on arrays; `work` is of the types that `scratch` gives."""
    plan = _planned(Exact(op), tuple([operand.dtype for operand in operands]))
    slots: list[Any] = [out, *operands, *work, *plan.numbers]
    for slot, dtype in plan.views:
        slots.append(slots[slot].view(dtype))
    return [(function, tuple([slots[slot] for slot in arguments])) for function, arguments in plan.calls]


def scratch(op: Any, y: TensorType, types: Sequence[TensorType]) -> tuple[TensorType, ...]:
    """The types of the work memory of the form of `op`, for operands of these types."""
    plan = _planned(Exact(op), tuple([type_.dtype for type_ in types]))
    shapes = [y.shape if -1 in which else broadcast_shapes(*[types[x].shape for x in which]) for _, which in plan.work]
    return tuple([TensorType(shape, dtype) for shape, (dtype, _) in zip(shapes, plan.work, strict=True)])


@lru_cache(maxsize=4096)
def _planned(exact: Exact, dtypes: tuple[Any, ...]) -> Plan:
    names = [check_dtype(dtype) for dtype in dtypes]
    form = recorded(exact.op, len(names)).expanded("float32" in names)
    return _Planner(form, names, exact.op.overwrites, exact.op.alike).plan()


_Slot = tuple[str, int]
"""Where a value is: "out", an "operand", "work" or a "number", and which of them."""
_Seen = tuple[_Slot, DType]
"""A slot as an array of a dtype."""
_OUT: _Slot = "out", 0


class _Planner:
    """Lays out the steps of one form."""

    def __init__(self, form: Form, dtypes: Sequence[DType], overwrites: Sequence[int], alike: Sequence[int]) -> None:
        self._form = form
        self._dtypes: list[DType] = form.dtypes(dtypes)
        shapes = alike or (range(form.arity) if form.arity > 1 else (-1,))
        named = [frozenset([shapes[operand] for operand in reads]) for reads in form.reads]
        self._shapes = [frozenset({-1}) if -1 in which or which == named[form.result] else which for which in named]
        self._last_reader = {x: number for number, step in enumerate(form.steps) for x in step.values}
        self._operands_read = max((self._last_reader.get(x, -1) for x in overwrites if x < form.arity), default=-1)
        self._of: dict[int, _Slot] = {operand: ("operand", operand) for operand in range(form.arity)}
        self._calls: list[tuple[Callable[..., object], list[_Seen]]] = []
        self._work: list[tuple[DType, frozenset[int]]] = []
        self._free: dict[tuple[int, frozenset[int]], list[_Slot]] = defaultdict(list)
        self._numbers: dict[str, object] = {}

    def plan(self) -> Plan:
        """The plan of all steps."""
        for number, step in enumerate(self._form.steps):
            self._take_step(number, step)
        if not self._form.steps:
            self._calls.append((np.copyto, [(_OUT, self._dtypes[-1]), (self._of[self._form.result], self._dtypes[-1])]))
        starts = {"out": 0, "operand": 1, "work": 1 + self._form.arity}
        starts["number"] = starts["work"] + len(self._work)
        first_view = starts["number"] + len(self._numbers)
        views: dict[tuple[int, DType], int] = {}

        def at(slot: _Slot, dtype: DType) -> int:
            found = starts[slot[0]] + slot[1]
            is_own = slot[0] == "number" or dtype == self._own_dtype(slot)
            return found if is_own else first_view + views.setdefault((found, dtype), len(views))

        made = tuple([(function, tuple([at(*seen) for seen in arguments])) for function, arguments in self._calls])
        return Plan(made, tuple(self._work), tuple(self._numbers.values()), tuple(views))

    def _take_step(self, number: int, step: Step) -> None:
        form, value = self._form, self._form.arity + number
        dtype = step.computed_in(self._dtypes)
        dying = [x for x in dict.fromkeys(step.values) if x >= form.arity and self._last_reader[x] == number]
        target = self._target(number, value, dying)
        if step.name == "where":
            self._choose(step, target, dtype, self._shapes[value])
        else:
            arguments = [self._seen(x, dtype) for x in step.arguments]
            result = target, self._dtypes[value]
            if step.name in DTYPES:
                self._numbers.setdefault("unsafe", "unsafe")
                self._calls.append((np.copyto, [result, *arguments, (self._number("unsafe"), dtype)]))
            else:
                self._calls.append((_INTO.get(step.name) or getattr(np, step.name), [*arguments, result]))
        self._of[value] = target
        for x in dying:
            if self._of[x] != target:
                self._release(self._of[x], self._shapes[x])

    def _choose(self, step: Step, target: _Slot, dtype: DType, shape: frozenset[int]) -> None:
        """The calls of `where`, on bits: all ones, which is -1, where the condition holds, else all zeros.

        On 65,536 random float32 that takes a tenth of the time of np.where, which branches.
        """
        condition, a, b = step.arguments
        chosen = self._seen(condition, "bool")
        if (repr(a), repr(b)) == ("1.0", "0.0"):  # 1 is a value, 1.0 a number
            self._calls.append((np.copyto, [(target, dtype), chosen]))
            return
        bits = _BITS[np.dtype(dtype).itemsize]
        first, second = self._seen(a, dtype, as_bits=True), self._seen(b, dtype, as_bits=True)
        narrow = self._shapes[step.values[0]]
        mask, out = (self._take(bits, narrow), bits), (target, bits)
        self._calls += [(np.copyto, [mask, chosen]), (np.negative, [mask, mask])]
        if repr(b) == "0.0":
            self._calls.append((np.bitwise_and, [first, mask, out]))
        else:
            mixed = self._take(bits, shape), bits
            self._calls.append((np.bitwise_xor, [first, second, mixed]))
            self._calls.append((np.bitwise_and, [mixed, mask, mixed]))
            self._calls.append((np.bitwise_xor, [mixed, second, out]))
            self._release(mixed[0], shape)
        self._release(mask[0], narrow)

    def _target(self, number: int, value: int, dying: Sequence[int]) -> _Slot:
        """Where a value goes: to `out` at last, over one that nobody reads any more, or to free memory."""
        result = self._form.result
        if value == result:
            return _OUT
        for x in dying:
            if self._is_alike(x, value):
                return self._of[x]
        out_is_free = all(self._of.get(x) != _OUT or last < number for x, last in self._last_reader.items())
        if out_is_free and number >= self._operands_read and self._is_alike(value, result):
            return _OUT
        return self._take(self._dtypes[value], self._shapes[value])

    def _is_alike(self, value: int, other: int) -> bool:
        """Whether two values are of one dtype and shape."""
        return self._dtypes[value] == self._dtypes[other] and self._shapes[value] == self._shapes[other]

    def _own_dtype(self, slot: _Slot) -> DType:
        kind, number = slot
        if kind == "work":
            return self._work[number][0]
        return self._dtypes[self._form.result if kind == "out" else number]

    def _take(self, dtype: DType, shape: frozenset[int]) -> _Slot:
        free = self._free[np.dtype(dtype).itemsize, shape]
        if free:
            return free.pop()
        self._work.append((dtype, shape))
        return "work", len(self._work) - 1

    def _release(self, slot: _Slot, shape: frozenset[int]) -> None:
        if slot[0] == "work":
            self._free[np.dtype(self._own_dtype(slot)).itemsize, shape].append(slot)

    def _seen(self, value: int | float, dtype: DType, as_bits: bool = False) -> _Seen:
        """A value as an operand, of its bits perhaps; a number has the dtype of what it meets."""
        bits = _BITS[np.dtype(dtype).itemsize]
        if isinstance(value, int):
            return self._of[value], bits if as_bits else self._dtypes[value]
        key = f"{value!r} {dtype} {as_bits}"
        self._numbers.setdefault(key, np.array(value, dtype).view(bits if as_bits else dtype))
        return self._number(key), dtype

    def _number(self, key: str) -> _Slot:
        return "number", list(self._numbers).index(key)

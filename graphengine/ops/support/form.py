"""The form of a pointwise op: its formula for one element, from which all else that knows the formula is made.

A form is a function of `Scalar`s, in Python's operators and the functions of this file. It is run once, and records the
steps that it takes; the same step of the same values is recorded once. A form may read the attributes of its op, and
branch on them, but not on a `Scalar`: that is what `where` is for. Numbers in it have the dtype of what they meet.

`Form.text` is the expression that compiling backends put into a kernel, `evaluate` computes the form on arrays, `flops`
counts its operators, and ops/support/form_calls.py makes NumPy calls of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, reduce
from types import MappingProxyType
from typing import Any, get_args

import numpy as np

from graphengine.ir.types import DType, TensorType, broadcast_shapes


@dataclass(frozen=True, slots=True)
class Step:
    """One operator or function, by name, of values before it (an int each, operands first) and of numbers (a float)."""

    name: str
    arguments: tuple[int | float, ...]

    @property
    def values(self) -> list[int]:
        """The arguments that are values."""
        return [x for x in self.arguments if isinstance(x, int)]

    @property
    def cost(self) -> int:
        """The floating-point operations for an element."""
        return _COSTS.get(self.name, 1)

    def computed_in(self, dtypes: Sequence[DType]) -> DType:
        """The dtype of its operands, of what it chooses between for `where`; `dtypes` are those of all values.

        Numbers that meet nothing but each other have that of the first value that is not of bools.
        """
        chosen = self.arguments[1:] if self.name == "where" else self.arguments
        met = [dtypes[x] for x in chosen if isinstance(x, int)] or [dtype for dtype in dtypes if dtype != "bool"]
        return met[0] if met else "bool"


@dataclass(slots=True)
class _Tape:
    """The steps so far of a form that is run."""

    arity: int
    steps: list[Step] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, *arguments: Scalar | float) -> Scalar:
        """The value of a step."""
        step = Step(name, tuple([x.index if isinstance(x, Scalar) else float(x) for x in arguments]))
        key = f"{name} {step.arguments}"  # in which 0.0 and -0.0 differ, and 1 and 1.0
        if key not in self.known:
            self.known[key] = self.arity + len(self.steps)
            self.steps.append(step)
        return Scalar(self, self.known[key])


def _operator(name: str) -> tuple[Callable[[Any, Any], Scalar], Callable[[Any, Any], Scalar]]:
    """The methods of an operator: with the value on the left, and on the right."""
    return lambda self, other: step(name, self, other), lambda self, other: step(name, other, self)


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """The value at one element, in a form that is run: an operand's, or what a step makes."""

    __array_ufunc__ = None  # NumPy's functions refuse it, and its numbers leave operators to it

    tape: _Tape
    index: int

    def __bool__(self) -> bool:
        raise TypeError("a form cannot branch on a value of an element: use where(condition, a, b)")

    __add__, __radd__ = _operator("add")
    __sub__, __rsub__ = _operator("subtract")
    __mul__, __rmul__ = _operator("multiply")
    __truediv__, __rtruediv__ = _operator("divide")
    __pow__, __rpow__ = _operator("power")
    __and__ = _operator("logical_and")[0]
    __or__ = _operator("logical_or")[0]
    __lt__ = _operator("less")[0]
    __le__ = _operator("less_equal")[0]
    __gt__ = _operator("greater")[0]
    __ge__ = _operator("greater_equal")[0]
    __eq__ = _operator("equal")[0]  # type: ignore[assignment]  # a comparison of elements gives an element
    __ne__ = _operator("not_equal")[0]  # type: ignore[assignment]  # likewise
    __hash__ = None  # type: ignore[assignment]  # values that compare by element have none

    def __neg__(self) -> Scalar:
        return step("negative", self)


def step(name: str, *arguments: Any) -> Scalar:
    """The value of an operator or function of values and numbers."""
    for argument in arguments:
        if isinstance(argument, Scalar):
            return argument.tape.add(name, *arguments)
    raise TypeError(f"{name} in a form takes a value of an element, not numbers alone")


def _function(name: str) -> Callable[..., Scalar]:
    def function(*arguments: Scalar | float) -> Scalar:
        return step(name, *arguments)

    function.__name__ = function.__qualname__ = name
    return function


absolute = _function("absolute")
at_least = _function("at_least")
"""Of two equal zeros it is the second; `maximum` may give either."""
at_most = _function("at_most")
clip = _function("clip")
"""clip(x, low, high), of two numbers that are not 0."""
copysign = _function("copysign")
cos = _function("cos")
erf = _function("erf")
exp = _function("exp")
expm1 = _function("expm1")
floor = _function("floor")
isfinite = _function("isfinite")
log = _function("log")
log1p = _function("log1p")
logical_not = _function("logical_not")
maximum = _function("maximum")
mills = _function("mills")
"""(1 - Phi(x)) / phi(x) of the normal law, for x from 0 up."""
minimum = _function("minimum")
power = _function("power")
sigmoid = _function("sigmoid")
sign = _function("sign")
sin = _function("sin")
sqrt = _function("sqrt")
tanh = _function("tanh")
where = _function("where")
"""where(condition, a, b)."""


def cast(x: Scalar, dtype: str) -> Scalar:
    """`x` in another dtype."""
    return step(dtype, x)


def polynomial(coefficients: Sequence[float], x: Scalar) -> Scalar:
    """Horner's rule, from the highest power on, of two coefficients at least."""
    first, second, *others = coefficients
    return reduce(lambda value, coefficient: value * x + coefficient, others, first * x + second)


_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isfinite")
_LOGIC = ("logical_and", "logical_or", "logical_not")
_BOOLS = frozenset({*_COMPARISONS, *_LOGIC})
"""What gives a bool."""

_DTYPES: Mapping[str, DType] = MappingProxyType({dtype: dtype for dtype in get_args(DType)})
_COSTS: Mapping[str, int] = MappingProxyType(
    {"sigmoid": 4, "clip": 2, **dict.fromkeys(["where", *_LOGIC, *_DTYPES], 0)}
)
"""The FLOPs of what does not count 1. Choices, logic and casts move values; a sigmoid is four steps, a clip two."""

_Expansion = Callable[[Scalar, bool], Scalar]
_EXPANSIONS: dict[str, _Expansion] = {}
"""Functions that arrays lack, by name: what they are in those that arrays have, for float32 or for wider floats."""

_NAMES: Mapping[str, str] = MappingProxyType({"at_least": "maximum", "at_most": "minimum"})

_TEXTS: Mapping[str, str] = MappingProxyType(
    {
        "negative": "-{0}",
        "add": "{0} + {1}",
        "subtract": "{0} - {1}",
        "multiply": "{0} * {1}",
        "divide": "{0} / {1}",
        "less": "{0} < {1}",
        "less_equal": "{0} <= {1}",
        "greater": "{0} > {1}",
        "greater_equal": "{0} >= {1}",
        "equal": "{0} == {1}",
        "not_equal": "{0} != {1}",
        "logical_and": "{0} & {1}",
        "logical_or": "{0} | {1}",
        "logical_not": "not {0}",
        "isfinite": "({0} - {0}) == ({0} - {0})",
        "where": "{1} if {0} else {2}",
        "at_least": "{0} if ({0} > {1}) | ({0} != {0}) else {1}",
        "at_most": "{0} if ({0} < {1}) | ({0} != {0}) else {1}",
        "at_least 0": "{1} if {0} <= {1} else {0}",
        "at_most 0": "{1} if {0} >= {1} else {0}",
        "clip": "minimum(maximum({0}, {1}), {2})",
    }
)
"""The text of what is no function of the VOCABULARY."""


def expansion(name: str) -> Callable[[_Expansion], _Expansion]:
    """Register what a function is in those that arrays have; it is told whether the operand is of float32."""

    def register(function: _Expansion) -> _Expansion:
        _EXPANSIONS[name] = function
        return function

    return register


@expansion("sigmoid")
def _sigmoid(x: Scalar, _: bool) -> Scalar:
    return 1.0 / (1.0 + exp(-x))  # where exp overflows it is 0, as it should be


@dataclass(frozen=True, eq=False)
class Form:
    """A form that has been run: its steps, in order, and which value is its result."""

    arity: int
    steps: tuple[Step, ...]
    result: int

    @cached_property
    def reads(self) -> tuple[frozenset[int], ...]:
        """For every value the operands that it depends on."""
        reads = [frozenset({operand}) for operand in range(self.arity)]
        for step in self.steps:
            reads.append(frozenset().union(*[reads[x] for x in step.values]))
        return tuple(reads)

    def flops(self, types: Sequence[TensorType]) -> int:
        """The floating-point operations for operands of these types: of every step those of its own size."""
        pairs = zip(self.steps, self.reads[self.arity :], strict=True)
        return sum(
            step.cost * TensorType(broadcast_shapes(*[types[x].shape for x in reads]), "bool").size
            for step, reads in pairs
            if step.cost
        )

    def text(self, names: Sequence[str]) -> str:
        """The form as an expression of operands by these names."""
        return self._part(self.result, names)

    def _part(self, value: int | float, names: Sequence[str]) -> str:
        if isinstance(value, float):
            return repr(value)
        if value < self.arity:
            return names[value]
        step = self.steps[value - self.arity]
        parts = [self._part(argument, names) for argument in step.arguments]
        template = _TEXTS.get(step.name)
        if step.name in _NAMES and isinstance(step.arguments[1], float):
            template = None if step.arguments[1] else _TEXTS[f"{step.name} 0"]
        if template is None:
            return f"{_NAMES.get(step.name, step.name)}({', '.join(parts)})"
        inner = [f"({part})" if self._is_open(x) else part for part, x in zip(parts, step.arguments, strict=True)]
        return template.format(*inner)

    def _is_open(self, value: int | float) -> bool:
        """Whether the text of a value needs parentheses beside an operator."""
        return isinstance(value, int) and value >= self.arity and self.steps[value - self.arity].name in _TEXTS

    def expanded(self, is_single: bool) -> Form:
        """The form with functions that arrays lack written out."""
        if not any(step.name in _EXPANSIONS for step in self.steps):
            return self

        def run(*operands: Scalar) -> Scalar:
            values = list(operands)
            for name, given in [(each.name, each.arguments) for each in self.steps]:
                arguments: list[Any] = [values[x] if isinstance(x, int) else x for x in given]
                written_out = _EXPANSIONS.get(name)
                values.append(written_out(arguments[0], is_single) if written_out else step(name, *arguments))
            return values[self.result]

        return record(run, self.arity)

    def dtypes(self, operands: Sequence[DType]) -> list[DType]:
        """The dtype of every value, for those of the operands."""
        found = list(operands)
        for step in self.steps:
            found.append("bool" if step.name in _BOOLS else _DTYPES.get(step.name) or step.computed_in(found))
        return found


def record(function: Callable[..., Scalar | float], arity: int) -> Form:
    """Run a form, and keep the steps that its result needs."""
    tape = _Tape(arity)
    result = function(*[Scalar(tape, operand) for operand in range(arity)])
    if not isinstance(result, Scalar):
        raise TypeError(f"a form gives a value of an element, not {result!r}")
    needed = {result.index}
    for index in range(arity + len(tape.steps) - 1, arity - 1, -1):
        if index in needed:
            needed.update(tape.steps[index - arity].values)
    left = [index for index in range(arity, arity + len(tape.steps)) if index in needed]
    number = {operand: operand for operand in range(arity)} | {old: arity + new for new, old in enumerate(left)}
    steps = [tape.steps[index - arity] for index in left]
    return Form(
        arity,
        tuple([Step(s.name, tuple([number[x] if isinstance(x, int) else x for x in s.arguments])) for s in steps]),
        number[result.index],
    )


class Exact:
    """An op as a key: equal to those that are exactly like it, or to itself alone if it has no hash."""

    __slots__ = ("_hash", "_key", "op")

    def __init__(self, op: Any) -> None:
        self.op = op
        self._key = op.exactly()
        try:
            self._hash = hash(self._key)
        except TypeError:
            self._hash = self._key = id(op)  # the op is held as long as the key is

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exact) and self._key == other._key


def recorded(op: Any, arity: int) -> Form:
    """The form of an op, which is run once for all ops that are exactly like it."""
    return _recorded(Exact(op), arity)


@lru_cache(maxsize=4096)
def _recorded(exact: Exact, arity: int) -> Form:
    return record(exact.op.form, arity)


def evaluate(form: Form, xp: Any, operands: Sequence[Any]) -> Any:
    """The form on arrays, by functions of the array namespace `xp`; it warns of nothing, as a run does not."""
    form = form.expanded("float32" in [operand.dtype for operand in operands])
    values = list(operands)
    with np.errstate(all="ignore"):
        for step in form.steps:
            dtype: Any = step.computed_in([value.dtype for value in values])
            arguments = [values[x] if isinstance(x, int) else xp.asarray(x, dtype=dtype) for x in step.arguments]
            if step.name in _DTYPES:
                values.append(arguments[0].astype(step.name))
            else:
                values.append(getattr(xp, _NAMES.get(step.name, step.name))(*arguments))
    return values[form.result]

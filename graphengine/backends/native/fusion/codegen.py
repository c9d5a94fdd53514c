"""The text of a kernel that computes a region: every value is computed within as few loops as possible."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from graphengine.backends.native.kernel import Kernel
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import FLOATS, INTEGERS, DType
from graphengine.ops.fusion.region import Region, Result

_LITERAL = re.compile(r"(?<![\w.])(\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+)")
_NO_LITERAL = re.compile(r"\b(?:inf|nan)\b")
_IN_TEXT = frozenset({0, 0.5, 1, 2, 3, 4})
"""Constants that are likely part of a formula. Others change from model to model, and are parameters of the kernel."""


@dataclass(frozen=True, slots=True)
class Form:
    """All that the text depends on besides the region: loops, dtypes and steps of the array parameters, and sizes.

    `loads` and `stores` give the array parameter of every operand and of every result, and `retained` says along which
    loops a result moves. `cell` is where totals of lines are, if there are any. With `fours`, four
    lines are read before a result is written.
    """

    loops: tuple[Loop, ...]
    dtypes: tuple[DType, ...]
    steps: tuple[Steps, ...]
    sizes: tuple[str, ...]
    loads: tuple[int, ...]
    stores: tuple[int, ...]
    retained: tuple[tuple[bool, ...], ...]
    cell: str | None
    fours: bool

    @property
    def floats(self) -> DType:
        """The dtype of the numbers with a point: that of the first array of floats."""
        return next((dtype for dtype in self.dtypes if dtype in FLOATS), "float64")


def numbers(region: Region, counts: Sequence[int]) -> dict[str, float | int]:
    """The numbers that a kernel is given, by name: constants, where extremes start, and how many a mean is of."""
    constants = [node for node in region.pointwise if isinstance(node.op, Constant) and not _is_in_text(node)]
    given = {f"c{index}": _number_of(node) for index, node in enumerate(constants)}
    for index, (result, count) in enumerate(zip(region.results, counts, strict=True)):
        if result.reduction in ("max", "min"):
            given[f"start{index}"] = start_of(result.reduction, result.value.dtype)
        elif result.reduction == "mean":
            given[f"count{index}"] = float(count if result.divisor is None else result.divisor)
    return given


@lru_cache(maxsize=4096)
def kernel(region: Region, form: Form) -> Kernel | None:
    """The kernel that computes `region` in this form; None if a number in it is not among the kernel's floats."""
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
        self._lines = Lines(form.loops, form.fours)
        self._known: dict[Node, tuple[str, int]] = {}
        self._loads = dict(zip(region.graph.inputs, form.loads, strict=True))
        self._loaded: set[int] = set()
        self._constants = 0
        self._steps = 0

    def kernel(self) -> Kernel:
        """The kernel's text."""
        for node in self._region.pointwise:
            self._known[node] = self._value(node)
        for index, result in enumerate(self._region.results):
            self._write(index, result)
        arrays = [f"p{index}" for index in range(len(self._form.dtypes))]
        given = numbers(self._region, [1] * len(self._region.results))
        shared = ["rank", "ranks"] if any("ranks" in loop.span for loop in self._form.loops) else []
        head = f"def {self._name()}({', '.join([*arrays, *self._form.sizes, *given, *shared])}):"
        return Kernel(self._name(), "\n".join([head, *self._lines]) + "\n")

    def _name(self) -> str:
        kinds = [_identifier(node.op) for node in self._region.pointwise if not isinstance(node.op, Input | Constant)]
        kinds += [result.reduction for result in self._region.results if result.reduction is not None]
        return "_".join(["fused", *list(dict.fromkeys(kinds))[:6]])

    def _value(self, node: Node) -> tuple[str, int]:
        """The name of a value, and within how many loops it is known."""
        if isinstance(node.op, Constant):
            return self._number(node), 0
        if node in self._loads:
            return self._load(self._loads[node])
        depth = max((self._known[parent][1] for parent in node.parents), default=0)
        self._steps += 1
        name = f"{_identifier(node.op)}_{self._steps}"
        self._lines.ahead(depth, f"{name} = {self._expression(node)}")
        return name, depth

    def _load(self, parameter: int) -> tuple[str, int]:
        name, steps = f"x{parameter}", self._form.steps[parameter]
        if parameter not in self._loaded:
            self._loaded.add(parameter)
            element = self._lines.element(f"p{parameter}", steps)
            self._lines.ahead(reach(steps), f"{name} = {element}")
        return name, reach(steps)

    def _number(self, number: Node) -> str:
        value = _number_of(number)
        self._check_exact(float(value), number.dtype)
        if _is_in_text(number):
            return self._typed(repr(value), number.dtype)
        self._constants += 1
        return self._typed(f"c{self._constants - 1}", number.dtype)

    def _expression(self, node: Node) -> str:
        """The op's scalar form, in which numbers have the dtype of what they meet, and integers wrap around."""
        form = node.op.scalar(*(self._known[parent][0] for parent in node.parents))
        if form is None or _NO_LITERAL.search(form):
            raise _UnwritableError
        dtype = node.parents[0].dtype if node.dtype == "bool" else node.dtype
        if dtype != self._form.floats:
            form = _LITERAL.sub(lambda found: self._literal(found[0], dtype), form)
        is_cast = form.startswith(f"{node.dtype}(")
        return f"{node.dtype}({form})" if node.dtype in INTEGERS and not is_cast else form

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

    def _write(self, index: int, result: Result) -> None:
        (name, _), dtype = self._known[result.value], result.value.dtype
        array, retained = self._form.stores[index], self._form.retained[index]
        steps = self._form.steps[array]
        if result.reduction is None or all(retained):
            value = name if result.reduction != "mean" else f"{name} / {self._typed(f'count{index}', dtype)}"
            self._lines.behind(self._lines.depth, f"{self._lines.element(f'p{array}', steps)} = {value}")
            return
        is_sum = result.reduction in ("sum", "mean")
        zero = "0.0" if dtype in FLOATS else "0"
        Accumulation(
            kind=result.reduction,
            dtype=dtype,
            floats=self._form.floats,
            value=name,
            array=f"p{array}",
            steps=steps,
            retained=retained,
            number=index + 1,
            start=self._typed(zero if is_sum else f"start{index}", dtype),
            count=self._typed(f"count{index}", dtype),
            cell=self._form.cell,
        ).write(self._lines)


def _identifier(op: Op) -> str:
    """The kind of an op, of a user's perhaps, as a part of a name."""
    return re.sub(r"\W", "_", op.kind, flags=re.ASCII)


def _number_of(constant: Node) -> float | int | bool:
    assert isinstance(constant.op, Constant)  # it is called for these
    number: float | int | bool = constant.op.value.item()
    return number


def _is_in_text(constant: Node) -> bool:
    return constant.dtype == "bool" or _number_of(constant) in _IN_TEXT


def start_of(kind: str, dtype: DType) -> float | int:
    """What the maximum ("max") or the minimum ("min") of no values is: any value replaces it."""
    low, high = (-np.inf, np.inf) if dtype in FLOATS else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return low if kind == "max" else high


@dataclass(frozen=True, slots=True)
class Accumulation:
    """A value, by its name, reduced into an array that moves along the loops that are `retained`.

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
    retained: tuple[bool, ...]
    number: int
    start: str
    count: str
    cell: str | None

    def write(self, lines: Lines) -> None:
        """Add the statements to those of the nest."""
        depth = len(self.retained)
        while depth and not self.retained[depth - 1]:
            depth -= 1
        value = self._register(lines, depth) if depth < lines.depth else self.value
        element = lines.element(self.array, self.steps[:depth])
        if all(self.retained[:depth]):
            lines.behind(depth, f"{element} = {self._finished(value)}")
            return
        first, steps = self.retained.index(False), self.steps[:depth]
        lines.ahead(first, *lines.sweep(steps, first, self.array, f"{{}} = {self.start}"))
        lines.fold(depth, element, value, self.start, self._folded)
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


Steps = tuple[str, ...]
"""The strides of an array along every loop: "0", "1", or the name of a parameter."""


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop: its variable, what that runs over, and what it would run over were it not cut into pieces.

    The latter is None for a loop over pieces. `ends` are its first index and the one behind its last.
    """

    variable: str
    span: str
    whole: str | None
    ends: tuple[str, str] = ("", "")


class Lines:
    """The text of a nest of loops. A statement belongs to a depth: it is inside so many of the loops.

    With `fours`, the last loop but one takes four turns at once inside the last one, which is then the outer of both:
    what is added up over the turns stays in a register.
    """

    def __init__(self, loops: Sequence[Loop], fours: bool = False) -> None:
        self.loops = loops
        self._fours = fours
        self.depth = len(loops)
        self._ahead: list[list[str]] = [[] for _ in range(self.depth + 1)]
        self._behind: list[list[str]] = [[] for _ in range(self.depth + 1)]
        self._folds: list[tuple[str, str, str, Callable[[str, str], str]]] = []
        self._offsets: dict[Steps, str] = {}

    def ahead(self, depth: int, *statements: str) -> None:
        """Add statements ahead of the loop at this depth."""
        self._ahead[depth].extend(statements)

    def behind(self, depth: int, *statements: str) -> None:
        """Add statements behind the loop at this depth."""
        self._behind[depth].extend(statements)

    def fold(self, depth: int, element: str, value: str, start: str, folded: Callable[[str, str], str]) -> None:
        """Add the statement that folds a value into an element, which has begun as `start`."""
        if self._fours and depth == self.depth:
            self._folds.append((element, value, start, folded))
        else:
            self.behind(depth, f"{element} = {folded(element, value)}")

    def element(self, array: str, steps: Steps) -> str:
        """An element of the array where it is known: within as many loops as `reach` says."""
        return f"{array}[{self._offset(steps[: reach(steps)])}]"

    def sweep(self, steps: Steps, start: int, array: str, *forms: str) -> list[str]:
        """These statements along all loops from number `start` on that the array moves along.

        In a form, {} is the element.
        """
        inner = [number for number in range(start, len(steps)) if steps[number] != "0"]
        heads = [f"for {self.loops[number].variable} in {self.loops[number].whole}:" for number in inner]
        terms = [self._term(steps[: number + 1]) for number, step in enumerate(steps) if step != "0"]
        element = f"{array}[{' + '.join(terms) or 0}]"
        nested = ["    " * depth + head for depth, head in enumerate(heads)]
        return [*nested, *("    " * len(heads) + form.replace("{}", element) for form in forms)]

    def __iter__(self) -> Iterator[str]:
        outer = self.depth - 2 if self._fours else self.depth
        for depth, loop in enumerate(self.loops[:outer]):
            yield from _indented(depth, self._ahead[depth])
            yield from _indented(depth, [f"for {loop.variable} in {loop.span}:"])
        yield from _indented(outer, self._ahead[outer])
        if self._fours:
            yield from _indented(outer, self._in_fours())
        for depth in reversed(range(outer + 1)):
            yield from _indented(depth, self._behind[depth])

    def _in_fours(self) -> Iterator[str]:
        """The last two loops: four turns of the outer one at once, and then what is left of it."""
        outer, inner = self.loops[-2:]
        assert not [*self._behind[-1], *self._behind[-2]]  # all results are folds
        head = f"for {inner.variable} in {inner.span}:"
        ahead, body = self._ahead[-2], self._ahead[-1]
        parts = [f"part_{number}" for number in range(len(self._folds))]
        folds = list(zip(parts, self._folds, strict=True))
        turn = [re.sub(rf"\b{outer.variable}\b", "(four + turn)", text) for text in (*ahead, *body)]
        turn += [f"{part} = {folded(part, value)}" for part, (_, value, _, folded) in folds]
        yield from (f"first = {outer.ends[0]}", f"last = {outer.ends[1]}", "for four in range(first, last - 3, 4):")
        yield from (f"    {head}", *[f"        {part} = {start}" for part, (_, _, start, _) in folds])
        yield from ("        for turn in range(4):", *(f"            {text}" for text in turn))
        yield from [f"        {element} = {folded(element, part)}" for part, (element, _, _, folded) in folds]
        yield f"for {outer.variable} in range(first + (last - first) // 4 * 4, last):"
        yield from (*(f"    {text}" for text in ahead), f"    {head}", *(f"        {text}" for text in body))
        yield from [f"        {element} = {folded(element, value)}" for element, value, _, folded in self._folds]

    def _offset(self, steps: Steps) -> str:
        """Where an element of an array of these steps is; what the outer loops add is computed there once for all."""
        outer = steps[: reach(steps[:-1])]
        term = self._term(steps)
        return f"{self._outer_offset(outer)} + {term}" if outer else term

    def _outer_offset(self, steps: Steps) -> str:
        if steps not in self._offsets:
            form = self._offset(steps)
            if form.isidentifier():
                return form
            name = self._offsets[steps] = f"at{len(self._offsets)}"
            self.ahead(len(steps), f"{name} = {form}")
        return self._offsets[steps]

    def _term(self, steps: Steps) -> str:
        """What the last of these loops adds to that."""
        if not steps:
            return "0"
        variable = self.loops[len(steps) - 1].variable
        return variable if steps[-1] == "1" else f"{steps[-1]} * {variable}"


def reach(steps: Steps) -> int:
    """Within how many loops an element is found: all up to the last that the array moves along."""
    return max((depth for depth, step in enumerate(steps, 1) if step != "0"), default=0)


def _indented(depth: int, statements: Iterable[str]) -> list[str]:
    return ["    " * (depth + 1) + statement for statement in statements]

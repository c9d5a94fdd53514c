"""Kernels as loops: what an op's lowering gives, in the part of Python that a compiling backend makes machine code of.

A kernel is a function of module level whose parameters are arrays, sizes and numbers. A compiling backend reads its
source, compiles it for the dtypes of its arrays, and calls it; the NumPy backend never looks at it.

- An array is flat: `x[i]` is its i-th element in memory, whatever its shape. Sizes, and strides in elements, are
  parameters of their own. Indices are not checked, and none is negative.
- A float literal, and `real(n)`, have the dtype of the kernel's floats: write `0.0`, not `0`, for a value.
- Besides operators, `range`, `if`, `while` and `a if c else b`, a kernel uses the names of `VOCABULARY`; it has no
  `min`, `max`, `abs` or `**`. A loop of these alone is vectorized, conditions and functions included; an `if` with two
  values costs both.
- Integers are computed as int64, unsigned ones as uint64. A float32, or a uint64, beside an int64 would become float64:
  write `real(n)`, `uint64(n)`.
- A kernel whose last parameters are `rank, ranks` is run by several threads at once, each of which writes its own part
  of the result: `for i in share(rows, rank, ranks)`. Without these parameters one thread runs it.
- A kernel with a parameter `fault`, the last one before `rank, ranks`, may refuse its operands, a label out of range
  for example. The backend provides `fault`, an array of one int64; an op leaves it out of the arguments. The kernel
  sets `fault[0] = 1`, and its result is undefined then, but it must not overwrite what the op's `bind` checks. No
  further call is made; the NumPy kernel of the op is called on the same arrays and raises the error.
- Two array parameters may be the same memory only where the op declares that it overwrites that operand, or where both
  are only read: those annotated `Read`, and those of which only elements are read. The backend finds out which are, and
  puts one name in the place of both in the text.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

import numpy.typing as npt

Read = npt.NDArray[Any]
"""An array that a kernel passes on, and that nobody writes to."""

_WHOLE = ("uint8", "uint32", "uint64", "int32", "int64")

VOCABULARY: Mapping[str, str] = MappingProxyType(
    {
        "exp": "e^x",
        "expm1": "e^x - 1",
        "log": "the natural logarithm",
        "log1p": "log(1 + x)",
        "tanh": "the hyperbolic tangent",
        "sigmoid": "1 / (1 + e^-x)",
        "erf": "the error function",
        "mills": "(1 - Phi(x)) / phi(x) of the normal law, for x from 0 to 40",
        "sqrt": "the square root",
        "sin": "the sine",
        "cos": "the cosine",
        "power": "x to the y",
        "floor": "the largest integer that is not above x",
        "absolute": "|x|",
        "sign": "-1, 0 or 1; NaN of NaN",
        "copysign": "|x| with the sign of the other, of floats",
        "maximum": "the maximum of two; NaN if one is NaN",
        "minimum": "the minimum of two; NaN if one is NaN",
        "real": "a number in the dtype of the kernel's floats",
        **{name: f"a number as {name}, cast as `Cast` says" for name in _WHOLE},
        **{name: f"a number as {name}, rounded" for name in ("float32", "float64")},
        "bool": "whether a number is not 0",
        "plus": "a + b, of a sum whose terms may be added in any order",
        "lost": "the rounding error of a + b; 0 where a has more digits than b, or where it is not finite",
        "totals": "an uninitialized array of 512 float64 on this thread's stack: totals()",
        "multiply_high": "the upper half of the bits of a product of two uint32 or two uint64",
        "share": "the part of range(n) that is this thread's: share(n, rank, ranks)",
    }
)
"""The functions that kernels and scalar forms call, with what they mean."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A function as source: `def name(...)`, as this file says."""

    name: str
    source: str
    may_overlap: bool = False
    """Whether different array parameters may share memory, which is not taken for granted otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """out = alpha * scale * (a @ b) + beta * out, over the last two axes; looped over those before, equal in all.

    Each matrix is contiguous along one of its two axes.
    """

    out: npt.NDArray[Any]
    a: npt.NDArray[Any]
    b: npt.NDArray[Any]
    alpha: float = 1.0
    beta: float = 0.0
    scale: npt.NDArray[Any] | None = None
    """A scalar, read when the product is computed; 1 if left out."""


LoopCall = tuple[Callable[..., None] | Kernel, Sequence[Any]] | Product
"""A kernel with its arguments: an array for an array, an int for a size, a float for a number."""


@cache  # functions of this package
def kernel_of(function: Callable[..., None]) -> Kernel:
    """A function of module level as a kernel."""
    return Kernel(function.__name__, inspect.getsource(function))


@lru_cache(maxsize=4096)
def parameters(kernel: Kernel) -> tuple[str, ...]:
    """The names of a kernel's parameters."""
    return tuple([argument.arg for argument in _function(kernel).args.args])


@lru_cache(maxsize=4096)
def written(kernel: Kernel) -> frozenset[int]:
    """The indices of the parameters that may be arrays that the kernel writes to."""
    function = _function(kernel)
    read = [id(x.value) for x in ast.walk(function) if isinstance(x, ast.Subscript) and isinstance(x.ctx, ast.Load)]
    used = {x.id for x in ast.walk(function) if isinstance(x, ast.Name) and id(x) not in read}
    return frozenset(
        index
        for index, argument in enumerate(function.args.args)
        if argument.arg in used and not (isinstance(argument.annotation, ast.Name) and argument.annotation.id == "Read")
    )


def specialized(kernel: Kernel | Callable[..., None], **given: str | int) -> Kernel:
    """The kernel with a constant, or with the name of another parameter, in the place of some of its parameters."""
    kernel = kernel if isinstance(kernel, Kernel) else kernel_of(kernel)
    return _specialized(kernel, tuple(given.items()))


@lru_cache(maxsize=4096)
def _specialized(kernel: Kernel, given: tuple[tuple[str, str | int], ...]) -> Kernel:
    values = {name: ast.Name(value) if isinstance(value, str) else ast.Constant(value) for name, value in given}
    function = _Replaced(values).visit(_function(kernel))
    function.args.args = [argument for argument in function.args.args if argument.arg not in values]
    return Kernel(kernel.name, ast.unparse(function) + "\n", kernel.may_overlap)


class _Replaced(ast.NodeTransformer):
    """Puts expressions in the place of names."""

    def __init__(self, values: Mapping[str, ast.expr]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._values.get(node.id, node)


def _function(kernel: Kernel) -> ast.FunctionDef:
    function = ast.parse(kernel.source).body[0]
    assert isinstance(function, ast.FunctionDef)  # what a kernel is
    return function


def is_shared(kernel: Kernel) -> bool:
    """Whether several threads run a kernel, each its share."""
    return parameters(kernel)[-2:] == ("rank", "ranks")

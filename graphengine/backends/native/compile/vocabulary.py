"""What the names of the kernels' VOCABULARY mean to numba: code that is written where the name is called."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from graphengine.backends.native.llvm import formula
from graphengine.backends.native.llvm.formula import Value
from graphengine.backends.native.llvm.intrinsics import Intrinsic, Typed, intrinsic
from graphengine.backends.native.math import arithmetic
from graphengine.backends.native.math.error_function import erf, mills
from graphengine.backends.native.math.exponential import exp, expm1, sigmoid, tanh
from graphengine.backends.native.math.logarithm import log, log1p
from graphengine.backends.native.math.power import power
from graphengine.backends.native.math.trigonometric import cos, sin

_OF_FLOATS: dict[str, Callable[..., Value]] = {
    **{form.__name__: form for form in (exp, expm1, sigmoid, tanh, log, log1p, erf, mills, sin, cos, power)},
    **{name: getattr(formula, name) for name in ("sqrt", "floor", "copysign")},
}
_OF_NUMBERS = (arithmetic.absolute, arithmetic.sign, arithmetic.maximum, arithmetic.minimum, arithmetic.plus)


@cache  # by two dtypes
def functions(floats: str) -> dict[str, Any]:
    """Each name of the VOCABULARY, for kernels whose numbers with a point have the dtype `floats`."""
    real = getattr(types, floats)

    def as_float(*kinds: Any) -> Any:
        return kind if isinstance(kind := _common(*kinds), types.Float) else real

    return {
        **{name: _function(name, form, as_float) for name, form in _OF_FLOATS.items()},
        **{form.__name__: _function(form.__name__, form, _common) for form in _OF_NUMBERS},
        "multiply_high": _function("multiply_high", arithmetic.multiply_high, lambda a, _: a),
        **{other.name: other for other in (lost, share, totals)},
        "real": real,
        **{dtype: getattr(types, dtype) for dtype in ("uint32", "uint64", "float32", "float64")},
        **{dtype: _cast(dtype) for dtype in ("uint8", "int32", "int64")},
    }


def _function(name: str, form: Callable[..., Value], kind_of: Callable[..., Any]) -> Intrinsic:
    """A function whose arguments and result have the dtype that `kind_of` says for those of the arguments."""

    def write(_: Any, code: ir.IRBuilder, *arguments: ir.Value) -> ir.Value:
        return form(*(Value(code, argument) for argument in arguments)).llvm

    def typed(*arguments: Any) -> Typed:
        kind = kind_of(*arguments)
        return kind(*[kind] * len(arguments)), write

    return Intrinsic(name, typed)


def _common(*kinds: Any) -> Any:
    """The dtype of a result of all: that of the widest float, or int64 where none is a float."""
    floats = [kind for kind in kinds if isinstance(kind, types.Float)]
    return max(floats, key=lambda kind: kind.bitwidth, default=types.int64)


def _cast(dtype: str) -> Intrinsic:
    """A number as an integer: of a float by way of an int32 or int64, whose lowest bits are taken."""
    kind = getattr(types, dtype)
    way = types.int64 if kind is types.int64 else types.int32

    def typed(x: Any) -> Typed:
        def write(context: Any, code: ir.IRBuilder, number: ir.Value) -> ir.Value:
            if not isinstance(x, types.Float):
                return context.cast(code, number, x, kind)
            return context.cast(code, arithmetic.whole(Value(code, number), way.bitwidth).llvm, way, kind)

        return kind(x), write

    return Intrinsic(dtype, typed)


@intrinsic
def lost(a: Any, b: Any) -> Typed:
    """Of a narrower b nothing that counts is lost: the code for that is a constant, and no sum is computed."""

    def write(_: Any, code: ir.IRBuilder, *arguments: ir.Value) -> ir.Value:
        wide, part = (Value(code, argument) for argument in arguments)
        return arithmetic.lost(wide, part).llvm if a == b else wide.like(0.0).llvm

    return a(a, b), write


@intrinsic
def totals() -> Typed:
    """512 numbers as float64 on the stack, not initialized."""

    def write(_: Any, code: ir.IRBuilder) -> ir.Value:
        room = cgutils.alloca_once(code, ir.ArrayType(ir.DoubleType(), 512))
        return code.bitcast(room, ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(), write


@intrinsic
def share(*_: Any) -> Typed:
    """range(n * rank // ranks, n * (rank + 1) // ranks), of a large n in steps of a cache line of float32."""

    def write(context: Any, code: ir.IRBuilder, *arguments: ir.Value) -> ir.Value:
        n, rank, ranks = (Value(code, argument) for argument in arguments)
        part = cgutils.create_struct_proxy(types.range_state64_type)(context, code)
        part.start = _bound(n, rank, ranks).llvm
        part.stop = _bound(n, rank + 1, ranks).llvm
        part.step = ir.Constant(part.start.type, 1)
        return part._getvalue()

    return types.range_state64_type(*[types.int64] * 3), write


def _bound(n: Value, rank: Value, ranks: Value) -> Value:
    bound = n * rank / ranks
    aligned = bound & -_LINE
    return formula.select((n < ranks * (8 * _LINE)) | rank.equals(ranks), bound, aligned)


_LINE = 16  # elements

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
from graphengine.backends.native.llvm.intrinsic import Intrinsic, Typed
from graphengine.backends.native.math import (
    arithmetic,
    error_function,
    exponential,
    hyperbolic,
    logarithm,
    mills,
    power,
    trigonometric,
)

_OF_A_FLOAT: tuple[Callable[[Value], Value], ...] = (
    exponential.exp,
    exponential.expm1,
    exponential.sigmoid,
    hyperbolic.tanh,
    logarithm.log,
    logarithm.log1p,
    error_function.erf,
    mills.mills,
    trigonometric.sin,
    trigonometric.cos,
    formula.sqrt,
    formula.floor,
)
_OF_A_NUMBER = (arithmetic.absolute, arithmetic.sign)
_OF_TWO_NUMBERS = (arithmetic.maximum, arithmetic.minimum, arithmetic.plus)
_DTYPES = ("uint32", "uint64", "float32", "float64")
_CASTS = ("uint8", "int32", "int64")


@cache  # by two dtypes
def functions(floats: str) -> dict[str, Any]:
    """Each name of the VOCABULARY, for kernels whose numbers with a point have the dtype `floats`."""
    real = getattr(types, floats)
    return {
        **{form.__name__: _of_one(form, lambda x: _as_float(x, real)) for form in _OF_A_FLOAT},
        **{form.__name__: _of_one(form, _as_number) for form in _OF_A_NUMBER},
        **{form.__name__: _of_two(form, _common) for form in _OF_TWO_NUMBERS},
        "copysign": _of_two(formula.copysign, lambda a, b: _as_float(_common(a, b), real)),
        "power": _of_two(power.power, lambda a, b: _as_float(_common(a, b), real)),
        "multiply_high": _of_two(arithmetic.multiply_high, lambda a, _: a),
        "lost": _LOST,
        "share": _SHARE,
        "totals": _TOTALS,
        "real": real,
        **{dtype: getattr(types, dtype) for dtype in _DTYPES},
        **{dtype: _cast(dtype) for dtype in _CASTS},
    }


def _of_one(form: Callable[[Value], Value], kind_of: Callable[[Any], Any]) -> Intrinsic:
    def typed(typing_context: Any, x: Any) -> Typed:
        kind = kind_of(x)
        return kind(kind), _writer(form)

    return Intrinsic(form.__name__, typed)


def _of_two(form: Callable[[Value, Value], Value], kind_of: Callable[[Any, Any], Any]) -> Intrinsic:
    def typed(typing_context: Any, a: Any, b: Any) -> Typed:
        kind = kind_of(a, b)
        return kind(kind, kind), _writer(form)

    return Intrinsic(form.__name__, typed)


def _writer(form: Callable[..., Value]) -> Callable[..., ir.Value]:
    def write(context: Any, code: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        return form(*(Value(code, argument) for argument in arguments)).llvm

    return write


def _as_float(kind: Any, real: Any) -> Any:
    """The dtype in which a function of a float is computed."""
    return kind if isinstance(kind, types.Float) else real


def _as_number(kind: Any) -> Any:
    """The dtype in which a function of any number is computed."""
    return kind if isinstance(kind, types.Float) else types.int64


def _common(a: Any, b: Any) -> Any:
    """The dtype of a result of both: that of the wider float, or int64 where neither is a float."""
    return max(_as_number(a), _as_number(b), key=lambda kind: (isinstance(kind, types.Float), kind.bitwidth))


def _cast(dtype: str) -> Intrinsic:
    """A number as a whole one: of a float by way of an int32 or int64, whose lowest bits are taken."""
    kind = getattr(types, dtype)
    way = types.int64 if kind is types.int64 else types.int32

    def typed(typing_context: Any, x: Any) -> Typed:
        def write(context: Any, code: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            (number,), source = arguments, x
            if isinstance(x, types.Float):
                number, source = arithmetic.whole(Value(code, number), way.bitwidth).llvm, way
            return context.cast(code, number, source, kind)

        return kind(x), write

    return Intrinsic(dtype, typed)


def _lost(typing_context: Any, a: Any, b: Any) -> Typed:
    """Of a narrower b nothing that counts is lost: the code for that is a constant, and no sum is computed."""

    def write(context: Any, code: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        wide, part = (Value(code, argument) for argument in arguments)
        return arithmetic.lost(wide, part).llvm if a == b else wide.like(0.0).llvm

    return a(a, b), write


def _totals(typing_context: Any) -> Typed:
    def write(context: Any, code: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        room = cgutils.alloca_once(code, ir.ArrayType(ir.DoubleType(), 512))
        return code.bitcast(room, ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(), write


def _share(typing_context: Any, n: Any, rank: Any, ranks: Any) -> Typed:
    """range(n * rank // ranks, n * (rank + 1) // ranks), of a large n in steps of a cache line of float32."""
    word = types.int64

    def write(context: Any, code: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        n, rank, ranks = (Value(code, argument) for argument in arguments)
        part = cgutils.create_struct_proxy(types.range_state64_type)(context, code)
        part.start = _bound(n, rank, ranks).llvm
        part.stop = _bound(n, rank + 1, ranks).llvm
        part.step = ir.Constant(part.start.type, 1)
        return part._getvalue()

    return types.range_state64_type(word, word, word), write


def _bound(n: Value, rank: Value, ranks: Value) -> Value:
    place = n * rank / ranks
    aligned = place & -_LINE
    return formula.select((n < ranks * (8 * _LINE)) | rank.equals(ranks), place, aligned)


_LINE = 16  # elements
_SHARE = Intrinsic("share", _share)
_LOST = Intrinsic("lost", _lost)
_TOTALS = Intrinsic("totals", _totals)

"""What kernels of this folder need besides arithmetic: calls through addresses, and words that threads share."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from graphengine.backends.native.llvm.intrinsic import Typed, intrinsic

__all__ = ["INTRINSICS"]

_WORD = ir.IntType(64)
_INT = ir.IntType(32)
_WORDS = types.CPointer(types.int64)

_ROW_MAJOR, _AS_IS, _TRANSPOSED = 101, 111, 112  # as CBLAS has them


@intrinsic
def call(_: Any, function: Any, arguments: Any, rank: Any, ranks: Any) -> Typed:
    """Run the kernel at the address `function`."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        function, *arguments = values
        kernel = ir.FunctionType(ir.VoidType(), [_WORD] * 3)
        builder.call(builder.inttoptr(function, kernel.as_pointer()), arguments)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64, types.int64), emit


@intrinsic
def load(_: Any, words: Any, place: Any) -> Typed:
    """The word at `place`, with all that was written before it was."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.load_atomic(builder.gep(values[0], [values[1]]), "acquire", 8, typ=_WORD)

    return types.int64(_WORDS, types.int64), emit


@intrinsic
def store(_: Any, words: Any, place: Any, value: Any) -> Typed:
    """Write a word for other threads to see after all that was written before."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        builder.store_atomic(values[2], builder.gep(values[0], [values[1]]), "release", 8)
        return context.get_dummy_value()

    return types.none(_WORDS, types.int64, types.int64), emit


@intrinsic
def exchange(_: Any, words: Any, place: Any, expected: Any, value: Any) -> Typed:
    """Write `value` if the word is `expected`, in one step; whether it was."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        words, place, expected, value = values
        pair = builder.cmpxchg(builder.gep(words, [place]), expected, value, "acq_rel", "acquire")
        return builder.extract_value(pair, 1)

    return types.boolean(_WORDS, types.int64, types.int64, types.int64), emit


@intrinsic
def pause(_: Any, waited: Any, give_way: Any) -> Typed:
    """Wait a moment: for a time on this core, and from then on, now and again, by the function at `give_way`."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        waited, give_way = values
        relax = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), _relax(), "", side_effect=True)
        builder.call(relax, [])
        long = builder.icmp_unsigned("==", builder.and_(waited, _WORD(_PATIENCE - 1)), _WORD(_PATIENCE - 1))
        known = builder.icmp_unsigned("!=", give_way, _WORD(0))
        with builder.if_then(builder.and_(long, known), likely=False):
            yielding = ir.FunctionType(_INT, []).as_pointer()
            builder.call(builder.inttoptr(give_way, yielding), [])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), emit


_PATIENCE = 4096
"""How many pauses go between two offers of the core to other threads, a tenth of a millisecond or more; a power of two.

Whoever needs the core then has it for milliseconds, while most waits are over in microseconds.
"""


def _relax() -> str:
    import platform

    machine = platform.machine().lower()
    return "pause" if machine in ("x86_64", "amd64", "i686") else "yield" if machine in ("arm64", "aarch64") else ""


@intrinsic
def gemm(
    _: Any,
    function: Any,
    narrow: Any,
    c: Any,
    a: Any,
    b: Any,
    m: Any,
    n: Any,
    k: Any,
    lda: Any,
    ldb: Any,
    ldc: Any,
    a_turned: Any,
    b_turned: Any,
    factor: Any,
    kept: Any,
) -> Typed:
    """C = factor op(A) op(B) + kept C by the `cblas_?gemm` at `function`, whose sizes have 32 bits if `narrow`."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        function, narrow, c, a, b, m, n, k, lda, ldb, ldc, a_turned, b_turned, factor, kept = values
        flags = [
            builder.select(builder.icmp_signed("!=", turned, turned.type(0)), _INT(_TRANSPOSED), _INT(_AS_IS))
            for turned in (a_turned, b_turned)
        ]
        with builder.if_else(builder.icmp_signed("!=", narrow, narrow.type(0))) as (if_narrow, if_wide):
            for branch, width in ((if_narrow, 32), (if_wide, 64)):
                with branch:
                    size = ir.IntType(width)
                    sizes = [builder.trunc(value, size) if width == 32 else value for value in (m, n, k, lda, ldb, ldc)]
                    m_, n_, k_, lda_, ldb_, ldc_ = sizes
                    arguments = [_INT(_ROW_MAJOR), *flags, m_, n_, k_, factor, a, lda_, b, ldb_, kept, c, ldc_]
                    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
                    builder.call(builder.inttoptr(function, kind.as_pointer()), arguments)
        return context.get_dummy_value()

    whole, number = types.int64, c.dtype
    return types.none(whole, whole, c, a, b, *[whole] * 8, number, number), emit


@intrinsic
def behind(_: Any, x: Any, offset: Any) -> Typed:
    """The array that begins `offset` elements behind the beginning of `x`."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        return builder.gep(values[0], [values[1]])

    return x(x, types.int64), emit


INTRINSICS: dict[str, Any] = {
    function.name: function for function in (call, load, store, exchange, pause, gemm, behind)
}
"""By name."""

"""What kernels of this folder need besides arithmetic: calls through addresses, and words that threads share."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from graphengine.backends.native.llvm.intrinsic import Intrinsic, Typed, intrinsic

_WORD = ir.IntType(64)
_INT = ir.IntType(32)
_WORDS = types.CPointer(types.int64)

_ROW_MAJOR, _AS_IS, _TRANSPOSED = 101, 111, 112  # as CBLAS has them


def _instruction(result: Any, *arguments: Any) -> Callable[[Callable[..., ir.Value | None]], Intrinsic]:
    """An intrinsic for arguments of these types, by what writes its code for a builder and their values."""
    return lambda write: Intrinsic(
        write.__name__, lambda *_: (result(*arguments), lambda _, builder, *values: write(builder, *values))
    )


@_instruction(types.none, types.int64, types.int64, types.int64, types.int64)
def call(builder: ir.IRBuilder, function: ir.Value, *arguments: ir.Value) -> None:
    """call(function, arguments, rank, ranks): run the kernel at the address `function`."""
    kernel = ir.FunctionType(ir.VoidType(), [_WORD] * 3)
    builder.call(builder.inttoptr(function, kernel.as_pointer()), arguments)


@_instruction(types.int64, _WORDS, types.int64)
def load(builder: ir.IRBuilder, words: ir.Value, index: ir.Value) -> ir.Value:
    """The word at `index`, with all that was written before it was."""
    return builder.load_atomic(builder.gep(words, [index]), "acquire", 8, typ=_WORD)


@_instruction(types.none, _WORDS, types.int64, types.int64)
def store(builder: ir.IRBuilder, words: ir.Value, index: ir.Value, value: ir.Value) -> None:
    """Write a word for other threads to see after all that was written before."""
    builder.store_atomic(value, builder.gep(words, [index]), "release", 8)


@_instruction(types.boolean, _WORDS, types.int64, types.int64, types.int64)
def exchange(builder: ir.IRBuilder, words: ir.Value, index: ir.Value, expected: ir.Value, value: ir.Value) -> ir.Value:
    """Write `value` if the word is `expected`, in one step; whether it was."""
    pair = builder.cmpxchg(builder.gep(words, [index]), expected, value, "acq_rel", "acquire")
    return builder.extract_value(pair, 1)


@_instruction(types.none, types.int64, types.int64)
def pause(builder: ir.IRBuilder, waited: ir.Value, give_way: ir.Value) -> None:
    """Wait a moment: for a time on this core, and from then on, now and again, by the function at `give_way`."""
    relax = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), _relax(), "", side_effect=True)
    builder.call(relax, [])
    long = builder.icmp_unsigned("==", builder.and_(waited, _WORD(_PATIENCE - 1)), _WORD(_PATIENCE - 1))
    known = builder.icmp_unsigned("!=", give_way, _WORD(0))
    with builder.if_then(builder.and_(long, known), likely=False):
        yielding = ir.FunctionType(_INT, []).as_pointer()
        builder.call(builder.inttoptr(give_way, yielding), [])


_PATIENCE = 4096
"""How many pauses go between two offers of the core to other threads, a tenth of a millisecond or more; a power of two.

Whoever needs the core then has it for milliseconds, while most waits are over in microseconds.
"""


def _relax() -> str:
    machine = platform.machine().lower()
    return "pause" if machine in ("x86_64", "amd64", "i686") else "yield" if machine in ("arm64", "aarch64") else ""


@intrinsic
def gemm(function: Any, narrow: Any, c: Any, *_: Any) -> Typed:
    """gemm(function, narrow, c, a, b, m, n, k, lda, ldb, ldc, a_transposed, b_transposed, alpha, beta).

    C = alpha op(A) op(B) + beta C by the `cblas_?gemm` at `function`, whose sizes have 32 bits if `narrow`.
    """

    def write(_: Any, builder: ir.IRBuilder, function: ir.Value, narrow: ir.Value, *values: ir.Value) -> None:
        c, a, b, *sizes, a_transposed, b_transposed, alpha, beta = values
        flags = [
            builder.select(builder.icmp_signed("!=", flag, flag.type(0)), _INT(_TRANSPOSED), _INT(_AS_IS))
            for flag in (a_transposed, b_transposed)
        ]
        with builder.if_else(builder.icmp_signed("!=", narrow, narrow.type(0))) as (if_narrow, if_wide):
            for branch, width in ((if_narrow, 32), (if_wide, 64)):
                with branch:
                    as_blas = [builder.trunc(size, ir.IntType(32)) if width == 32 else size for size in sizes]
                    m, n, k, lda, ldb, ldc = as_blas
                    arguments = [_INT(_ROW_MAJOR), *flags, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc]
                    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
                    builder.call(builder.inttoptr(function, kind.as_pointer()), arguments)

    return types.none(types.int64, types.int64, c, c, c, *[types.int64] * 8, c.dtype, c.dtype), write


@intrinsic
def behind(x: Any, _: Any) -> Typed:
    """The array that begins `offset` elements behind the beginning of `x`."""
    return x(x, types.int64), lambda _, builder, array, offset: builder.gep(array, [offset])


INTRINSICS: dict[str, Any] = {
    function.name: function for function in (call, load, store, exchange, pause, gemm, behind)
}
"""By name."""

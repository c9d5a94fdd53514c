"""Names that stand for LLVM code, which is written where a kernel calls them.

numba has a decorator of the same name. For every call of what it makes, numba looks through all that it knows of arrays
and other libraries for news; here the type of a name is all that there is to know of it.

What the kernels of products and threads need besides arithmetic is here: calls through addresses, and words that
threads share.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import models, register_model, typeof_impl

Typed = tuple[Any, Callable[..., Any]]
"""What a call is: numba's signature, and what writes the code, of (numba's context, builder, *values)."""


class Intrinsic:
    """A name of kernels: `typed` says for the types of the arguments what a call is."""

    def __init__(self, name: str, typed: Callable[..., Typed]) -> None:
        self.name = name
        self.type = IntrinsicType(name, typed)

    def __call__(self, *arguments: Any) -> Any:
        """Kernels, which alone call it, are compiled."""
        raise NotImplementedError(f"{self.name} is a name of kernels alone")


def intrinsic(typed: Callable[..., Typed]) -> Intrinsic:
    """An intrinsic with the name of the function that types it."""
    return Intrinsic(typed.__name__, typed)


class IntrinsicType(types.Callable, types.Opaque):  # type: ignore[misc]  # numba has no types
    """What numba takes an intrinsic for: a type of its own for each."""

    def __init__(self, name: str, typed: Callable[..., Typed]) -> None:
        super().__init__(f"intrinsic {name}")
        self._typed = typed

    @property
    def key(self) -> Any:
        """What says that two are the same."""
        return self._typed

    def get_call_type(self, context: Any, arguments: Any, named: Any) -> Any:
        """The signature of a call."""
        return self._typed(*map(types.unliteral, arguments))[0]

    def get_call_signatures(self) -> tuple[list[Any], bool]:
        """No list of them: they follow from the arguments."""
        return [], True

    def get_impl_key(self, signature: Any) -> Any:
        """What the code of such a call is found by, among what numba keeps; nothing is kept there."""
        return self.key

    def writer(self, context: Any, signature: Any) -> Callable[[ir.IRBuilder, Any, Any], Any]:
        """What writes the code of a call for its values."""
        _, write = self._typed(*signature.args)

        def written(builder: ir.IRBuilder, values: Any, _: Any) -> Any:
            value = write(context, builder, *values)
            return context.get_dummy_value() if value is None else value

        return written


@typeof_impl.register(Intrinsic)
def _type_of(value: Intrinsic, _: Any) -> IntrinsicType:
    return value.type


register_model(IntrinsicType)(models.OpaqueModel)


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
    machine = platform.machine().lower()
    relax = "pause" if machine in ("x86_64", "amd64", "i686") else "yield" if machine in ("arm64", "aarch64") else ""
    builder.call(ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), relax, "", side_effect=True), [])
    long = builder.icmp_unsigned("==", builder.and_(waited, _WORD(_PATIENCE - 1)), _WORD(_PATIENCE - 1))
    known = builder.icmp_unsigned("!=", give_way, _WORD(0))
    with builder.if_then(builder.and_(long, known), likely=False):
        yielding = ir.FunctionType(_INT, []).as_pointer()
        builder.call(builder.inttoptr(give_way, yielding), [])


_PATIENCE = 4096
"""How many pauses go between two offers of the core to other threads, a tenth of a millisecond or more; a power of two.

Whoever needs the core then has it for milliseconds, while most waits are over in microseconds.
"""


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

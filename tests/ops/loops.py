"""The calls that an op's lowering gives, made by Python or as machine code, one thread's share after the other."""

from __future__ import annotations
import __future__

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from graphengine.backends.native import vocabulary
from graphengine.backends.native.kernel import VOCABULARY, Kernel, LoopCall, Product, is_shared, kernel_of, parameters
from graphengine.backends.native.lowering.registry import lower, lowering_of, scratch_types
from graphengine.ir.op import Op
from graphengine.ir.types import TensorType

Execute = Callable[[Kernel, Sequence[Any], int, int], None]


def by_python(kernel: Kernel, arguments: Sequence[Any], rank: int, ranks: int) -> None:
    """Runs the kernel's own text; an index outside of an array's memory is an IndexError."""
    flat = [_Memory(argument) if isinstance(argument, np.ndarray) else argument for argument in arguments]
    with np.errstate(all="ignore"):
        _function(kernel)(*flat, *((rank, ranks) if is_shared(kernel) else ()))


def as_machine_code(kernel: Kernel, arguments: Sequence[Any], rank: int, ranks: int) -> None:
    """Runs what numba makes of the kernel; skips the test where it is not installed."""
    pytest.importorskip("numba", reason="numba compiles the kernels")
    from tests.backends.native.compiled import run

    run(kernel, *arguments, rank=rank, ranks=ranks)


def make(calls: Sequence[LoopCall], execute: Execute, ranks: int = 1) -> bool:
    """Makes the calls, as so many threads; False if one of them sets the fault, after which no other is made."""
    fault = np.zeros(1, np.int64)
    for call in calls:
        if isinstance(call, Product):
            _multiply(call)
            continue
        function, arguments = call
        kernel = function if isinstance(function, Kernel) else kernel_of(function)
        given = (*arguments, fault) if "fault" in parameters(kernel) else arguments
        for rank in range(ranks if is_shared(kernel) else 1):
            execute(kernel, given, rank, ranks)
        if fault[0]:
            return False
    return True


def calls_of(op: Op, operands: Sequence[np.ndarray], out: Any) -> Sequence[LoopCall] | None:
    """The calls that compute the op into `out`, with work arrays full of garbage."""
    outs = out if isinstance(out, tuple) else (out,)
    types = [type_of(array) for array in (*outs, *operands)]
    scratch = scratch_types(op, types[0], *types[len(outs) :])
    return lower(op, out, operands, [garbage(np.empty(type_.static_shape, type_.dtype)) for type_ in scratch])


def has_loops(op: type[Op]) -> bool:
    """Whether ops of a class have kernels of their own."""
    return lowering_of(op)[0] is not None


def type_of(array: np.ndarray) -> TensorType:
    """The array's type."""
    return TensorType(array.shape, array.dtype.name)


def expected_of(op: Op, operands: Sequence[np.ndarray]) -> Any:
    """What `eval` gives: an array, or a tuple of them."""
    with np.errstate(all="ignore"):
        value = op.eval(np, *operands)
    return tuple(map(_in_order, value)) if isinstance(value, tuple) else _in_order(value)


def garbage(like: Any) -> Any:
    """Memory of the same types, full of what no result is."""
    if isinstance(like, tuple):
        return tuple(map(garbage, like))
    return np.full(like.shape, {"f": np.nan, "b": True}.get(like.dtype.kind, 77), like.dtype)


def layouts(operands: Sequence[np.ndarray]) -> Iterator[tuple[str, list[np.ndarray]]]:
    """The operands as they may lie in memory."""
    yield "C", [np.array(operand, order="C") for operand in operands]
    yield "F", [np.array(operand, order="F") for operand in operands]
    yield "strided", list(map(_strided, operands))


def assert_close(actual: Any, expected: Any, what: str) -> None:
    """Equal but for rounding; NaN and infinities stand in the same places."""
    if isinstance(expected, tuple):
        for pair in zip(actual, expected, strict=True):
            assert_close(*pair, what)
        return
    finite = np.abs(expected[np.isfinite(expected)]) if expected.dtype.kind == "f" else np.ones(1)
    tolerance = 1e-12 if expected.dtype == np.float64 else 2e-5
    scale = tolerance * max(1.0, float(np.max(finite, initial=0.0)))
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=scale, err_msg=what)


def _multiply(product: Product) -> None:
    factor = product.alpha if product.scale is None else product.alpha * product.scale
    value = factor * np.matmul(product.a, product.b)
    product.out[...] = value + product.beta * product.out if product.beta else value


@cache
def _function(kernel: Kernel) -> Callable[..., None]:
    names = {name: getattr(vocabulary, name, bool) for name in VOCABULARY}
    code = compile(kernel.source, kernel.name, "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)
    exec(code, names)  # an op's own text
    return names[kernel.name]


class _Memory:
    """What lies from the first element of an array to the last."""

    def __init__(self, x: np.ndarray) -> None:
        reach = sum((size - 1) * step for size, step in zip(x.shape, x.strides, strict=True)) if x.size else -x.itemsize
        self._elements = as_strided(x, (reach // x.itemsize + 1,), (x.itemsize,))

    def __getitem__(self, index: int) -> Any:
        return self._elements[self._checked(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        self._elements[self._checked(index)] = value

    def _checked(self, index: int) -> int:
        if index < 0:
            raise IndexError(f"index {index} is negative")
        return index


def _strided(x: np.ndarray) -> np.ndarray:
    if not x.ndim:
        return x
    wide = garbage(np.empty((*x.shape[:-1], 2 * x.shape[-1]), x.dtype))
    wide[..., ::2] = x
    return wide[..., ::2]


def _in_order(value: Any) -> np.ndarray:
    return np.array(value, order="C")

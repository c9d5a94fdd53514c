"""A kernel as machine code, called on arrays: what the tests of kernels share. Skips where numba is missing."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from graphengine.backends.native.kernel import Kernel, is_shared, kernel_of

pytest.importorskip("numba", reason="numba compiles the kernels")

from graphengine.backends.native.compile.arguments import apart, kind, word
from graphengine.backends.native.compile.build import assembly, machine_code
from graphengine.backends.native.llvm.machine import load

_numbers = itertools.count()


def run(kernel: Kernel | Callable[..., None], *arguments: Any, rank: int = 0, ranks: int = 1) -> None:
    """Calls the kernel as this thread of `ranks`: arrays are written in place, an int is a size, a float a number."""
    kernel, given = apart(kernel if isinstance(kernel, Kernel) else kernel_of(kernel), arguments)
    words = (ctypes.c_int64 * len(given))(*map(word, given))
    function(kernel, tuple(map(kind, given)))(words, rank, ranks)


def run_on(threads: int, kernel: Kernel | Callable[..., None], *arguments: Any) -> None:
    """Calls the kernel as each of so many threads, one after the other."""
    kernel = kernel if isinstance(kernel, Kernel) else kernel_of(kernel)
    for rank in range(threads if is_shared(kernel) else 1):
        run(kernel, *arguments, rank=rank, ranks=threads)


@cache
def function(kernel: Kernel, signature: tuple[str, ...]) -> Callable[..., None]:
    """The kernel as `function(words, rank, ranks)`."""
    symbol = f"tried_{next(_numbers)}_{kernel.name}"
    address = load({symbol: machine_code(assembly(symbol, kernel, signature))})[symbol]
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(address)

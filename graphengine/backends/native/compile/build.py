"""From a kernel's source to machine code: numba compiles it, LLVM optimizes it behind a wrapper of one form for all.

Every kernel becomes `void name(const int64 *arguments, int64 rank, int64 ranks)`: an array is among the arguments
as its address, a size as itself, a number as the bits of a double.
"""

from __future__ import annotations

import ast
import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import normalize_ir_text
from numba.core.errors import NumbaError

from graphengine.backends.native.compile.translation import llvm_module
from graphengine.backends.native.compile.vocabulary import functions
from graphengine.backends.native.gemm.microkernel import MICROKERNEL
from graphengine.backends.native.kernel import Kernel, is_shared
from graphengine.backends.native.llvm.intrinsics import INTRINSICS
from graphengine.backends.native.llvm.machine import target_machine
from graphengine.errors import CompileError

_WORD = ir.IntType(64)


def build_all(
    requests: Mapping[str, tuple[Kernel, Sequence[str]]], keep: Callable[[str, bytes], None]
) -> dict[str, bytes]:
    """The object code of kernels, requested as of `assembly`, by symbol; `keep` gets each as soon as it is there.

    LLVM has a thread of its own, and makes machine code of one kernel while this thread writes the text of the next.
    When this returns or raises, that thread has ended; after an error of this thread it begins no other kernel.
    """

    def finish(symbol: str, text: str) -> bytes:
        code = machine_code(text)
        keep(symbol, code)
        return code

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="graphengine-llvm") as llvm_thread:
        try:
            codes = {
                symbol: llvm_thread.submit(finish, symbol, assembly(symbol, *request))
                for symbol, request in requests.items()
            }
            return {symbol: code.result() for symbol, code in codes.items()}
        finally:
            llvm_thread.shutdown(cancel_futures=True)


def assembly(symbol: str, kernel: Kernel, signature: Sequence[str]) -> str:
    """The text of LLVM code, not optimized yet, of `kernel` as the function `symbol`, its only name seen from outside.

    `signature` says of each parameter but `rank, ranks` what it is: `float32*` an array of that dtype, `int` a size,
    `float` a number, of the dtype of the first array of floats.
    """
    floats = next((name[:-1] for name in signature if name.startswith("float") and name.endswith("*")), "float64")
    shared = is_shared(kernel)
    kinds = [_numba_type(name, floats) for name in signature] + [types.int64] * (2 if shared else 0)
    try:
        module, inner = llvm_module(_function(kernel, floats), kinds, noalias=not kernel.may_overlap)
    except (NumbaError, NotImplementedError) as error:
        raise CompileError(f"no machine code can be made of the kernel {kernel.name}: {error}") from error
    _wrap(module, inner, symbol, shared)
    _close(module, symbol)
    return str(normalize_ir_text(str(module)))


def machine_code(text: str) -> bytes:
    """The object code of such a text, which LLVM makes without Python."""
    return bytes(target_machine().emit_object(optimized(text)))


def optimized(text: str) -> llvm.ModuleRef:
    """LLVM code, optimized for this machine."""
    module = llvm.parse_assembly(text)
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_unrolling = True
    builder = llvm.create_pass_builder(target_machine(), tuning)
    builder.getModulePassManager().run(module, builder)
    return module


def _close(module: ir.Module, symbol: str) -> None:
    """Let `symbol` be the only name that is seen from outside, and see that all is there that is called."""
    for value in module.global_values:
        elsewhere = value.is_declaration if isinstance(value, ir.Function) else value.initializer is None
        if not elsewhere and value.name != symbol:
            value.linkage = "internal"
    called = [function.name for function in module.functions if function.is_declaration]
    missing = sorted(name for name in called if not name.startswith("llvm.") and not hasattr(_C, name))
    if missing:  # their addresses would be 0
        raise CompileError(f"{symbol} calls what machine code has not: {', '.join(missing)}")


_C = ctypes.CDLL(None) if sys.platform != "win32" else ctypes.CDLL("msvcrt")
"""The library of C, whose mathematical functions may be called."""


def _function(kernel: Kernel, floats: str) -> Any:
    """The kernel as a Python function, its numbers with a point being of the dtype `floats`."""
    literals = _Literals(np.dtype(floats).type)
    tree = ast.fix_missing_locations(literals.visit(ast.parse(kernel.source)))
    code = compile(tree, f"<kernel {kernel.name}>", "exec", flags=annotations.compiler_flag, dont_inherit=True)
    namespace = {**functions(floats), **INTRINSICS, **MICROKERNEL, **literals.values}
    exec(code, namespace)  # the source is an op's own file, or made from its scalar forms: no document reaches it
    return namespace[kernel.name]


class _Literals(ast.NodeTransformer):
    """Puts names of typed numbers instead of literals with a point, which numba would take for doubles."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype
        self.values: dict[str, Any] = {}

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if not isinstance(node.value, float):
            return node
        name = f"number_{len(self.values)}"
        self.values[name] = self._dtype(node.value)
        return ast.copy_location(ast.Name(name, ast.Load()), node)


def _numba_type(name: str, floats: str) -> types.Type:
    if name == "int":
        return types.int64
    if name == "float":
        return getattr(types, floats)
    dtype = name[:-1]
    return types.CPointer(types.uint8 if dtype == "bool" else getattr(types, dtype))  # numba can't store a bool


def _wrap(module: ir.Module, inner: str, symbol: str, shared: bool) -> None:
    """Add the function that reads the arguments from memory and calls `inner` with them."""
    callee = module.globals[inner]
    wrapper = ir.Function(module, ir.FunctionType(ir.VoidType(), [_WORD.as_pointer(), _WORD, _WORD]), symbol)
    code = ir.IRBuilder(wrapper.append_basic_block())
    table, *rank_and_ranks = wrapper.args
    result, fault, *parameters = callee.args  # numba's convention: where a result and where an error would be written
    unused = [code.alloca(parameter.type.pointee) for parameter in (result, fault)]
    kinds = [parameter.type for parameter in (parameters[:-2] if shared else parameters)]
    words = [code.load(code.gep(table, [_WORD(index)])) for index in range(len(kinds))]
    arguments = [_from_word(code, word, kind) for word, kind in zip(words, kinds, strict=True)]
    code.call(callee, [*unused, *arguments, *(rank_and_ranks if shared else ())])
    code.ret_void()


def _from_word(code: ir.IRBuilder, word: ir.Value, kind: ir.Type) -> ir.Value:
    if isinstance(kind, ir.PointerType):
        return code.inttoptr(word, kind)
    if kind == _WORD:
        return word
    number = code.bitcast(word, ir.DoubleType())
    return code.fptrunc(number, kind) if kind == ir.FloatType() else number

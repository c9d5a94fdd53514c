"""From a Python function to LLVM code: numba's own way, with those of its parts that a kernel needs.

numba compiles for arrays, exceptions, reference counts and calls from Python. What it does for them, it does once in a
process and again in every function, which is most of the time to compile a kernel, and none is in a kernel. Nothing
here waits for LLVM, so that it can go on while another thread makes machine code.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import compiler
from numba.core.codegen import CPUCodeLibrary
from numba.core.compiler_machinery import AnalysisPass, LoweringPass, PassManager, register_pass
from numba.core.cpu import CPUContext
from numba.core.funcdesc import PythonFunctionDescriptor
from numba.core.lowering import Lower
from numba.core.typed_passes import IRLegalization, NopythonTypeInference, PreLowerStripPhis
from numba.core.typing.context import BaseContext
from numba.core.untyped_passes import FixupArgs, IRProcessing, ReconstructSSA, TranslateByteCode
from numba.cpython import builtins, numbers, rangeobj, tupleobj  # noqa: F401  # what is written for numbers and loops

from graphengine.backends.native.llvm.intrinsics import IntrinsicType


def llvm_module(function: Any, kinds: Sequence[types.Type], noalias: bool) -> tuple[ir.Module, str]:
    """The LLVM module of `function` for parameters of these types, and the function's name in it."""
    target = _target()
    flags = compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.noalias = noalias
    flags.nrt = flags.release_gil = False
    flags.error_model = "numpy"
    library = _Library(target.codegen(), function.__name__)
    name = compiler.compile_extra(
        target.typing_context, target, function, tuple(kinds), types.void, flags, {}, library, _Compiler
    )
    return library.module, name


class _Target(CPUContext):  # type: ignore[misc]  # numba has no types
    """How numba writes LLVM code: for numbers, and without what it writes for arrays, strings and other libraries."""

    def __init__(self) -> None:
        self._sizes: dict[ir.Type, int] = {}
        super().__init__(BaseContext())

    def load_additional_registries(self) -> None:
        """None: those of numbers are always there."""

    def get_function(self, function: Any, signature: Any, _firstcall: bool = True) -> Any:
        if isinstance(function, IntrinsicType):
            return function.writer(self, signature)
        return super().get_function(function, signature, _firstcall)

    def get_abi_sizeof(self, kind: ir.Type) -> int:
        if kind not in self._sizes:  # LLVM is asked once
            self._sizes[kind] = super().get_abi_sizeof(kind)
        return self._sizes[kind]


@cache
def _target() -> _Target:
    target = _Target()
    target.refresh()  # which makes it known what there is
    for kind in (*map(ir.IntType, (1, 8, 32, 64)), ir.FloatType(), ir.DoubleType(), ir.IntType(8).as_pointer()):
        target.get_abi_sizeof(kind)  # now, and not when LLVM is at work
    return target


class _Library(CPUCodeLibrary):  # type: ignore[misc]  # numba has no types
    """Keeps a module as it is, which numba would optimize: that is done once, for all of a kernel."""

    module: ir.Module

    def __init__(self, codegen: Any, name: str) -> None:
        super(CPUCodeLibrary, self).__init__(codegen, name)  # the other would have LLVM make a module to link with

    def create_ir_module(self, name: str) -> ir.Module:
        module = ir.Module(name)
        module.triple, module.data_layout = _machine()
        return module

    def add_linking_library(self, library: Any) -> None:
        """Nothing is linked with: of what a kernel calls beside, the build says that it is not there."""

    def add_ir_module(self, ir_module: ir.Module) -> None:
        """Keep what a function has become."""
        self.module = ir_module


@cache
def _machine() -> tuple[str, str]:
    """How LLVM names this machine, and how it lays out data: asked once, since each question waits for LLVM's lock."""
    return llvm.get_process_triple(), str(_target().target_data)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(LoweringPass):  # type: ignore[misc]  # numba has no types
    """numba's last pass but for what asks LLVM, or prepares calls from Python."""

    _name = "kernel_lowering"

    def __init__(self) -> None:  # which numba has every pass declare
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Write LLVM code; the result of the compiler is the function's name in it."""
        made = PythonFunctionDescriptor.from_specialized_function(
            state.func_ir,
            state.typemap,
            state.return_type,
            state.calltypes,
            mangler=state.targetctx.mangler,
            inline=False,
            noalias=state.flags.noalias,
            abi_tags=(),
        )
        with state.targetctx.push_code_library(state.library):
            Lower(state.targetctx, state.library, made, state.func_ir, metadata=state.metadata).lower()
        state.cr = made.llvm_func_name
        return True


@register_pass(mutates_CFG=False, analysis_only=True)
class _Pause(AnalysisPass):  # type: ignore[misc]  # numba has no types
    """A moment without Python's lock, in which LLVM's thread can go on to its next long call.

    It would wait 5 ms for the lock otherwise, `sys.getswitchinterval()`, after each of some 20 short calls of llvmlite.
    """

    _name = "pause"

    def __init__(self) -> None:  # which numba has every pass declare
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Sleep for the shortest time there is; nothing of the function changes."""
        time.sleep(1e-6)
        return False


class _Compiler(compiler.CompilerBase):  # type: ignore[misc]  # numba has no types
    """Those of numba's passes that a kernel needs, which has no closures, no arrays of numba's and no exceptions.

    Its other passes find nothing to do in a kernel.
    """

    def define_pipelines(self) -> list[PassManager]:
        passes = PassManager("kernel")
        for made in (
            TranslateByteCode,
            FixupArgs,
            IRProcessing,
            ReconstructSSA,
            NopythonTypeInference,
            PreLowerStripPhis,
            IRLegalization,
            _Lowering,
        ):
            passes.add_pass(_Pause, _Pause.__name__)
            passes.add_pass(made, made.__name__)
        passes.finalize()
        return [passes]

"""Calls of kernels whose result may be written over an operand."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from graphengine.backends.native.kernel import Kernel, LoopCall, kernel_of, parameters
from graphengine.ir.types import Array


def call_over(function: Callable[..., None] | Kernel, arguments: Sequence[Any], *operands: str) -> LoopCall:
    """The call of a kernel whose parameter `out` may be the memory of parameters named in `operands`.

    Where it is, one parameter stands for both in the kernel's text: its loops then run on vectors as they do elsewhere,
    with no need to find out what overlaps.
    """
    kernel = function if isinstance(function, Kernel) else kernel_of(function)
    given = dict(zip(parameters(kernel), arguments, strict=False))
    same = [name for name in operands if _is_same(given[name], given["out"])]
    if not same:
        return kernel, arguments
    return _written_over(kernel, tuple(same)), [value for name, value in given.items() if name not in same]


def _is_same(a: Array, b: Array) -> bool:
    return bool(a.ctypes.data == b.ctypes.data and a.strides == b.strides and np.shares_memory(a, b))


@lru_cache(maxsize=1024)
def _written_over(kernel: Kernel, operands: tuple[str, ...]) -> Kernel:
    tree = _Renamed(operands).visit(ast.parse(kernel.source))
    (function,) = tree.body
    function.args.args = [argument for argument in function.args.args if argument.arg not in operands]
    return Kernel(kernel.name, ast.unparse(tree) + "\n")


class _Renamed(ast.NodeTransformer):
    """Puts `out` in the place of some names."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("out", node.ctx) if node.id in self._names else node

"""What the names of the kernels' VOCABULARY mean to numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import intrinsic


@intrinsic
def plus(typing_context, a, b):
    def generate(context, builder, signature, arguments):
        return builder.fadd(*arguments, flags=("reassoc", "nsz", "contract"))

    return a(a, b), generate


def functions(floats: str) -> dict[str, Any]:
    real = getattr(types, floats)
    return {"real": real, "plus": plus}

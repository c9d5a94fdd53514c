"""The names of the kernels' VOCABULARY, for Python: kernels import them, and can be run by Python, element by element.

A compiling backend has meanings of its own for these names; these here say what they are to do.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

absolute: Any = np.absolute
copysign: Any = np.copysign
cos: Any = np.cos
exp: Any = np.exp
expm1: Any = np.expm1
floor: Any = np.floor
log: Any = np.log
log1p: Any = np.log1p
maximum: Any = np.maximum
minimum: Any = np.minimum
power: Any = np.power
sign: Any = np.sign
sin: Any = np.sin
sqrt: Any = np.sqrt
tanh: Any = np.tanh
float32: Any = np.float32
float64: Any = np.float64
int32: Any = np.int32
int64: Any = np.int64
uint8: Any = np.uint8
uint32: Any = np.uint32
uint64: Any = np.uint64


def erf(x: Any) -> Any:
    """The error function."""
    return type(x)(math.erf(x))


def lost(a: Any, b: Any) -> Any:
    """What the sum of two numbers of one dtype loses by rounding (Knuth 1969), 0 where it is not finite; else 0."""
    if np.result_type(b) != np.result_type(a):
        return 0.0
    total = a + b
    share = total - a
    error = (a - (total - share)) + (b - share)
    return error if error == error else 0.0


def mills(x: Any) -> Any:
    """(1 - Phi(x)) / phi(x) of the normal law, for x from 0 to 40; far out by its continued fraction (Laplace 1805)."""
    if x < 5:
        return type(x)(math.sqrt(math.pi / 2) * math.exp(0.5 * float(x) ** 2) * math.erfc(float(x) * math.sqrt(0.5)))
    below = float(x)
    for k in range(60, 0, -1):
        below = float(x) + k / below
    return type(x)(1 / below)


def multiply_high(a: Any, b: Any) -> Any:
    """The upper half of the bits of a product of two uint32 or two uint64."""
    return type(a)(int(a) * int(b) >> 8 * a.itemsize)


def plus(a: Any, b: Any) -> Any:
    """a + b, of a sum whose terms may be added in any order."""
    return a + b


def real(n: float) -> Any:
    """A number in the dtype of the kernel's floats: of a Python float, that of what it meets."""
    return float(n)


def share(n: int, rank: int, ranks: int) -> range:
    """The part of range(n) that is this thread's."""
    return range(n * rank // ranks, n * (rank + 1) // ranks)


def totals() -> Any:
    """512 numbers as float64."""
    return np.full(512, np.nan)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), without overflow."""
    small = np.exp(-np.absolute(x))
    return (small if x < 0 else type(x)(1)) / (1 + small)

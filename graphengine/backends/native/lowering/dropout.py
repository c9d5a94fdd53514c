"""Dropout as one kernel: the draws of Philox 4x64-10 (Salmon et al. 2011) as NumPy has them, made where they are used.

A block of four words of 64 bits is a function of a key, (seed, stream), and a counter, (block + 1, step). A word holds
two draws, the lower half first, of whose 32 bits the upper 24 count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from graphengine.backends.native.kernel import kernel_of
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.backends.native.vocabulary import multiply_high, share, uint64
from graphengine.ir.types import Array
from graphengine.ops.random import Dropout


@register_lowering(Dropout)
def lower_dropout(op: Dropout, out: Array, x: Array, seed: Array, step: Array, *, scratch: Sequence[Array]) -> Calls:
    """One kernel; None where x is not contiguous."""
    if not x.flags.c_contiguous:
        return None
    least = math.ceil(float(np.float32(op.rate)) * 2**24)
    arguments = (out, x, seed, step, op.stream, least, 1 / (1 - op.rate), x.size)
    return [(kernel_of(drop), arguments)]


def drop(
    out: Array,
    x: Array,
    seed: Array,
    step: Array,
    stream: int,
    least: int,
    scale: float,
    n: int,
    rank: int,
    ranks: int,
) -> None:
    """out = scale * x where the draw, of 24 bits, is at least `least`, and 0 elsewhere; 8 draws at a time."""
    m0, m1 = uint64(0xD2E7470EE14C6C93), uint64(0xCA5A826395121157)
    w0, w1 = uint64(0x9E3779B97F4A7C15), uint64(0xBB67AE8584CAA73B)
    low, byte, half = uint64(0xFFFFFFFF), uint64(8), uint64(32)
    for block in share((n + 7) // 8, rank, ranks):
        a, b, c, d = uint64(block + 1), uint64(step[0]), uint64(0), uint64(0)
        k0, k1 = uint64(seed[0]), uint64(stream)
        for _ in range(10):
            high0, high1 = multiply_high(m0, a), multiply_high(m1, c)
            low0, low1 = m0 * a, m1 * c
            a, b, c, d = high1 ^ b ^ k0, low1, high0 ^ d ^ k1, low0
            k0, k1 = k0 + w0, k1 + w1
        first = 8 * block
        for place in range(8 if first + 8 <= n else n - first):
            word = a if place < 2 else b if place < 4 else c if place < 6 else d
            draw = (word >> half if place % 2 == 1 else word & low) >> byte
            out[first + place] = x[first + place] * scale if draw >= uint64(least) else 0.0

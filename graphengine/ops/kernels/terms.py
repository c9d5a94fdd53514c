"""Kernels of sums of terms, each a function of the elements at one place: their text is made from that of a term."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from graphengine.ir.kernel import Kernel, LoopCall, kernel_of
from graphengine.ir.op import Array
from graphengine.ir.vocabulary import share
from graphengine.ops.kernels.reductions import sums

__all__ = ["probabilities", "term_sums"]

STRETCH = 4096
"""How many terms make a part of a sum: by how many a thread takes them, whatever the number of threads."""


def term_sums(
    out: Array, term: str, operands: Sequence[Array], work: Array, divisor: float = 1.0
) -> list[LoopCall] | None:
    """The calls that write sums of terms, divided, into `out`: one of all terms, or one for each row of them.

    `term` is an expression in the operands, which it calls x0, x1 and so on; `work` is as large as one of them.
    """
    if not all(operand.flags.c_contiguous for operand in operands):
        return None
    count = operands[0].size
    width = count // out.size if out.size > 1 else STRETCH
    if not count or width == 0:
        return None
    parts = work.reshape(-1)[: -(-count // width)]
    total = sums(out.reshape(-1), parts.reshape(out.size, -1), (1,), divisor)
    return None if total is None else [(_kernel(term, len(operands)), (*operands, parts, count, width)), *total]


def probabilities(x: Array) -> list[LoopCall] | None:
    """The calls that set the fault unless all x lie in [0, 1]; None if x is not contiguous."""
    return [(kernel_of(check_probabilities), (x, x.size))] if x.flags.c_contiguous else None


@lru_cache(maxsize=1024)
def _kernel(term: str, arity: int) -> Kernel:
    """Writes the sums of `width` terms each, the last perhaps of fewer, into `parts`; added as reductions.py has it."""
    arrays = [f"a{place}" for place in range(arity)]
    loads = [f"                x{place} = a{place}[p]" for place in range(arity)]
    lines = [
        f"def sum_terms({', '.join(arrays)}, parts, count, width, rank, ranks):",
        "    for part in share((count + width - 1) // width, rank, ranks):",
        "        end = (part + 1) * width if (part + 1) * width < count else count",
        "        total = float64(0.0)",
        "        rest = float64(0.0)",
        "        for block in range(part * width, end, 128):",
        "            some = 0.0",
        "            for p in range(block, block + 128 if block + 128 < end else end):",
        *loads,
        f"                some = plus(some, {term})",
        "            rest += lost(total, some)",
        "            total += some",
        "        parts[part] = real(total + rest)",
    ]
    return Kernel("sum_terms", "\n".join(lines) + "\n")


def check_probabilities(x: Array, n: int, fault: Array, rank: int, ranks: int) -> None:
    """Refuses what lies outside of [0, 1], and NaN."""
    for i in share(n, rank, ranks):
        if not (x[i] >= 0.0 and x[i] <= 1.0):
            fault[0] = 1

"""Kernels of the softmax, and of losses of it: of rows, and of lines side by side, which are reduced across.

Rows are taken in blocks, so that exp runs along many short ones without a stop, and finds them in the cache. Sums are
added as docs/numerics.md says.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, prod

from graphengine.backends.native.kernel import LoopCall, kernel_of
from graphengine.backends.native.lowering.copies import copies
from graphengine.backends.native.lowering.index import labelled
from graphengine.backends.native.lowering.reductions import joined
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.backends.native.vocabulary import exp, float64, int64, log, lost, maximum, plus, real, share, totals
from graphengine.ir.types import Array
from graphengine.ops.activation import LogSoftmax, Softmax
from graphengine.ops.loss import SoftmaxError

BLOCK = 1024
"""How many elements rows are taken together up to."""


@register_lowering(Softmax)
def lower_softmax(op: Softmax, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    return _along(x, out, out, scratch[0], op.axis, is_log=False)


@register_lowering(LogSoftmax)
def lower_log_softmax(op: LogSoftmax, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    along, work, *_ = scratch
    return _along(x, out, work, along, op.axis, is_log=True)


@register_lowering(SoftmaxError)
def lower_softmax_error(op: SoftmaxError, out: Array, *operands: Array, scratch: Sequence[Array]) -> Calls:
    logits, labels = operands
    return joined(_along(logits, out, out, out, -1, is_log=False), labelled(out, labels, -1))


def cross_entropies(terms: Array, logits: Array, labels: Array, work: Array) -> Calls:
    """The calls that write log sum_k exp(z_k) - z_c of every row z and label c into `terms`."""
    moved = _contiguous(work, logits)
    if moved is None or not labels.flags.c_contiguous:
        return None
    calls, z = moved
    n = z.shape[-1]
    return [*calls, (kernel_of(cross_entropy_rows), (z, labels, terms, work, -inf, labels.size, n, max(1, BLOCK // n)))]


def _along(x: Array, shifted: Array, powers: Array, along: Array, axis: int, is_log: bool) -> Calls:
    """The calls that write the softmax of x along `axis` into `powers`, or its logarithm into `shifted`.

    `shifted` may be x, and both may be the same if the logarithm is not asked for.
    """
    moved = _contiguous(shifted, x)
    if moved is None or not x.size:
        return None if x.size else []
    calls, x = moved
    n, inner = x.shape[axis], prod(x.shape[axis:]) // x.shape[axis]
    outer = x.size // (n * inner)
    if inner == 1:
        sizes = outer, n, max(1, BLOCK // n), int(is_log)
        return [*calls, (kernel_of(softmax_rows), (x, shifted, powers, -inf, *sizes))]
    return [*calls, (kernel_of(softmax_lines), (x, shifted, along, -inf, outer, n, inner, int(is_log)))]


def _contiguous(target: Array, x: Array) -> tuple[Sequence[LoopCall], Array] | None:
    """x, or calls that copy it into `target`, which is contiguous, and the target."""
    if x.flags.c_contiguous:
        return (), x
    calls = copies(target, x)
    return None if calls is None else (calls, target)


def softmax_rows(
    x: Array,
    shifted: Array,
    powers: Array,
    lowest: float,
    rows: int,
    n: int,
    together: int,
    is_log: int,
    rank: int,
    ranks: int,
) -> None:
    """Each row shifted by its maximum and raised; then the power over the sum of them, or shifted by its logarithm."""
    for block in share((rows + together - 1) // together, rank, ranks):
        begin = block * together
        end = begin + together if begin + together < rows else rows
        for row in range(begin, end):
            top = lowest
            for p in range(row * n, row * n + n):
                top = maximum(top, x[p])
            for p in range(row * n, row * n + n):
                shifted[p] = x[p] - top
        for p in range(begin * n, end * n):
            powers[p] = exp(shifted[p])
        for row in range(begin, end):
            total, rest = float64(0.0), float64(0.0)
            for some in range(row * n, row * n + n, 128):
                part = 0.0
                for p in range(some, some + 128 if some + 128 < row * n + n else row * n + n):
                    part = plus(part, powers[p])
                rest += lost(total, part)
                total += part
            if is_log != 0:
                excess = log(real(total + rest))
                for p in range(row * n, row * n + n):
                    shifted[p] -= excess
            else:
                part = 1.0 / real(total + rest)
                for p in range(row * n, row * n + n):
                    powers[p] *= part


def cross_entropy_rows(
    x: Array,
    labels: Array,
    terms: Array,
    work: Array,
    lowest: float,
    rows: int,
    n: int,
    together: int,
    fault: Array,
    rank: int,
    ranks: int,
) -> None:
    """terms[i] = log sum_k exp(x[i, k] - top) - (x[i, labels[i]] - top), the logarithms of a block at a time."""
    for block in share((rows + together - 1) // together, rank, ranks):
        begin = block * together
        end = begin + together if begin + together < rows else rows
        for row in range(begin, end):
            first = row * n
            top = lowest
            for p in range(first, first + n):
                top = maximum(top, x[p])
            label = int64(labels[row])
            if label < 0 or label >= n:
                fault[0] = 1
            else:
                terms[row] = x[first + label] - top
            for p in range(first, first + n):
                work[p] = x[p] - top
        for p in range(begin * n, end * n):
            work[p] = exp(work[p])
        for row in range(begin, end):
            first = row * n
            total, rest = float64(0.0), float64(0.0)
            for some in range(first, first + n, 128):
                part = 0.0
                for p in range(some, some + 128 if some + 128 < first + n else first + n):
                    part = plus(part, work[p])
                rest += lost(total, part)
                total += part
            work[begin * n + row - begin] = real(total + rest)  # where powers of this row or one before it were
        for row in range(begin, end):
            terms[row] = log(work[begin * n + row - begin]) - terms[row]


def softmax_lines(
    x: Array,
    out: Array,
    along: Array,
    lowest: float,
    outer: int,
    n: int,
    inner: int,
    is_log: int,
    rank: int,
    ranks: int,
) -> None:
    """The same of columns, in stretches of lines that lie side by side."""
    stretches = (inner + 63) // 64
    total, rest = totals(), totals()
    for stretch in share(outer * stretches, rank, ranks):
        plane = stretch // stretches
        begin = (stretch - plane * stretches) * 64
        count = 64 if inner - begin > 64 else inner - begin
        work = plane * inner + begin
        first = plane * n * inner + begin
        for p in range(count):
            along[work + p] = lowest
        for k in range(n):
            for p in range(count):
                along[work + p] = maximum(along[work + p], x[first + k * inner + p])
        for k in range(n):
            if is_log != 0:
                for p in range(count):
                    out[first + k * inner + p] = x[first + k * inner + p] - along[work + p]
            else:
                for p in range(count):
                    out[first + k * inner + p] = exp(x[first + k * inner + p] - along[work + p])
        for p in range(count):
            along[work + p] = 0.0
            total[p] = 0.0
            rest[p] = 0.0
        for block in range(0, n, 128):
            for k in range(block, block + 128 if block + 128 < n else n):
                if is_log != 0:
                    for p in range(count):
                        along[work + p] += exp(out[first + k * inner + p])
                else:
                    for p in range(count):
                        along[work + p] += out[first + k * inner + p]
            for p in range(count):
                rest[p] += lost(total[p], along[work + p])
                total[p] += along[work + p]
                along[work + p] = 0.0
        for p in range(count):
            sum_of_powers = real(total[p] + rest[p])
            along[work + p] = log(sum_of_powers) if is_log != 0 else 1.0 / sum_of_powers
        for k in range(n):
            if is_log != 0:
                for p in range(count):
                    out[first + k * inner + p] -= along[work + p]
            else:
                for p in range(count):
                    out[first + k * inner + p] *= along[work + p]

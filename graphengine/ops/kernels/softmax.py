"""Kernels of the softmax: of rows, and of lines side by side, which are reduced across.

Rows are taken in blocks, so that exp runs along many short ones without a stop, and finds them in the cache. Sums are
added as docs/numerics.md says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from graphengine.ir.kernel import LoopCall, kernel_of
from graphengine.ir.op import Array
from graphengine.ir.vocabulary import exp, float64, int64, log, lost, maximum, plus, real, share, totals
from graphengine.ops.kernels.copies import copies
from graphengine.ops.kernels.in_place import call_over

__all__ = ["cross_entropies", "log_softmaxes", "softmax_errors", "softmaxes"]

BLOCK = 1024
"""How many elements rows are taken together up to."""


def softmaxes(out: Array, x: Array, axis: int, along: Array) -> list[LoopCall] | None:
    """The calls that write the softmax of x along `axis` into `out`, which may be x."""
    return _along(softmax_rows, softmax_lines, out, x, axis, (), (along,))


def log_softmaxes(out: Array, x: Array, axis: int, along: Array, work: Array) -> list[LoopCall] | None:
    """The calls that write its logarithm; `work` is of the type of x."""
    return _along(log_softmax_rows, log_softmax_lines, out, x, axis, (work,), (along,))


def cross_entropies(terms: Array, logits: Array, labels: Array, shifted: Array) -> list[LoopCall] | None:
    """The calls that write log sum_k exp(z_k) - z_c of every row z and label c into `terms`."""
    moved = _contiguous(shifted, logits)
    if moved is None or not labels.flags.c_contiguous:
        return None
    calls, z = moved
    classes = z.shape[-1]
    arguments = (z, labels, terms, shifted, -inf, labels.size, classes, _rows(classes))
    return [*calls, (kernel_of(cross_entropy_rows), arguments)]


def softmax_errors(out: Array, logits: Array, labels: Array) -> list[LoopCall] | None:
    """The calls that write softmax(z) - one_hot(c) into `out`, which may be the logits."""
    moved = _contiguous(out, logits)
    if moved is None or not labels.flags.c_contiguous:
        return None
    calls, z = moved
    classes = z.shape[-1]
    arguments = (z, labels, out, -inf, labels.size, classes, _rows(classes))
    return [*calls, call_over(softmax_error_rows, arguments, "x")]


def _along(
    of_rows: Callable[..., None],
    of_lines: Callable[..., None],
    out: Array,
    x: Array,
    axis: int,
    work: Sequence[Array],
    along: Sequence[Array],
) -> list[LoopCall] | None:
    moved = _contiguous(out, x)
    if moved is None or not out.size:
        return None if out.size else []
    calls, x = moved
    axis %= x.ndim
    n = x.shape[axis]
    inner = x.strides[axis] // x.itemsize
    outer = x.size // (n * inner)
    if inner == 1:
        return [*calls, call_over(of_rows, (x, out, *work, -inf, outer, n, _rows(n)), "x")]
    return [*calls, call_over(of_lines, (x, out, *along, -inf, outer, n, inner), "x")]


def _contiguous(target: Array, x: Array) -> tuple[Sequence[LoopCall], Array] | None:
    """x, or calls that copy it into `target`, which is contiguous, and the target."""
    if x.flags.c_contiguous:
        return (), x
    calls = copies(target, x)
    return None if calls is None else (calls, target)


def _rows(n: int) -> int:
    """How many rows of n elements are taken together."""
    return max(1, BLOCK // n)


def softmax_rows(x: Array, out: Array, lowest: float, rows: int, n: int, together: int, rank: int, ranks: int) -> None:
    """Each row is shifted by its greatest, raised, and divided by its sum."""
    for block in share((rows + together - 1) // together, rank, ranks):
        begin = block * together
        end = begin + together if begin + together < rows else rows
        for row in range(begin, end):
            top = lowest
            for p in range(row * n, row * n + n):
                top = maximum(top, x[p])
            for p in range(row * n, row * n + n):
                out[p] = x[p] - top
        for p in range(begin * n, end * n):
            out[p] = exp(out[p])
        for row in range(begin, end):
            total = float64(0.0)
            rest = float64(0.0)
            for some in range(row * n, row * n + n, 128):
                part = 0.0
                for p in range(some, some + 128 if some + 128 < row * n + n else row * n + n):
                    part = plus(part, out[p])
                rest += lost(total, part)
                total += part
            part = 1.0 / real(total + rest)
            for p in range(row * n, row * n + n):
                out[p] *= part


def softmax_lines(
    x: Array, out: Array, along: Array, lowest: float, outer: int, n: int, inner: int, rank: int, ranks: int
) -> None:
    """Columns, in stretches of lines that lie side by side."""
    stretches = (inner + 63) // 64
    total = totals()
    rest = totals()
    for place in share(outer * stretches, rank, ranks):
        plane = place // stretches
        begin = (place - plane * stretches) * 64
        count = 64 if inner - begin > 64 else inner - begin
        work = plane * inner + begin
        first = plane * n * inner + begin
        for p in range(count):
            along[work + p] = lowest
        for k in range(n):
            for p in range(count):
                along[work + p] = maximum(along[work + p], x[first + k * inner + p])
        for k in range(n):
            for p in range(count):
                out[first + k * inner + p] = exp(x[first + k * inner + p] - along[work + p])
        for p in range(count):
            along[work + p] = 0.0
            total[p] = 0.0
            rest[p] = 0.0
        for block in range(0, n, 128):
            for k in range(block, block + 128 if block + 128 < n else n):
                for p in range(count):
                    along[work + p] += out[first + k * inner + p]
            for p in range(count):
                rest[p] += lost(total[p], along[work + p])
                total[p] += along[work + p]
                along[work + p] = 0.0
        for p in range(count):
            along[work + p] = real(total[p] + rest[p])
        for p in range(count):
            along[work + p] = 1.0 / along[work + p]
        for k in range(n):
            for p in range(count):
                out[first + k * inner + p] *= along[work + p]


def log_softmax_rows(
    x: Array, out: Array, work: Array, lowest: float, rows: int, n: int, together: int, rank: int, ranks: int
) -> None:
    """Each row is shifted by its greatest, and by the logarithm of the sum of its powers."""
    for block in share((rows + together - 1) // together, rank, ranks):
        begin = block * together
        end = begin + together if begin + together < rows else rows
        for row in range(begin, end):
            top = lowest
            for p in range(row * n, row * n + n):
                top = maximum(top, x[p])
            for p in range(row * n, row * n + n):
                out[p] = x[p] - top
        for p in range(begin * n, end * n):
            work[p] = exp(out[p])
        for row in range(begin, end):
            total = float64(0.0)
            rest = float64(0.0)
            for some in range(row * n, row * n + n, 128):
                part = 0.0
                for p in range(some, some + 128 if some + 128 < row * n + n else row * n + n):
                    part = plus(part, work[p])
                rest += lost(total, part)
                total += part
            excess = log(real(total + rest))
            for p in range(row * n, row * n + n):
                out[p] -= excess


def log_softmax_lines(
    x: Array, out: Array, along: Array, lowest: float, outer: int, n: int, inner: int, rank: int, ranks: int
) -> None:
    """Columns, in stretches of lines that lie side by side."""
    stretches = (inner + 63) // 64
    total = totals()
    rest = totals()
    for place in share(outer * stretches, rank, ranks):
        plane = place // stretches
        begin = (place - plane * stretches) * 64
        count = 64 if inner - begin > 64 else inner - begin
        work = plane * inner + begin
        first = plane * n * inner + begin
        for p in range(count):
            along[work + p] = lowest
        for k in range(n):
            for p in range(count):
                along[work + p] = maximum(along[work + p], x[first + k * inner + p])
        for k in range(n):
            for p in range(count):
                out[first + k * inner + p] = x[first + k * inner + p] - along[work + p]
        for p in range(count):
            along[work + p] = 0.0
            total[p] = 0.0
            rest[p] = 0.0
        for block in range(0, n, 128):
            for k in range(block, block + 128 if block + 128 < n else n):
                for p in range(count):
                    along[work + p] += exp(out[first + k * inner + p])
            for p in range(count):
                rest[p] += lost(total[p], along[work + p])
                total[p] += along[work + p]
                along[work + p] = 0.0
        for p in range(count):
            along[work + p] = real(total[p] + rest[p])
        for p in range(count):
            along[work + p] = log(along[work + p])
        for k in range(n):
            for p in range(count):
                out[first + k * inner + p] -= along[work + p]


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
    """Each row is shifted by its greatest; `work` holds the powers."""
    for block in share((rows + together - 1) // together, rank, ranks):
        begin = block * together
        end = begin + together if begin + together < rows else rows
        for row in range(begin, end):
            top = lowest
            for p in range(row * n, row * n + n):
                top = maximum(top, x[p])
            label = int64(labels[row])
            if label < 0 or label >= n:
                fault[0] = 1
            else:
                terms[row] = x[row * n + label] - top
            for p in range(row * n, row * n + n):
                work[p] = x[p] - top
        for p in range(begin * n, end * n):
            work[p] = exp(work[p])
        for row in range(begin, end):
            total = float64(0.0)
            rest = float64(0.0)
            for some in range(row * n, row * n + n, 128):
                part = 0.0
                for p in range(some, some + 128 if some + 128 < row * n + n else row * n + n):
                    part = plus(part, work[p])
                rest += lost(total, part)
                total += part
            work[begin * n + row - begin] = real(total + rest)  # where powers of this row or one before it were
        for row in range(begin, end):
            terms[row] = log(work[begin * n + row - begin]) - terms[row]


def softmax_error_rows(
    x: Array,
    labels: Array,
    out: Array,
    lowest: float,
    rows: int,
    n: int,
    together: int,
    fault: Array,
    rank: int,
    ranks: int,
) -> None:
    """The softmax of each row, less 1 at its label."""
    for block in share((rows + together - 1) // together, rank, ranks):
        begin = block * together
        end = begin + together if begin + together < rows else rows
        for row in range(begin, end):
            top = lowest
            for p in range(row * n, row * n + n):
                top = maximum(top, x[p])
            for p in range(row * n, row * n + n):
                out[p] = x[p] - top
        for p in range(begin * n, end * n):
            out[p] = exp(out[p])
        for row in range(begin, end):
            total = float64(0.0)
            rest = float64(0.0)
            for some in range(row * n, row * n + n, 128):
                part = 0.0
                for p in range(some, some + 128 if some + 128 < row * n + n else row * n + n):
                    part = plus(part, out[p])
                rest += lost(total, part)
                total += part
            part = 1.0 / real(total + rest)
            for p in range(row * n, row * n + n):
                out[p] *= part
            label = int64(labels[row])
            if label < 0 or label >= n:
                fault[0] = 1
            else:
                out[row * n + label] -= 1.0

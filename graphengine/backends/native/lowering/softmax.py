"""Kernels of the softmax: of rows, and of lines side by side, which are reduced across.

Rows are taken in blocks, so that exp runs along many short ones without a stop, and finds them in the cache. Sums are
added as docs/numerics.md says.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from graphengine.backends.native.kernel import Kernel, LoopCall
from graphengine.backends.native.lowering.copies import copies
from graphengine.backends.native.lowering.in_place import call_over
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.ir.types import Array
from graphengine.ops.activation import LogSoftmax, Softmax
from graphengine.ops.loss import SoftmaxError

BLOCK = 1024
"""How many elements rows are taken together up to."""


@register_lowering(Softmax)
def lower_softmax(op: Softmax, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    return _along(SOFTMAX_ROWS, SOFTMAX_LINES, out, x, op.axis, (), scratch[:1])


@register_lowering(LogSoftmax)
def lower_log_softmax(op: LogSoftmax, out: Array, x: Array, *, scratch: Sequence[Array]) -> Calls:
    along, work, *_ = scratch
    return _along(LOG_SOFTMAX_ROWS, LOG_SOFTMAX_LINES, out, x, op.axis, (work,), (along,))


def cross_entropies(terms: Array, logits: Array, labels: Array, shifted: Array) -> Calls:
    """The calls that write log sum_k exp(z_k) - z_c of every row z and label c into `terms`."""
    moved = _contiguous(shifted, logits)
    if moved is None or not labels.flags.c_contiguous:
        return None
    calls, z = moved
    classes = z.shape[-1]
    arguments = (z, labels, terms, shifted, -inf, labels.size, classes, _rows(classes))
    return [*calls, (CROSS_ENTROPY_ROWS, arguments)]


@register_lowering(SoftmaxError)
def lower_softmax_error(
    op: SoftmaxError, out: Array, logits: Array, labels: Array, *, scratch: Sequence[Array]
) -> Calls:
    moved = _contiguous(out, logits)
    if moved is None or not labels.flags.c_contiguous:
        return None
    calls, z = moved
    classes = z.shape[-1]
    arguments = (z, labels, out, -inf, labels.size, classes, _rows(classes))
    return [*calls, call_over(SOFTMAX_ERROR_ROWS, arguments, "x")]


def _along(
    of_rows: Kernel,
    of_lines: Kernel,
    out: Array,
    x: Array,
    axis: int,
    work: Sequence[Array],
    along: Sequence[Array],
) -> Calls:
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


def _of_rows(
    name: str, arrays: str, shifted: str, powers: str, *finish: str, picks: str = "", last: str = ""
) -> Kernel:
    """The kernel that shifts each row of x by its maximum and raises it, with `finish` behind the `total` of each row.

    `shifted` and `powers` name the arrays for both. `picks`, for kernels that read labels, is what is made of the
    `label` and the `top` of a row ahead of that; `last` is what ends a block.
    """
    check = ["label = int64(labels[row])", "if label < 0 or label >= n:", "    fault[0] = 1", "else:", f"    {picks}"]
    ahead = check if picks else []
    lines = [f"            {line}" for line in ahead], [f"            {line}" for line in finish]
    text = _ROWS.format(
        name=name,
        arrays=arrays,
        fault="fault, " if "labels" in arrays else "",
        shifted=shifted,
        powers=powers,
        ahead="".join(f"{line}\n" for line in lines[0]),
        finish="".join(f"{line}\n" for line in lines[1]),
        last=f"{last}\n" if last else "",
    )
    return Kernel(name, text)


_ROWS = """\
def {name}(x, {arrays}, lowest, rows, n, together, {fault}rank, ranks):
    for block in share((rows + together - 1) // together, rank, ranks):
        begin = block * together
        end = begin + together if begin + together < rows else rows
        for row in range(begin, end):
            top = lowest
            for p in range(row * n, row * n + n):
                top = maximum(top, x[p])
{ahead}            for p in range(row * n, row * n + n):
                {shifted}[p] = x[p] - top
        for p in range(begin * n, end * n):
            {powers}[p] = exp({shifted}[p])
        for row in range(begin, end):
            total = float64(0.0)
            rest = float64(0.0)
            for some in range(row * n, row * n + n, 128):
                part = 0.0
                for p in range(some, some + 128 if some + 128 < row * n + n else row * n + n):
                    part = plus(part, {powers}[p])
                rest += lost(total, part)
                total += part
{finish}{last}"""

_SCALE = "part = 1.0 / real(total + rest)", "for p in range(row * n, row * n + n):", "    out[p] *= part"
_SUBTRACT = "excess = log(real(total + rest))", "for p in range(row * n, row * n + n):", "    out[p] -= excess"
_LESS_ONE = (
    "label = int64(labels[row])",
    "if label < 0 or label >= n:",
    "    fault[0] = 1",
    "else:",
    "    out[row * n + label] -= 1.0",
)
SOFTMAX_ROWS = _of_rows("softmax_rows", "out", "out", "out", *_SCALE)
LOG_SOFTMAX_ROWS = _of_rows("log_softmax_rows", "out, work", "out", "work", *_SUBTRACT)
SOFTMAX_ERROR_ROWS = _of_rows("softmax_error_rows", "labels, out", "out", "out", *_SCALE, *_LESS_ONE)
CROSS_ENTROPY_ROWS = _of_rows(
    "cross_entropy_rows",
    "labels, terms, work",
    "work",
    "work",
    "work[begin * n + row - begin] = real(total + rest)",  # where powers of this row or one before it were
    picks="terms[row] = x[row * n + label] - top",
    last="""\
        for row in range(begin, end):
            terms[row] = log(work[begin * n + row - begin]) - terms[row]""",
)

_LINES = """\
def {name}(x, out, along, lowest, outer, n, inner, rank, ranks):
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
                out[first + k * inner + p] = {moved}
        for p in range(count):
            along[work + p] = 0.0
            total[p] = 0.0
            rest[p] = 0.0
        for block in range(0, n, 128):
            for k in range(block, block + 128 if block + 128 < n else n):
                for p in range(count):
                    along[work + p] += {power}
            for p in range(count):
                rest[p] += lost(total[p], along[work + p])
                total[p] += along[work + p]
                along[work + p] = 0.0
        for p in range(count):
            along[work + p] = real(total[p] + rest[p])
        for p in range(count):
            along[work + p] = {factor}
        for k in range(n):
            for p in range(count):
                out[first + k * inner + p] {finish} along[work + p]
"""

_X, _Y = "x[first + k * inner + p] - along[work + p]", "out[first + k * inner + p]"
SOFTMAX_LINES, LOG_SOFTMAX_LINES = (
    Kernel(name, _LINES.format(name=name, moved=moved, power=power, factor=factor, finish=finish))
    for name, moved, power, factor, finish in (
        ("softmax_lines", f"exp({_X})", _Y, "1.0 / along[work + p]", "*="),
        ("log_softmax_lines", _X, f"exp({_Y})", "log(along[work + p])", "-="),
    )
)
"""Columns, in stretches of lines that lie side by side."""

"""Ops that pick rows by number, add them up by number, and mark places. A number out of range sets the fault."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from graphengine.backends.native.kernel import LoopCall, Read, kernel_of
from graphengine.backends.native.lowering.copies import as_bytes, fills
from graphengine.backends.native.lowering.registry import Calls, register_lowering
from graphengine.backends.native.vocabulary import int64, lost, real, share
from graphengine.ir.types import Array, check_axis
from graphengine.ops.index import Gather, OneHot, ScatterAdd


@register_lowering(Gather)
def lower_gather(op: Gather, out: Array, x: Array, indices: Array, *, scratch: Sequence[Array]) -> Calls:
    axis = check_axis(op.axis, x.ndim)
    if not (x.flags.c_contiguous and indices.flags.c_contiguous):
        return None
    before, width = prod(x.shape[:axis]), prod(x.shape[axis + 1 :])
    sizes = np.array((before, indices.size, x.shape[axis], width), np.int64)
    return [(kernel_of(gather_rows), (as_bytes(x), indices, as_bytes(out), sizes))]


@register_lowering(ScatterAdd)
def lower_scatter_add(op: ScatterAdd, out: Array, x: Array, indices: Array, *, scratch: Sequence[Array]) -> Calls:
    axis = check_axis(op.axis, out.ndim)
    if not (x.flags.c_contiguous and indices.flags.c_contiguous):
        return None
    before, width = prod(out.shape[:axis]), prod(out.shape[axis + 1 :])
    sizes = np.array((before, indices.size, out.shape[axis], width), np.int64)
    _, *rests = scratch  # in float64, for what each element of `out` loses by rounding; floats alone have it
    kernel = kernel_of(scatter_many_rows if rests else scatter_rows)
    return [*fills(out, 0), (kernel, (x, indices, out, *rests[:1], sizes))]


@register_lowering(OneHot)
def lower_one_hot(op: OneHot, out: Array, labels: Array, *, scratch: Sequence[Array]) -> Calls:
    calls = labelled(out, labels, 1)
    return None if calls is None else [*fills(out, 0), *calls]


def labelled(out: Array, labels: Array, number: int) -> Calls:
    """The calls that add a number at the label of each row of `out`."""
    if not labels.flags.c_contiguous:
        return None
    return [(kernel_of(add_at_labels), (labels, as_bytes(out), number, labels.size, out.shape[-1]))]


def marks(out: Array, places: Array, table: Array, starts: Array) -> list[LoopCall]:
    """The calls that write 1 where starts[i] + table[places[i]] says, and 0 elsewhere."""
    return [*fills(out, 0), (kernel_of(mark_places), (out, places, table, starts, places.size))]


def gather_rows(x: Array, indices: Array, out: Array, sizes: Read, fault: Array, rank: int, ranks: int) -> None:
    """out[b, i, :] = x[b, indices[i], :]."""
    before, count, size, width = sizes[0], sizes[1], sizes[2], sizes[3]
    for i in share(count, rank, ranks):
        index = int64(indices[i])
        if index < 0 or index >= size:
            fault[0] = 1
        else:
            for b in range(before):
                to = (b * count + i) * width
                at = (b * size + index) * width
                for p in range(width):
                    out[to + p] = x[at + p]


def scatter_rows(x: Array, indices: Array, out: Array, sizes: Read, fault: Array, rank: int, ranks: int) -> None:
    """out[b, indices[i], :] += x[b, i, :], in the order of i; each thread does so for numbers of its own."""
    before, count, size, width = sizes[0], sizes[1], sizes[2], sizes[3]
    first = size * rank // ranks
    last = size * (rank + 1) // ranks
    for i in range(count):
        index = int64(indices[i])
        if index < 0 or index >= size:
            fault[0] = 1
        elif first <= index and index < last:
            for b in range(before):
                to = (b * size + index) * width
                at = (b * count + i) * width
                for p in range(width):
                    out[to + p] += x[at + p]


def scatter_many_rows(
    x: Array, indices: Array, out: Array, rest: Array, sizes: Read, fault: Array, rank: int, ranks: int
) -> None:
    """The same; what is lost by rounding is added up beside the sums, and added to them at last."""
    before, count, size, width = sizes[0], sizes[1], sizes[2], sizes[3]
    first = size * rank // ranks
    last = size * (rank + 1) // ranks
    for turn in range(3):
        for i in range(count):
            index = int64(indices[i])
            if index < 0 or index >= size:
                fault[0] = 1
            elif first <= index and index < last:
                for b in range(before):
                    to = (b * size + index) * width
                    at = (b * count + i) * width
                    if turn == 1:
                        for p in range(width):
                            rest[to + p] += lost(out[to + p], x[at + p])
                            out[to + p] += x[at + p]
                    else:
                        for p in range(width):
                            if turn == 2:
                                out[to + p] += real(rest[to + p])
                            rest[to + p] = 0.0


def add_at_labels(
    labels: Array, out: Array, number: int, rows: int, depth: int, fault: Array, rank: int, ranks: int
) -> None:
    """out[i, labels[i]] += number."""
    for i in share(rows, rank, ranks):
        label = int64(labels[i])
        if label < 0 or label >= depth:
            fault[0] = 1
        else:
            out[i * depth + label] += number


def mark_places(out: Array, places: Array, table: Array, starts: Array, count: int, rank: int, ranks: int) -> None:
    """out[starts[i] + table[places[i]]] = 1."""
    for i in share(count, rank, ranks):
        out[starts[i] + table[places[i]]] = 1

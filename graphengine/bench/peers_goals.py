"""What a training step is to reach beside the peers', and how far it is from there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphengine.bench.frame.result import Result
from graphengine.bench.frame.verdict import Verdict
from graphengine.bench.worker.peers import ALONE, BLAS, ENGINE, PEERS

__all__ = ["GOALS", "OTHERS", "Goal", "best_other", "mean_speed", "speed", "spread", "verdicts"]

OTHERS = tuple(name for name in PEERS if name not in ENGINE and name != BLAS)
"""The other engines."""

_AGREE = 1e-3
"""By how much losses after ten steps may differ, relative to the greatest: float32, summed in other orders."""
_PRODUCTS = 1.1
"""How many times as long as its products alone the step may take that is nearly all products."""
_SHARED = 1.1
"""How many times as long a step may take with all threads as with one, however busy the machine is."""


@dataclass(frozen=True, slots=True)
class Goal:
    """How many times as fast a backend is to be, at least."""

    backend: str
    others: tuple[str, ...]
    against: str
    """The others in words."""
    each: float
    """On each row."""
    mean: float
    """In the geometric mean of all rows."""


GOALS = (
    Goal("graphengine-numba", OTHERS, "the best peer", each=1.0, mean=1.5),
    Goal("graphengine-numpy", ("torch",), "torch, eager", each=0.5, mean=1.0),
)


def speed(result: Result, row: str, peer: str, other: str | None) -> float | None:
    """How many times as fast `peer` is as `other`, by the medians; None if one was not measured."""
    ours = result.figure(row, peer, "median")
    theirs = result.figure(row, other, "median") if other else None
    return theirs / ours if ours and theirs else None


def best_other(result: Result, row: str, others: Sequence[str] = OTHERS) -> str | None:
    """The fastest of the others on a row."""
    medians = {peer: result.figure(row, peer, "median") for peer in others}
    measured = {peer: median for peer, median in medians.items() if median is not None}
    return min(measured, key=measured.__getitem__, default=None)


def mean_speed(result: Result, peer: str, others: Sequence[str]) -> float | None:
    """The geometric mean of the speeds against the best of `others`, over the rows where both were measured."""
    speeds = [speed(result, row, peer, best_other(result, row, others)) for row in result.rows()]
    known = [value for value in speeds if value is not None]
    return math.exp(math.fsum(map(math.log, known)) / len(known)) if known else None


def spread(result: Result, row: str) -> float | None:
    """The greatest difference between two peers' losses after the same steps, relative to the greatest loss."""
    figures = [record.figures for record in result.among(row=row) if "last_loss" in record.figures]
    last = [entry["last_loss"] for entry in figures]
    greatest = max((abs(entry[name]) for entry in figures for name in ("first_loss", "last_loss")), default=0.0)
    return (max(last) - min(last)) / greatest if len(last) > 1 and greatest else None


def verdicts(result: Result) -> list[Verdict]:
    """Every goal on every row, as far as those it speaks of were asked for."""
    return [
        *(verdict for goal in GOALS for verdict in _of_speed(result, goal)),
        *_of_products(result),
        *_of_threads(result),
        *_of_losses(result),
    ]


def _of_speed(result: Result, goal: Goal) -> Iterator[Verdict]:
    if goal.backend not in result.peers or not set(goal.others) & set(result.peers):
        return
    words = f"{goal.backend} against {goal.against}"
    for row in result.rows():
        value = speed(result, row, goal.backend, best_other(result, row, goal.others))
        why = _why(result, row, goal.backend, *goal.others)
        yield Verdict(words, row, value, goal.each, at_least=True, why=why)
    value = mean_speed(result, goal.backend, goal.others)
    why = _why(result, "", goal.backend, *goal.others)
    yield Verdict(f"{words}, geometric mean", "all rows", value, goal.mean, at_least=True, why=why)


def _of_products(result: Result) -> Iterator[Verdict]:
    """The row that is nearly all products, which BLAS makes."""
    backend, row = "graphengine-numba", "gemm"
    if row in result.rows() and backend in result.peers and BLAS in result.peers:
        value, why = speed(result, row, BLAS, backend), _why(result, row, backend, BLAS)
        yield Verdict(f"{backend} against its matrix products alone", row, value, _PRODUCTS, at_least=False, why=why)


def _of_threads(result: Result) -> Iterator[Verdict]:
    if "graphengine-numba" not in result.peers or ALONE not in result.peers:
        return
    for row in result.rows():
        value, why = speed(result, row, ALONE, "graphengine-numba"), _why(result, row, "graphengine-numba", ALONE)
        yield Verdict("all threads against one", row, value, _SHARED, at_least=False, why=why)


def _of_losses(result: Result) -> Iterator[Verdict]:
    for row in result.rows():
        value = spread(result, row)
        if value is not None:
            yield Verdict("losses differ by", row, value, _AGREE, at_least=False, unit="")


def _why(result: Result, row: str, *peers: str) -> str:
    """What stands in the way of a figure."""
    absent = [f"{peer}: {result.peers[peer].missing}" for peer in peers if peer in result.peers]
    failed = [f"{record.peer}: {record.note}" for record in result.among(row=row) if record.peer in peers]
    return "; ".join(text for text in [*absent, *failed] if not text.endswith(": ")) or "nothing to compare with"

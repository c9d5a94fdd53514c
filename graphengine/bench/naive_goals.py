"""What a value with its gradient may cost over the value alone, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graphengine.bench.frame.result import Record, Result
from graphengine.bench.frame.verdict import Verdict
from graphengine.bench.over_forward import MLPS, NETWORKS

__all__ = ["MLP_LIMIT", "RANDOM_LIMIT", "ZOO_LIMIT", "limit_of", "ratio", "verdicts"]

MLP_LIMIT, ZOO_LIMIT, RANDOM_LIMIT = 3.0, 4.0, 5.0

_GOAL = "value and gradient over the value"


def ratio(record: Record, suffix: str = "") -> float:
    """How many times as much the value and its gradient take: by the median, or "_minimum", or "_flops"."""
    return record.figures[f"gradient{suffix}"] / record.figures[f"forward{suffix}"]


def limit_of(network: str) -> float:
    """What the ratio may be at most."""
    return MLP_LIMIT if network in MLPS else ZOO_LIMIT


def verdicts(result: Result) -> Sequence[Verdict]:
    """Every network by the clock and in FLOPs, and the worst of the random graphs in FLOPs."""
    return [*_of_networks(result), *_of_random_graphs(result)]


def _of_networks(result: Result) -> Iterator[Verdict]:
    for name in NETWORKS:
        for record in result.among(row=name):
            subject, limit = f"{name}, {record.peer}", limit_of(name)
            yield Verdict(f"{_GOAL}, time", subject, ratio(record), limit, at_least=False)
            yield Verdict(f"{_GOAL}, FLOPs", subject, ratio(record, "_flops"), limit, at_least=False)


def _of_random_graphs(result: Result) -> Iterator[Verdict]:
    ratios = [ratio(record, "_flops") for record in result.among(row="random graphs")]
    if ratios:
        subject = f"the worst of {len(ratios)} random graphs"
        yield Verdict(f"{_GOAL}, FLOPs", subject, max(ratios), RANDOM_LIMIT, at_least=False)

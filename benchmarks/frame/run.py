"""What every benchmark does at its end: put what was measured, and of whom, into a result."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping

from benchmarks.frame.benchmark import Request
from benchmarks.frame.machine import this_machine
from benchmarks.frame.result import PeerFacts, Record, Result

__all__ = ["result_of"]


def result_of(benchmark: str, request: Request, peers: Mapping[str, PeerFacts], records: Iterable[Record]) -> Result:
    """The result of a run that just ended."""
    return Result(
        benchmark=benchmark,
        day=datetime.date.today().isoformat(),
        machine=this_machine(),
        seconds=request.seconds,
        threads=request.threads,
        busy=request.busy,
        peers=dict(peers),
        records=tuple(records),
    )

"""The form of a benchmark: what can be asked of it, and the functions that measure, show and judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.frame.plot import Plot
from benchmarks.frame.result import Result
from benchmarks.frame.table import Table
from benchmarks.frame.verdict import Verdict

__all__ = ["Benchmark", "Request", "Say"]

Say = Callable[[str], None]
"""Takes a line about what is being done now."""


def _in_silence(_: str) -> None:
    """Say nothing."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure, and how long."""

    rows: tuple[str, ...]
    peers: tuple[str, ...]
    seconds: float
    """To be spent on one peer and row, warming up not counted."""
    threads: int | None = None
    """What every peer is limited to; None for its own default."""
    busy: int = 0
    """How many other processes compute without end meanwhile."""
    pythons: Mapping[str, str] = field(default_factory=dict)
    """The interpreter of a peer that lives in another environment."""
    say: Say = _in_silence


def _no_goals(_: Result) -> Sequence[Verdict]:
    """Of a benchmark for which none are stated."""
    return []


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A question about speed or size, with what answers it.

    `measure` runs everything and takes minutes. The rest is of its result alone, so a result that was kept can be shown
    and judged again.
    """

    name: str
    about: str
    rows: tuple[str, ...]
    """What `--rows` chooses from, in order."""
    peers: tuple[str, ...]
    """What `--peers` chooses from; the first is what the others are measured against."""
    seconds: float
    """What a row and peer is given unless told otherwise."""
    measure: Callable[[Request], Result]
    tables: Callable[[Result], Sequence[Table]]
    plots: Callable[[Result], Sequence[Plot]]
    verdicts: Callable[[Result], Sequence[Verdict]] = _no_goals
    """The stated goals, held against the result; what was not asked for is not judged."""

"""Results as if they had been measured."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.frame.result import Machine, PeerFacts, Record, Result

MACHINE = Machine(processor="a processor", cores=2, memory_bytes=8_000_000_000, system="Linux 6")


def result(benchmark: str, records: list[Record], missing: Mapping[str, str] | None = None) -> Result:
    """One of these records; of the peers that have any, and of those that are missing with the reason."""
    facts = {record.peer: PeerFacts(versions={"python": "3.11"}, threads=2) for record in records}
    facts |= {peer: PeerFacts(missing=why) for peer, why in (missing or {}).items()}
    day = "2025-12-31"
    return Result(benchmark=benchmark, day=day, machine=MACHINE, seconds=1.0, peers=facts, records=tuple(records))


def steps(row: str, seconds: Mapping[str, float], losses: Mapping[str, float] | None = None) -> list[Record]:
    """Records of the benchmark `peers`: the median of each, and its loss after ten steps."""
    return [
        Record(
            row=row,
            peer=peer,
            figures={
                "minimum": 0.9 * median,
                "median": median,
                "p99": 2.0 * median,
                "samples": 10,
                "first_loss": 2.0,
                "last_loss": (losses or {}).get(peer, 1.0),
            },
        )
        for peer, median in seconds.items()
    ]

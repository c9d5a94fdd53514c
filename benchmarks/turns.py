"""What a step takes in two checkouts of this project, in turns.

    python -m benchmarks.turns OLD NEW [numpy|numba] [ROW,ROW...] [THREADS]

OLD and NEW are the folders of the checkouts, the rows those of `python -m benchmarks peers` (all, if left out). Three
processes take turns: two of OLD and one of NEW. A line gives the minimum and the median of OLD and of NEW in
microseconds, and what the minimum and the median of the second process of OLD (the noise) and of NEW are, divided by
those of the first.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.frame.team import Worker
from benchmarks.worker.case import write_case
from benchmarks.workloads import WORKLOADS

ROUNDS, SECONDS = 12, 0.1


def main(old: str, new: str, backend: str = "numpy", rows: str = ",".join(WORKLOADS), threads: str = "1") -> None:
    """Print a line for each row, and the geometric means of their ratios."""
    workers = [
        Worker(
            f"graphengine-{backend}",
            threads=int(threads),
            GRAPHENGINE_THREADS=threads,
            PYTHONPATH=str(Path(folder).resolve()),
        )
        for folder in (old, old, new)
    ]
    print(f"{backend:<12}{'old':>18}{'new':>20}{'old again / old':>18}{'new / old':>16}")
    ratios = []
    try:
        for row in rows.split(","):
            first, again, changed = (_times(samples) for samples in _samples(row, workers))
            ratios.append([time / base for times in (again, changed) for time, base in zip(times, first, strict=True)])
            times = "".join(f"{1e6 * time:>10.1f}" for time in (*first, *changed))
            print(f"{row:<12}{times}{_columns(ratios[-1])}", flush=True)
        means = [statistics.geometric_mean(column) for column in zip(*ratios, strict=True)]
        print(f"{'geometric mean':<52}{_columns(means)}")
    finally:
        for worker in workers:
            worker.close()


def _times(samples: Sequence[float]) -> tuple[float, float]:
    return min(samples), statistics.median(samples)


def _columns(ratios: Sequence[float]) -> str:
    return "".join(f"{ratio:>8.3f}" for ratio in ratios)


def _samples(row: str, workers: Sequence[Worker]) -> list[list[float]]:
    """The seconds of each step, by worker. Each begins in turn."""
    samples: list[list[float]] = [[] for _ in workers]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        write_case(path, WORKLOADS[row].case())
        for worker in workers:
            worker.ask("prepare", path=str(path))
            worker.ask("steps", count=10)
    for turn in range(ROUNDS):
        for k in range(len(workers)):
            index = (turn + k) % len(workers)
            samples[index] += workers[index].ask("time", seconds=SECONDS)["samples"]
    return samples


if __name__ == "__main__":
    main(*sys.argv[1:6])

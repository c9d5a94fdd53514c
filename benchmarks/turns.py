"""What a step takes in two checkouts of this project, in turns: the least and the median microseconds, and new / old.

    python -m benchmarks.turns OLD NEW [numpy|numba] [ROW,ROW...]

OLD and NEW are the folders of the checkouts, the rows those of `python -m benchmarks peers`. All is run by one thread.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.frame.team import Worker
from benchmarks.worker.case import write_case
from benchmarks.workloads import WORKLOADS

ROUNDS, SECONDS = 10, 0.1


def main(old: str, new: str, backend: str = "numpy", rows: str = "tiny,digits,mnist,wide,lenet,lstm,block") -> None:
    """Print a line for each row."""
    workers = [
        Worker(f"graphengine-{backend}", threads=1, GRAPHENGINE_THREADS="1", PYTHONPATH=str(Path(folder).resolve()))
        for folder in (old, new)
    ]
    print(f"{backend:<12}{'old':>18}{'new':>20}{'new / old':>16}")
    try:
        for row in rows.split(","):
            samples = _samples(row, workers)
            least, median = ([1e6 * of(taken) for taken in samples] for of in (min, statistics.median))
            times = "".join(f"{low:>10.1f}{middle:>10.1f}" for low, middle in zip(least, median, strict=True))
            print(f"{row:<8}{times}{least[1] / least[0]:>8.2f}{median[1] / median[0]:>8.2f}")
    finally:
        for worker in workers:
            worker.close()


def _samples(row: str, workers: list[Worker]) -> list[list[float]]:
    """The seconds of each step, by worker. Each begins every other round."""
    samples: list[list[float]] = [[] for _ in workers]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.npz"
        write_case(path, WORKLOADS[row].case())
        for worker in workers:
            worker.ask("prepare", path=str(path))
            worker.ask("steps", count=10)
    for turn in range(ROUNDS):
        for place in ((0, 1), (1, 0))[turn % 2]:
            samples[place] += workers[place].ask("time", seconds=SECONDS)["samples"]
    return samples


if __name__ == "__main__":
    main(*sys.argv[1:5])

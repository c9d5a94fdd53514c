"""What it costs to dispatch an instruction: a loop over bound calls against generated straight-line source.

python -m benchmarks.dispatch
"""

import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

INSTRUCTIONS = 1_000
ROUNDS = 200


def main() -> None:
    """Time both ways, interleaved, on scalar additions, and print microseconds an instruction."""
    a, b, out = np.ones(()), np.ones(()), np.empty(())
    calls = [(np.add, (a, b, out))] * INSTRUCTIONS

    def loop() -> None:
        for function, arguments in calls:
            function(*arguments)

    source = "def straight(f=f, a=a, b=b, out=out):\n" + " f(a, b, out)\n" * INSTRUCTIONS
    names: dict[str, Any] = {"f": np.add, "a": a, "b": b, "out": out}
    start = time.perf_counter()
    exec(source, names)
    compiling = time.perf_counter() - start
    ways: dict[str, Callable[[], None]] = {"loop over bound calls": loop, "generated source": names["straight"]}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    print(f"CPython {platform.python_version()}, NumPy {np.__version__}; microseconds an instruction")
    for name, taken in seconds.items():
        low, middle = (1e6 * value / INSTRUCTIONS for value in (min(taken), statistics.median(taken)))
        print(f"{name:<24} minimum {low:.3f}  median {middle:.3f}")
    print(f"compiling the source     {1e6 * compiling / INSTRUCTIONS:.2f}, once")


if __name__ == "__main__":
    main()

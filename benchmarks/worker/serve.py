"""The other end of `frame.team`: takes commands as lines of JSON, and answers each with one line."""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import memory
from .case import Missing, Step, Unsupported, read_case
from .peers import PEERS

__all__ = ["main"]

_SAMPLE = 50e-6
"""Seconds that a sample takes at least: steps that are shorter are timed several at a time."""
_AGAIN = 5e-3
"""Seconds of steps before those that are timed: caches and clocks are as they were when it was another's turn."""


class Worker:
    """A peer, and the case that it has at hand."""

    def __init__(self, name: str) -> None:
        self.peer = PEERS[name]
        self.module = importlib.import_module(f".{self.peer.module}", __package__)
        self.known: dict[str, Any] = self.module.facts(self.peer.variant)
        self.step: Step | None = None
        self.repeat = 1

    def facts(self) -> dict[str, Any]:
        """Who this is."""
        return {**self.known, "versions": {"python": platform.python_version(), **self.known["versions"]}}

    def prepare(self, path: str) -> dict[str, Any]:
        """Have a case at hand: its parameters and its batch are where the peer wants them, and nothing has run."""
        self.step = None  # what the case before took is free when that of this one is taken
        self.step = self.module.prepare(read_case(path), self.peer.variant)
        return {}

    def first(self, text: str) -> dict[str, Any]:
        """Seconds from the text of a graph to the end of the first step."""
        document = Path(text).read_text(encoding="utf-8")
        start = time.perf_counter()
        self.step = self.module.load(document, self.peer.variant)
        self._run(1)
        return {"seconds": time.perf_counter() - start}

    def steps(self, count: int) -> dict[str, Any]:
        """So many steps, and the loss of each."""
        return {"losses": self._run(count)}

    def warm(self, seconds: float) -> dict[str, Any]:
        """Steps for so long, and at least three; from now on it is known how many are timed at once."""
        taken = self._timed(1, seconds, at_least=3)
        self.repeat = max(1, int(_SAMPLE / min(taken)))
        return {"steps": len(taken)}

    def time(self, seconds: float) -> dict[str, Any]:
        """Seconds a step, sample by sample, for so long."""
        self._timed(self.repeat, min(_AGAIN, seconds))
        return {"samples": self._timed(self.repeat, seconds), "repeat": self.repeat}

    def memory(self, path: str, steps: int) -> dict[str, Any]:
        """Bytes that the process grows by: at most during the first step, and at most during others after it.

        The same was run before, so that what a compiler takes in memory for its own ends is there.
        """
        for _ in range(2):
            self.prepare(path)
            grown = memory.measure(self._run, steps)
        return grown

    def allocations(self, steps: int) -> dict[str, Any]:
        """Bytes that steps in the steady state allocate by Python's allocators and NumPy's."""
        return memory.allocations(self._run, steps)

    def peak(self) -> dict[str, Any]:
        """Bytes that the peer itself says the step takes that ran, beside its leaves."""
        if not hasattr(self.module, "predicted_peak"):
            raise Unsupported("it does not say")
        return {"bytes": self.module.predicted_peak(self.step)}

    def _run(self, count: int) -> list[float]:
        assert self.step is not None
        return [self.step() for _ in range(count)]

    def _timed(self, repeat: int, seconds: float, at_least: int = 1) -> list[float]:
        assert self.step is not None
        step, clock, samples = self.step, time.perf_counter, []
        end = clock() + seconds
        while True:
            start = clock()
            for _ in range(repeat):
                step()
            now = clock()
            samples.append((now - start) / repeat)
            if now >= end and len(samples) >= at_least:
                return samples


def main(name: str, threads: str = "") -> None:
    """Answer until the other end closes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a peer prints is no answer
    _limit(threads)

    def answer(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        worker = Worker(name)
    except (ImportError, Missing) as reason:
        answer({"missing": str(reason)})
        return
    answer({"ready": worker.facts()})
    for line in sys.stdin:
        command = json.loads(line)
        answer(_answered(getattr(worker, command.pop("do")), command))


def _limit(threads: str) -> None:
    """Run on so many cores: every library takes no more threads than it sees cores."""
    if threads and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])


def _answered(command: Callable[..., dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"done": command(**arguments)}
    except Unsupported as reason:
        return {"unsupported": str(reason)}
    except Exception as error:  # whatever a peer raises is told, and the other peers go on
        lines = str(error).strip().splitlines()
        return {"failed": f"{type(error).__name__}: {lines[0] if lines else 'no message'}"}

"""The peers, each in a process of its own, and how they are talked to."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.frame.benchmark import Request
from benchmarks.frame.result import PeerFacts
from graphengine.errors import ExecutionError

__all__ = ["THREADS", "PeerError", "Team", "Worker"]

_START = Path(__file__).parents[1] / "worker" / "start.py"
_STARTING = 120.0
"""Seconds that importing a peer may take."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class PeerError(ExecutionError):
    """A peer did not do what it was asked, and why: it cannot, it failed, or it took too long."""

    def __str__(self) -> str:
        return self.message  # in tables, where no line of this process belongs


class Worker:
    """One peer's process. Raises PeerError if the peer is not there."""

    def __init__(self, peer: str, python: str = sys.executable, threads: int | None = None, **environment: str) -> None:
        self.peer = peer
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        limits = dict.fromkeys(THREADS, str(threads)) if threads else {}
        command = [python, str(_START), peer, *([str(threads)] if threads else [])]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="utf-8",
                env={**os.environ, **limits, **environment},
            )
        except OSError as error:
            self._errors.close()
            raise PeerError(f"{python} does not start: {error.strerror}") from None
        # A thread reads, since a pipe cannot be read with a limit of time on every system.
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.facts = PeerFacts(**self._answer(_STARTING))
        except BaseException:
            self.close()
            raise

    @classmethod
    def of(cls, request: Request, peer: str, **environment: str) -> Worker:
        """The process of `peer` as `request` wants it: by which interpreter, and with how many threads."""
        return cls(peer, request.pythons.get(peer, sys.executable), request.threads, **environment)

    def ask(self, do: str, timeout: float | None = None, **arguments: Any) -> dict[str, Any]:
        """Have a method of `worker.serve.Worker` called. Raises PeerError; after a timeout the process is gone."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # one that has died says so by giving no answer
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        return self._answer(timeout)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):  # what stands unsent in a pipe that nobody reads
                    stream.close()

    def _answer(self, timeout: float | None) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            self._process.kill()
            raise PeerError(f"not done after {timeout:g} s") from None
        if not line:
            self._lines.put(line)  # for whoever asks again
            raise PeerError(f"the process ended: {self._last_words()}")
        ((kind, value),) = json.loads(line).items()
        if kind in ("ready", "done"):
            return dict(value)
        raise PeerError(str(value))

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put("")

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.wait()}"


class Team:
    """The peers that are there, and the facts of all that were asked for; to be used in a `with` statement."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._workers: dict[str, Worker] = {}
        self.facts: dict[str, PeerFacts] = {}
        for peer in request.peers:
            try:
                worker = Worker.of(request, peer)
            except PeerError as reason:
                self.facts[peer] = PeerFacts(missing=str(reason))
            else:
                self._workers[peer] = worker
                self.facts[peer] = worker.facts

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._workers)

    def __getitem__(self, peer: str) -> Worker:
        """The process of a peer; another one if what it was asked last was too much for it."""
        if not self._workers[peer].alive:
            self._workers[peer].close()
            self._workers[peer] = Worker.of(self._request, peer)
        return self._workers[peer]

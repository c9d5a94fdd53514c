"""How threads share weights: runs that read them go side by side, and what changes them goes alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from graphengine.errors import ExecutionError

P = ParamSpec("P")
A = TypeVar("A")
C = TypeVar("C")
R = TypeVar("R")

_FORK_WAITS = 10.0
"""Seconds that a fork waits at most for a change of weights in another thread."""


class Buffers:
    """Memory that runs read and write beside the weights, for one run at a time."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = Lock()


class Seat:
    """A thread, as one that uses weights."""

    __slots__ = ("__weakref__", "buffers", "busy")

    def __init__(self) -> None:
        self.busy = False
        """Whether it is in the middle of a use. If so, whoever asks for another is a signal handler, or a kernel."""
        self.buffers: WeakSet[Buffers] = WeakSet()
        """Those that it runs in, of all executables over the weights."""


class Access:
    """The right to use some weights.

    A run that reads them holds the lock of its buffers. What changes them holds `mutex`, and the locks of all buffers.
    So a run of a single thread takes a lock or two that nobody else wants.
    """

    def __init__(self) -> None:
        self.changes = 0
        """How often weights have changed."""
        self.waits = False
        """Whether a change waits for runs of other threads, or is under way: other runs go behind it."""
        self._local = threading.local()
        self._buffers: WeakSet[Buffers] = WeakSet()
        self._late: set[Seat] = set()  # those whose run waits for a change to end
        self._renew()
        _every.add(self)

    def __deepcopy__(self, memo: object) -> Access:
        return Access()

    def __reduce__(self) -> tuple[type[Access], tuple[()]]:
        return Access, ()

    def _renew(self) -> None:
        self.mutex = Lock()
        self._locks = tuple([buffers.lock for buffers in self._buffers])

    def seat(self) -> Seat:
        """That of this thread; raises ExecutionError if it is busy."""
        seat: Seat | None = getattr(self._local, "seat", None)
        if seat is None:
            seat = self._local.seat = Seat()
        if seat.busy:
            raise busy()
        return seat

    def run(self, seat: Seat, buffers: Buffers, work: Callable[[C, A], R], caller: C, given: A) -> R:
        """Do work that reads weights, and writes to buffers of the thread alone.

        What it takes comes as two arguments: Python takes 0.3 us to pass on any number of them.
        """
        if seat.busy:
            raise busy()
        seat.busy = True
        try:
            if self.waits:
                return self._later(seat, buffers, work, caller, given)
            with buffers.lock:
                return work(caller, given)
        finally:
            seat.busy = False

    def _later(self, seat: Seat, buffers: Buffers, work: Callable[[C, A], R], caller: C, given: A) -> R:
        """The same, behind a change."""
        try:
            self._late.add(seat)
            with self.mutex:
                pass
            with buffers.lock:
                self._late.discard(seat)
                return work(caller, given)
        finally:
            self._late.discard(seat)

    def change(self, seat: Seat, work: Callable[[C, A], R], caller: C, given: A) -> R:
        """Do work that changes weights."""
        if seat.busy:
            raise busy()
        seat.busy = True
        try:
            if self._late:
                self._let_in()
            with self.mutex:
                locks = self._locks
                if len(locks) == 1:
                    with locks[0]:
                        return work(caller, given)
                self.waits = True
                try:
                    return _holding(locks, work, caller, given)
                finally:
                    self.waits = False
        finally:
            seat.busy = False

    def look(self, work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        """Do work that reads weights, and needs no buffers."""
        seat = self.seat()
        seat.busy = True
        try:
            with self.mutex:
                return work(*arguments, **named)
        finally:
            seat.busy = False

    def join(self, seat: Seat, buffers: Buffers) -> None:
        """Let changes wait for runs in these buffers, which a seat has from now on; called by `look`."""
        seat.buffers.add(buffers)
        self._buffers.add(buffers)
        self._locks = tuple([each.lock for each in self._buffers])

    def _let_in(self) -> None:
        """Let runs begin that waited for a change to end, before the next begins: a lock alone is not fair."""
        for _ in range(20):
            if not self._late:
                return
            time.sleep(1e-4)

    def forked(self) -> None:
        """In a process forked off, in which only this thread goes on: let locks be free that others held."""
        seat: Seat | None = getattr(self._local, "seat", None)
        self.waits, self._late = False, set()
        self._buffers = WeakSet(seat.buffers if seat else ())
        for buffers in self._buffers if seat and not seat.busy else ():
            buffers.lock = Lock()
        self._renew()

    def hold_over_fork(self) -> bool:
        """Wait for the end of a change in another thread, so that a process forked off has the weights of one step."""
        seat: Seat | None = getattr(self._local, "seat", None)
        return not (seat and seat.busy) and self.mutex.acquire(timeout=_FORK_WAITS)


def busy() -> ExecutionError:
    """The error of a thread that uses weights in the middle of a use."""
    return ExecutionError(
        "this thread is in the middle of a run of the executable, or of one that shares its weights: a signal handler, "
        "a finalizer or a kernel has called what it interrupted; let it set a flag, and call when the run has ended"
    )


def _holding(locks: Sequence[Any], work: Callable[[C, A], R], caller: C, given: A) -> R:
    """Do work while holding locks. Only `with` leaves none locked, whenever an exception comes."""
    if not locks:
        return work(caller, given)
    with locks[0]:
        return _holding(locks[1:], work, caller, given)


_every: WeakSet[Access] = WeakSet()
_held: list[Any] = []


def _before_fork() -> None:
    for access in list(_every):
        if access.hold_over_fork():
            _held.append(access.mutex)


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_in_child() -> None:
    _held.clear()
    for access in list(_every):
        access.forked()


if hasattr(os, "register_at_fork"):  # behind forks.py, whose locks a run may take: so these are taken before those
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)

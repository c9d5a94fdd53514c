"""The locks that a fork waits for, so that a process forked off finds them free, and whole what they guard."""

from __future__ import annotations

import os
import threading
from typing import Any

TYPES = threading.RLock()
"""Held to make a type, of which all threads have the same one."""

BUILDING = threading.RLock()
"""Held to compile, plan and bind: one thread at a time does."""

_held: list[Any] = []


def _hold() -> None:
    for lock in (BUILDING, TYPES):  # in the order in which a thread takes them
        lock.acquire()
        _held.append(lock)


def _release() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_release)

"""Work that no signal handler interrupts: Python runs handlers in the main thread alone, so another thread does it."""

from __future__ import annotations

from _thread import allocate_lock, start_new_thread
from collections.abc import Callable


def undisturbed(work: Callable[..., object], *arguments: object) -> BaseException | None:
    """Do `work` to its end, whatever exceptions come meanwhile, which are dropped; returns that of the work itself."""
    begun, ended = allocate_lock(), allocate_lock()
    failures: list[BaseException] = []
    ended.acquire()

    def once() -> None:
        if begun.acquire(blocking=False):  # and no other thread does it, if an exception came as this one was started
            try:
                work(*arguments)
            except BaseException as error:
                failures.append(error)
            finally:
                ended.release()

    while True:
        try:
            if not begun.locked():
                try:
                    start_new_thread(once, ())
                except RuntimeError:  # there are as many threads as there may be, or the interpreter ends
                    once()
            with ended:
                return failures[0] if failures else None
        except BaseException:
            continue

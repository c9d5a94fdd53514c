"""Building many nodes at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["growing"]


@contextmanager
def growing() -> Iterator[None]:
    """Inside, Python's collector of circular garbage rests: of a graph that grows nothing is garbage, and the collector
    would walk through all of it whenever it has grown by a quarter, which takes as long as building it.

    What has been built counts as old when it is done: next to nothing of it is garbage then, so that only the rare
    collections of all that is old will look at it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if gc.get_freeze_count() == 0:  # or what somebody has frozen would be thawed
                gc.freeze()
                gc.unfreeze()  # among the old
            gc.enable()

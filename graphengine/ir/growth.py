"""Building many nodes at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["growing"]

MOST_AT_ONCE = 100_000
"""How many new objects are not left to the collector, which would look at them at once."""

MOST_UNSEEN = 500_000
"""How many objects may become old unseen before the collector looks at all of them."""

_unseen = 0


@contextmanager
def growing() -> Iterator[None]:
    """Inside, Python's collector of circular garbage rests: of a graph that grows nothing is garbage, and the collector
    would walk through all of it whenever it has grown by a quarter, which takes as long as building it.

    What has been built, if it is not much, counts as old when it is done, for next to nothing of it is garbage then.
    Python counts no such objects, and would never look at them again; so they are counted here, and looked at when they
    are many.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            _grow_old()
            gc.enable()


def _grow_old() -> None:
    global _unseen
    young = gc.get_count()[0]
    _unseen += young
    if young > MOST_AT_ONCE or gc.get_freeze_count() > 0:  # what somebody has frozen would be thawed
        return
    if _unseen > MOST_UNSEEN:
        _unseen = 0
        gc.collect()
    else:
        gc.freeze()
        gc.unfreeze()

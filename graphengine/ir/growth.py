"""Building many nodes at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

MOST_UNSEEN = 1_000_000
"""How many objects, of some hundred bytes each, may become old unseen before the collector looks at all of them."""

_unseen = 0


@contextmanager
def growing(*, anew: bool = False) -> Iterator[None]:
    """Inside, Python's collector of circular garbage rests: of a graph that grows nothing is garbage, and the collector
    would walk through all of it whenever it has grown by a quarter, which takes as long as building it.

    What has been built counts as old when it is done, for next to nothing of it is garbage then. Python counts no such
    objects, and would never look at them again; so they are counted here, and looked at before something is begun
    `anew`: until then, most of what has been built is still in use.
    """
    global _unseen
    was_on = gc.isenabled()
    if anew and was_on and _unseen > MOST_UNSEEN:
        gc.collect()
        _unseen = 0
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            if gc.get_freeze_count() == 0:  # or what somebody has frozen would be thawed
                _unseen += gc.get_count()[0]
                gc.freeze()
                gc.unfreeze()
            gc.enable()

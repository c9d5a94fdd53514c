"""How much memory this process can have, and what is said when something takes more."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from graphengine.backends.cgroups import groups
from graphengine.errors import ExecutionError

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]  # Windows has no such module

EVERYWHERE = 2**26
"""So many bytes are not worth a look at the files that say how many there are, which takes up to 1 ms."""


def available_bytes() -> int:
    """The bytes that this process can have at most: the machine's, with swap, and what limits leave of them.

    Where the system says nothing, it is what one address space holds.
    """
    limits = [] if resource is None else [resource.getrlimit(kind)[0] for kind in _LIMITS]
    return min([system_bytes(), *(limit for limit in limits if limit >= 0)])  # RLIM_INFINITY is -1


_LIMITS = () if resource is None else (resource.RLIMIT_AS, resource.RLIMIT_DATA)


@cache
def system_bytes(root: Path = Path("/")) -> int:
    """The bytes of memory and swap that the system and its control groups let this process have."""
    memory, swap = _machine(root)
    limits = [memory + swap]
    for group, version_2 in groups(root, "memory"):
        if version_2:
            limits.append(_number(group / "memory.max") + min(swap, _number(group / "memory.swap.max")))
        else:
            limits.append(_number(group / "memory.limit_in_bytes") + swap)
    return min(sys.maxsize, *limits)


def _machine(root: Path) -> tuple[int, int]:
    """The bytes of the machine's memory, and of its swap."""
    sizes: dict[str, int] = {}
    with suppress(OSError, ValueError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        sizes = {name: 1024 * int(size.split()[0]) for name, _, size in (line.partition(":") for line in lines)}
    if "MemTotal" in sizes:
        return sizes["MemTotal"], sizes.get("SwapTotal", 0)
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), 0
    return sys.maxsize, 0


def _number(path: Path) -> int:
    """The number in a file; without one, or where it is "max", more than any machine has."""
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return sys.maxsize


@contextmanager
def taking(nbytes: int, what: str, held: int = 0, context: Callable[[], Sequence[str]] = tuple) -> Iterator[None]:
    """Inside, `nbytes` are allocated for `what`, beside those held; raises ExecutionError if they are not to be had.

    More than the process can have are refused before anything is allocated. The error quotes the lines of `context`.
    """
    available = available_bytes() if nbytes + held > EVERYWHERE else EVERYWHERE
    if nbytes + held > available:
        beside = f" beside the {held:,} that are held" if held else ""
        refusal = ExecutionError(f"{what} takes {nbytes:,} bytes{beside}, and this process can have {available:,}")
    else:
        try:
            yield
            return
        except MemoryError:
            refusal = no_memory(f"{what} takes {nbytes:,} bytes")
    refusal.quote(*context())
    raise refusal


def no_memory(what: str) -> ExecutionError:
    """The error in the place of a MemoryError."""
    return ExecutionError(f"{what}, and the system has no more to give")

"""Kernels to addresses: what this process has, what is stored, and only then what has to be compiled."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from graphengine.backends.native.compile import store
from graphengine.backends.native.kernel import Kernel
from graphengine.backends.native.llvm.machine import load

Request = tuple[Kernel, tuple[str, ...]]
"""A kernel, and what its parameters are (see `build`)."""

_known: dict[Request, int] = {}
"""Of all that has been loaded: LLVM unloads nothing, and to forget an address would be to load the same code again."""
_lock = threading.Lock()


def addresses(requests: Iterable[Request]) -> dict[Request, int]:
    """Where the machine code of kernels is."""
    wanted = dict.fromkeys(requests)
    with _lock:
        missing = [request for request in wanted if request not in _known]
        if missing:
            _known.update(_load(missing))
        return {request: _known[request] for request in wanted}


def _load(requests: list[Request]) -> dict[Request, int]:
    symbols = {store.key(*request): request for request in requests}
    stored = {symbol: store.read(symbol) for symbol in symbols}
    objects = {symbol: code for symbol, code in stored.items() if code is not None}
    missing = {symbol: request for symbol, request in symbols.items() if symbol not in objects}
    if missing:
        objects.update(_compile(missing))
    found = load(objects)
    return {request: found[symbol] for symbol, request in symbols.items()}


def _compile(requests: dict[str, Request]) -> dict[str, bytes]:
    """Machine code that no process has stored. Only here is numba imported, which takes a while."""
    from graphengine.backends.native.compile.build import build_all

    return build_all(requests, store.write)

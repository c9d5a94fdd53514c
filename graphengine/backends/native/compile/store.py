"""Kernels to addresses: what this process has, what is stored on disk, and only then what has to be compiled.

Machine code is stored under a name that says all that it depends on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from graphengine.backends.native.compile import disk
from graphengine.backends.native.kernel import Kernel
from graphengine.backends.native.llvm.machine import description, load
from graphengine.forks import BUILDING

Request = tuple[Kernel, tuple[str, ...]]
"""A kernel, and what its parameters are (see `assembly`)."""

_known: dict[Request, int] = {}
"""Of all that has been loaded: LLVM unloads nothing, and to forget an address would be to load the same code again."""


def addresses(requests: Iterable[Request]) -> dict[Request, int]:
    """Where the machine code of kernels is."""
    wanted = dict.fromkeys(requests)
    with BUILDING:
        missing = [request for request in wanted if request not in _known]
        if missing:
            _known.update(_load(missing))
        return {request: _known[request] for request in wanted}


def _load(requests: list[Request]) -> dict[Request, int]:
    symbols = {key(*request): request for request in requests}
    objects = disk.read(symbols)
    missing = {symbol: request for symbol, request in symbols.items() if symbol not in objects}
    if missing:
        objects.update(_compile(missing))
    found = load(objects)
    return {request: found[symbol] for symbol, request in symbols.items()}


def _compile(requests: dict[str, Request]) -> dict[str, bytes]:
    """Machine code that no process has stored. Only here is numba imported, which takes a while."""
    from graphengine.backends.native.compile.build import build_all

    built = build_all(requests, disk.write)
    disk.trim()
    return built


@cache
def _surroundings() -> str:
    """What machine code depends on besides its source: the CPU, the compilers, and the code that uses them."""
    code = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        if path.parent.name not in ("lowering", "fusion"):  # these give the source
            code.update(path.read_bytes())
    versions = " ".join(f"{name}={version(name)}" for name in ("numba", "llvmlite"))
    return f"{description()} {versions} {code.hexdigest()}"


def key(kernel: Kernel, signature: tuple[str, ...]) -> str:
    """The name of what is compiled from `kernel` for parameters of this signature; a symbol of its object code too."""
    text = "\n".join([_surroundings(), " ".join(signature), str(kernel.may_overlap), kernel.source])
    return f"ge_{hashlib.sha256(text.encode()).hexdigest()[:40]}"

"""Machine code kept on disk, under a name that says all that it depends on."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path

from graphengine.backends.native.kernel import Kernel
from graphengine.backends.native.llvm.machine import description


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


def folder() -> Path:
    """Where machine code is kept: `GRAPHENGINE_CACHE`, or graphengine/ in the user's folder for caches."""
    if chosen := os.environ.get("GRAPHENGINE_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "graphengine"


def read(name: str) -> bytes | None:
    """The object code of this name; None if there is none, or it was cut short."""
    try:
        stored = (folder() / f"{name}.o").read_bytes()
    except OSError:
        return None
    digest, code = stored[:32], stored[32:]
    return code if hashlib.sha256(code).digest() == digest else None


def write(name: str, code: bytes) -> None:
    """Keep object code, whole or not at all; a disk that cannot be written to costs the next process a compilation."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder(), suffix=".part", delete=False) as part:
            part.write(hashlib.sha256(code).digest() + code)
        os.replace(part.name, folder() / f"{name}.o")
    except OSError:
        return

"""How long packages take to import, and what they and all that they need take on disk.

A script, `python footprint.py seconds|bytes|versions FOLDER PACKAGE...`, that prints JSON; FOLDER is searched last.
Nothing is imported ahead of what is timed but what cannot be done without.
"""

from __future__ import annotations

import sys
import time

TYPE_CHECKING = False  # importing typing would take some of the time that is measured
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def seconds(packages: list[str]) -> dict[str, float]:
    """Of importing them, one after another, into this process."""
    start = time.perf_counter()
    for package in packages:
        __import__(package)
    return {"seconds": time.perf_counter() - start}


def installed(packages: list[str]) -> dict[str, int]:
    """The bytes of every distribution that they need and that is installed here; an extra is not needed."""
    found: dict[str, int] = {}
    waiting = list(packages)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name not in found:
            needed, found[name] = _engine() if name == "graphengine" else _distribution(name)
            waiting += [text for text in map(_name, needed) if text]
    return {name: size for name, size in found.items() if size}


def versions(packages: list[str]) -> dict[str, str]:
    """Of the packages and of Python."""
    from importlib import metadata

    found = {"python": sys.version.split()[0]}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "of a checkout"
    return found


def _distribution(name: str) -> tuple[list[str], int]:
    """What a distribution needs, and its bytes; one that is not there, as other systems need it, has none."""
    from importlib import metadata

    try:
        known = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return [], 0
    return known.requires or [], _size(path.locate() for path in known.files or [])


def _engine() -> tuple[list[str], int]:
    """Of the engine, which may run from a checkout: the folder of its package, and what its project file says."""
    import importlib.util
    import tomllib
    from importlib import metadata
    from pathlib import Path

    spec = importlib.util.find_spec("graphengine")
    if spec is None or spec.origin is None:
        return [], 0
    folder = Path(spec.origin).parent
    size = _size(folder.rglob("*"))
    try:
        return metadata.requires("graphengine") or [], size
    except metadata.PackageNotFoundError:
        project = tomllib.loads((folder.parent / "pyproject.toml").read_text(encoding="utf-8"))
        return project["project"]["dependencies"], size


def _name(requirement: str) -> str:
    """The name of "typer>=0.26; python_version > '3'"; none of what only an extra needs."""
    import re

    found = re.match(r"[\w.-]+", requirement)
    return "" if found is None or re.search(r"\bextra\s*==", requirement) else found[0]


def _size(paths: Iterable[Any]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())


if __name__ == "__main__":
    what, folder, *packages = sys.argv[1:]
    # Modules beside this file are not meant; the engine is found where it is not installed, and all else in its place.
    sys.path[:] = [*sys.path[1:], folder]
    result = {"seconds": seconds, "bytes": installed, "versions": versions}[what](packages)
    import json

    print(json.dumps(result))

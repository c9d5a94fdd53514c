"""Machine code on disk, in a folder to which nobody else can write: what stands there is run.

The folder and each file are looked at through the descriptors by which they are read, so nobody can put others in their
place meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BYTES = 512 * 2**20
"""How much is kept, unless GRAPHENGINE_CACHE_BYTES says otherwise."""

_DAY = 24 * 3600.0
"""After so many seconds a file that is read is noted as used again."""

_HOUR = 3600.0
"""A file that is not whole and this old is one of a process that has ended."""

_OPEN = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_BINARY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))
_HAS_OWNERS = hasattr(os, "geteuid")
_said: set[Path] = set()


def folder() -> Path | None:
    """Where machine code is kept: `GRAPHENGINE_CACHE`, or graphengine/ in the user's folder for caches.

    None if there is no such place, as for a user without a home.
    """
    try:
        if chosen := os.environ.get("GRAPHENGINE_CACHE"):
            return Path(chosen).expanduser().absolute()
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME", ""))
            base = base if base.is_absolute() else Path.home() / ".cache"  # a relative one counts for nothing
    except RuntimeError:  # there is no home
        return None
    return base / "graphengine" if base.is_absolute() else None


def read(names: Iterable[str]) -> dict[str, bytes]:
    """The object code of those of these names that have any, whole and from nobody else."""
    found: dict[str, bytes] = {}
    with suppress(OSError), _opened() as place:
        if place is not None:
            for name in names:
                with suppress(OSError):
                    if (code := _read(place, name)) is not None:
                        found[name] = code
    return found


def write(name: str, code: bytes) -> None:
    """Keep object code, whole or not at all; a disk that cannot be written to costs the next process a compilation."""
    with suppress(OSError), _opened(create=True) as place:
        if place is None:
            return
        part = place.path(f"{name}.{secrets.token_hex(8)}.part")
        try:
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600, dir_fd=place.descriptor)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_digest(name, code) + code)
            os.replace(part, place.path(f"{name}.o"), src_dir_fd=place.descriptor, dst_dir_fd=place.descriptor)
        except OSError:
            with suppress(OSError):
                os.unlink(part, dir_fd=place.descriptor)


def trim() -> None:
    """Remove what was not used for longest, until no more is kept than may be, and what ended processes have left."""
    with suppress(OSError), _opened() as place:
        if place is None:
            return
        kept: list[tuple[float, int, str]] = []
        for entry in os.scandir(place.folder if place.descriptor is None else place.descriptor):
            status = entry.stat(follow_symlinks=False)
            if entry.name.endswith(".o"):
                kept.append((status.st_mtime, status.st_size, entry.name))
            elif entry.name.endswith(".part") and time.time() - status.st_mtime > _HOUR:
                os.unlink(place.path(entry.name), dir_fd=place.descriptor)
        excess = sum(size for _, size, _ in kept) - _most_bytes()
        for _, size, name in sorted(kept):
            if excess <= 0:
                break
            os.unlink(place.path(name), dir_fd=place.descriptor)
            excess -= size


def _most_bytes() -> int:
    told = os.environ.get("GRAPHENGINE_CACHE_BYTES", "")
    return int(told) if told.isdecimal() and len(told) < 20 else BYTES


@dataclass(frozen=True, slots=True)
class _Place:
    """The folder, open; where a system opens no folders, by its path."""

    folder: Path
    descriptor: int | None

    def path(self, name: str) -> str:
        """The path of a file in it, for calls that are given the descriptor too."""
        return str(self.folder / name) if self.descriptor is None else name


@contextmanager
def _opened(create: bool = False) -> Iterator[_Place | None]:
    """The folder; None if it is not to be used. Raises OSError if there is none."""
    path = folder()
    if path is None:
        yield None
        return
    if create:
        _make(path)
    real = Path(os.path.realpath(path))
    if os.open not in os.supports_dir_fd:  # on Windows, where the folders of users are their own
        yield _Place(real, None)
        return
    descriptor = os.open(real, _OPEN | os.O_DIRECTORY)
    try:
        fault = _fault(real, os.fstat(descriptor))
        if fault:
            _say(path, f"the folder {path}", fault)
        yield None if fault else _Place(real, descriptor)
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for path in reversed(missing):
        with suppress(FileExistsError):  # another process may make it at the same time
            path.mkdir(mode=0o700)


def _fault(real: Path, status: os.stat_result) -> str | None:
    """Why what stands in a folder may come from somebody else; None if it cannot.

    Of the folders above it, too, whoever can write to one can put another in the place of what is in it, unless it is
    sticky, as /tmp is.
    """
    if fault := _not_own(status):
        return fault
    for parent in real.parents:
        status = os.stat(parent)
        if status.st_uid not in _trusted():
            return f"is in {parent}, which belongs to the user {status.st_uid}"
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            return f"is in {parent}, to which all users can write"
    return None


def _not_own(status: os.stat_result) -> str | None:
    """What is wrong with the owner or the mode of a file or folder; None if it is this user's, or root's, alone."""
    if not _HAS_OWNERS:
        return None
    if status.st_uid not in _trusted():
        return f"belongs to the user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written to by others (mode {stat.S_IMODE(status.st_mode):o})"
    return None


def _trusted() -> tuple[int, int]:
    return 0, os.geteuid()


def _say(path: Path, what: str, fault: str) -> None:
    """Say once of each folder what is not used, and why."""
    if path not in _said:
        import logging  # which takes some milliseconds

        _said.add(path)
        remedy = "let GRAPHENGINE_CACHE name a folder of your own, of mode 700"
        say = logging.getLogger(__name__).warning
        say("%s is not used, and machine code is compiled anew: it %s; %s", what, fault, remedy)


def _read(place: _Place, name: str) -> bytes | None:
    """The code of a name; None if it is not whole or not to be run. Raises OSError if there is none."""
    descriptor = os.open(place.path(f"{name}.o"), _OPEN, dir_fd=place.descriptor)
    status = os.fstat(descriptor)
    fault = _not_own(status) if stat.S_ISREG(status.st_mode) else "is no file"
    if fault:
        os.close(descriptor)
        _say(place.folder, str(place.folder / f"{name}.o"), fault)
        return None
    with os.fdopen(descriptor, "rb") as file:
        stored = file.read()
    if time.time() - status.st_mtime > _DAY:
        with suppress(OSError):
            os.utime(place.path(f"{name}.o"), dir_fd=place.descriptor)
    digest, code = stored[:_DIGEST], stored[_DIGEST:]
    return code if _digest(name, code) == digest else None


_DIGEST = hashlib.sha256().digest_size


def _digest(name: str, code: bytes) -> bytes:
    """By which a file is known to be whole, and to be that of its name."""
    return hashlib.sha256(name.encode() + b"\0" + code).digest()

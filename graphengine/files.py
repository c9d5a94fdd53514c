"""How files are written: each as a whole or not at all, whatever is killed when, and under the user's name for it.

A file is written under another name in the same folder, synced, and moved over the old one, after which the folder is
synced. The new file has the mode and, where that is allowed, the owner of the old one. A symbolic link stays, and what
it points to is replaced. A hard link is parted: the other names keep the old file. Devices and FIFOs are written to.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

StrPath = str | os.PathLike[str]

_PREFIX, _SUFFIX = ".graphengine-", ".tmp"
_LINKS = 40
"""Symbolic links that are followed, one after another, as Linux does."""


@contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` at the end: nobody ever finds half of it there.

    If an error is raised inside, `path` stays as it is. Raises OSError, which names `path`, where it cannot be written.
    """
    path = Path(path)
    with _naming(path):
        if not is_plain(path):
            with tempfile.TemporaryDirectory() as folder:
                part = Path(folder, path.name)
                yield part
                _write_through(part, path)
            return
        target, old = resolved(path), _writable(path)
        remove_abandoned(target.parent)
        with _temporary(target.parent, 0o600 if old else 0o666) as part, _naming(path, part):
            yield part
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            if old:
                _take_after(part, old)
            os.replace(part, target)
            sync_folder(target.parent)


def write(path: StrPath, content: bytes) -> None:
    """Write a whole file, as `replacing` does."""
    with replacing(path) as part:
        part.write_bytes(content)


def check_writable(path: StrPath) -> None:
    """Raise now the OSError that `replacing` would raise after the work; `path` stays as it is."""
    with suppress(_NothingWrittenError), replacing(path):
        raise _NothingWrittenError


def is_plain(path: StrPath) -> bool:
    """Whether `path` is a file, a folder, or not there: no device or FIFO, and no open file of this process."""
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except OSError:
        return True
    return (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) and _descriptor(path) is None


def open_file(path: StrPath) -> BinaryIO:
    """The file at `path`, opened to be read; OSError for a FIFO or a socket, from which reading may wait for ever.

    An open file of this process, such as /dev/stdin or what a shell's <(...) gives, is read whatever it is.
    """
    path = Path(path)
    if _descriptor(path) is None and path.exists() and (path.is_fifo() or path.is_socket()):
        raise OSError(errno.EINVAL, "is a FIFO or a socket, and a file is to be read", str(path))
    return open(path, "rb")


def resolved(path: StrPath) -> Path:
    """The path that symbolic links lead to."""
    return Path(os.path.realpath(path))


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that were killed: those that no process has locked."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        if path.is_file():
            with suppress(OSError), open(path, "rb") as file:
                if sys.platform != "win32":
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


@contextmanager
def sharing(folder: Path) -> Iterator[Callable[[], bool]]:
    """Inside, other processes may change what is in `folder`, too; the function given says that none does, or begins.

    It is for files that belong together: they are read and changed inside, and what belongs to none of them any more is
    removed if nobody else is inside. Where the system has no such locks, nobody else is taken to be there.
    """
    if sys.platform == "win32" or not os.access(folder, os.R_OK):
        yield lambda: True
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(100):  # whoever removes files takes no second; a process that stands still is not waited for
            if _lock(descriptor, fcntl.LOCK_SH):
                break
            time.sleep(0.01)
        yield lambda: _lock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    """Whether an open file could be locked; a file system without locks has nobody to be kept out."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a loss of power, where the system can do that."""
    with suppress(PermissionError):  # a folder that may be written to, and not read; on Windows any folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
                raise
        finally:
            os.close(descriptor)


class _NothingWrittenError(Exception):
    """Nothing is to be written."""


def _writable(path: Path) -> os.stat_result | None:
    """What the system says of the file at `path`; None if there is none. Raises OSError for one not to be replaced."""
    try:
        old = path.stat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent)) from None
        if not resolved(path).parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "a link into a folder that is not there", str(path)) from None
        return None
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a directory, and a file is to be written", str(path))
    if not os.access(path, os.W_OK) or not _may_be_moved(old, resolved(path).parent.stat()):
        raise PermissionError(errno.EACCES, "not allowed to write there", str(path))
    return old


def _may_be_moved(file: os.stat_result, folder: os.stat_result) -> bool:
    """Whether a folder such as /tmp, in which each has files of his own, lets this process take the file's name."""
    return not folder.st_mode & stat.S_ISVTX or os.geteuid() in (0, file.st_uid, folder.st_uid)


@contextmanager
def _naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Let the errors of the system name the user's file, and not the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextmanager
def _temporary(folder: Path, mode: int) -> Iterator[Path]:
    """A new, empty file in `folder`, locked for as long as it is there, so that others know that it is in use."""
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} (to make a new file in its folder)") from None
        try:
            if sys.platform != "win32":
                with suppress(OSError):  # a file system without locks
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                if not os.fstat(descriptor).st_nlink:
                    continue  # it was taken for abandoned before it was locked
            else:
                os.close(descriptor)  # what is open cannot be moved there
            yield path
            return
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            if sys.platform != "win32":
                os.close(descriptor)


def _take_after(path: Path, old: os.stat_result) -> None:
    """Give a file the owner, if that is allowed, and the mode of another."""
    new = path.stat()
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        with suppress(PermissionError):
            os.chown(path, old.st_uid, old.st_gid)
    path.chmod(stat.S_IMODE(old.st_mode))


def _descriptor(path: Path) -> int | None:
    """The number of the open file of this process that `path` stands for, as /dev/stdout and /dev/fd/1 do."""
    for _ in range(_LINKS):
        folder = os.path.realpath(path.parent)
        if path.name.isdecimal() and folder == os.path.realpath("/dev/fd"):
            return int(path.name)
        if not path.is_symlink():
            return None
        path = Path(folder, os.readlink(path))
    return None


def _write_through(content: Path, path: Path) -> None:
    """Write what is in a file to a device, to a FIFO that a process reads from, or to an open file of this process."""
    if stat.S_ISBLK(path.stat().st_mode):
        raise OSError(errno.EINVAL, "is a block device, and no file is written over one")
    number = _descriptor(path)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK) if number is None else os.dup(number)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "no process reads from this FIFO or socket") from None
        raise
    with os.fdopen(descriptor, "wb") as target, open(content, "rb") as source:
        os.set_blocking(descriptor, True)
        shutil.copyfileobj(source, target)

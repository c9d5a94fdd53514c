"""The control groups of Linux (cgroups) that this process is in, which bound what it may use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def groups(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """The folders of the groups that bound a controller ("cpu", "memory"), and whether they are of version 2.

    `root` is where the files of the system begin.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for _, controllers, path in (line.split(":", 2) for line in lines if line.count(":") > 1):
        version_2 = controllers == ""
        if not version_2 and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("" if version_2 else controller)
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):  # in a container the path may be that of the host: its own is the mount
            yield mount / group, version_2

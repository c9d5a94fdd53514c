"""A process that is killed before any of its calls of the system that have to do with files: run apart, as it forks.

`python -m tests.killed FOLDER` saves one graph over another, is killed at the first call, at the second and so on, and
looks each time at what is there.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import graphengine as ge


def killed_at(number: int, action: Callable[[], object]) -> bool:
    """Whether a child of this process that runs `action` was killed before its call of this number."""
    child = os.fork()
    if not child:
        left = [number]

        def at_call(event: str, _: object) -> None:
            left[0] -= event == "open" or event.startswith(("os.", "fcntl.", "shutil."))
            if left[0] < 0:
                os._exit(9)

        sys.addaudithook(at_call)
        action()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def graph(fill: float) -> ge.Graph:
    g = ge.Graph("net")
    g.output("y", g.input("x", (5000,)) * g.constant("k", np.full(5000, fill, "float32")))
    return g


def main(folder: Path) -> None:
    path, old, new = folder / "net.json", graph(1.0), graph(2.0)
    seen = []
    old.save(path)
    while killed_at(len(seen), lambda: new.save(path)):
        seen.append(ge.load(path))
        assert seen[-1] in (old, new), len(seen)
        old.save(path)
        assert len(list(folder.iterdir())) == 3, (len(seen), list(folder.iterdir()))
    assert ge.load(path) == new
    sys.stdout.write(f"{seen.count(old)} {seen.count(new)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

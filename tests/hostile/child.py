"""Runs cases, each in a process of its own with little time and memory: `python -m tests.hostile.child`.

It prints a line of JSON for each case: its kind, its name, and what is wrong with what it gave, or null.
"""

import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import graphengine as ge
from tests.hostile import documents, files
from tests.hostile.use import use

SECONDS = 2
MEGABYTES = 200


def fault(action: Callable[[], object], expected: str, place: str) -> str | None:
    """What is wrong with the error of an action, which is to be of the class `expected` and tell the place."""
    try:
        action()
    except (ge.GraphEngineError, OSError) as error:
        said, classes = str(error), [each.__name__ for each in type(error).__mro__]
        if expected not in classes:
            return f"{expected or 'no error'} was expected: {type(error).__name__}: {said:.500}"
        if place not in said:
            return f"{place!r} is not told: {said:.500}"
        return None if said.replace("\n", "").isprintable() and len(said) < 20_000 else f"not fit to print: {said:.99}"
    except BaseException as error:  # whatever it is, the error is not graphengine's
        return f"foreign: {type(error).__name__}: {error!s:.500}"
    return f"{expected} was expected, and there is no error" if expected else None


def bounded(run: Callable[[], str | None]) -> str | None:
    """What `run` gives in a child that is killed after 2 seconds of work, or when it takes 200 MB more than now."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.alarm(60)
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEGABYTES * 2**20,) * 2)
        os.write(writer, json.dumps(run()).encode()[:4000])
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return json.loads(said) if code == 0 else f"killed: {signal.Signals(-code).name if code < 0 else code}"


def loaded(document: str | bytes) -> None:
    use(ge.Graph.from_json(document))


def cases(folder: Path) -> Iterator[tuple[str, str, Callable[[], object], str, str]]:
    """All cases, each with its kind."""
    for kind, documents_of_kind in documents.KINDS.items():
        for name, document, expected, place in documents_of_kind():
            yield kind, name, partial(loaded, document), expected, place
    for kind, files_of_kind in files.KINDS.items():
        (folder / kind).mkdir()
        for case in files_of_kind(folder / kind):
            yield kind, *case


def main() -> None:
    use(ge.zoo.digits_lstm())  # whatever is imported and compiled on first use
    with tempfile.TemporaryDirectory() as folder:
        for kind, name, *case in cases(Path(folder)):
            sys.stdout.write(json.dumps([kind, name, bounded(partial(fault, *case))]) + "\n")


if __name__ == "__main__":
    main()

"""Install: how long a new process takes to import an engine, and what it takes on disk with all that it needs."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.frame.benchmark import Benchmark, Request
from benchmarks.frame.plot import Dots, Plot
from benchmarks.frame.result import PeerFacts, Record, Result
from benchmarks.frame.run import result_of
from benchmarks.frame.table import Table
from benchmarks.frame.text import bytes_text, conditions, seconds_text

__all__ = ["INSTALL_BENCHMARK", "measure"]

_SCRIPT = Path(__file__).parent / "worker" / "footprint.py"
_HERE = Path(__file__).parents[1]
_ROUNDS = 7
_LIMIT = 300.0
"""Seconds that importing may take."""

_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "graphengine-numpy": ("graphengine",),
    "graphengine-numba": ("graphengine", "numba"),
    "torch": ("torch",),
    "jax": ("jax",),
    "autograd": ("autograd",),
    "numpy": ("numpy",),
}
"""What is imported for each."""


def measure(request: Request) -> Result:
    """Both rows, or one of them, for all peers: rounds of imports, turn by turn, the first of which does not count."""
    facts = {peer: _facts(request, peer) for peer in request.peers}
    there = [peer for peer in request.peers if not facts[peer].missing]
    records: list[Record] = []
    if "import" in request.rows:
        samples: dict[str, list[float]] = {peer: [] for peer in there}
        for number in range(1 + _ROUNDS):
            request.say(f"import: round {number} of {_ROUNDS}")
            for peer in there:
                samples[peer].append(_run(request, peer, "seconds")["seconds"])
        records += [_imported(peer, taken[1:]) for peer, taken in samples.items()]
    if "installed" in request.rows:
        records += [_installed(request, peer) for peer in there]
    return result_of("install", request, facts, records)


def _imported(peer: str, samples: Sequence[float]) -> Record:
    figures = {"minimum": min(samples), "median": statistics.median(samples), "samples": len(samples)}
    return Record(row="import", peer=peer, figures=figures)


def _installed(request: Request, peer: str) -> Record:
    sizes: dict[str, int] = _run(request, peer, "bytes")
    own = sum(sizes.get(package, 0) for package in _PACKAGES[peer])
    figures = {"bytes": sum(sizes.values()), "own_bytes": own, "distributions": len(sizes)}
    return Record(row="installed", peer=peer, figures=figures)


def _facts(request: Request, peer: str) -> PeerFacts:
    """Whether the peer can be imported at all."""
    try:
        _run(request, peer, "seconds")
    except (subprocess.SubprocessError, OSError) as error:
        text = getattr(error, "stderr", None) or str(error)
        return PeerFacts(missing=text.strip().splitlines()[-1])
    return PeerFacts(versions=_run(request, peer, "versions"))


def _run(request: Request, peer: str, what: str) -> dict[str, Any]:
    """What the script says in a new process, which writes bytecode as pip does, and reads it the next time."""
    python = request.pythons.get(peer, sys.executable)
    command = [python, str(_SCRIPT), what, str(_HERE), *_PACKAGES[peer]]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(Path(tempfile.gettempdir()) / "graphengine-bench-bytecode")
    done = subprocess.run(command, capture_output=True, check=True, encoding="utf-8", timeout=_LIMIT, env=environment)
    return dict(json.loads(done.stdout))


def tables(result: Result) -> Sequence[Table]:
    """Seconds and megabytes by peer."""
    peers = result.measured()

    def cells(peer: str) -> tuple[str, ...]:
        count = result.figure("installed", peer, "distributions")
        return (
            peer,
            *(seconds_text(result.figure("import", peer, name)) for name in ("median", "minimum")),
            *(bytes_text(result.figure("installed", peer, name)) for name in ("bytes", "own_bytes")),
            f"{count or 0:.0f}",
        )

    columns = ("peer", "import, median", "minimum", "installed", "without what it needs", "distributions")
    return [Table("Import and install", columns, tuple(map(cells, peers)), (*_NOTES, *conditions(result)))]


_NOTES = (
    f"Seconds of the import alone in a new process, {_ROUNDS} times, turn by turn; bytecode is there, files cached.",
    "Bytes are those of the files of the package and of all that it needs, extras left out.",
)


def plots(result: Result) -> Sequence[Plot]:
    """One picture for each of the two."""
    shown: list[Plot] = []
    for row, figure, label, unit in (
        ("import", "median", "median of seconds", "s"),
        ("installed", "bytes", "bytes on disk, with all that it needs", "B"),
    ):
        peers = {record.peer: {row: record.figures[figure]} for record in result.among(row=row)}
        if peers:
            shown.append(Dots(f"install-{row}", _TITLES[row], label, (row,), peers, unit=unit))
    return shown


_TITLES = {"import": "Importing an engine", "installed": "What an engine takes on disk"}


INSTALL_BENCHMARK = Benchmark(
    name="install",
    about="seconds to import, and megabytes on disk",
    rows=("import", "installed"),
    peers=tuple(_PACKAGES),
    seconds=0.0,
    measure=measure,
    tables=tables,
    plots=plots,
)

"""`python -m benchmarks`: measure the engine beside others, and hold the results against the stated goals."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import BENCHMARKS
from benchmarks.frame.benchmark import Benchmark, Request
from benchmarks.frame.draw import check_can_draw, draw
from benchmarks.frame.result import Result, read_result
from benchmarks.frame.run import others_computing
from benchmarks.frame.table import markdown
from benchmarks.frame.terminal import listing, results_shown, telling, verdicts_shown
from benchmarks.frame.verdict import Verdict
from benchmarks.worker.peers import PEERS
from graphengine.cli import show
from graphengine.cli.faults import mistakes_told
from graphengine.errors import SpecError
from graphengine.ir.names import did_you_mean

__all__ = ["app"]

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)

_NAMES = "NAME|FILE.json"


@app.command()
@mistakes_told()
def measure(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar=_NAMES, help="Benchmarks to run, all if left out; or results that were kept."),
    ] = None,
    rows: Annotated[str | None, typer.Option(metavar="ROW,...", help="Measure these rows alone.")] = None,
    peers: Annotated[str | None, typer.Option(metavar="PEER,...", help="Measure these peers alone.")] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(metavar="PEER=PATH", help="The interpreter that has this peer (repeatable)."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.01, help="To spend on a peer and row.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Cores that a peer may use; all if left out.")] = None,
    busy: Annotated[
        int, typer.Option(min=0, metavar="K", help="Other processes that compute without end meanwhile.")
    ] = 0,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep results and tables here, as NAME.json and NAME.md.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Draw the plots into this folder.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if a stated goal is not reached.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Say which benchmarks, rows and peers there are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Measure the engine beside others, and hold it against what it is to reach.

    Every peer runs in a process of its own, and they take turns, so that what disturbs one disturbs all. A peer that is
    not installed is left out, and that is said. docs/benchmarks.md tells what is measured, and how.
    """
    if listed:
        typer.echo(json.dumps(_listing())) if as_json else show.console().print(listing(BENCHMARKS.values()))
        return
    kept = [_kept(name) for name in names or [] if name.endswith(".json")]
    chosen = [_benchmark(name) for name in names or BENCHMARKS if not name.endswith(".json")]
    requests = _requests(chosen, rows, peers, _pythons(python or []), seconds, threads, busy)
    _prepare(save, plot)
    results = []
    for result in (*kept, *_measured(requests)):
        _keep(result, save, plot)  # at once: the next one may take long, or fail
        results.append(result)
    verdicts = [verdict for result in results for verdict in BENCHMARKS[result.benchmark].verdicts(result)]
    if as_json:
        typer.echo(json.dumps(_as_dict(results, verdicts)))
    else:
        tables = [table for result in results for table in BENCHMARKS[result.benchmark].tables(result)]
        show.console().print(results_shown(tables))
        if check:
            show.console().print(verdicts_shown(verdicts))
    if check and not (verdicts and all(verdict.met for verdict in verdicts)):
        raise typer.Exit(1)


def _benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise typer.BadParameter(f"no benchmark {name!r}{did_you_mean(name, BENCHMARKS)}", param_hint=_NAMES)
    return BENCHMARKS[name]


def _kept(name: str) -> Result:
    result = read_result(Path(name))
    if result.benchmark not in BENCHMARKS:
        raise SpecError(f"{name}: the result of a benchmark {result.benchmark!r}, which there is not")
    return result


def _requests(
    benchmarks: Sequence[Benchmark],
    rows: str | None,
    peers: str | None,
    pythons: dict[str, str],
    seconds: float | None,
    threads: int | None,
    busy: int,
) -> list[tuple[Benchmark, Request]]:
    """What each is asked for; a benchmark that has none of the rows or none of the peers is left out."""
    all_rows = [row for benchmark in benchmarks for row in benchmark.rows]
    all_peers = [peer for benchmark in benchmarks for peer in benchmark.peers]
    wanted_rows = _chosen(rows, all_rows, "--rows")
    wanted_peers = _chosen(peers, all_peers, "--peers")
    requests = []
    for benchmark in benchmarks:
        request = Request(
            rows=tuple(row for row in benchmark.rows if row in wanted_rows),
            peers=tuple(peer for peer in benchmark.peers if peer in wanted_peers),
            seconds=seconds if seconds and benchmark.seconds else benchmark.seconds,
            threads=threads,
            busy=busy,
            pythons=pythons,
        )
        if request.rows and request.peers:
            requests.append((benchmark, request))
    if benchmarks and not requests:
        raise typer.BadParameter("no benchmark that was asked for has both these rows and these peers")
    return requests


def _chosen(text: str | None, known: Sequence[str], option: str) -> set[str]:
    """The names between the commas; all that are known if none are given."""
    names = known if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            distinct = list(dict.fromkeys(known))
            raise typer.BadParameter(f"there is no {name!r}{did_you_mean(name, distinct)}", param_hint=option)
    return set(names)


def _pythons(texts: Iterable[str]) -> dict[str, str]:
    pythons = {}
    for text in texts:
        peer, _, path = text.partition("=")
        if not peer or not path:
            raise typer.BadParameter(f"PEER=PATH is needed, such as torch=/opt/torch/bin/python, not {text!r}")
        _chosen(peer, list(PEERS), "--python")
        if not os.access(path, os.X_OK):
            raise typer.BadParameter(f"{path} is nothing that can be run", param_hint="--python")
        pythons[peer] = path
    for peer, known in PEERS.items():  # who has torch has torch-compile
        if known.package in pythons:
            pythons.setdefault(peer, pythons[known.package])
    return pythons


def _prepare(save: Path | None, plot: Path | None) -> None:
    """What cannot be written or drawn is found out before the work."""
    if plot is not None:
        check_can_draw()
    for folder in (save, plot):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)


def _measured(requests: Sequence[tuple[Benchmark, Request]]) -> Iterator[Result]:
    for benchmark, request in requests:
        with telling(benchmark.name) as say, others_computing(request.busy):
            result = benchmark.measure(replace(request, say=say))
        yield result


def _keep(result: Result, save: Path | None, plot: Path | None) -> None:
    benchmark = BENCHMARKS[result.benchmark]
    if save is not None:
        (save / f"{result.benchmark}.json").write_text(result.to_json(), encoding="utf-8")
        (save / f"{result.benchmark}.md").write_text(markdown(benchmark.tables(result)), encoding="utf-8")
    if plot is not None:
        for picture in benchmark.plots(result):
            draw(picture, plot)


def _as_dict(results: Sequence[Result], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "results": [result.model_dump(mode="json") for result in results],
        "goals": [{**asdict(verdict), "met": verdict.met} for verdict in verdicts],
    }


def _listing() -> dict[str, Any]:
    return {
        name: {"about": benchmark.about, "rows": benchmark.rows, "peers": benchmark.peers}
        for name, benchmark in BENCHMARKS.items()
    }


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")

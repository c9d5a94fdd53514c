"""The commands, with their options; what each does beyond that is done elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from graphengine.cli import compare, demo, reproduce, show, train
from graphengine.cli.faults import Commands
from graphengine.cli.files import check_files, read_arrays, read_document, read_weights, write_arrays
from graphengine.cli.options import AsJson, AtATime, Data, Limit, Metrics, Spec, Weights, limits_of, sizes_of
from graphengine.compile import compile
from graphengine.executable import Executable
from graphengine.ir.array import to_json_value
from graphengine.ir.graph import Graph
from graphengine.ir.limits import Limits
from graphengine.ir.spec import constants_of, json_schema
from graphengine.train.evaluate import evaluate as measure
from graphengine.train.evaluate import predict as compute
from graphengine.view import lint as find_oddities
from graphengine.view import summarize

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The `graphengine` command."""
    app(prog_name="graphengine")


def _version(asked: bool) -> None:
    if not asked:
        return
    try:
        typer.echo(f"graphengine {metadata.version('graphengine')}")
    except metadata.PackageNotFoundError:
        typer.echo("graphengine, from a checkout that is not installed")
    raise typer.Exit


@app.callback(help="Static, typed computation graphs: declared once, differentiated, planned, and run fast.")
def graphengine(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


app.command(help=demo.HELP)(demo.demo)
app.command(help=reproduce.HELP)(reproduce.reproduce)
app.command(help=compare.HELP)(compare.compare)
app.command(help=train.HELP)(train.train)


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True}, help="Print where the benchmarks are."
)
def bench() -> None:
    show.say("the benchmarks are in the source checkout, not in the package: run `python -m benchmarks` there")
    raise typer.Exit(2)


@app.command(help="Compute a trained network's outputs for new data.")
def predict(
    spec: Spec,
    weights: Weights,
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(metavar="OUT.npz", help="The file of values to write; default: print them."),
    ] = None,
    output: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="An output to compute; default: all with a row an example (repeatable)."),
    ] = None,
    batch_size: AtATime = 1024,
    limit: Limit = None,
) -> None:
    limits = limits_of(limit)
    graph = read_document(spec, limits)
    check_files([spec, weights, data, constants_of(graph, spec)], [out])
    exe = _trained(graph, weights, limits)
    values = compute(exe, read_arrays(data, limits), outputs=output, batch_size=batch_size)
    if out is not None:
        write_arrays(out, values)
    else:
        for line in show.rows_of_text(values):
            typer.echo(line)


@app.command(help="Measure a trained network's loss, and metrics, on data.")
def evaluate(
    spec: Spec,
    weights: Weights,
    data: Data,
    metric: Metrics = None,
    batch_size: AtATime = 1024,
    as_json: AsJson = False,
    limit: Limit = None,
) -> None:
    check_files([spec, weights, data], [])
    limits = limits_of(limit)
    exe = _trained(read_document(spec, limits), weights, limits)
    measured = measure(exe, read_arrays(data, limits), metrics=metric, batch_size=batch_size)
    if as_json:
        typer.echo(json.dumps({name: to_json_value(np.asarray(value)) for name, value in measured.items()}))
    else:
        show.console().print(show.facts((name, f"{value:.6g}") for name, value in measured.items()))


@app.command(help="Check a document. Print what it declares, or what is wrong and where.")
def validate(spec: Spec, limit: Limit = None) -> None:
    graph = read_document(spec, limits_of(limit))
    show.console().print(show.graph_facts(graph, spec))


@app.command(
    help="Show every node with its op, type, parameters, FLOPs and bytes, and the cost of a run. Nothing is run."
)
def summary(
    spec: Spec,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help='The size of the dim named "batch".')] = 1,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="DIM=N", help="The size of another dim; default 1 (repeatable)."),
    ] = None,
    as_json: AsJson = False,
    limit: Limit = None,
) -> None:
    graph = read_document(spec, limits_of(limit))
    table = summarize(graph, **sizes_of(graph, batch, size))
    if as_json:
        typer.echo(json.dumps(table.to_dict()))
        return
    console = show.console()
    console.print(show.summary_table(table), soft_wrap=True)
    console.print(show.cost_facts(table))


@app.command(
    help="Find likely mistakes: consecutive linear maps, which are one; weights that no gradient reaches; unused parts."
)
def lint(
    spec: Spec,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if anything is found.")] = False,
    as_json: AsJson = False,
    limit: Limit = None,
) -> None:
    graph = read_document(spec, limits_of(limit))
    findings = find_oddities(graph)
    if as_json:
        typer.echo(json.dumps({"graph": graph.name, "findings": [asdict(finding) for finding in findings]}))
    else:
        typer.echo("\n".join(map(str, findings)) or f"{spec}: nothing found")
    if check and findings:
        raise typer.Exit(1)


@app.command(help="Print the JSON Schema of documents.")
def schema() -> None:
    typer.echo(json.dumps(json_schema(), indent=2))


def _trained(graph: Graph, weights: Path, limits: Limits) -> Executable:
    exe = compile(graph)
    read_weights(exe, weights, limits)
    return exe

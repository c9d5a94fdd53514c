"""The commands, with their options; what each does beyond that is done elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from graphengine.cli import show
from graphengine.cli.compare import compare
from graphengine.cli.demo import demo
from graphengine.cli.faults import Commands
from graphengine.cli.files import read_arrays, write_arrays
from graphengine.cli.options import (
    AsJson,
    AtATime,
    Data,
    Metrics,
    Seed,
    Spec,
    Weights,
    sizes_of,
    training_of,
    validation_of,
)
from graphengine.cli.reproduce import reproduce
from graphengine.compile import compile
from graphengine.executable import Executable
from graphengine.files import check_writable
from graphengine.ir.array import to_json_value
from graphengine.ir.spec import json_schema, load
from graphengine.train.evaluate import evaluate as measure
from graphengine.train.evaluate import predict as compute
from graphengine.train.fit import fit
from graphengine.train.weights_file import load_parameters, save_parameters
from graphengine.transform.training_graph import trains_itself
from graphengine.view import lint as find_oddities
from graphengine.view import summarize

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
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


@app.callback()
def graphengine(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Static, typed computation graphs: declared once, differentiated, planned, and run fast."""


for command in (demo, reproduce, compare):
    app.command()(command)


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def bench() -> None:
    """Print where the benchmarks are."""
    show.say("the benchmarks are in the source checkout, not in the package: run `python -m benchmarks` there")
    raise typer.Exit(2)


@app.command()
def train(
    spec: Spec,
    data: Data,
    weights: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="The file of weights to write; default: SPEC with .weights.safetensors."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the data.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples in a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Replaces that of the document.")] = None,
    seed: Seed = None,
    validation: Annotated[
        str | None,
        typer.Option(metavar="FRACTION|FILE.npz", help="A part of the data to hold out, or other data to measure on."),
    ] = None,
    metric: Metrics = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Train a network as the training section of its document says, and save the weights.

    The document has the defaults of the options.
    """
    graph = load(spec)
    target = weights or spec.with_suffix(".weights.safetensors")
    check_writable(target)
    training = training_of(graph, learning_rate, epochs=epochs, batch_size=batch_size, seed=seed)
    rule = None if trains_itself(graph) and learning_rate is None else training.optimizer
    exe = compile(graph, loss=training.loss, optimizer=rule, seed=training.seed)
    history = fit(
        exe,
        read_arrays(data),
        epochs=training.epochs,
        batch_size=training.batch_size,
        validation=validation_of(validation),
        metrics=metric,
        progress=not quiet,
    )
    save_parameters(exe, target)
    if not quiet:
        typer.echo(history)
        typer.echo(f"weights: {target}")


@app.command()
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
) -> None:
    """Compute a trained network's outputs for new data."""
    if out is not None:
        check_writable(out)
    exe = _trained(spec, weights)
    values = compute(exe, read_arrays(data), outputs=output, batch_size=batch_size)
    if out is not None:
        write_arrays(out, values)
    else:
        for line in show.rows_of_text(values):
            typer.echo(line)


@app.command()
def evaluate(
    spec: Spec,
    weights: Weights,
    data: Data,
    metric: Metrics = None,
    batch_size: AtATime = 1024,
    as_json: AsJson = False,
) -> None:
    """Measure a trained network's loss, and metrics, on data."""
    measured = measure(_trained(spec, weights), read_arrays(data), metrics=metric, batch_size=batch_size)
    if as_json:
        typer.echo(json.dumps({name: to_json_value(np.asarray(value)) for name, value in measured.items()}))
    else:
        show.console().print(show.facts((name, f"{value:.6g}") for name, value in measured.items()))


@app.command()
def validate(spec: Spec) -> None:
    """Check a document. Print what it declares, or what is wrong and where."""
    graph = load(spec)
    show.console().print(show.graph_facts(graph, spec))


@app.command()
def summary(
    spec: Spec,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help='The size of the dim named "batch".')] = 1,
    size: Annotated[
        list[str] | None,
        typer.Option(metavar="DIM=N", help="The size of another dim; default 1 (repeatable)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show every node with its op, type, parameters, FLOPs and bytes, and the cost of a run. Nothing is run."""
    graph = load(spec)
    table = summarize(graph, **sizes_of(graph, batch, size))
    if as_json:
        typer.echo(json.dumps(table.to_dict()))
        return
    console = show.console()
    console.print(show.summary_table(table))
    console.print(show.cost_facts(table))


@app.command()
def lint(
    spec: Spec,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if anything is found.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find likely mistakes: consecutive linear maps, which are one; weights that no gradient reaches; unused parts."""
    graph = load(spec)
    findings = find_oddities(graph)
    if as_json:
        typer.echo(json.dumps({"graph": graph.name, "findings": [asdict(finding) for finding in findings]}))
    else:
        typer.echo("\n".join(map(str, findings)) or f"{spec}: nothing found")
    if check and findings:
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of documents."""
    typer.echo(json.dumps(json_schema(), indent=2))


def _trained(spec: Path, weights: Path) -> Executable:
    exe = compile(load(spec))
    load_parameters(exe, weights)
    return exe

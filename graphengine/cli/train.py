"""`graphengine train`: a network trained as its document says, its weights saved, and its run if that is asked for."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from graphengine.cli import show
from graphengine.cli.files import STANDARD, check_files, read_arrays, read_document, read_weights, write_weights
from graphengine.cli.interruption import Interruption
from graphengine.cli.options import AsJson, Data, Limit, Metrics, Seed, Spec, fraction_of, limits_of, training_of
from graphengine.compile import compile
from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.files import is_plain
from graphengine.ir.array import to_json_value
from graphengine.ir.spec import constants_of
from graphengine.train.callbacks import Callback, EarlyStopping
from graphengine.train.checkpoint import files_in
from graphengine.train.checkpoint_folder import Checkpoint
from graphengine.train.fit import fit
from graphengine.train.history import History
from graphengine.transform.training_graph import trains_itself

HELP = """Train a network as the training section of its document says, and save the weights.

The document has the defaults of the options. Ctrl-C and SIGTERM finish the step and save what is reached: the run if
there is a --checkpoint, otherwise the weights."""

_STEPS = "steps"

Target = Annotated[
    Path | None,
    typer.Option(
        metavar="OUT", help="The file of weights to write, - for standard output; default: SPEC.weights.safetensors."
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Passes over the data.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Examples in a step.")]
Rate = Annotated[float | None, typer.Option(min=0, help="Replaces that of the document.")]
Rule = Annotated[
    str | None, typer.Option(metavar="JSON", help='Replaces that of the document: \'{"kind": "adam"}\', say.')
]
Validation = Annotated[
    str | None,
    typer.Option(metavar="FRACTION|FILE.npz", help="A part of the data to hold out, or other data to measure on."),
]
Patience = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Stop after N epochs without a lower loss of --validation, with the best weights."
    ),
]
Initial = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The weights to begin with; default: those that the seed says.")
]
Folder = Annotated[
    Path | None, typer.Option("--checkpoint", metavar="DIR", help="A folder to save the whole run to on the way.")
]
Every = Annotated[
    str | None,
    typer.Option(metavar="N|Nsteps", help="Save it every N epochs, or N steps (500steps); default: every epoch."),
]
Keep = Annotated[int | None, typer.Option(min=1, metavar="K", help="Keep the K newest checkpoints; default: 3.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the newest in --checkpoint, if there is one, as if never stopped.")
]
Backend = Annotated[str, typer.Option(metavar="B", help="numpy, numba, or auto.")]
Budget = Annotated[
    int | None, typer.Option(min=0, metavar="BYTES", help="The maximum memory for values; what it lacks costs time.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]


def train(
    context: typer.Context,
    spec: Spec,
    data: Data,
    weights: Target = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    optimizer: Rule = None,
    seed: Seed = None,
    validation: Validation = None,
    metric: Metrics = None,
    patience: Patience = None,
    initial_weights: Initial = None,
    checkpoint: Folder = None,
    every: Every = None,
    keep: Keep = None,
    resume: Resume = False,
    backend: Backend = "numpy",
    memory_budget: Budget = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    limit: Limit = None,
) -> None:
    """Run the command; `HELP` says what it does."""
    target = _target(weights, spec, as_json)
    saver = _saver(checkpoint, every, keep, resume)
    fraction = fraction_of(validation)
    other = Path(validation) if validation and not fraction else None
    stop = _early_stopping(patience, validation)
    limits = limits_of(limit)
    graph = read_document(spec, limits)
    kept = files_in(checkpoint).values() if checkpoint else ()
    check_files([spec, data, other, initial_weights, constants_of(graph, spec), *kept], [target])
    training = training_of(graph, learning_rate, optimizer, epochs=epochs, batch_size=batch_size, seed=seed)
    rule = None if trains_itself(graph) and learning_rate is None and optimizer is None else training.optimizer
    exe = compile(
        graph, loss=training.loss, optimizer=rule, seed=training.seed, backend=backend, memory_budget=memory_budget
    )
    if initial_weights:
        read_weights(exe, initial_weights, limits)
    arrays, held_out = read_arrays(data, limits), fraction or (read_arrays(other, limits) if other else None)
    with Interruption() as interruption:
        history = fit(
            exe,
            arrays,
            epochs=training.epochs,
            batch_size=training.batch_size,
            validation=held_out,
            metrics=metric,
            callbacks=[interruption, *stop, *([] if quiet else [_Lines(training.epochs)])],
            progress=not quiet,
            checkpoint=saver,
            resume=checkpoint if resume else None,
        )
    saves_weights = not (interruption.number and saver)
    if saves_weights:
        write_weights(exe, target)
    _report(exe, history, target if saves_weights else None, checkpoint, as_json, quiet)
    if interruption.number:
        _say_how_to_go_on(context.obj, history, target, checkpoint)
        raise typer.Exit(interruption.exit_code)


class _Lines(Callback):
    """A line an epoch, where no terminal shows a bar."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, exe: Executable, history: History) -> None:
        epoch = history.epochs[-1]
        if sys.stderr is not None and not sys.stderr.isatty():
            values = "".join(f", {name} {value:.4g}" for name, value in epoch.values.items())
            seconds = show.seconds_text(epoch.seconds)
            with suppress(OSError):  # the reader of a pipe may go: training goes on
                typer.echo(f"epoch {epoch.number}/{self.epochs}{values}, {seconds}", err=True)


def _target(weights: Path | None, spec: Path, as_json: bool) -> Path:
    """The file of weights to write."""
    if weights == STANDARD and as_json:
        raise typer.BadParameter("the weights and the JSON object cannot both go to standard output")
    if weights is None and (spec == STANDARD or not is_plain(spec)):
        raise typer.BadParameter("name the file of weights: the document has no name", param_hint="--weights")
    return weights or spec.with_suffix(".weights.safetensors")


def _saver(folder: Path | None, every: str | None, keep: int | None, resume: bool) -> Checkpoint | None:
    """What `--checkpoint`, `--every` and `--keep` say."""
    if folder is None:
        if every or keep or resume:
            raise typer.BadParameter("--every, --keep and --resume are of the checkpoints in --checkpoint DIR")
        return None
    if not resume and files_in(folder):
        raise TrainingError(f"{folder} has checkpoints already: go on with --resume, or name another folder")
    number = (every or "1").removesuffix(_STEPS)
    if not number.isdecimal() or not int(number):
        raise typer.BadParameter(f"a number of epochs, or of steps like 500steps, not {every!r}", param_hint="--every")
    in_steps = every is not None and every.endswith(_STEPS)
    steps, epochs = (int(number), None) if in_steps else (None, int(number))
    return Checkpoint(folder, every_steps=steps, every_epochs=epochs, keep=keep or 3)


def _early_stopping(patience: int | None, validation: str | None) -> list[Callback]:
    if patience is None:
        return []
    if validation is None:
        raise typer.BadParameter("the loss of --validation is watched: give some", param_hint="--patience")
    return [EarlyStopping(patience=patience)]


def _report(
    exe: Executable, history: History, target: Path | None, checkpoint: Path | None, as_json: bool, quiet: bool
) -> None:
    """Print what was reached: on standard output, unless the weights are there."""
    if as_json:
        files = {"weights": target and str(target), "checkpoint": checkpoint and str(checkpoint)}
        typer.echo(json.dumps({"graph": exe.graph.name, **files, **_as_dict(history)}))
    elif not quiet:
        typer.echo(history, err=target == STANDARD)
        if target and target != STANDARD:
            typer.echo(f"weights: {target}")


def _as_dict(history: History) -> dict[str, Any]:
    """What `--json` prints; times are in seconds."""
    columns = {name: to_json_value(np.asarray(column)) for name, column in history.to_dict().items()}
    summed = {"epochs": len(history), "steps": history.steps, "seconds": history.seconds}
    return {**summed, "stopped": history.stopped, "history": columns}


def _say_how_to_go_on(arguments: list[str], history: History, target: Path, checkpoint: Path | None) -> None:
    """Say after an interruption what is kept, and the command that goes on with it."""
    if checkpoint:
        kept = f"the run is in {checkpoint}"
        more = [] if "--resume" in arguments else ["--resume"]
    else:
        kept = f"the weights reached are in {target}; with --checkpoint DIR a run goes on as if never stopped"
        arguments = _without(arguments, "--initial-weights", "--weights")
        more = ["--initial-weights", str(target), "--weights", str(_unused(target))]
    command = shlex.join(["graphengine", *arguments, *more])
    show.say(f"{history.stopped or 'interrupted'}: {kept}. To go on:\n  {command}", "stopped", "bold yellow")


def _without(arguments: list[str], *options: str) -> list[str]:
    """A command line without these options and their values."""
    left, rest = [], iter(arguments)
    for argument in rest:
        if argument in options:
            next(rest, None)
        elif argument.partition("=")[0] not in options:
            left.append(argument)
    return left


def _unused(path: Path) -> Path:
    """A name like that of `path`, of no file yet."""
    number = 2
    while (other := path.with_suffix(f".{number}{path.suffix}")).exists():
        number += 1
    return other

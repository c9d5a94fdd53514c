"""`graphengine demo`: the digits network trained, what it reads in digits held back, and what one gradient costs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
import typer
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from graphengine.baselines import Comparison, compare
from graphengine.cli import show
from graphengine.cli.compare import comparison_table
from graphengine.cli.files import save_trained
from graphengine.cli.options import AsJson, Save, Seed, training_of
from graphengine.data import Split, digits
from graphengine.ir.graph import Graph
from graphengine.ir.training import Training
from graphengine.ir.types import Array
from graphengine.testing import in_float64
from graphengine.train.evaluate import predict
from graphengine.train.history import History
from graphengine.train.metrics import accuracy, confusion_matrix
from graphengine.zoo.experiments import train
from graphengine.zoo.networks import digits_spec

_PICTURES = 4
_NAMES_WIDTH = 15
_INK = " ░▒▓█"
_ASCII_INK = " .+#@"


HELP = """Watch a 3-layer network learn to read handwritten digits, and see what a gradient costs.

The network is a JSON document that ships with the package, as do the digits: 1,797 real ones, a fifth of them held
back for the test."""


def demo(
    as_json: AsJson = False,
    seed: Seed = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training digits.")] = None,
    save: Save = None,
) -> None:
    """Run the command; `HELP` says what it does."""
    graph, data = Graph.from_json(digits_spec()), digits()
    training = training_of(graph, epochs=epochs, seed=seed)
    console = show.console()
    if not as_json:
        console.print(_head(graph, training, data))
    exe, history = train(graph, training, data.train, metrics="accuracy")
    read = predict(exe, data.test, outputs="prediction")["prediction"]
    # At the first parameters, and in float64 for the sake of differences.
    batch = {name: array[: training.batch_size] for name, array in data.train.items()}
    compared = compare(in_float64(graph), training.loss, batch, seed=training.seed)
    if save is not None:
        save_trained(save, "digits", graph, data, exe)
    if as_json:
        typer.echo(json.dumps(_as_dict(graph, training, history, read, data.test["label"], compared)))
        return
    console.print(_result(history, read, data.test, compared))
    if save is not None:
        console.print(show.facts([("kept in", str(save))]))


def _as_dict(
    graph: Graph, training: Training, history: History, read: Array, labels: Array, compared: Comparison
) -> dict[str, Any]:
    """What `--json` prints; times are in seconds."""
    others = compared.others
    differences = others["central differences"]
    return {
        "network": graph.name,
        "parameters": compared.parameters,
        "seed": training.seed,
        "epochs": len(history),
        "batch_size": training.batch_size,
        "steps": history.steps,
        "seconds": history.seconds,
        "train_loss": history["loss"][-1],
        "test_accuracy": accuracy(read, labels),
        "confusion": confusion_matrix(read, labels, classes=10).tolist(),
        "backprop_seconds": compared.backprop.seconds,
        "naive_seconds": differences.seconds,
        "naive_measured_on": differences.sample,
        "speedup": compared.slowdown("central differences"),
        "disagreement": differences.disagreement,
        "flops": {"backpropagation": compared.backprop.flops} | {name: way.flops for name, way in others.items()},
        "seconds_one_by_one": {name: way.seconds for name, way in others.items()},
    }


def _head(graph: Graph, training: Training, data: Split) -> RenderableType:
    """The network, the digits, and how they will be learned."""
    units = [str(node.shape[0]) for node in graph.parameters if node.ndim == 2] + ["10"]
    train, test = (len(part["label"]) for part in data)
    rows = [
        ("network", f"{'-'.join(units)} units, {show.count_parameters(graph):,} parameters; zoo/digits.json"),
        ("data", f"{train + test:,} real digits (UCI, CC BY 4.0): {train:,} to train, {test} to test"),
        ("training", show.training_text(training)),
    ]
    return Group(_title("Learning to read handwritten digits\n"), show.facts(rows, _NAMES_WIDTH))


def _result(history: History, read: Array, test: dict[str, Array], compared: Comparison) -> RenderableType:
    """What the network reads in the digits held back, and what one gradient costs."""
    labels = test["label"]
    found = f"{accuracy(read, labels):.1%} ({np.count_nonzero(read == labels)} of {len(labels)})"
    return Group(
        show.facts([("trained", show.history_text(history)), ("test accuracy", found)], _NAMES_WIDTH),
        _title("How each digit (a row) was read (a column)"),
        _confusion_table(confusion_matrix(read, labels, classes=10)),
        _title("Some of the digits held back\n"),
        _pictures(test["pixels"], read, labels),
        _title("What one gradient costs"),
        comparison_table(compared),
        _comparison_text(compared),
    )


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _confusion_table(counts: Array) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", style="bold", justify="right")
    for index in range(len(counts)):
        table.add_column(str(index), justify="right", min_width=2)
    table.add_column("right", justify="right")
    none = Text("·" if show.can_encode("·") else ".", style="dim")
    for index, row in enumerate(counts):
        styles = ["green" if index == column else "bold red" for column in range(len(row))]
        cells = [Text(str(count), style) if count else none for count, style in zip(row, styles, strict=True)]
        table.add_row(str(index), *cells, f"{row[index] / max(row.sum(), 1):.1%}")
    return table


def _pictures(images: Array, read: Array, labels: Array) -> Table:
    """Some 8x8 pictures, side by side, over what is read in them."""
    table = Table.grid(padding=(0, 0, 0, 2))
    shown = rows_to_show(read == labels, _PICTURES)
    table.add_row(*(_picture(images[row]) for row in shown))
    table.add_row(*(_caption(int(labels[row]), int(read[row])) for row in shown))
    return table


def rows_to_show(is_right: Array, count: int) -> Array:
    """Examples to look at: up to half of them misread, the rest as they come."""
    wrong = np.flatnonzero(~is_right)[: count // 2]
    return np.concatenate([np.flatnonzero(is_right)[: count - len(wrong)], wrong])


def _picture(image: Array) -> Text:
    ink = _INK if show.can_encode(_INK) else _ASCII_INK
    levels = np.minimum(image.reshape(8, 8) * len(ink), len(ink) - 1).astype(int)
    return Text("\n".join("".join(2 * ink[level] for level in row) for row in levels), no_wrap=True)


def _caption(label: int, read: int) -> Text:
    if label == read:
        return Text(f"read as {read}", style="green", justify="center")
    return Text(f"read as {read}, is {label}", style="bold red", justify="center")


def _comparison_text(compared: Comparison) -> Text:
    ways = compared.others.values()
    slowdowns = [compared.slowdown(name) for name in compared.others]
    return Text(
        f"  The others take the parameters one by one ({max(way.sample for way in ways)} of them, scaled): "
        f"{min(slowdowns):,.0f} to\n"
        f"  {max(slowdowns):,.0f} times as long, for the same numbers: where they are computed in two ways,\n"
        f"  they differ by at most {max(way.disagreement or 0.0 for way in ways):.0e} of the greatest. "
        "One batch, float64."
    )

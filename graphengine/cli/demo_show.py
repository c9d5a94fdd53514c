"""How the demo looks: what is to be learned, what was learned, and what a gradient cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from graphengine.baselines import Comparison
from graphengine.cli.compare import comparison_table
from graphengine.cli.demo import Demo, Outcome
from graphengine.cli.show import can_encode, facts, optimizer_text, seconds_text
from graphengine.ir.types import Array

_PICTURES = 4
_NAMES_WIDTH = 15
_INK = " ░▒▓█"
_ASCII_INK = " .+#@"


def demo_head(demo: Demo) -> RenderableType:
    """The network, the digits, and how they will be learned."""
    training = demo.training
    units = [str(node.shape[0]) for node in demo.graph.parameters if node.ndim == 2] + ["10"]
    train, test = (len(part["label"]) for part in demo.data)
    parameters = sum(node.type.size for node in demo.graph.parameters)
    passes = f"{training.epochs} epochs in batches of {training.batch_size}"
    rows = [
        ("network", f"{'-'.join(units)} units, {parameters:,} parameters; zoo/digits.json"),
        ("data", f"{train + test:,} real digits (UCI, CC BY 4.0): {train:,} to train, {test} to test"),
        (
            "training",
            f"{optimizer_text(training.optimizer)}; {passes}",
        ),
    ]
    return Group(_title("Learning to read handwritten digits\n"), facts(rows, _NAMES_WIDTH))


def demo_result(outcome: Outcome, images: Array, compared: Comparison) -> RenderableType:
    """What the network reads in the digits held back, and what one gradient costs."""
    right = int((outcome.read == outcome.labels).sum())
    history = outcome.history
    rows = [
        ("trained", f"{history.steps:,} steps in {seconds_text(history.seconds)}; loss {history['loss'][-1]:.4f}"),
        ("test accuracy", f"{outcome.test_accuracy:.1%} ({right} of {len(outcome.labels)})"),
    ]
    shown = outcome.to_show(_PICTURES)
    captions = [_caption(int(outcome.labels[i]), int(outcome.read[i])) for i in shown]
    return Group(
        facts(rows, _NAMES_WIDTH),
        _title("How each digit (a row) was read (a column)"),
        _confusion_table(outcome.confusion),
        _title("Some of the digits held back\n"),
        _pictures(images[shown], captions),
        _title("What one gradient costs"),
        comparison_table(compared),
        _comparison_text(compared),
    )


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _confusion_table(counts: Array) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("", style="bold", justify="right")
    for index in range(len(counts)):
        table.add_column(str(index), justify="right", min_width=2)
    table.add_column("right", justify="right")
    for index, row in enumerate(counts):
        cells = [_count(int(count), index == column) for column, count in enumerate(row)]
        table.add_row(str(index), *cells, f"{row[index] / max(row.sum(), 1):.1%}")
    return table


def _count(count: int, correct: bool) -> Text:
    if not count:
        return Text("·" if can_encode("·") else ".", style="dim")
    return Text(str(count), style="green" if correct else "bold red")


def _caption(label: int, read: int) -> Text:
    if label == read:
        return Text(f"read as {read}", style="green", justify="center")
    return Text(f"read as {read}, is {label}", style="bold red", justify="center")


def _pictures(images: Array, captions: Sequence[Text]) -> Table:
    """8x8 pictures of [0, 1], drawn as text side by side over their captions."""
    table = Table.grid(padding=(0, 0, 0, 2))
    table.add_row(*(_picture(image) for image in images))
    table.add_row(*captions)
    return table


def _picture(image: Array) -> Text:
    ink = _INK if can_encode(_INK) else _ASCII_INK
    levels = np.minimum(image.reshape(8, 8) * len(ink), len(ink) - 1).astype(int)
    return Text("\n".join("".join(2 * ink[level] for level in row) for row in levels), no_wrap=True)


def _comparison_text(compared: Comparison) -> Text:
    ways = compared.others.values()
    sample = max(way.sample for way in ways)
    slowdowns = [compared.slowdown(name) for name in compared.others]
    return Text(
        f"  The others take the parameters one by one ({sample} of them, scaled): {min(slowdowns):,.0f} to\n"
        f"  {max(slowdowns):,.0f} times as long, for the same numbers: where they are computed in two ways,\n"
        f"  they differ by at most {max(way.disagreement or 0.0 for way in ways):.0e} of the greatest. "
        "One batch, float64."
    )

"""How far training has come, on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from graphengine.train.history import Epoch
from graphengine.train.run import Place

if TYPE_CHECKING:
    from rich.progress import Progress

_PAUSE = 0.1
"""Seconds between two drawings of the bar: to draw takes longer than a step of a small network."""


class Bar:
    """Draws a bar with the loss, what the last epoch measured, and examples per second."""

    def __init__(self, progress: Progress, place: Place, last: int, examples: int | None) -> None:
        self._progress = progress
        self._last_epoch = last
        self._epoch = place.epoch
        self._measured = ""
        self._seen = self._seen_before = place.examples
        self._started = self._drawn = time.perf_counter()
        total = None if examples is None else max(0, last - place.epoch + 1) * examples
        self._task = progress.add_task("", total=total, said="", rate="")

    def step(self, count: int, loss: float) -> None:
        """A step is done, on `count` examples; `loss` is the mean of the epoch so far."""
        self._seen += count
        now = time.perf_counter()
        if now - self._drawn >= _PAUSE:
            self._draw(now, f"loss {loss:.4f}{self._measured}")

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is done: draws what it measured."""
        self._measured = "".join(f"  {name} {value:.4f}" for name, value in epoch.values.items() if name != "loss")
        self._draw(time.perf_counter(), f"loss {epoch.values['loss']:.4f}{self._measured}")
        self._epoch = min(epoch.number + 1, self._last_epoch)

    def _draw(self, now: float, said: str) -> None:
        self._drawn = now
        self._progress.update(
            self._task,
            completed=self._seen,
            description=f"epoch {self._epoch}/{self._last_epoch}",
            said=said,
            rate=f"{(self._seen - self._seen_before) / max(now - self._started, 1e-9):,.0f} examples/s",
            refresh=True,
        )


def is_terminal(stream: Any) -> bool:
    """Whether a person reads this stream; programs without a console have None for one, and notebooks their own."""
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # of a stream without the question, and of a closed one
        return False


@contextmanager
def drawing(wanted: bool, place: Place, last: int, examples: int | None) -> Iterator[Bar | None]:
    """A bar from `place` to the end of epoch `last`; None unless it is wanted and stderr a terminal."""
    if not wanted or not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(10, table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[rate]}", markup=False),
        TextColumn("{task.fields[said]}", markup=False, table_column=Column()),  # the one to break in short lines
    )
    with Progress(*columns, console=Console(file=sys.stderr), auto_refresh=False) as progress:
        yield Bar(progress, place, last, examples)

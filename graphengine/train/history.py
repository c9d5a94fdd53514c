"""What training has been through, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from graphengine.errors import TrainingError
from graphengine.ir.names import did_you_mean
from graphengine.schedule.program import columns

_ROWS_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch: its number (from 1), its steps, its seconds (evaluation included), and `values`, the metrics by name.

    `values` has "loss", the mean of the losses of the steps weighted by their examples; the metrics at the end of the
    epoch; and those of the validation data, as "validation_loss" and so on. `skipped` steps, among them all, changed
    nothing, as their loss was not finite (see `ge.compile`); "loss" is that of the others.
    """

    number: int
    steps: int
    seconds: float
    values: dict[str, float]
    skipped: int = 0


@dataclass(slots=True)
class History:
    """The epochs of a training: `history["loss"]` is a list with one value for each; `print(history)` shows a table.

    `stopped` is the reason why training ended before its last epoch, or None.
    """

    epochs: list[Epoch] = field(default_factory=list)
    stopped: str | None = None

    @property
    def steps(self) -> int:
        """How many steps were made in all."""
        return sum(epoch.steps for epoch in self.epochs)

    @property
    def skipped(self) -> int:
        """How many of these steps changed nothing, as their loss was not finite."""
        return sum(epoch.skipped for epoch in self.epochs)

    @property
    def seconds(self) -> float:
        """How long training took."""
        return sum(epoch.seconds for epoch in self.epochs)

    def to_dict(self) -> dict[str, list[Any]]:
        """A column, with one value an epoch, for every thing that is known of epochs; as tables and JSON take it.

        A value is NaN where an epoch did not measure it.
        """
        measured = dict.fromkeys(name for epoch in self.epochs for name in epoch.values) or ("loss",)
        return {
            "epoch": [epoch.number for epoch in self.epochs],
            **{name: [epoch.values.get(name, math.nan) for epoch in self.epochs] for name in measured},
            "steps": [epoch.steps for epoch in self.epochs],
            **({"skipped": [epoch.skipped for epoch in self.epochs]} if self.skipped else {}),
            "seconds": [epoch.seconds for epoch in self.epochs],
        }

    def __getitem__(self, name: str) -> list[Any]:
        known = {"skipped": [epoch.skipped for epoch in self.epochs], **self.to_dict()}
        if name not in known:
            raise TrainingError(f"the history has no {name!r}{did_you_mean(name, known)}")
        return known[name]

    def __len__(self) -> int:
        return len(self.epochs)

    def __repr__(self) -> str:
        last = "".join(f", {name} {value:.4g}" for name, value in self.epochs[-1].values.items()) if self.epochs else ""
        stopped = f"; {self.stopped}" if self.stopped else ""
        skipped = f", {self.skipped} of them skipped" if self.skipped else ""
        return f"History({len(self)} epochs, {self.steps} steps{skipped}, {self.seconds:.3g} s{last}{stopped})"

    def __str__(self) -> str:
        known = self.to_dict()
        rows = [list(row) for row in zip(*known.values(), strict=True)]
        if len(rows) > _ROWS_SHOWN:
            rows[_ROWS_SHOWN // 2 : -_ROWS_SHOWN // 2] = [["..."] * len(known)]
        return "\n".join([table([[*known], *rows]), *([self.stopped] if self.stopped else [])])


def table(rows: Iterable[Iterable[str | float]]) -> str:
    """Lines with the cells of each row, in columns that are aligned to the right."""
    texts = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    return "\n".join(columns(texts, right_from=0))

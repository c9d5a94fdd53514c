"""What may look on while a network is trained, and stop it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.ir.names import did_you_mean
from graphengine.ir.types import Array
from graphengine.train.history import History
from graphengine.wording import shown

Mode = Literal["min", "max"]


class Callback:
    """What `fit` calls while it trains; a subclass overrides the methods it needs. It may read and set parameters and
    state.
    """

    monitor: str | None = None
    """The name of the value of an epoch that this reads; `fit` finds before the first step if it is not measured."""

    def on_start(self, exe: Executable, history: History) -> None:
        """Before the first epoch."""

    def on_step_end(self, exe: Executable, history: History) -> str | None:
        """After a step; a text returned is the reason why training should stop in the middle of the epoch.

        `ge.fit(resume=...)` goes on from there.
        """
        return None

    def on_epoch_end(self, exe: Executable, history: History) -> str | None:
        """After an epoch, the last of `history`; a text returned is the reason why training should stop."""
        return None

    def on_end(self, exe: Executable, history: History) -> None:
        """After the last epoch, also if an error or the user ended it, or the `on_end` of another callback failed."""

    def state_dict(self) -> Mapping[str, Any]:
        """What a checkpoint keeps of this callback, so that a resumed training goes on with it; nothing by default.

        A dict of JSON values (None, bool, int, float, str, lists and dicts of them) and arrays of numbers.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` gave; `ge.fit(resume=...)` calls it after `on_start`. A tuple is now a list."""


class EarlyStopping(Callback):
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs.

    mode: "min" or "max"; left out, "min" for names that end in loss or error, and "max" for those that end in accuracy.
    restore_best: at the end, parameters and state are set to those after the best epoch, `best_epoch`.
    Raises TrainingError for patience below 1, a negative min_delta, another mode, and a name without a mode; `ge.fit`
    raises it before the first step if `monitor` is not measured.
    """

    def __init__(
        self,
        monitor: str = "validation_loss",
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        mode: Mode | None = None,
        restore_best: bool = True,
    ) -> None:
        if patience < 1 or not min_delta >= 0:
            raise TrainingError(f"patience is at least 1 and min_delta at least 0, not {patience} and {min_delta}")
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.mode = mode_of(monitor, mode)
        self.restore_best = restore_best
        self._forget()

    def _forget(self) -> None:
        self.best = math.inf if self.mode == "min" else -math.inf
        self.best_epoch: int | None = None
        self._waited = 0
        self._best_weights: tuple[dict[str, Array], dict[str, Array]] = {}, {}

    def on_start(self, exe: Executable, history: History) -> None:
        """Forget an earlier training."""
        self._forget()

    def on_epoch_end(self, exe: Executable, history: History) -> str | None:
        """Keep the best weights; return the reason to stop after `patience` epochs without an improvement."""
        epoch = history.epochs[-1]
        value = monitored(self, epoch.values)
        if (self.best - value if self.mode == "min" else value - self.best) > self.min_delta:
            self.best, self.best_epoch, self._waited = value, epoch.number, 0
            if self.restore_best:
                self._best_weights = dict(exe.parameters), dict(exe.state)
            return None
        self._waited += 1
        if self._waited < self.patience:
            return None
        return f"{self.monitor} is no better since epoch {self.best_epoch or 0}, where it was {self.best:.4g}"

    def on_end(self, exe: Executable, history: History) -> None:
        """Go back to the best epoch."""
        parameters, state = self._best_weights
        exe.parameters.update(parameters)
        exe.state.update(state)
        self._best_weights = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The best value, its epoch and weights, and for how many epochs nothing was better."""
        parameters, state = self._best_weights
        return {
            "monitor": self.monitor,
            "mode": self.mode,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "waited": self._waited,
            "parameters": parameters,
            "state": state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on waiting; raises TrainingError for the state of a stopping that monitors something else."""
        monitored = state["monitor"], state["mode"]
        if monitored != (self.monitor, self.mode):
            raise TrainingError(
                f"the checkpoint is of an EarlyStopping that monitors {monitored}, not {(self.monitor, self.mode)}"
            )
        self.best, self.best_epoch, self._waited = state["best"], state["best_epoch"], state["waited"]
        self._best_weights = state["parameters"], state["state"]


def monitored(callback: Callback, values: Mapping[str, float]) -> float:
    """The value that `callback` monitors; raises TrainingError if it is not among those of an epoch."""
    check_monitor(callback, list(values))
    return values[callback.monitor or ""]


def check_monitor(callback: Callback, measured: Sequence[str]) -> None:
    """Raise TrainingError unless what `callback` monitors is measured."""
    monitor = callback.monitor
    if monitor is not None and monitor not in measured:
        remedy = "; give fit validation=" if monitor.startswith("validation_") else ""
        known = did_you_mean(monitor, measured)
        raise TrainingError(
            f"{type(callback).__name__} monitors {shown(monitor)}, which is not measured{remedy}{known}"
        )


def mode_of(monitor: str, mode: Mode | None = None) -> Mode:
    """Whether small or large values are good: `mode`, or what the name of what is measured says."""
    if mode is not None and mode not in get_args(Mode):
        raise TrainingError(f'mode is "min" or "max", not {shown(mode)}')
    if mode is not None:
        return mode
    if monitor.endswith(("loss", "error")):
        return "min"
    if monitor.endswith("accuracy"):
        return "max"
    raise TrainingError(
        f'whether {monitor!r} should be small or large does not follow from its name: say mode="min" or "max"'
    )

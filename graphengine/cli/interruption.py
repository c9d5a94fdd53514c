"""Ctrl-C and SIGTERM while a network is trained: the step is finished, and what is reached is saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

import typer

from graphengine.executable import Executable
from graphengine.train.callbacks import Callback
from graphengine.train.history import History

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption(Callback):
    """Stops `fit` after the step during which the first signal came; a second one interrupts the step.

    Inside `with`, it takes the place of the handlers that there are, but for signals that are ignored; only the main
    thread may do that.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal that came."""
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """What the command ends with, as a shell has it: 128 and the number of the signal."""
        return 128 + self.number if self.number else 0

    def on_step_end(self, exe: Executable, history: History) -> str | None:
        """Stop, so that training can go on from here."""
        return f"interrupted by {signal.Signals(self.number).name}" if self.number else None

    def __enter__(self) -> Interruption:
        for number in _SIGNALS if threading.current_thread() is threading.main_thread() else ():
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(self.exit_code or 128 + signal.SIGINT) from None

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number

"""Checkpoints while training: when one is written, and which are kept."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from graphengine.errors import TrainingError
from graphengine.files import StrPath, check_writable
from graphengine.train.callbacks import Callback, Mode, mode_of, monitored
from graphengine.train.checkpoint import (
    IDENTITY,
    SETTINGS,
    Saved,
    check_same,
    file_of,
    files_in,
    find,
    identity,
    read_manifest,
    write,
)
from graphengine.train.diagnosis import ADVICE
from graphengine.train.evaluate import check_size
from graphengine.train.run import Run
from graphengine.wording import shown


class Checkpoint(Callback):
    """Writes checkpoints of the whole run, from which `ge.fit(resume=...)` goes on: the argument `checkpoint` of `fit`.

    path: a folder, made if it is missing. A file `step-00000120.safetensors` is written there after every `every_steps`
    steps and every `every_epochs` epochs (every epoch, if neither is given), and at the end. The `keep` newest files
    stay. best: the name of what is measured, such as "validation_loss". An epoch that is the best so far is always
    written, and its file stays as well: `best_path`. mode: "min" or "max", as in `ge.EarlyStopping`.

    Among the `callbacks` of `fit`, with `every` or without any of these arguments, `path` is one file, which is
    replaced after every `every` epochs.

    Raises TrainingError for numbers that are no ints of at least 1, for `every` beside the others, and for a name
    without a mode; `fit` raises it before the first step if the folder holds checkpoints of another run, and OSError if
    nothing can be written there.
    """

    def __init__(
        self,
        path: StrPath,
        *,
        every: int | None = None,
        every_steps: int | None = None,
        every_epochs: int | None = None,
        keep: int = 3,
        best: str | None = None,
        mode: Mode | None = None,
    ) -> None:
        numbers = {"every": every, "every_steps": every_steps, "every_epochs": every_epochs, "keep": keep}
        for what, number in numbers.items():
            check_size(what, number)
        self.path = Path(path)
        self.in_folder = any(given is not None for given in (every_steps, every_epochs, best))
        if every is not None and self.in_folder:
            raise TrainingError("every= replaces one file; for a folder of checkpoints say every_epochs=")
        self.every = every
        self.every_steps = every_steps
        self.every_epochs = every_epochs if every_epochs or every_steps else every or 1
        self.keep = keep
        self.best = self.monitor = best
        self.mode = mode_of(best or "loss", mode)
        self._written: tuple[int, int] | None = None
        self._best: tuple[float, Path] | None = None

    @property
    def best_path(self) -> Path | None:
        """The file in the folder with the best value of `best`; None if there is none."""
        found = self._best_in_folder()
        return found[1] if found else None

    def start(self, run: Run, resumed: Path | None) -> None:
        """Make ready to write; `resumed` is the file or folder that `run` goes on from."""
        files = list(files_in(self.path).values()) if self.in_folder else []
        goes_on = (
            bool(files) and resumed is not None and resumed.resolve() in (self.path.resolve(), files[-1].resolve())
        )
        if files and not goes_on:
            raise TrainingError(
                f"{str(self.path)!r} holds checkpoints of another run, or newer ones, up to {files[-1].name!r}: "
                f"fit(resume={str(self.path)!r}) goes on with it, or give another folder"
            )
        if not self.in_folder and self.path.is_dir():
            raise TrainingError(f"{str(self.path)!r} is a folder: say every_epochs=, or name a file")
        if self.in_folder:
            self.path.mkdir(parents=True, exist_ok=True)
        check_writable(self._file(run))
        self._written = (run.steps, run.place.epoch) if goes_on else None
        self._best = self._best_in_folder()

    def after_step(self, run: Run) -> None:
        """Write a checkpoint if one is due between two steps."""
        if self.every_steps and run.steps % self.every_steps == 0:
            self._write(run)

    def after_epoch(self, run: Run) -> None:
        """Write a checkpoint if one is due after an epoch, when all callbacks have seen it."""
        epoch = run.history.epochs[-1]
        value = monitored(self, epoch.values) if self.best else math.nan
        is_best = self._is_better(value, self._best)
        if is_best or (self.every_epochs and epoch.number % self.every_epochs == 0):
            self._best = (value, self._file(run)) if is_best else self._best
            self._write(run)

    def finish(self, run: Run) -> None:
        """Write a last checkpoint into the folder, unless it is there."""
        if self.in_folder and self._written != (run.steps, run.place.epoch):
            self._write(run)

    def _write(self, run: Run) -> None:
        if run.exe.programs.settings.non_finite != "allow":
            _check_finite(run)
        write(run, self._file(run))
        self._written = run.steps, run.place.epoch
        if self.in_folder:
            files = [
                path for steps, path in files_in(self.path).items() if steps <= run.steps
            ]  # newer ones are damaged
            for path in files[: -self.keep]:
                if self._best is None or path != self._best[1]:
                    path.unlink(missing_ok=True)

    def _file(self, run: Run) -> Path:
        return file_of(self.path, run.steps) if self.in_folder else self.path

    def _is_better(self, value: float, best: tuple[float, Path] | None) -> bool:
        if best is None:
            return not math.isnan(value)
        return value < best[0] if self.mode == "min" else value > best[0]

    def _best_in_folder(self) -> tuple[float, Path] | None:
        best: tuple[float, Path] | None = None
        for path in files_in(self.path).values() if self.best else ():
            try:
                manifest = read_manifest(path)
            except (TrainingError, OSError):
                continue  # a damaged one is told of when training goes on from it
            if manifest.history.epochs and not manifest.place.steps:
                value = manifest.history.epochs[-1].values.get(self.best or "", math.nan)
                best = (value, path) if self._is_better(value, best) else best
        return best


def _check_finite(run: Run) -> None:
    """Raise TrainingError for weights that are not: what goes on from them would fail each time."""
    for name, array in run.exe.parameters.items():
        if not np.isfinite(array).all():
            said = f"parameter {name!r} is not finite after step {run.steps}, so no checkpoint is written"
            raise TrainingError(f"{said}: {ADVICE}")


def find_run(run: Run, resume: StrPath | None, savers: Sequence[Checkpoint], ignore: Collection[str]) -> Saved | None:
    """Let `run` be at the place of the checkpoint in `resume`; None if it is to begin.

    Raises TrainingError if the checkpoint is of another run, or is missing where none of `savers` writes.
    """
    if resume is None:
        if ignore:
            raise TrainingError(f"ignore={shown(ignore)} says what of a checkpoint may differ: give resume=, too")
        return None
    path = Path(resume)
    saved = find(path)
    if saved is None:
        if path.resolve() in [saver.path.resolve() for saver in savers]:
            return None
        raise TrainingError(
            f"there is no checkpoint in {str(path)!r} to go on from; "
            f"with checkpoint=ge.Checkpoint({str(path)!r}), too, training begins where there is none"
        )
    check_same(saved, {**identity(run.exe), **run.settings}, ignore, (*IDENTITY, *SETTINGS, "callbacks"))
    run.place, run.history = saved.manifest.place, saved.manifest.history
    return saved

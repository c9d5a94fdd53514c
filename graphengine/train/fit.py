"""Training: epochs of steps over data, looked upon, and written down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.files import StrPath
from graphengine.ir.types import Array
from graphengine.train.callbacks import Callback
from graphengine.train.checkpoint import take_weights
from graphengine.train.checkpoint_folder import Checkpoint, find_run
from graphengine.train.data import Arrays, Data, Source, Stream, generator, split_off
from graphengine.train.evaluate import BATCH, check_measures, check_size, loss_of, measure, prepare
from graphengine.train.history import Epoch, History
from graphengine.train.metrics import BoundMetric, MetricLike
from graphengine.train.progress import Bar, drawing
from graphengine.train.run import Place, Run, take_up


def fit(
    exe: Executable,
    data: Data,
    *,
    epochs: int,
    batch_size: int | None = None,
    shuffle: bool = True,
    validation: Data | float | None = None,
    metrics: MetricLike | Sequence[MetricLike] | None = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = True,
    seed: int | None = None,
    epochs_done: int | None = None,
    checkpoint: Checkpoint | None = None,
    resume: StrPath | None = None,
    ignore: Collection[str] = (),
) -> History:
    """Train `exe` for so many epochs, and return a `ge.History` of what was measured in each.

    `data` gives the arrays by input name; their first axes hold the examples, and inputs with another first axis are
    fed whole to every step. Without `batch_size` an epoch is one step on the full batch (GD), as the data are; with it,
    one step on every batch of that many examples (SGD), the last one shorter if they do not divide, in an order drawn
    anew for each epoch from `seed` (that of `exe` if left out) and the number of the epoch, unless `shuffle` is False.
    `data` may also be an iterable of batches, mappings of arrays; it is then passed over once an epoch, as it comes.

    The loss of an epoch is the mean of its steps' losses by their number of examples, each taken before its update;
    metrics are those of the weights at the end of the epoch, on all training data. `validation` is other data, or a
    fraction of `data` to hold out: the last part of one permutation drawn from `seed`. Metrics and what is measured on
    `validation` are computed by `exe.inference`, without dropout. `metrics` are names of `ge.metrics`, functions of
    predictions and targets, or `ge.Metric`. The bar shows only where stderr is a terminal.

    The numbers of epochs, and with them the shuffling, go on from the epochs that `exe` was trained for before, or from
    `epochs_done`.

    checkpoint: writes the whole run while it goes on. resume: a checkpoint, or a folder of them, whose newest is taken:
    training goes on as if it had never stopped, to the last bit, also from the middle of an epoch, and `epochs` is the
    number of all epochs, those done included. If that folder has no checkpoint yet, and is that of `checkpoint`,
    training begins. The graph, loss, optimizer, seeds, batch size, shuffling, numbers of examples, metrics and
    callbacks must be those of the checkpoint; what may differ is named by `ignore`, in the words of the error. Batches
    of a stream that were passed are skipped.

    Raises TrainingError if the data do not fit, or as soon as the loss of a step is not finite.
    """
    check_size("epochs", epochs)
    check_size("batch_size", batch_size)
    if epochs_done is not None and (epochs_done < 0 or resume is not None):
        raise TrainingError(f"epochs_done is at least 0, and known from the checkpoint to resume; not {epochs_done}")
    seed = exe.seed if seed is None else seed
    plan = _prepare(exe, data, epochs, batch_size, shuffle, validation, metrics, seed)
    run = Run(exe, Place(1 + (exe.epochs_done if epochs_done is None else epochs_done)), callbacks=callbacks)
    run.settings = plan.settings()
    last = epochs if resume is not None else run.place.epoch - 1 + epochs
    saved = find_run(run, resume, checkpoint, ignore)
    resumed = Path(resume) if resume is not None and saved else None
    savers = [each for each in callbacks if isinstance(each, Checkpoint)]
    if checkpoint:
        checkpoint.in_folder = True
        savers.append(checkpoint)
    for saver in savers:
        saver.start(run, resumed)
    if saved:
        take_weights(exe, saved, ignore)
    with drawing(progress, run.place, last, plan.data.examples) as bar:
        for callback in callbacks:
            callback.on_start(exe, run.history)
        try:
            if saved and "callbacks" not in ignore:
                take_up(callbacks, saved.manifest.callbacks, saved.arrays)
            _train(run, plan, last, savers, bar)
        finally:
            for callback in callbacks:
                callback.on_end(exe, run.history)
    return run.history


@dataclass(frozen=True, slots=True)
class _Plan:
    """How an epoch passes: over what, in which batches, and what is measured after it."""

    data: Source
    needs: Collection[str]
    batch_size: int | None
    shuffle: bool
    seed: int
    metrics: Sequence[BoundMetric]
    validation: Source | None
    validation_metrics: Sequence[BoundMetric]

    def order(self, epoch: int) -> Array | None:
        """The order of the examples in an epoch; None as they come."""
        if not self.shuffle or self.batch_size is None or self.data.examples is None:
            return None
        return generator(self.seed, epoch).permutation(self.data.examples)

    def settings(self) -> dict[str, Any]:
        """What must be the same when training goes on from a checkpoint."""
        return {
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "shuffle_seed": self.seed,
            "examples": self.data.examples,
            "validation": self.validation and self.validation.examples,
            "metrics": [metric.name for metric in self.metrics],
        }


def _prepare(
    exe: Executable,
    data: Data,
    epochs: int,
    batch_size: int | None,
    shuffle: bool,
    validation: Data | float | None,
    metrics: MetricLike | Sequence[MetricLike] | None,
    seed: int,
) -> _Plan:
    needs = exe.needs()
    if seed < 0:
        raise TrainingError(f"the seed of a shuffle is at least 0, not {seed}; say fit(..., seed=...)")
    source, bound = prepare(exe, data, metrics)
    if batch_size is not None and source.examples is None:
        raise TrainingError(
            "a stream consists of batches: leave batch_size out"
            if isinstance(source, Stream)
            else "batches need inputs whose first axis, that of the examples, has a name instead of a size"
        )
    held_out: Source | None = None
    validation_metrics = bound
    if isinstance(validation, int | float):
        if not isinstance(source, Arrays):
            raise TrainingError("a fraction can be held out of arrays only; give the validation data of a stream apart")
        source, held_out = split_off(source, validation, seed)
    elif validation is not None:
        held_out, validation_metrics = prepare(exe, validation, metrics)
    if held_out is not None:
        check_measures(loss_of(exe), validation_metrics)
    for what, passed, times in (("data", source, epochs + bool(bound)), ("validation", held_out, epochs)):
        if isinstance(passed, Stream) and passed.once and times > 1:
            raise TrainingError(
                f"{what} is an iterator, which is empty after one pass, and more are needed (epochs, metrics): "
                "give a list of batches, or an object whose __iter__ starts anew"
            )
    return _Plan(source, needs, batch_size, shuffle, seed, bound, held_out, validation_metrics)


def _train(run: Run, plan: _Plan, last: int, savers: Sequence[Checkpoint], bar: Bar | None) -> None:
    """Train to the end of epoch `last`, or until a callback stops it."""
    exe, history = run.exe, run.history
    watchers = [each for each in run.callbacks if type(each).on_step_end is not Callback.on_step_end]
    stepwise = [each for each in savers if each.every_steps]

    def after_step() -> str | None:
        reasons = [callback.on_step_end(exe, history) for callback in watchers]
        for saver in stepwise:
            saver.after_step(run)
        return next(filter(None, reasons), None)

    reason = None
    while run.place.epoch <= last and not history.stopped:
        reason = _steps(run, plan, bar, after_step if watchers or stepwise else None)
        if reason:
            break
        history.epochs.append(_measured(run, plan))
        exe.epochs_done = run.place.epoch
        run.place = Place(run.place.epoch + 1, run.steps)
        if bar:
            bar.epoch(history.epochs[-1])
        reasons = [callback.on_epoch_end(exe, history) for callback in run.callbacks]
        history.stopped = next(filter(None, reasons), None)
        for saver in savers:
            saver.after_epoch(run)
    for saver in savers:
        saver.finish(run)
    history.stopped = (
        history.stopped or reason
    )  # a run stopped in the middle of an epoch is to go on, so no file has it


def _steps(run: Run, plan: _Plan, bar: Bar | None, after_step: Callable[[], str | None] | None) -> str | None:
    """The steps of the epoch that are left; returns the reason of a callback that stops it before its end."""
    exe, place = run.exe, run.place
    started = time.perf_counter() - place.seconds
    batches = iter(plan.data.batches(plan.needs, plan.batch_size, plan.order(place.epoch)))
    for passed in range(place.steps):
        if next(batches, None) is None:
            raise TrainingError(f"the data has {passed} batches, and the checkpoint is from after batch {place.steps}")
    for feeds, count in batches:
        loss = exe.step(feeds)
        place.steps += 1
        if not math.isfinite(loss):
            raise _diverged(loss, place.epoch, place.steps, run.history)
        place.loss += count * loss
        place.examples += count
        if bar:
            bar.step(count, place.loss / place.examples)
        if after_step:
            place.seconds = time.perf_counter() - started
            reason = after_step()
            if reason:
                return reason
    if not place.steps:
        raise TrainingError("there are no examples: the data has no batches")
    place.seconds = time.perf_counter() - started
    return None


def _measured(run: Run, plan: _Plan) -> Epoch:
    """The epoch whose steps are made, with all that is measured at its end."""
    exe, place = run.exe, run.place
    started = time.perf_counter() - place.seconds
    values = {"loss": place.loss / place.examples}
    if plan.metrics:
        values |= measure(exe, plan.data, None, plan.metrics, BATCH)
    if plan.validation is not None:
        measured = measure(exe, plan.validation, loss_of(exe), plan.validation_metrics, BATCH)
        values |= {f"validation_{name}": value for name, value in measured.items()}
    return Epoch(place.epoch, place.steps, time.perf_counter() - started, values)


def _diverged(loss: float, epoch: int, step: int, history: History) -> TrainingError:
    error = TrainingError(
        f"the loss is {loss} in epoch {epoch}, step {step}, and the weights that gave it are of no use: "
        "a lower learning rate, clipped gradients, or data scaled to about 1 may help"
    )
    error.quote(*(f"epoch {past.number}: loss {past.values['loss']:.4g}" for past in history.epochs[-5:]))
    return error

"""Training: epochs of steps over data, looked upon, and written down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphengine.errors import NonFiniteError, TrainingError, ValueRangeError
from graphengine.executable import Executable
from graphengine.files import StrPath
from graphengine.ir.types import Array
from graphengine.train.callbacks import Callback, check_monitor
from graphengine.train.checkpoint import take_weights
from graphengine.train.checkpoint_folder import Checkpoint, find_run
from graphengine.train.data import Arrays, Data, Source, Stream, generator, split_off
from graphengine.train.diagnosis import ADVICE, not_finite, odd_input, out_of_range
from graphengine.train.evaluate import BATCH, check_feeds, check_measures, check_size, loss_of, measure, prepare
from graphengine.train.history import Epoch, History
from graphengine.train.metrics import BoundMetric, MetricLike
from graphengine.train.progress import Bar, drawing
from graphengine.train.run import Place, Run, take_up
from graphengine.where import warn
from graphengine.wording import shown


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
    number of all epochs, those done included. If nothing is there yet, and a `ge.Checkpoint` is to write there,
    training begins. The graph, loss, optimizer, seeds, batch size, shuffling, numbers of examples, metrics and
    callbacks must be those of the checkpoint; what may differ is named by `ignore`, in the words of the error. Batches
    of a stream that were passed are skipped.

    Raises TrainingError or FeedError if the data do not fit, and TrainingError as soon as the loss of a step is not
    finite, or if parameters are not at the end. Every error that leaves `fit`, a KeyboardInterrupt too, has the history
    so far as its attribute `history`; callbacks are ended before, so that EarlyStopping has restored the best weights.
    A validation loss that is not finite is a UserWarning. An executable compiled with `non_finite="skip"` goes on
    instead: such steps change nothing, are counted in the history, and are not in its losses.
    """
    check_size("epochs", epochs)
    check_size("batch_size", batch_size)
    _check_callbacks(callbacks, checkpoint)
    if epochs_done is not None and (epochs_done < 0 or resume is not None):
        raise TrainingError(f"epochs_done is at least 0, and known from the checkpoint to resume; not {epochs_done}")
    seed = exe.seed if seed is None else seed
    plan = _prepare(exe, data, epochs, batch_size, shuffle, validation, metrics, seed)
    _check_monitors([*callbacks, *([checkpoint] if checkpoint else [])], plan.measured(loss_of(exe)))
    run = Run(exe, Place(1 + (exe.epochs_done if epochs_done is None else epochs_done)), callbacks=callbacks)
    run.settings = plan.settings()
    last = epochs if resume is not None else run.place.epoch - 1 + epochs
    savers = [each for each in callbacks if isinstance(each, Checkpoint)]
    if checkpoint:
        checkpoint.in_folder = True
        savers.append(checkpoint)
    saved = find_run(run, resume, savers, ignore)
    resumed = Path(resume) if resume is not None and saved else None
    for saver in savers:
        saver.start(run, resumed)
    if saved:
        take_weights(exe, saved, ignore)
    with drawing(progress, run.place, last, plan.data.examples) as bar, _started(run):
        if saved and "callbacks" not in ignore:
            take_up(callbacks, saved.manifest.callbacks, saved.arrays)
        _train(run, plan, last, savers, bar)
    _check_weights(run, plan)
    return run.history


@contextmanager
def _started(run: Run) -> Iterator[None]:
    """Start the callbacks, and end those that were started, whatever happens; an error has the history so far."""
    errors: list[BaseException] = []
    started: list[Callback] = []
    try:
        for callback in run.callbacks:
            started.append(callback)
            callback.on_start(run.exe, run.history)
        yield
    except BaseException as error:
        errors.append(error)
    for callback in started:
        try:
            callback.on_end(run.exe, run.history)
        except BaseException as error:
            errors.append(error)
    if errors:
        first, *others = errors
        _give(first, run.history)
        for other in others:
            first.add_note(f"then the end of a callback failed: {type(other).__name__}: {other}")
        raise first


def _check_callbacks(callbacks: Sequence[Callback], checkpoint: Checkpoint | None) -> None:
    """Raise TrainingError for what is no callback, before anything is done."""
    if not isinstance(callbacks, Sequence) or isinstance(callbacks, str):
        raise TrainingError(f"callbacks must be a list of ge.Callback, and not {shown(callbacks)}")
    for callback in callbacks:
        if not isinstance(callback, Callback):
            made = f": say {callback.__name__}(...)" if isinstance(callback, type) else ""
            raise TrainingError(f"callbacks must be a list of ge.Callback, and has {shown(callback)}{made}")
    if not isinstance(checkpoint, Checkpoint | None):
        raise TrainingError(f"checkpoint must be a ge.Checkpoint(folder), and not {shown(checkpoint)}")


def _check_monitors(callbacks: Sequence[Callback], measured: Sequence[str]) -> None:
    """Raise TrainingError for a callback that monitors what is not measured; other callbacks may add values."""
    others = [each for each in callbacks if each.monitor is None]
    may_add = any(type(each).on_epoch_end is not Callback.on_epoch_end for each in others)
    for callback in callbacks:
        if not may_add or (callback.monitor or "").startswith("validation_"):
            check_monitor(callback, measured)


def _check_weights(run: Run, plan: _Plan) -> None:
    """Raise TrainingError if the last step left weights that are not finite, which no loss has shown."""
    if run.exe.programs.settings.non_finite == "allow":
        return
    for name, array in run.exe.parameters.items():
        if not np.isfinite(array).all():
            cause = odd_input(plan.data, plan.needs, {}) or ADVICE
            diverged = _diverged(f"parameter {name!r} is not finite after the last step: {cause}", run.history)
            _give(diverged, run.history)
            raise diverged


def _give(error: BaseException, history: History) -> None:
    """Let whoever catches the error have the history."""
    error.history = history  # type: ignore[attr-defined]  # an exception takes any attribute


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

    def measured(self, loss: str | None) -> list[str]:
        """The names of the values that an epoch has."""
        validated = [] if self.validation is None else [metric.name for metric in self.validation_metrics]
        validated = ["loss", *validated] if loss and self.validation is not None else validated
        return ["loss", *(metric.name for metric in self.metrics), *(f"validation_{name}" for name in validated)]

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
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise TrainingError(f"seed is an int, not {shown(seed)}")
    if seed < 0:
        raise TrainingError(f"the seed of a shuffle is at least 0, not {seed}; say fit(..., seed=...)")
    source, bound = prepare(exe, data, metrics)
    check_feeds(exe, source, needs, "the training data")
    if batch_size is not None and source.examples is None:
        raise TrainingError(
            "a stream consists of batches: leave batch_size out"
            if isinstance(source, Stream)
            else "batches need inputs whose first axis, that of the examples, has a name instead of a size"
        )
    held_out: Source | None = None
    validation_metrics = bound
    if isinstance(validation, int | float):
        if isinstance(validation, bool) or not 0 < validation < 1:
            raise TrainingError(f"validation is data, or a fraction of them between 0 and 1, and not {validation}")
        if not isinstance(source, Arrays):
            raise TrainingError("a fraction can be held out of arrays only; give the validation data of a stream apart")
        source, held_out = split_off(source, validation, seed)
    elif validation is not None:
        held_out, validation_metrics = prepare(exe, validation, metrics)
    if held_out is not None:
        loss = loss_of(exe)
        check_measures(loss, validation_metrics)
        outputs = [*([loss] if loss else []), *(metric.output for metric in validation_metrics)]
        check_feeds(exe, held_out, exe.inference.needs(outputs), "the validation data")
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
    # No file has the reason, since a run that was stopped in the middle of an epoch is to go on.
    history.stopped = history.stopped or reason


def _steps(run: Run, plan: _Plan, bar: Bar | None, after_step: Callable[[], str | None] | None) -> str | None:
    """The steps of the epoch that are left; returns the reason of a callback that stops it before its end."""
    exe, place = run.exe, run.place
    started = time.perf_counter() - place.seconds
    order = plan.order(place.epoch)
    batches = iter(plan.data.batches(plan.needs, plan.batch_size, order))
    for passed in range(place.steps):
        if next(batches, None) is None:
            raise TrainingError(f"the data has {passed} batches, and the checkpoint is from after batch {place.steps}")
    for feeds, count in batches:
        skipped = exe.skipped
        try:
            loss = exe.step(feeds)
        except ValueRangeError as error:
            raise out_of_range(error, feeds, plan.data, place.examples, order) from None
        except NonFiniteError as error:
            cause = not_finite(exe, feeds, plan.data, place.examples)
            said = f"{error.found} in epoch {place.epoch}, step {place.steps + 1}: {cause}"
            raise _diverged(said, run.history) from None
        place.steps += 1
        place.examples += count
        if exe.skipped > skipped:
            place.skipped += 1
            place.left_out += count
        else:
            place.loss += count * loss
        if bar:
            bar.step(count, place.mean_loss)
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
    values = {"loss": place.mean_loss}
    if plan.metrics:
        values |= measure(exe, plan.data, None, plan.metrics, BATCH)
    if plan.validation is not None:
        measured = measure(exe, plan.validation, loss_of(exe), plan.validation_metrics, BATCH)
        values |= {f"validation_{name}": value for name, value in measured.items()}
        if not math.isfinite(values.get("validation_loss", 0.0)):
            cause = odd_input(plan.validation, plan.needs, {}) or ADVICE
            said = f"validation_loss is {values['validation_loss']} after epoch {place.epoch}: {cause}"
            warn(said, UserWarning)
    return Epoch(place.epoch, place.steps, time.perf_counter() - started, values, place.skipped)


def _diverged(message: str, history: History) -> TrainingError:
    error = TrainingError(message)
    error.quote(*(f"epoch {past.number}: loss {past.values['loss']:.4g}" for past in history.epochs[-5:]))
    return error

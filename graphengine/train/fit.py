"""Training: epochs of steps over data, looked upon, and written down."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.train.callbacks import Callback
from graphengine.train.data import Arrays, Data, Source, Stream, generator, split_off
from graphengine.train.evaluate import BATCH, check_measures, check_size, loss_of, measure, prepare
from graphengine.train.history import Epoch, History
from graphengine.train.metrics import BoundMetric, MetricLike
from graphengine.train.progress import Bar, drawing


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
    epochs_done: int = 0,
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

    `epochs_done` says how many epochs were trained before, so that the numbers of epochs, and with them the shuffling,
    go on from there: see `load_checkpoint`.

    Raises TrainingError if the data do not fit, or as soon as the loss of a step is not finite.
    """
    check_size("epochs", epochs)
    check_size("batch_size", batch_size)
    if epochs_done < 0:
        raise TrainingError(f"epochs_done is at least 0, not {epochs_done}")
    seed = exe.seed if seed is None else seed
    plan = _prepare(exe, data, epochs, batch_size, shuffle, validation, metrics, seed)
    history = History()
    first = epochs_done + 1
    with drawing(progress, epochs, first, plan.data.examples) as bar:
        for callback in callbacks:
            callback.on_start(exe, history)
        try:
            for number in range(first, first + epochs):
                history.epochs.append(_epoch(exe, plan, number, history, bar))
                if bar:
                    bar.epoch(history.epochs[-1])
                reasons = [callback.on_epoch_end(exe, history) for callback in callbacks]
                history.stopped = next(filter(None, reasons), None)
                if history.stopped:
                    break
        finally:
            for callback in callbacks:
                callback.on_end(exe, history)
    return history


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


def _epoch(exe: Executable, plan: _Plan, number: int, history: History, bar: Bar | None) -> Epoch:
    started = time.perf_counter()
    order = None
    if plan.shuffle and plan.batch_size is not None and plan.data.examples is not None:
        order = generator(plan.seed, number).permutation(plan.data.examples)
    total = 0.0
    examples = steps = 0
    for feeds, count in plan.data.batches(plan.needs, plan.batch_size, order):
        loss = exe.step(feeds)
        steps += 1
        if not math.isfinite(loss):
            raise _diverged(loss, number, steps, history)
        total += count * loss
        examples += count
        if bar:
            bar.step(count, total / examples)
    if not steps:
        raise TrainingError("there are no examples: the data has no batches")
    values = {"loss": total / examples}
    if plan.metrics:
        values |= measure(exe, plan.data, None, plan.metrics, BATCH)
    if plan.validation is not None:
        measured = measure(exe, plan.validation, loss_of(exe), plan.validation_metrics, BATCH)
        values |= {f"validation_{name}": value for name, value in measured.items()}
    return Epoch(number, steps, time.perf_counter() - started, values)


def _diverged(loss: float, epoch: int, step: int, history: History) -> TrainingError:
    error = TrainingError(
        f"the loss is {loss} in epoch {epoch}, step {step}, and the weights that gave it are of no use: "
        "a lower learning rate, clipped gradients, or data scaled to about 1 may help"
    )
    error.quote(*(f"epoch {past.number}: loss {past.values['loss']:.4g}" for past in history.epochs[-5:]))
    return error

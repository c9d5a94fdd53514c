"""Cross-validation: a network trained k times, each time without one k-th of the data, and measured on that part."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graphengine.compile import compile
from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.names import did_you_mean
from graphengine.ir.training import Optimizer
from graphengine.ir.types import Array
from graphengine.train.callbacks import Callback
from graphengine.train.data import Arrays, Feeds, as_source, generator
from graphengine.train.evaluate import evaluate
from graphengine.train.fit import fit
from graphengine.train.history import History, table
from graphengine.train.metrics import MetricLike
from graphengine.transform.training_graph import trains_itself


@dataclass(frozen=True, slots=True)
class Fold:
    """One training: the numbers of the examples held out, its history, and what was measured on those at its end."""

    rows: Array
    history: History
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """The folds. `print` shows a table of their scores."""

    folds: tuple[Fold, ...]

    @property
    def scores(self) -> dict[str, list[float]]:
        """For "loss" and every metric its values on the examples held out, one a fold."""
        return {name: [fold.scores[name] for fold in self.folds] for name in self.folds[0].scores}

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each score over the folds."""
        return {name: statistics.fmean(values) for name, values in self.scores.items()}

    @property
    def std(self) -> dict[str, float]:
        """The standard deviation of each score from fold to fold, with the divisor k - 1."""
        return {name: statistics.stdev(values) for name, values in self.scores.items()}

    def __getitem__(self, name: str) -> list[float]:
        scores = self.scores
        if name not in scores:
            raise TrainingError(f"no score {name!r}{did_you_mean(name, scores)}")
        return scores[name]

    def __len__(self) -> int:
        return len(self.folds)

    def __str__(self) -> str:
        rows = [[number, *fold.scores.values()] for number, fold in enumerate(self.folds, 1)]
        return table([["fold", *self.scores], *rows, ["mean", *self.mean.values()], ["std", *self.std.values()]])


def cross_validate(
    network: Graph | Callable[[int], Executable],
    data: Feeds,
    *,
    epochs: int,
    folds: int = 5,
    loss: str | None = None,
    optimizer: Optimizer | None = None,
    batch_size: int | None = None,
    metrics: MetricLike | Sequence[MetricLike] | None = None,
    callbacks: Sequence[Callback] = (),
    stratify: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> CrossValidation:
    """Train `network` anew for each of `folds` parts of the data, on the other parts, and measure it on that one.

    The examples are permuted by `seed` and dealt out to the folds in turn, so that each is held out once, and the sizes
    of folds differ by one at most. `stratify` names an array of class numbers, "label" say: then each class is dealt
    out in turn, and every fold has its part of it.

    `network` is a graph, compiled for every fold with the same `seed`, and so with the same first weights: scores
    differ by the examples alone. `loss` and `optimizer` are those of its training section if left out. Or `network` is
    a function that gives a newly compiled executable for the number of a fold, from 0. No weight and no state passes
    from one fold to the next. `epochs`, `batch_size`, `metrics`, `callbacks` and `progress` are those of `fit`, whose
    `validation` is the part held out; the scores are those of the weights that training ends with.

    The same arguments give the same result. Raises TrainingError if the data cannot be dealt out so, and as `fit` does.
    """
    build = _builder(network, loss, optimizer, seed)
    exe = build(0)
    arrays = as_source(exe.graph, data)
    if not isinstance(arrays, Arrays) or arrays.examples is None:
        raise TrainingError("folds are dealt from arrays by name, whose first axis, that of the examples, has a name")
    parts = _deal(arrays, arrays.examples, folds, stratify, seed)
    results = []
    for number, rows in enumerate(parts):
        fresh = build(number) if number else exe
        if number and fresh is exe:
            raise TrainingError(f"fold {number} is given the executable of the fold before, which is trained already")
        exe = fresh  # that of the fold before takes no memory while this one is trained
        others = np.sort(np.concatenate([part for part in parts if part is not rows]))
        train, held_out = arrays.take(others), arrays.take(rows)
        history = fit(
            exe,
            train,
            epochs=epochs,
            batch_size=batch_size,
            validation=held_out,
            metrics=metrics,
            callbacks=callbacks,
            progress=progress,
        )
        results.append(Fold(rows, history, evaluate(exe, held_out, metrics)))
    return CrossValidation(tuple(results))


def _builder(
    network: Graph | Callable[[int], Executable], loss: str | None, optimizer: Optimizer | None, seed: int
) -> Callable[[int], Executable]:
    if not isinstance(network, Graph):
        if loss is not None or optimizer is not None:
            raise TrainingError(
                "the executables of a function are compiled: loss and optimizer are given to ge.compile"
            )
        return network
    training = network.training
    if optimizer is None and training is None and not trains_itself(network):
        raise TrainingError(f"graph {network.name!r} has no training section: give cross_validate an optimizer")
    rule = optimizer or (training.optimizer if training and not trains_itself(network) else None)
    name = loss or (training.loss if training else "loss")
    return lambda _: compile(network, loss=name, optimizer=rule, seed=seed)


def _deal(arrays: Arrays, examples: int, folds: int, stratify: str | None, seed: int) -> list[Array]:
    """For every fold the numbers of its examples, ascending."""
    if not isinstance(folds, int) or not 2 <= folds <= examples:
        raise TrainingError(f"{examples} examples can be dealt out to 2 to {examples} folds, not to {folds!r}")
    order = generator(seed, 0).permutation(examples)
    if stratify is not None:
        order = order[np.argsort(_classes(arrays, stratify)[order], kind="stable")]
    return [np.sort(order[fold::folds]) for fold in range(folds)]


def _classes(arrays: Arrays, name: str) -> Array:
    if name not in arrays.split:
        raise TrainingError(f"stratify: no array {name!r} with a row an example{did_you_mean(name, arrays.split)}")
    labels = arrays.split[name]
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        shape = list(labels.shape)
        raise TrainingError(f"stratify: class numbers are ints along one axis, and {name!r} is {labels.dtype}{shape}")
    return labels

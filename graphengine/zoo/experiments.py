"""The zoo's networks on real data: how each is trained and measured, and what it is to reach."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from graphengine.baselines import PrincipalComponents, Trigram
from graphengine.compile import compile
from graphengine.data import Alphabet, Split, digits, fashion_mnist, python_topics, windows
from graphengine.errors import CompileError
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.training import Training
from graphengine.ir.types import Array
from graphengine.train import History, Metric, evaluate, fit
from graphengine.train.metrics import mean_squared_error
from graphengine.zoo.networks import (
    STRETCH,
    character_transformer,
    convolutional_autoencoder,
    digits_gru,
    digits_lstm,
    fashion_mlp,
    lenet,
)

_STRETCHES = 64
"""Stretches of text that are measured at a time, which bounds the memory."""

_BITS_ALLOWED = 0.85
"""Of those that a trigram model takes."""

_CODE = 8
"""Numbers that a picture is made into, by the autoencoder and by principal components."""

Arrays = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure of the data held back is to be: at least `bound`, or at most."""

    figure: str
    bound: float
    at_least: bool
    because: str = ""
    """Where the bound comes from, if it is measured."""

    def reached_by(self, value: float) -> bool:
        """Whether this value will do."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True, slots=True)
class Experiment:
    """A network, the data that it is shown on, how it is measured, and against what."""

    about: str
    load: Callable[[], Split]
    build: Callable[[Split], Graph]
    measure: Callable[[Executable, Arrays], float]
    goal: Callable[[Split], Goal]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A network trained, and what it was measured to do with the data held back."""

    executable: Executable
    graph: Graph
    training: Training
    data: Split
    history: History
    goal: Goal
    value: float
    seconds: float
    """Of everything: reading the data, fitting the baseline, training, measuring."""

    @property
    def reached(self) -> bool:
        """Whether the goal is."""
        return self.goal.reached_by(self.value)


def reproduce(
    experiment: Experiment, *, seed: int | None = None, examples: int | None = None, progress: bool = True
) -> Outcome:
    """Train the network as its training section says, and measure it on the data held back.

    `seed` replaces that of the training section. With `examples`, training passes once over so many, and as many at
    most are tested: that shows that all works, and its figure says nothing of the network. Baselines are fitted to all
    data. Raises TrainingError where the data are not there.
    """
    started = time.perf_counter()
    data = experiment.load()
    goal, graph = experiment.goal(data), experiment.build(data)
    if graph.training is None:
        raise CompileError(f"graph {graph.name!r} does not say how it is trained: it has no training section")
    training = graph.training if seed is None else graph.training.model_copy(update={"seed": seed})
    if examples is not None:
        data = Split(*({name: array[:examples] for name, array in part.items()} for part in data))
        training = training.model_copy(update={"epochs": 1})
    exe, history = train(graph, training, data.train, progress=progress)
    value = experiment.measure(exe, data.test)
    return Outcome(exe, graph, training, data, history, goal, value, time.perf_counter() - started)


def train(
    graph: Graph, training: Training, data: Arrays, metrics: str | None = None, progress: bool = True
) -> tuple[Executable, History]:
    """The graph compiled and trained as `training` says, and how that went."""
    exe = compile(graph, loss=training.loss, optimizer=training.optimizer, seed=training.seed)
    epochs, batch_size = training.epochs, training.batch_size
    return exe, fit(exe, data, epochs=epochs, batch_size=batch_size, metrics=metrics, progress=progress)


def _accuracy(exe: Executable, test: Arrays) -> float:
    return evaluate(exe, test, metrics="accuracy")["accuracy"]


def _bits(exe: Executable, test: Arrays) -> float:
    return evaluate(exe, test, batch_size=_STRETCHES)["loss"] / math.log(2)


def _squared_error(exe: Executable, test: Arrays) -> float:
    metric = Metric("error", mean_squared_error, output="reconstruction", target="pixels")
    return evaluate(exe, test, metrics=metric)["error"]


def _beat_trigram(data: Split) -> Goal:
    train, test = (np.append(part["characters"].ravel(), part["next"][-1, -1]) for part in data)
    bits = Trigram.fit(train, _symbols(data)).bits(test)
    because = f"{_BITS_ALLOWED:.0%} of the {bits:.4f} of a trigram model"
    return Goal("held-out bits per character", _BITS_ALLOWED * bits, at_least=False, because=because)


def _beat_principal_components(data: Split) -> Goal:
    error = PrincipalComponents.fit(data.train["pixels"], _CODE).error(data.test["pixels"])
    because = f"that of {_CODE} principal components"
    return Goal("held-out mean squared error", error, at_least=False, because=because)


def _topics() -> Split:
    texts = python_topics()
    alphabet = Alphabet.of(texts[0])
    return Split(*(windows(alphabet.encode(text), STRETCH) for text in texts))


def _symbols(data: Split) -> int:
    return 1 + max(int(array.max()) for part in data for array in part.values())


def _classifier(about: str, load: Callable[[], Split], build: Callable[[], Graph], accuracy: float) -> Experiment:
    goal = Goal("test accuracy", accuracy, at_least=True)
    return Experiment(about, load, lambda _: build(), _accuracy, lambda _: goal)


EXPERIMENTS: Mapping[str, Experiment] = MappingProxyType(
    {
        "mlp": _classifier("MLP 784-256-128-10 on Fashion-MNIST", fashion_mnist, fashion_mlp, 0.88),
        "lenet": _classifier("LeNet with batch norm and dropout on Fashion-MNIST", fashion_mnist, lenet, 0.90),
        "lstm": _classifier("LSTM on digits, row after row", digits, digits_lstm, 0.95),
        "gru": _classifier("GRU on digits, row after row", digits, digits_gru, 0.95),
        "transformer": Experiment(
            about="causal transformer on the characters of Python's help()",
            load=_topics,
            build=lambda data: character_transformer(_symbols(data)),
            measure=_bits,
            goal=_beat_trigram,
        ),
        "autoencoder": Experiment(
            about="convolutional autoencoder on digits",
            load=lambda: Split(*({"pixels": part["pixels"]} for part in digits())),
            build=lambda _: convolutional_autoencoder(_CODE),
            measure=_squared_error,
            goal=_beat_principal_components,
        ),
    }
)

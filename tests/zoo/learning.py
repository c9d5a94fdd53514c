"""Training a network of the zoo as its training section says, for a while."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import graphengine as ge
from graphengine.executable import Executable
from graphengine.train import History

Arrays = Mapping[str, np.ndarray]


def learn(graph: ge.Graph, data: Arrays, epochs: int, batch_size: int | None = None) -> tuple[Executable, History]:
    """The network trained, and how its loss went."""
    training = graph.training
    assert training is not None
    exe = ge.compile(graph, loss=training.loss, optimizer=training.optimizer, seed=training.seed)
    size = batch_size or training.batch_size
    return exe, ge.fit(exe, data, epochs=epochs, batch_size=size, progress=False)


def accuracy(exe: Executable, data: Arrays) -> float:
    return ge.evaluate(exe, data, metrics="accuracy")["accuracy"]


def first(arrays: Arrays, n: int) -> Arrays:
    return {name: array[:n] for name, array in arrays.items()}

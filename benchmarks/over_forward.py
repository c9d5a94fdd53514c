"""What a value with its gradient costs over the value alone: by the clock and in FLOPs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.dags import layered_dag, random_dag
from benchmarks.frame.result import Record
from benchmarks.worker.case import Array
from benchmarks.worker.with_graphengine import graph_of
from graphengine import zoo
from graphengine.baselines import random_feeds
from graphengine.compile import compile
from graphengine.ir.graph import Graph

__all__ = ["MLPS", "NETWORKS", "RANDOM", "ZOO", "Network", "count", "measure", "random_graph"]

_PIXELS, _CLASSES, _SYMBOLS = 784, 10, 90
_TIME = 64
"""Characters of an example."""
_LEAST = 20
"""Times that each is run, however long it takes."""


@dataclass(frozen=True, slots=True)
class Network:
    """A graph with an output "loss", and the batch that it is run on; inputs are at random."""

    build: Callable[[], Graph]
    batch: int

    def alone(self) -> Graph:
        """The graph of the loss and nothing else."""
        graph = self.build()
        graph.outputs, graph.updates = {"loss": graph.outputs["loss"]}, {}
        return graph

    def sizes(self, graph: Graph) -> dict[str, int]:
        """The size of each named dim."""
        return {name: _TIME if name == "time" else self.batch for node in graph.inputs for name in node.type.names()}

    def feeds(self, graph: Graph) -> dict[str, Array]:
        """Random numbers for every input."""
        return random_feeds(graph, self.sizes(graph))


def _zoo(name: str, batch: int, *arguments: Any) -> Network:
    def build() -> Graph:
        graph = getattr(zoo, name)(*arguments)
        assert isinstance(graph, Graph)
        return graph

    return Network(build, batch)


def _mlp(*sizes: int, batch: int) -> Network:
    return _zoo("mlp", batch, sizes, "relu")


MLPS: Mapping[str, Network] = {
    "MLP 256-256-128-10": _mlp(256, 256, 128, _CLASSES, batch=32),
    "MLP 784-256-10": _mlp(_PIXELS, 256, _CLASSES, batch=128),
    "MLP 784-512-512-10": _mlp(_PIXELS, 512, 512, _CLASSES, batch=128),
    "MLP 784-1024-256-10": _mlp(_PIXELS, 1024, 256, _CLASSES, batch=64),
    "MLP 1024-1024-1024-1024-10": _mlp(1024, 1024, 1024, 1024, _CLASSES, batch=512),
}
"""All of 10^5 parameters and more, float32."""

_ARGUMENTS: Mapping[str, tuple[Any, ...]] = {
    "linear_regression": (32, 32, 4),
    "logistic_regression": (32, 32),
    "perceptron": (32, 32),
    "neuron": (32,),
    "linear_network": (32, [64, 32, 16, 4]),
    "mlp": (32, [64, 32, _CLASSES]),
    "three_layer": (32, 64, (32, 16), _CLASSES),
    "digits_network": (32,),
    "digits_lstm": (32,),
    "digits_gru": (32,),
    "convolutional_autoencoder": (32,),
    "fashion_mlp": (128,),
    "lenet": (64,),
    "character_transformer": (8, _SYMBOLS),
}
"""The batch, and what the function of the zoo is called with."""

ZOO: Mapping[str, Network] = {name: _zoo(name, *arguments) for name, arguments in _ARGUMENTS.items()}
"""All that the zoo has, float32."""

NETWORKS: Mapping[str, Network] = {**MLPS, **ZOO}

RANDOM = range(40)
"""Seeds of random graphs: every second one of scalars, the others of matrices."""


def measure(name: str, backend: str, seconds: float) -> Record:
    """The loss alone and the loss with all gradients, turn by turn, as arrays that are the caller's own."""
    network = NETWORKS[name]
    graph = network.alone()
    feeds = network.feeds(graph)
    alone, trainer = compile(graph, backend=backend), compile(graph, loss="loss", backend=backend)

    def value_and_gradient() -> None:
        trainer.forward(feeds)
        trainer.backward()

    ways: dict[str, Callable[[], object]] = {"forward": partial(alone.forward, feeds), "gradient": value_and_gradient}
    for run in ways.values():
        run()
    samples: dict[str, list[float]] = {way: [] for way in ways}
    end = time.perf_counter() + seconds
    while len(samples["forward"]) < _LEAST or time.perf_counter() < end:
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            samples[way].append(time.perf_counter() - start)
    figures = {way: statistics.median(taken) for way, taken in samples.items()}
    figures |= {f"{way}_minimum": min(taken) for way, taken in samples.items()}
    sizes = {"parameters": sum(node.type.size for node in graph.parameters), "batch": network.batch}
    counted = _flops(graph, network.sizes(graph))
    return Record(row=name, peer=backend, figures={**figures, **counted, **sizes, "samples": len(samples["forward"])})


def random_graph(seed: int) -> Graph:
    """A random graph without inputs of named size: scalars, or layers of an MLP that skip here and there."""
    dag = layered_dag(nodes=40, seed=seed) if seed % 2 else random_dag(nodes=100, leaves=8, seed=seed)
    feeds = {name: np.empty(shape, np.float32) for name, shape in dag["feeds"]}
    return graph_of("dag", dag, feeds)


def count(seed: int) -> Record:
    """The FLOPs of the loss of a random graph, and of the loss with all gradients."""
    return Record(row="random graphs", peer="counted", size=seed, figures=_flops(random_graph(seed), {}))


def _flops(graph: Graph, sizes: Mapping[str, int]) -> dict[str, float]:
    forward = compile(graph).cost(**sizes).total_flops
    return {"forward_flops": forward, "gradient_flops": compile(graph, loss="loss").cost(**sizes).total_flops}

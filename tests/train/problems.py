"""Small networks, and data that they can learn."""

from collections.abc import Callable
from typing import Any

import numpy as np

import graphengine as ge
from graphengine.executable import Executable
from graphengine.ir.training import Optimizer
from graphengine.ops.loss import cross_entropy, squared_error

Data = dict[str, np.ndarray]


def line(optimizer: Optimizer | None = None, seed: int = 0, **settings: Any) -> Executable:
    """prediction = x w + b, in float64, with the mean squared error."""
    g = ge.Graph("line", dtype="float64")
    x, y = g.input("x", ("batch", 3)), g.input("y", ("batch", 1))
    prediction = g.output("prediction", x @ g.parameter("w", (3, 1)) + g.parameter("b", (1,)))
    g.output("loss", squared_error(prediction, y))
    return ge.compile(g, loss="loss", optimizer=optimizer or ge.SGD(learning_rate=0.1), seed=seed, **settings)


def points(n: int = 50, seed: int = 0, noise: float = 0.0) -> Data:
    """Points on the plane y = x (1, -2, 0.5) + 3."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, 3))
    return {"x": x, "y": x @ [[1.0], [-2.0], [0.5]] + 3 + noise * generator.normal(size=(n, 1))}


def classifier(
    optimizer: Optimizer | None = None, seed: int = 0, *, graph: Callable[[ge.Graph], object] = str, **settings: Any
) -> Executable:
    """A network of one hidden layer for points of the plane in three classes, in float32."""
    g = ge.Graph("classifier")
    x, label = g.input("x", ("batch", 2)), g.input("label", ("batch",), "int64")
    h = ge.tanh(x @ g.parameter("w1", (2, 16)) + g.parameter("b1", (16,)))
    logits = g.output("logits", h @ g.parameter("w2", (16, 3)) + g.parameter("b2", (3,)))
    g.output("loss", cross_entropy(logits, label))
    graph(g)
    return ge.compile(g, loss="loss", optimizer=optimizer or ge.Adam(learning_rate=0.02), seed=seed, **settings)


def rings(n: int = 300, seed: int = 0) -> Data:
    """Points of three rings around the origin: no line tells the classes apart."""
    generator = np.random.default_rng(seed)
    label = generator.integers(0, 3, n)
    angle = generator.uniform(0, 2 * np.pi, n)
    radius = label + generator.uniform(0.2, 0.8, n)
    return {"x": np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1), "label": label}


def weights(exe: Executable) -> dict[str, bytes]:
    """All that the executable holds, bit for bit."""
    return {name: array.tobytes() for name, array in {**exe.parameters, **exe.state}.items()}


class Killed(BaseException):
    """What ends a run between two steps, without a chance to write."""


class Kill(ge.Callback):
    def __init__(self, steps: int | None) -> None:
        self.left = steps

    def on_step_end(self, exe: Executable, history: ge.History) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed

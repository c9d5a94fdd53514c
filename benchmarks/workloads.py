"""The networks that are trained to compare engines: sizes, first parameters and one batch, from a fixed seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from benchmarks.dags import random_dag
from benchmarks.worker.case import Array, Case

__all__ = ["WORKLOADS", "Workload", "block", "elementwise", "lenet", "lstm", "mlp", "scalar"]

_Arrays = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Workload:
    """A row of the benchmark."""

    name: str
    about: str
    case: Callable[[], Case]


def _normal(rng: np.random.Generator, shape: Sequence[int], fan_in: int, gain: float = 1.0) -> Array:
    return (math.sqrt(gain / fan_in) * rng.standard_normal(shape)).astype(np.float32)


def _zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def _dense(rng: np.random.Generator, name: str, units_in: int, units_out: int, gain: float = 1.0) -> _Arrays:
    return {
        f"{name}.weight": _normal(rng, (units_in, units_out), units_in, gain),
        f"{name}.bias": _zeros(units_out),
    }


def _classified(rng: np.random.Generator, shape: Sequence[int], classes: int) -> _Arrays:
    """Examples, and a class for each."""
    return {"x": _normal(rng, shape, 1), "y": rng.integers(classes, size=shape[0])}


def mlp(sizes: Sequence[int], batch: int) -> Case:
    """Layers of these sizes with relu between, and the mean cross entropy."""
    rng = np.random.default_rng(0)
    parameters: _Arrays = {}
    for place, (units_in, units_out) in enumerate(pairwise(sizes), 1):
        parameters |= _dense(rng, f"layer{place}", units_in, units_out, gain=2.0)
    feeds = _classified(rng, (batch, sizes[0]), sizes[-1])
    return Case("mlp", {"sizes": list(sizes)}, 1e-2, parameters, feeds)


def lenet(batch: int) -> Case:
    """Two convolutions and a dense layer, on pictures of 28x28 in 10 classes."""
    rng = np.random.default_rng(0)
    channels, window, classes = (8, 16), 5, 10
    parameters: _Arrays = {}
    for place, (channels_in, channels_out) in enumerate(pairwise((1, *channels)), 1):
        shape = (channels_out, channels_in, window, window)
        parameters[f"conv{place}.weight"] = _normal(rng, shape, channels_in * window**2, gain=2.0)
        parameters[f"conv{place}.bias"] = _zeros(channels_out)
    parameters |= _dense(rng, "dense", 256, classes)
    settings = {"channels": list(channels), "window": window, "classes": classes}
    return Case("lenet", settings, 1e-2, parameters, _classified(rng, (batch, 1, 28, 28), classes))


def lstm(features: int, units: int, time: int, batch: int) -> Case:
    """An LSTM, and 10 classes from its last state."""
    rng, classes = np.random.default_rng(0), 10
    bias = _zeros(4, units)
    bias[1] = 1.0  # that of the forget gate
    parameters = {
        "lstm.input_weight": _normal(rng, (features, 4 * units), features),
        "lstm.bias": bias.reshape(-1),
        "lstm.recurrent_weight": _normal(rng, (units, 4 * units), units),
        **_dense(rng, "dense", units, classes),
    }
    feeds = _classified(rng, (batch, time, features), classes)
    return Case("lstm", {"units": units, "classes": classes}, 1e-2, parameters, feeds)


def block(units: int, heads: int, hidden: int, time: int, batch: int) -> Case:
    """A pre-norm transformer block, and the mean squared error of what it gives."""
    rng = np.random.default_rng(0)
    norms = {f"block.{name}": _norm(f"block.{name}", units) for name in ("attention_norm", "hidden_norm")}
    parameters = {
        **norms["block.attention_norm"],
        **_dense(rng, "block.attention.qkv", units, 3 * units),
        **_dense(rng, "block.attention.output", units, units),
        **norms["block.hidden_norm"],
        **_dense(rng, "block.hidden", units, hidden, gain=2.0),
        **_dense(rng, "block.output", hidden, units),
    }
    feeds = {name: _normal(rng, (batch, time, units), 1) for name in ("x", "y")}
    return Case("block", {"heads": heads, "hidden": hidden}, 1e-2, parameters, feeds)


def _norm(name: str, units: int) -> _Arrays:
    return {f"{name}.weight": np.ones(units, np.float32), f"{name}.bias": _zeros(units)}


def elementwise(elements: int) -> Case:
    """The sum of tanh(a x + b) sigmoid(x) + exp(-x x), with x, a and b as parameters."""
    x = _normal(np.random.default_rng(0), (elements,), 1)
    parameters = {"x": x, "a": np.array(1.5, np.float32), "b": np.array(0.5, np.float32)}
    # The gradients of a and b are sums over all x, so the rate is small.
    return Case("elementwise", {"elements": elements}, 1e-8, parameters, {})


def scalar(nodes: int, leaves: int) -> Case:
    """A DAG at random, of scalars."""
    dag = random_dag(nodes, leaves)
    names = [name for name, _ in dag["parameters"]]
    parameters = {name: np.array(value, np.float32) for name, value in zip(names, dag["first"], strict=True)}
    return Case("dag", dag, 1e-2, parameters, {})


def _mlp_row(name: str, sizes: Sequence[int], batch: int) -> Workload:
    return Workload(name, f"MLP {'-'.join(map(str, sizes))}, batch {batch}", partial(mlp, sizes, batch))


_ALL = (
    _mlp_row("tiny", (16, 32, 10), 1),
    _mlp_row("digits", (64, 128, 64, 10), 32),
    _mlp_row("mnist", (784, 256, 10), 128),
    _mlp_row("wide", (784, 512, 512, 10), 128),
    _mlp_row("gemm", (1024, 1024, 1024, 1024, 10), 512),
    Workload(
        "lenet",
        "conv 1-8 5x5, relu, pool 2, conv 8-16 5x5, relu, pool 2, dense 256-10; batch 64 of 28x28",
        partial(lenet, batch=64),
    ),
    Workload(
        "lstm",
        "LSTM 32-64, 64 steps, last state to 10 classes; batch 32",
        partial(lstm, features=32, units=64, time=64, batch=32),
    ),
    Workload(
        "block",
        "pre-norm transformer block, width 64, 4 heads, MLP 256; batch 8, 64 tokens",
        partial(block, units=64, heads=4, hidden=256, time=64, batch=8),
    ),
    Workload(
        "elementwise",
        "sum(tanh(ax+b)*sigmoid(x)+exp(-x*x)), 1,000,000 elements; trains x, a and b",
        partial(elementwise, 10**6),
    ),
    Workload(
        "scalar",
        "random DAG of 1,000 scalar add, multiply and tanh, all live; trains its 32 leaves",
        partial(scalar, nodes=1000, leaves=32),
    ),
)

WORKLOADS: Mapping[str, Workload] = {workload.name: workload for workload in _ALL}

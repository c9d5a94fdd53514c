"""This engine. Where the interpreter has none of its own, the one that this file belongs to is run."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .case import Case, Missing, Step
from .numpy_facts import blas, cores

if importlib.util.find_spec("graphengine") is None:
    sys.path.append(str(Path(__file__).resolve().parents[2]))  # last: all else is taken from the interpreter's own

import graphengine as ge

__all__ = ["facts", "graph_of", "load", "predicted_peak", "prepare"]


def facts(variant: str) -> dict[str, Any]:
    """Who this is; "numba-alone" has one thread from now on. Raises Missing."""
    backend = variant.removesuffix("-alone")
    if importlib.util.find_spec(backend) is None:  # older versions, which it runs as well, have no public name for that
        raise Missing(f"{backend} is not installed")
    if variant != backend:
        ge.set_threads(1)
    needed = ["numpy"] if backend == "numpy" else ["numpy", "numba"]
    versions = {"graphengine": _own_version(), **{name: version(name) for name in needed}}
    return {"versions": versions, "blas": blas(), "threads": cores() if variant == backend else 1}


def _own_version() -> str:
    try:
        return version("graphengine")
    except PackageNotFoundError:
        return "of a checkout"


def prepare(case: Case, variant: str) -> Step:
    """`Executable.step` on the case's batch, from the case's parameters."""
    exe = _compiled(graph_of(case.family, case.settings, case.feeds), case.rate, variant)
    for name, value in case.parameters.items():
        exe.parameters[name] = value
    return partial(exe.step, dict(case.feeds))


def load(document: str, variant: str) -> Step:
    """A step of the graph of a JSON document; all feeds are ones."""
    graph = ge.Graph.from_json(document)
    feeds = {node.name: np.ones(node.type.static_shape, node.dtype) for node in graph.inputs}
    return partial(_compiled(graph, 1e-3, variant).step, feeds)


def predicted_peak(step: Any) -> int:
    """What the plan of the step that ran says: the arena, and nothing of the leaves."""
    return int(step.func.__self__.program.peak_bytes)


def graph_of(family: str, settings: Mapping[str, Any], feeds: Mapping[str, Any]) -> ge.Graph:
    """The network of a case, whose output "loss" is what is trained on."""
    return _FAMILIES[family](settings, feeds)


def _compiled(graph: ge.Graph, rate: float, variant: str) -> ge.Executable:
    return ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=rate), backend=variant.removesuffix("-alone"))


def _inputs(graph: ge.Graph, feeds: Mapping[str, Any]) -> list[ge.Node]:
    return [graph.input(name, ("batch", *value.shape[1:]), dtype=str(value.dtype)) for name, value in feeds.items()]


def _mlp(settings: Mapping[str, Any], _: Mapping[str, Any]) -> ge.Graph:
    return ge.zoo.mlp(settings["sizes"], "relu")


def _lenet(settings: Mapping[str, Any], feeds: Mapping[str, Any]) -> ge.Graph:
    graph = ge.Graph("lenet")
    h, y = _inputs(graph, feeds)
    for place, channels in enumerate(settings["channels"], 1):
        h = ge.max_pool2d(ge.layers.conv2d(h, channels, settings["window"], name=f"conv{place}", activation=ge.relu), 2)
    _, channels, height, width = h.shape
    rows = ge.reshape(h, ("batch", int(channels) * int(height) * int(width)))
    graph.output("loss", ge.cross_entropy(ge.layers.dense(rows, settings["classes"], name="dense"), y))
    return graph


def _lstm(settings: Mapping[str, Any], feeds: Mapping[str, Any]) -> ge.Graph:
    graph = ge.Graph("lstm")
    x, y = _inputs(graph, feeds)
    last = ge.layers.lstm(x, settings["units"], name="lstm")
    graph.output("loss", ge.cross_entropy(ge.layers.dense(last, settings["classes"], name="dense"), y))
    return graph


def _block(settings: Mapping[str, Any], feeds: Mapping[str, Any]) -> ge.Graph:
    graph = ge.Graph("block")
    x, y = _inputs(graph, feeds)
    h = ge.layers.transformer_block(x, settings["heads"], settings["hidden"], name="block")
    graph.output("loss", ge.mean(ge.square(h - y)))
    return graph


def _elementwise(settings: Mapping[str, Any], _: Mapping[str, Any]) -> ge.Graph:
    graph = ge.Graph("elementwise")
    x = graph.parameter("x", (settings["elements"],))
    a, b = graph.parameter("a", ()), graph.parameter("b", ())
    graph.output("loss", ge.sum(ge.tanh(a * x + b) * ge.sigmoid(x) + ge.exp(-x * x)))
    return graph


def _dag(settings: Mapping[str, Any], feeds: Mapping[str, Any]) -> ge.Graph:
    """The nodes that `settings` lists, each an op and the places of its parents; leaves come first."""
    graph = ge.Graph("dag")
    nodes = [graph.input(name, value.shape, dtype=str(value.dtype)) for name, value in feeds.items()]
    nodes += [graph.parameter(name, tuple(shape)) for name, shape in settings["parameters"]]
    for op, *parents in settings["nodes"]:
        nodes.append(_OPS[op](*(nodes[parent] for parent in parents)))
    graph.output("loss", nodes[-1])
    return graph


_OPS: dict[str, Callable[..., ge.Node]] = {
    "add": ge.add,
    "multiply": ge.multiply,
    "tanh": ge.tanh,
    "matmul": ge.matmul,
    "mean": ge.mean,
}

_FAMILIES: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], ge.Graph]] = {
    "mlp": _mlp,
    "lenet": _lenet,
    "lstm": _lstm,
    "block": _block,
    "elementwise": _elementwise,
    "dag": _dag,
}

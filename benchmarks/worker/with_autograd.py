"""HIPS autograd: NumPy, differentiated as it runs. Convolutions it has in pure Python alone; they are left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, cast

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad

from .case import Case, Step, Unsupported
from .numpy_facts import blas, cores

__all__ = ["facts", "load", "prepare"]

Parameters = Mapping[str, Any]
Loss = Callable[[Parameters], Any]


def facts(_: str) -> dict[str, Any]:
    """Who this is."""
    versions = {"autograd": version("autograd"), "numpy": np.__version__}
    return {"versions": versions, "blas": blas(), "threads": cores()}


def prepare(case: Case, _: str) -> Step:
    """`value_and_grad`, and an update in place."""
    if case.family not in _FAMILIES:
        raise Unsupported(f"{case.family} has operations that autograd has in pure Python alone")
    gradient = value_and_grad(_FAMILIES[case.family](case))
    parameters = {name: value.copy() for name, value in case.parameters.items()}
    rate = np.float32(case.rate)

    def step() -> float:
        value, gradients = gradient(parameters)
        for name, parameter in parameters.items():
            parameter -= rate * gradients[name]
        return float(value)

    return step


def load(_document: str, _variant: str) -> Step:
    """It compiles nothing, so there is nothing to time."""
    raise Unsupported("autograd compiles nothing")


def _cross_entropy(logits: Any, labels: Any) -> Any:
    shifted = logits - anp.max(logits, axis=1, keepdims=True)
    scores = shifted - anp.log(anp.sum(anp.exp(shifted), axis=1, keepdims=True))
    return -anp.mean(scores[np.arange(len(labels)), labels])


def _sigmoid(x: Any) -> Any:
    return 0.5 * (anp.tanh(0.5 * x) + 1)


def _dense(p: Parameters, name: str, x: Any) -> Any:
    return anp.dot(x, p[f"{name}.weight"]) + p[f"{name}.bias"]


def _mlp(case: Case) -> Loss:
    last = len(case.settings["sizes"]) - 1
    x, y = case.feeds["x"], case.feeds["y"]

    def loss(p: Parameters) -> Any:
        h = x
        for place in range(1, last):
            h = anp.maximum(_dense(p, f"layer{place}", h), 0)
        return _cross_entropy(_dense(p, f"layer{last}", h), y)

    return loss


def _lstm(case: Case) -> Loss:
    x, y, units = case.feeds["x"], case.feeds["y"], case.settings["units"]
    by_step = np.ascontiguousarray(x.swapaxes(0, 1))

    def loss(p: Parameters) -> Any:
        projected = anp.dot(by_step, p["lstm.input_weight"]) + p["lstm.bias"]
        h = c = np.zeros((len(x), units), np.float32)
        for z in projected:
            i, f, g, o = anp.split(z + anp.dot(h, p["lstm.recurrent_weight"]), 4, axis=1)
            c = _sigmoid(f) * c + _sigmoid(i) * anp.tanh(g)
            h = _sigmoid(o) * anp.tanh(c)
        return _cross_entropy(_dense(p, "dense", h), y)

    return loss


def _block(case: Case) -> Loss:
    x, y, heads = case.feeds["x"], case.feeds["y"], case.settings["heads"]
    batch, time, units = x.shape
    scale = 1 / math.sqrt(units // heads)
    erf = _erf()

    def norm(p: Parameters, name: str, x: Any) -> Any:
        centred = x - anp.mean(x, axis=-1, keepdims=True)
        scaled = centred / anp.sqrt(anp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
        return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]

    def softmax(x: Any) -> Any:
        e = anp.exp(x - anp.max(x, axis=-1, keepdims=True))
        return e / anp.sum(e, axis=-1, keepdims=True)

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))

    def loss(p: Parameters) -> Any:
        projected = _dense(p, "block.attention.qkv", norm(p, "block.attention_norm", x))
        q, k, v = anp.transpose(anp.reshape(projected, (batch, time, 3, heads, units // heads)), (2, 0, 3, 1, 4))
        seen = softmax(scale * anp.matmul(q, anp.swapaxes(k, -1, -2)))
        found = anp.reshape(anp.transpose(anp.matmul(seen, v), (0, 2, 1, 3)), (batch, time, units))
        h = x + _dense(p, "block.attention.output", found)
        between = gelu(_dense(p, "block.hidden", norm(p, "block.hidden_norm", h)))
        return anp.mean((h + _dense(p, "block.output", between) - y) ** 2)

    return loss


def _erf() -> Callable[[Any], Any]:
    try:
        from autograd.scipy.special import erf
    except ImportError:
        raise Unsupported("gelu needs scipy beside autograd") from None
    return cast("Callable[[Any], Any]", erf)


def _elementwise(_: Case) -> Loss:
    def loss(p: Parameters) -> Any:
        x = p["x"]
        return anp.sum(anp.tanh(p["a"] * x + p["b"]) * _sigmoid(x) + anp.exp(-x * x))

    return loss


def _dag(case: Case) -> Loss:
    names = [name for name, _ in case.settings["parameters"]]

    def loss(p: Parameters) -> Any:
        values = [*case.feeds.values(), *(p[name] for name in names)]
        for op, *parents in case.settings["nodes"]:
            values.append(_OPS[op](*[values[parent] for parent in parents]))
        return values[-1]

    return loss


_OPS: dict[str, Callable[..., Any]] = {"add": anp.add, "multiply": anp.multiply, "tanh": anp.tanh}

_FAMILIES: dict[str, Callable[[Case], Loss]] = {
    "mlp": _mlp,
    "lstm": _lstm,
    "block": _block,
    "elementwise": _elementwise,
    "dag": _dag,
}

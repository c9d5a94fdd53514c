"""JAX: one jitted function of the parameters, whose buffers are donated, and the batch on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .case import Case, Step, read_dag
from .numpy_facts import cores

__all__ = ["facts", "load", "prepare"]

Parameters = Mapping[str, Any]
Loss = Callable[[Parameters, Mapping[str, Any]], Any]


def facts(_: str) -> dict[str, Any]:
    """Who this is."""
    versions = {"jax": jax.__version__, "jaxlib": jax.lib.__version__, "numpy": np.__version__}
    return {"versions": versions, "blas": "XLA's own products", "threads": cores()}


def prepare(case: Case, _: str) -> Step:
    """Value and gradient and the update, compiled as one."""
    if case.family == "lenet":
        case = _channels_last(case)
    loss = _FAMILIES[case.family](case.settings)
    parameters = {name: jnp.asarray(value) for name, value in case.parameters.items()}
    feeds = {name: jnp.asarray(value) for name, value in case.feeds.items()}
    jax.block_until_ready((parameters, feeds))
    rate = case.rate

    @partial(jax.jit, donate_argnums=0)
    def update(parameters: Parameters, feeds: Mapping[str, Any]) -> tuple[Any, Parameters]:
        value, gradients = jax.value_and_grad(loss)(parameters, feeds)
        return value, jax.tree.map(lambda w, g: w - rate * g, parameters, gradients)

    def step() -> float:
        nonlocal parameters
        value, parameters = update(parameters, feeds)
        return float(value)

    return step


def load(document: str, variant: str) -> Step:
    """A step of the DAG that a JSON document lists; all feeds are ones."""
    return prepare(read_dag(document), variant)


def _cross_entropy(logits: Any, labels: Any) -> Any:
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)
    return -jnp.mean(picked)


def _dense(p: Parameters, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def _mlp(settings: Mapping[str, Any]) -> Loss:
    last = len(settings["sizes"]) - 1

    def loss(p: Parameters, feeds: Mapping[str, Any]) -> Any:
        h = feeds["x"]
        for place in range(1, last):
            h = jax.nn.relu(_dense(p, f"layer{place}", h))
        return _cross_entropy(_dense(p, f"layer{last}", h), feeds["y"])

    return loss


def _channels_last(case: Case) -> Case:
    """The same network as XLA runs it fastest on a CPU: pictures [batch, height, width, channels], kernels likewise."""
    parameters = dict(case.parameters)
    for name, value in parameters.items():
        if value.ndim == 4:
            parameters[name], channels = value.transpose(2, 3, 1, 0), len(value)
    weight = parameters["dense.weight"]
    side = math.isqrt(len(weight) // channels)
    by_channel = weight.reshape(channels, side, side, -1)
    parameters["dense.weight"] = by_channel.transpose(1, 2, 0, 3).reshape(weight.shape)
    feeds = {"x": case.feeds["x"].transpose(0, 2, 3, 1), "y": case.feeds["y"]}
    return Case(case.family, case.settings, case.rate, parameters, feeds)


def _lenet(settings: Mapping[str, Any]) -> Loss:
    def pooled(x: Any) -> Any:
        batch, height, width, channels = x.shape
        return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))

    def loss(p: Parameters, feeds: Mapping[str, Any]) -> Any:
        h = feeds["x"]
        for place in range(1, len(settings["channels"]) + 1):
            layout = ("NHWC", "HWIO", "NHWC")
            z = lax.conv_general_dilated(h, p[f"conv{place}.weight"], (1, 1), "VALID", dimension_numbers=layout)
            h = pooled(jax.nn.relu(z + p[f"conv{place}.bias"]))
        return _cross_entropy(_dense(p, "dense", h.reshape(len(h), -1)), feeds["y"])

    return loss


def _lstm(settings: Mapping[str, Any]) -> Loss:
    units = settings["units"]

    def loss(p: Parameters, feeds: Mapping[str, Any]) -> Any:
        # What a step takes from its input is one product for all steps, ahead of the loop.
        projected = feeds["x"].swapaxes(0, 1) @ p["lstm.input_weight"] + p["lstm.bias"]
        recurrent = p["lstm.recurrent_weight"]

        def cell(state: tuple[Any, Any], z: Any) -> tuple[tuple[Any, Any], None]:
            h, c = state
            i, f, g, o = jnp.split(z + h @ recurrent, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((projected.shape[1], units), projected.dtype)
        (h, _), _ = lax.scan(cell, (zeros, zeros), projected)
        return _cross_entropy(_dense(p, "dense", h), feeds["y"])

    return loss


def _block(settings: Mapping[str, Any]) -> Loss:
    heads = settings["heads"]

    def norm(p: Parameters, name: str, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred * lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)
        return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]

    def loss(p: Parameters, feeds: Mapping[str, Any]) -> Any:
        x = feeds["x"]
        batch, time, units = x.shape
        projected = _dense(p, "block.attention.qkv", norm(p, "block.attention_norm", x))
        q, k, v = projected.reshape(batch, time, 3, heads, units // heads).transpose(2, 0, 3, 1, 4)
        seen = jax.nn.softmax(q @ k.swapaxes(-1, -2) / math.sqrt(units // heads))
        found = (seen @ v).swapaxes(1, 2).reshape(batch, time, units)
        h = x + _dense(p, "block.attention.output", found)
        between = jax.nn.gelu(_dense(p, "block.hidden", norm(p, "block.hidden_norm", h)), approximate=False)
        return jnp.mean((h + _dense(p, "block.output", between) - feeds["y"]) ** 2)

    return loss


def _elementwise(_: Mapping[str, Any]) -> Loss:
    def loss(p: Parameters, _: Mapping[str, Any]) -> Any:
        x = p["x"]
        return jnp.sum(jnp.tanh(p["a"] * x + p["b"]) * jax.nn.sigmoid(x) + jnp.exp(-x * x))

    return loss


def _dag(settings: Mapping[str, Any]) -> Loss:
    names = [name for name, _ in settings["parameters"]]

    def loss(p: Parameters, feeds: Mapping[str, Any]) -> Any:
        values = [*feeds.values(), *(p[name] for name in names)]
        for op, *parents in settings["nodes"]:
            values.append(_OPS[op](*[values[parent] for parent in parents]))
        return values[-1]

    return loss


_OPS: dict[str, Callable[..., Any]] = {
    "add": jnp.add,
    "multiply": jnp.multiply,
    "tanh": jnp.tanh,
    "matmul": jnp.matmul,
    "mean": jnp.mean,
}

_FAMILIES: dict[str, Callable[[Mapping[str, Any]], Loss]] = {
    "mlp": _mlp,
    "lenet": _lenet,
    "lstm": _lstm,
    "block": _block,
    "elementwise": _elementwise,
    "dag": _dag,
}

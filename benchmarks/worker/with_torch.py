"""PyTorch, eager and by torch.compile, each in the functional form that was fastest of those tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812  # the name that PyTorch's users know

from .case import Case, Step, read_dag

__all__ = ["facts", "load", "prepare"]

Loss = Callable[[Sequence[Any]], Any]
"""The loss, from the parameters in their order."""


def facts(_: str) -> dict[str, Any]:
    """Who this is."""
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    return {"versions": versions, "blas": _blas(), "threads": torch.get_num_threads()}


def _blas() -> str:
    found = {"MKL": torch.backends.mkl.is_available(), "oneDNN": torch.backends.mkldnn.is_available()}
    return ", ".join(name for name, there in found.items() if there)


def prepare(case: Case, variant: str) -> Step:
    """Forward, backward and update."""
    feeds = {name: torch.from_numpy(value) for name, value in case.feeds.items()}
    torch.compiler.reset()  # it gives up on a function that has been compiled for eight cases
    loss, parameters = _FAMILIES[case.family](case, feeds)
    if variant == "eager":
        return _eager(loss, parameters, case.rate)
    if case.family == "lstm":  # its layer is no code that can be compiled, and stands outside of what is
        return _eager(torch.compile(loss), parameters, case.rate)
    return _compiled(loss, parameters, case.rate)


def load(document: str, variant: str) -> Step:
    """A step of the DAG that a JSON document lists; all feeds are ones."""
    return prepare(read_dag(document), variant)


def _eager(loss: Loss, parameters: Sequence[Any], rate: float) -> Step:
    """With `torch.autograd.grad` and an update in place: modules with `torch.optim.SGD` keep more books."""

    def step() -> float:
        value = loss(parameters)
        gradients = torch.autograd.grad(value, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=rate)
        return float(value.item())

    return step


def _compiled(loss: Loss, parameters: Sequence[Any], rate: float) -> Step:
    """The whole step as one graph: short steps take a third of the time of a compiled loss and an eager update."""
    values = [parameter.detach() for parameter in parameters]

    def update(parameters: Sequence[Any]) -> Any:
        gradients, value = torch.func.grad_and_value(loss)(parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.sub_(gradient, alpha=rate)
        return value

    compiled = torch.compile(update)
    return lambda: float(compiled(values).item())


def _leaves(case: Case) -> list[Any]:
    """The parameters as they are named."""
    return [torch.from_numpy(value.copy()).requires_grad_() for value in case.parameters.values()]


def _by_rows(case: Case) -> list[Any]:
    """The parameters with dense weights as `F.linear` takes them: [units out, units in]."""
    arrays = [value.T if value.ndim == 2 else value for value in case.parameters.values()]
    return [torch.from_numpy(value.copy(order="C")).requires_grad_() for value in arrays]


def _mlp(case: Case, feeds: dict[str, Any]) -> tuple[Loss, list[Any]]:
    x, y = feeds["x"], feeds["y"]

    def loss(parameters: Sequence[Any]) -> Any:
        h = x
        for place in range(0, len(parameters) - 2, 2):
            h = F.relu(F.linear(h, parameters[place], parameters[place + 1]))
        return F.cross_entropy(F.linear(h, parameters[-2], parameters[-1]), y)

    return loss, _by_rows(case)


def _lenet(case: Case, feeds: dict[str, Any]) -> tuple[Loss, list[Any]]:
    x, y = feeds["x"], feeds["y"]

    def loss(parameters: Sequence[Any]) -> Any:
        h = x
        for place in range(0, len(parameters) - 2, 2):
            h = F.max_pool2d(F.relu(F.conv2d(h, parameters[place], parameters[place + 1])), 2)
        return F.cross_entropy(F.linear(h.flatten(1), parameters[-2], parameters[-1]), y)

    return loss, _by_rows(case)


def _lstm(case: Case, feeds: dict[str, Any]) -> tuple[Loss, list[Any]]:
    x, y = feeds["x"], feeds["y"]
    values = dict(zip(case.parameters, _by_rows(case), strict=True))
    layer = torch.nn.LSTM(x.shape[2], case.settings["units"], batch_first=True)
    layer.weight_ih_l0 = torch.nn.Parameter(values["lstm.input_weight"].detach())
    layer.weight_hh_l0 = torch.nn.Parameter(values["lstm.recurrent_weight"].detach())
    layer.bias_ih_l0 = torch.nn.Parameter(values["lstm.bias"].detach())
    # It has two biases, which are added; the other engines have one.
    layer.bias_hh_l0 = torch.nn.Parameter(torch.zeros_like(layer.bias_ih_l0), requires_grad=False)
    weight, bias = values["dense.weight"], values["dense.bias"]

    def loss(_: Sequence[Any]) -> Any:
        output, _state = layer(x)
        return F.cross_entropy(F.linear(output[:, -1], weight, bias), y)

    return loss, [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, weight, bias]


def _block(case: Case, feeds: dict[str, Any]) -> tuple[Loss, list[Any]]:
    x, y = feeds["x"], feeds["y"]
    batch, time, units = x.shape
    heads = case.settings["heads"]

    def loss(parameters: Sequence[Any]) -> Any:
        pairs = iter(parameters)

        def pair() -> tuple[Any, ...]:
            return tuple(islice(pairs, 2))

        projected = F.linear(F.layer_norm(x, (units,), *pair()), *pair())
        q, k, v = projected.view(batch, time, 3, heads, units // heads).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, time, units)
        h = x + F.linear(found, *pair())
        between = F.gelu(F.linear(F.layer_norm(h, (units,), *pair()), *pair()))
        return F.mse_loss(h + F.linear(between, *pair()), y)

    return loss, _by_rows(case)


def _elementwise(case: Case, _: dict[str, Any]) -> tuple[Loss, list[Any]]:
    def loss(parameters: Sequence[Any]) -> Any:
        x, a, b = parameters
        return (torch.tanh(a * x + b) * torch.sigmoid(x) + torch.exp(-x * x)).sum()

    return loss, _leaves(case)


def _dag(case: Case, feeds: dict[str, Any]) -> tuple[Loss, list[Any]]:
    nodes = [(_OPS[op], parents) for op, *parents in case.settings["nodes"]]
    fed = list(feeds.values())

    def loss(parameters: Sequence[Any]) -> Any:
        values = [*fed, *parameters]
        for function, parents in nodes:
            values.append(function(*[values[parent] for parent in parents]))
        return values[-1]

    return loss, _leaves(case)


_OPS: dict[str, Callable[..., Any]] = {
    "add": torch.add,
    "multiply": torch.mul,
    "tanh": torch.tanh,
    "matmul": torch.matmul,
    "mean": torch.mean,
}

_FAMILIES: dict[str, Callable[[Case, dict[str, Any]], tuple[Loss, list[Any]]]] = {
    "mlp": _mlp,
    "lenet": _lenet,
    "lstm": _lstm,
    "block": _block,
    "elementwise": _elementwise,
    "dag": _dag,
}

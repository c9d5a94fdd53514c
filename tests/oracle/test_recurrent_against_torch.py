"""Recurrent layers against PyTorch's, with the same weights: values, states and gradients, in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphengine as ge
from tests.arrays import f64

torch = pytest.importorskip("torch")

BATCH, TIME, FEATURES, UNITS, LAYERS = 3, 6, 4, 5, 2
PASSES = [(layer, way) for layer in range(LAYERS) for way in ("forward", "backward")]


def peer(kind: str) -> Any:
    torch.manual_seed(0)
    cls = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind]
    return cls(FEATURES, UNITS, num_layers=LAYERS, bidirectional=True, batch_first=True, dtype=torch.float64)


def ours(kind: str) -> ge.Executable:
    graph = ge.Graph(kind, dtype="float64")
    x = graph.input("x", ("batch", TIME, FEATURES))
    mask = graph.input("mask", ("batch", TIME), dtype="bool")
    options = {"num_layers": LAYERS, "bidirectional": True, "return_sequences": True, "return_state": True}
    y, states = getattr(ge.layers, kind)(x, UNITS, name="cell", mask=mask, **options)
    graph.output("y", y)
    lasts = [state[0] if kind == "lstm" else state for state in states]
    graph.output("h", ge.stack(lasts))
    graph.output("loss", ge.sum(ge.sin(y)) + ge.sum(ge.square(graph.outputs["h"])))
    return ge.compile(graph, loss="loss", wrt=[x, *graph.parameters])


def theirs(module: Any, what: str, layer: int, way: str) -> Any:
    return getattr(module, f"{what}_l{layer}{'_reverse' if way == 'backward' else ''}")


def as_ours(module: Any, kind: str, of: Any) -> dict[str, np.ndarray]:
    """What `of` says of PyTorch's parameters, its weights or their gradients, by our names.

    PyTorch adds two biases where one does; each has the gradient of the sum.
    """
    found = {}
    for layer, way in PASSES:
        head = f"cell.layer_{layer}.{way}"
        w_ih, w_hh, b_ih, b_hh = (
            of(theirs(module, what, layer, way)).numpy() for what in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        found[f"{head}.input_weight"], found[f"{head}.recurrent_weight"] = w_ih.T, w_hh.T
        found[f"{head}.bias"] = b_ih + b_hh
        if kind == "gru":
            found[f"{head}.bias"] = np.concatenate([(b_ih + b_hh)[: 2 * UNITS], b_ih[2 * UNITS :]])
            found[f"{head}.recurrent_bias"] = b_hh[2 * UNITS :]
    return found


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_values_states_and_gradients_are_those_of_torch(kind: str) -> None:
    module, exe = peer(kind), ours(kind)
    for name, value in as_ours(module, kind, lambda weight: weight.detach()).items():
        exe.parameters[name] = value
    lengths = np.array([TIME, 4, 1])
    feeds = {"x": f64(BATCH, TIME, FEATURES), "mask": np.arange(TIME) < lengths[:, None]}
    x = torch.tensor(feeds["x"], requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True)
    output, state = module(packed)
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
    h = state[0] if kind == "lstm" else state
    loss = torch.sin(y).sum() + (h**2).sum()
    loss.backward()

    found = exe.forward(feeds)
    np.testing.assert_allclose(found["y"], y.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found["h"], h.detach().numpy(), rtol=1e-10, atol=1e-12)
    gradients = exe.backward()
    np.testing.assert_allclose(gradients["x"], x.grad.numpy(), rtol=1e-9, atol=1e-12)
    for name, expected in as_ours(module, kind, lambda weight: weight.grad).items():
        share = 2 if name.endswith(".bias") else 1  # b_ih + b_hh counts one gradient twice
        if kind == "gru" and share == 2:
            expected = expected / np.array([2] * (2 * UNITS) + [1] * UNITS)
            share = 1
        np.testing.assert_allclose(gradients[name], expected / share, rtol=1e-9, atol=1e-12, err_msg=name)

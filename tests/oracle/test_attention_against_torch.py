"""Attention and what is built on it against another engine, torch: values and gradients, with weights copied over."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from tests.arrays import boolean, f64

torch = pytest.importorskip("torch")

BATCH, HEADS, TIME, SOURCE, UNITS = 2, 3, 5, 6, 12


def same(actual: object, expected: object, what: str = "") -> None:
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-11, err_msg=what)


def tensor(array: np.ndarray) -> object:
    return torch.from_numpy(array.copy()).requires_grad_(array.dtype.kind == "f")


@pytest.mark.parametrize("block", [None, 2])
@pytest.mark.parametrize(
    ("mask", "options"),
    [
        (None, {}),
        (None, {"causal": True}),
        (None, {"scale": 0.7}),
        (boolean(TIME, SOURCE) | np.eye(TIME, SOURCE, dtype=bool), {}),
        (boolean(BATCH, 1, TIME, SOURCE) | np.eye(TIME, SOURCE, dtype=bool), {}),
    ],
)
def test_attention_is_that_of_torch(mask: np.ndarray | None, options: dict[str, object], block: int | None) -> None:
    arrays = {
        "q": f64(BATCH, HEADS, TIME, 4),
        "k": f64(BATCH, HEADS, SOURCE, 4, seed=1),
        "v": f64(BATCH, HEADS, SOURCE, 3, seed=2),
    }
    graph = ge.Graph("attention", dtype="float64")
    nodes = [graph.input(name, array.shape) for name, array in arrays.items()]
    y = graph.output("y", ge.attention(*nodes, mask, block=block, **options))
    graph.output("loss", ge.sum(y * y * (y + 1.0)))
    exe = ge.compile(graph, loss="loss", wrt=list(arrays))
    leaves = [tensor(array) for array in arrays.values()]
    theirs = torch.nn.functional.scaled_dot_product_attention(
        *leaves,
        attn_mask=None if mask is None else torch.from_numpy(mask),
        is_causal=options.get("causal", False),
        scale=options.get("scale"),
    )
    (theirs * theirs * (theirs + 1.0)).sum().backward()
    same(exe.forward(arrays)["y"], theirs)
    for leaf, (name, bar) in zip(leaves, exe.backward().items(), strict=True):
        same(bar, leaf.grad, name)


def weights_of(module: object, names: dict[str, str]) -> dict[str, np.ndarray]:
    """Their weights under our names; their matrices map from the right."""
    given = dict(module.named_parameters())
    arrays = {ours: given[theirs].detach().numpy() for ours, theirs in names.items()}
    return {name: array.T if array.ndim == 2 else array for name, array in arrays.items()}


def shaken(module: object) -> object:
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return module.double()


ATTENTION = {
    "qkv.weight": "in_proj_weight",
    "qkv.bias": "in_proj_bias",
    "output.weight": "out_proj.weight",
    "output.bias": "out_proj.bias",
}


def test_multi_head_attention_is_that_of_torch() -> None:
    theirs = shaken(torch.nn.MultiheadAttention(UNITS, HEADS, batch_first=True))
    graph = ge.Graph("heads", dtype="float64")
    y = ge.layers.multi_head_attention(graph.input("x", ("batch", "time", UNITS)), HEADS, name="a", causal=True)
    graph.output("y", y)
    graph.output("loss", ge.sum(y * y))
    exe = ge.compile(graph, loss="loss", wrt=["x", *(node.name for node in graph.parameters)])
    names = {f"a.{ours}": name for ours, name in ATTENTION.items()}
    for name, array in weights_of(theirs, names).items():
        exe.parameters[name] = array
    x = tensor(f64(BATCH, TIME, UNITS))
    hidden = ~torch.tril(torch.ones(TIME, TIME, dtype=torch.bool))  # theirs is True where a key is not seen
    expected, _ = theirs(x, x, x, attn_mask=hidden, need_weights=False)
    (expected * expected).sum().backward()
    same(exe.forward({"x": x.detach().numpy()})["y"], expected)
    bars = exe.backward()
    same(bars["x"], x.grad)
    for ours, name in names.items():
        grad = dict(theirs.named_parameters())[name].grad
        same(bars[ours], grad.T if grad.ndim == 2 else grad, ours)


def test_a_transformer_block_is_that_of_torch() -> None:
    theirs = shaken(
        torch.nn.TransformerEncoderLayer(
            UNITS, HEADS, 20, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
    )
    graph = ge.Graph("block", dtype="float64")
    x = graph.input("x", ("batch", "time", UNITS))
    y = graph.output("y", ge.layers.transformer_block(x, HEADS, 20, name="b"))
    graph.output("loss", ge.sum(y * y))
    exe = ge.compile(graph, loss="loss", wrt=["x", *(node.name for node in graph.parameters)])
    names = {f"b.attention.{ours}": f"self_attn.{name}" for ours, name in ATTENTION.items()}
    layers = {"attention_norm": "norm1", "hidden_norm": "norm2", "hidden": "linear1", "output": "linear2"}
    names |= {f"b.{ours}.{part}": f"{name}.{part}" for ours, name in layers.items() for part in ("weight", "bias")}
    assert set(names) == set(exe.parameters)
    for name, array in weights_of(theirs, names).items():
        exe.parameters[name] = array
    fed = tensor(f64(BATCH, TIME, UNITS))
    expected = theirs(fed)
    (expected * expected).sum().backward()
    same(exe.forward({"x": fed.detach().numpy()})["y"], expected)
    bars = exe.backward()
    same(bars["x"], fed.grad)
    for ours, name in names.items():
        grad = dict(theirs.named_parameters())[name].grad
        same(bars[ours], grad.T if grad.ndim == 2 else grad, ours)

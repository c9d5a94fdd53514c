"""Convolutions and pools against PyTorch, in float64: values, gradients, and gradients of gradients."""

from collections.abc import Callable

import numpy as np
import pytest

import graphengine as ge
from tests.arrays import f64

torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
functional = torch.nn.functional

Case = tuple[Callable[..., ge.Node], Callable[..., object], list[tuple[int, ...]]]

CONVOLUTIONS = [
    ((2, 3, 7, 8), (4, 3, 3, 2), {}),
    ((2, 4, 7, 8), (6, 2, 3, 3), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}),
    ((2, 4, 6, 6), (4, 1, 3, 3), {"padding": 1, "groups": 4}),
    ((2, 4, 5, 5), (3, 4, 1, 1), {}),
    ((1, 2, 9, 9), (2, 2, 2, 2), {"stride": 3}),
    ((1, 2, 6, 5), (3, 2, 3, 3), {"padding": "same", "dilation": 2}),
]
TRANSPOSED = [
    ((2, 4, 3, 4), (4, 3, 3, 2), {}),
    ((2, 4, 3, 4), (4, 2, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
    ((1, 2, 4, 3), (2, 3, 2, 3), {"stride": (3, 1), "dilation": (2, 1), "output_padding": (2, 0)}),
    ((2, 4, 5, 5), (4, 2, 1, 1), {"groups": 2}),
]
POOLS = [
    ((2, 3, 6, 7), {"window": 2}),
    ((2, 3, 6, 7), {"window": 3, "stride": 2, "padding": 1}),
    ((2, 3, 6, 7), {"window": (3, 2), "stride": (1, 2), "padding": (1, 0)}),
]


def _torch_pool(function: Callable[..., object], **attributes: object) -> Callable[..., object]:
    return lambda x: function(x, attributes["window"], attributes.get("stride"), attributes.get("padding", 0))


CASES: list[Case] = [
    *((lambda x, w, a=a: ge.conv2d(x, w, **a), lambda x, w, a=a: functional.conv2d(x, w, **a), [x, w])
      for x, w, a in CONVOLUTIONS),
    *((lambda x, w, a=a: ge.conv2d_transpose(x, w, **a), lambda x, w, a=a: functional.conv_transpose2d(x, w, **a),
       [x, w]) for x, w, a in TRANSPOSED),
    *((lambda x, a=a: ge.max_pool2d(x, **a), _torch_pool(functional.max_pool2d, **a), [x]) for x, a in POOLS),
    *((lambda x, a=a: ge.avg_pool2d(x, count_include_pad=True, **a), _torch_pool(functional.avg_pool2d, **a), [x])
      for x, a in POOLS),
    (lambda x: ge.avg_pool2d(x, 3, 2, 1),
     lambda x: functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False), [(2, 3, 6, 7)]),
    (lambda x, w: ge.conv1d(x, w, 2, 1, groups=2), lambda x, w: functional.conv1d(x, w, stride=2, padding=1, groups=2),
     [(2, 4, 9), (6, 2, 3)]),
    (lambda x: ge.max_pool1d(x, 3, 2, 1), lambda x: functional.max_pool1d(x, 3, 2, 1), [(2, 3, 8)]),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "theirs", "shapes"), CASES)
def test_values_and_derivatives_agree_with_torch(
    ours: Callable[..., ge.Node], theirs: Callable[..., object], shapes: list[tuple[int, ...]]
) -> None:
    arrays = [f64(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    graph = ge.Graph("g", "float64")
    nodes = [graph.parameter(f"x{place}", shape) for place, shape in enumerate(shapes)]
    y = graph.output("y", ours(*nodes))
    bars = ge.grad(ge.sum(ge.sin(y)), nodes)
    total = bars[0]
    seconds = ge.grad(ge.sum(ge.square(total)), nodes)
    for place, (bar, second) in enumerate(zip(bars, seconds, strict=True)):
        graph.output(f"first{place}", bar)
        graph.output(f"second{place}", second)
    exe = ge.compile(graph)
    for node, array in zip(nodes, arrays, strict=True):
        exe.parameters[node.name] = array
    values = exe.forward({})
    given = [torch.tensor(array, requires_grad=True) for array in arrays]
    expected = theirs(*given)
    firsts = torch.autograd.grad(torch.sin(expected).sum(), given, create_graph=True)
    seconds = torch.autograd.grad(firsts[0].square().sum(), given)
    _agree(values["y"], expected)
    for place, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        _agree(values[f"first{place}"], first)
        _agree(values[f"second{place}"], second)


def _agree(ours: np.ndarray, theirs: object) -> None:
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-10)


def test_ties_give_their_adjoint_where_torch_gives_it() -> None:
    array = np.random.default_rng(0).integers(0, 3, (2, 3, 8, 8)).astype(float)
    graph = ge.Graph("g", "float64")
    x = graph.input("x", array.shape)
    (bar,) = ge.grad(ge.sum(ge.square(ge.max_pool2d(x, 3, 2, 1))), [x])
    graph.output("bar", bar)
    given = torch.tensor(array, requires_grad=True)
    functional.max_pool2d(given, 3, 2, 1).square().sum().backward()
    _agree(ge.compile(graph).forward({"x": array})["bar"], given.grad)

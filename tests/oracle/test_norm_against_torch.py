"""Normalizations against PyTorch, in float64: values, gradients, gradients of gradients, and running statistics."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

import graphengine as ge
from tests.arrays import f64

torch = pytest.importorskip("torch", reason="PyTorch is the oracle here")
functional = torch.nn.functional


def batch_norm(x: ge.Node, scale: ge.Node, shift: ge.Node) -> ge.Node:
    states = (x.graph.state(name, scale.type.static_shape) for name in ("mean", "variance"))
    return ge.batch_norm(x, scale, shift, *states)


CASES = {
    "layer": (
        ge.layer_norm,
        lambda x, scale, shift: functional.layer_norm(x, scale.shape, scale, shift),
        [(5, 4, 6), (6,), (6,)],
    ),
    "layer, two axes": (
        ge.layer_norm,
        lambda x, scale, shift: functional.layer_norm(x, scale.shape, scale, shift),
        [(5, 4, 6), (4, 6), (4, 6)],
    ),
    "group": (
        lambda x, scale, shift: ge.group_norm(x, scale, shift, groups=2),
        lambda x, scale, shift: functional.group_norm(x, 2, scale, shift),
        [(3, 4, 5, 2), (4,), (4,)],
    ),
    "root mean square": (
        ge.rms_norm,
        lambda x, scale: functional.rms_norm(x, scale.shape, scale, eps=1e-5),
        [(5, 6), (6,)],
    ),
    "batch": (
        batch_norm,
        lambda x, scale, shift: functional.batch_norm(x, None, None, scale, shift, training=True),
        [(7, 3, 4), (3,), (3,)],
    ),
}


@pytest.mark.parametrize(("ours", "theirs", "shapes"), CASES.values(), ids=CASES)
def test_values_gradients_and_second_derivatives_are_those_of_torch(
    ours: Callable[..., ge.Node], theirs: Callable[..., object], shapes: Sequence[tuple[int, ...]]
) -> None:
    arrays = [f64(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    graph = ge.Graph("ours", "float64")
    nodes = [graph.input(f"x{place}", shape) for place, shape in enumerate(shapes)]
    y = graph.output("y", ours(*nodes))
    gradients = ge.grad(ge.sum(ge.sin(y)), nodes)
    second = ge.grad(sum(ge.sum(ge.sin(gradient)) for gradient in gradients), nodes)
    for kind, found in (("first", gradients), ("second", second)):
        for place, node in enumerate(found):
            graph.output(f"{kind}_{place}", node)
    values = ge.compile(graph).forward({node.name: array for node, array in zip(nodes, arrays, strict=True)})

    tensors = [torch.from_numpy(array).requires_grad_() for array in arrays]
    expected = theirs(*tensors)
    first = torch.autograd.grad(expected.sin().sum(), tensors, create_graph=True)
    again = torch.autograd.grad(sum(gradient.sin().sum() for gradient in first), tensors)
    np.testing.assert_allclose(values["y"], expected.detach(), rtol=1e-11, atol=1e-12)
    for kind, found in (("first", first), ("second", again)):
        for place, tensor in enumerate(found):
            np.testing.assert_allclose(values[f"{kind}_{place}"], tensor.detach(), rtol=1e-9, atol=1e-10)


def test_running_statistics_and_predictions_are_those_of_torch() -> None:
    graph = ge.Graph("ours", "float64")
    graph.output("y", ge.layers.batch_norm(graph.input("x", ("batch", 3, 4)), name="norm", momentum=0.2))
    graph.output("loss", ge.sum(graph.outputs["y"]))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.0))
    theirs = torch.nn.BatchNorm1d(3, momentum=0.2, dtype=torch.float64)
    for size in (5, 2, 7):
        x = f64(size, 3, 4, seed=size) * 3 + 1
        exe.step({"x": x})
        theirs(torch.from_numpy(x))
    np.testing.assert_allclose(exe.state["norm.running_mean"], theirs.running_mean, rtol=1e-12)
    np.testing.assert_allclose(exe.state["norm.running_variance"], theirs.running_var, rtol=1e-12)
    theirs.eval()
    x = f64(4, 3, 4)
    expected = theirs(torch.from_numpy(x)).detach()
    np.testing.assert_allclose(ge.predict(exe, {"x": x}, "y")["y"], expected, rtol=1e-12, atol=1e-13)

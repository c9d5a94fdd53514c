"""Axes of size 0 and 1, in every op and layer: what is right mathematically, or an error of the engine's own."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from tests.random_graphs import evaluate
from tests.sizes import CASES, Case, Sizes

COMPILED = ["where", "sum over 0", "logsumexp over 0", "softmax along 1", "conv2d {}", "attention, causal"]
COMPILED += ["matmul of stacks", "matmul of a stack and a matrix", "a dense layer", "squared_error mean", "scan, all"]
"""The cases that other backends than numpy go through; there each takes a kernel or two."""


def declared(case: Case, sizes: Sizes) -> ge.Graph | None:
    """The graph of a case, with a loss; None where it is refused as it is declared."""
    graph = ge.Graph("sized", dtype="float64")
    try:
        arrays = case.arrays(sizes)
        y = case.build([graph.input(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)], sizes)
    except ge.GraphEngineError:
        return None
    graph.output("y", y)
    graph.output("loss", ge.sum(ge.sin(y)) if y.ndim else ge.identity(y))
    return graph


def check(case: Case, sizes: Sizes, backend: str, rewrites: list[str] | None) -> None:
    """Hold value and gradients to `eval`, node by node, and make a step."""
    graph = declared(case, sizes)
    if graph is None:
        return
    wrt = [leaf for leaf in (*graph.inputs, *graph.parameters) if leaf.type.is_float]
    feeds = {f"x{i}": array for i, array in enumerate(case.arrays(sizes))}
    exe = ge.compile(graph, loss="loss", wrt=wrt, seed=1, backend=backend, rewrites=rewrites)
    try:
        values = exe.forward(feeds)
    except ge.ValueRangeError:
        assert 0 in sizes.values()  # no index lies in an axis without elements
        return
    if case.name != "dropout":
        bars = exe.programs.training.gradients
        nodes = next(iter(bars.values())).graph.nodes if bars else graph.nodes
        expected = evaluate(nodes, {**feeds, **exe.parameters, **exe.state}, {})
        for name, value in values.items():
            np.testing.assert_allclose(value, expected[graph.outputs[name].name], rtol=1e-9, atol=1e-12, err_msg=name)
        for name, bar in exe.backward().items():
            assert np.isfinite(bar).all(), name
            np.testing.assert_allclose(bar, expected[bars[name].name], rtol=1e-9, atol=1e-12, err_msg=name)
    if graph.parameters:
        ge.compile(graph, loss="loss", seed=1, backend=backend, optimizer=ge.SGD(learning_rate=0.1)).step(feeds)


@pytest.mark.filterwarnings("ignore::graphengine.UnreachedParameterWarning")
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_every_axis_may_have_no_elements_or_one(case: Case) -> None:
    with np.errstate(all="ignore"):
        for place, sizes in enumerate(case.variants(axes=1)):
            check(case, sizes, "numpy", [] if place % 2 else None)


@pytest.mark.filterwarnings("ignore::graphengine.UnreachedParameterWarning")
@pytest.mark.parametrize("backend", [name for name in installed_backends() if name != "numpy"])
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_kernels_take_axes_without_elements(name: str, backend: str) -> None:
    (case,) = [case for case in CASES if case.name == name]
    for sizes in case.variants(axes=1):
        if 0 in sizes.values():
            with np.errstate(all="ignore"):
                check(case, sizes, backend, None)


def test_the_sum_of_nothing_is_zero_in_products_and_convolutions() -> None:
    graph = ge.Graph("nothing", dtype="float64")
    a, b = graph.input("a", (2, 3, 0)), graph.input("b", (0, 4))
    x, k = graph.input("x", (2, 0, 4, 4)), graph.input("k", (3, 0, 2, 2))
    graph.output("product", a @ b)
    graph.output("filtered", ge.conv2d(x, k))
    feeds = {node.name: np.zeros(node.type.static_shape) for node in graph.inputs}
    for backend in installed_backends():
        values = ge.compile(graph, backend=backend).forward(feeds)
        np.testing.assert_array_equal(values["product"], np.zeros((2, 3, 4)))
        np.testing.assert_array_equal(values["filtered"], np.zeros((2, 3, 3, 3)))

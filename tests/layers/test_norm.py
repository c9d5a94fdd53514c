"""Layers that normalize."""

import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, GraphError, ShapeError
from graphengine.layers import batch_norm, group_norm, layer_norm, rms_norm
from graphengine.ops.scan import scan
from tests.arrays import f64

Layer = Callable[..., ge.Node]

LAYERS = [
    (batch_norm, (5, 4), (0,)),
    (batch_norm, (5, 4, 3), (0, 2)),
    (partial(batch_norm, axis=-1), (5, 3, 4), (0, 1)),
    (layer_norm, (5, 4), (1,)),
    (partial(layer_norm, axes=2), (5, 3, 4), (1, 2)),
    (partial(group_norm, groups=1), (5, 4, 3), (1, 2)),
    (partial(group_norm, groups=4), (5, 4, 3), (2,)),
]


@pytest.mark.parametrize(("layer", "shape", "axes"), LAYERS)
def test_a_fresh_layer_gives_mean_0_and_variance_1(layer: Layer, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    g = ge.Graph(dtype="float64")
    g.output("y", layer(g.input("x", shape), epsilon=0.0))
    y = ge.compile(g).forward({"x": f64(*shape) * 3 + 5})["y"]
    np.testing.assert_allclose(y.mean(axes), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(axes), 1, rtol=1e-13)


def test_a_fresh_rms_norm_gives_a_mean_square_of_1() -> None:
    g = ge.Graph(dtype="float64")
    g.output("y", rms_norm(g.input("x", (5, 4)), name="norm", epsilon=0.0))
    assert [node.name for node in g.parameters] == ["norm.weight"]
    y = ge.compile(g).forward({"x": f64(5, 4) * 3 + 5})["y"]
    np.testing.assert_allclose(np.mean(y * y, 1), 1, rtol=1e-13)


@pytest.mark.parametrize(
    ("layer", "sizes"),
    [
        (batch_norm, (4,)),
        (partial(group_norm, groups=2), (4,)),
        (layer_norm, (3,)),
        (partial(layer_norm, axes=2), (4, 3)),
    ],
)
def test_parameters_are_a_weight_of_ones_and_a_bias_of_zeros(layer: Layer, sizes: tuple[int, ...]) -> None:
    g = ge.Graph()
    y = layer(g.input("x", ("batch", 4, 3)), name="norm")
    assert y is g["norm"]
    g.output("y", y)
    exe = ge.compile(g)
    assert list(exe.parameters) == ["norm.weight", "norm.bias"]
    np.testing.assert_array_equal(exe.parameters["norm.weight"], np.ones(sizes))
    np.testing.assert_array_equal(exe.parameters["norm.bias"], np.zeros(sizes))


def test_running_statistics_are_states_that_start_at_0_and_1() -> None:
    g = ge.Graph()
    g.output("y", batch_norm(g.input("x", ("batch", 4)), name="norm"))
    exe = ge.compile(g)
    np.testing.assert_array_equal(exe.state["norm.running_mean"], np.zeros(4))
    np.testing.assert_array_equal(exe.state["norm.running_variance"], np.ones(4))


def test_a_fresh_batch_norm_does_nothing_in_inference() -> None:
    g = ge.Graph(dtype="float64")
    g.output("y", batch_norm(g.input("x", ("batch", 4)), epsilon=0.0))
    np.testing.assert_array_equal(ge.compile(g).inference.forward({"x": f64(3, 4)})["y"], f64(3, 4))


def test_layers_without_a_name_are_numbered_by_kind() -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", 4))
    names = [layer(x).name for layer in (batch_norm, layer_norm, batch_norm, rms_norm, partial(group_norm, groups=2))]
    assert names == ["batch_norm_1", "layer_norm_1", "batch_norm_2", "rms_norm_1", "group_norm_1"]


def test_a_layer_norm_may_stand_in_the_body_of_a_scan_and_a_batch_norm_may_not() -> None:
    g = ge.Graph(dtype="float64")
    xs, start = g.input("xs", ("time", "batch", 3)), g.input("start", ("batch", 3))
    last, _ = scan(lambda h, x: (ge.tanh(layer_norm(h + x, name="norm")), None), start, xs)
    g.output("loss", ge.sum(last * g.input("w", ("batch", 3))))
    assert [node.name for node in g.parameters] == ["norm.weight", "norm.bias"]
    ge.gradcheck(g, "loss", {"xs": f64(3, 2, 3), "start": f64(2, 3), "w": f64(2, 3, seed=1)})
    with pytest.raises(GraphError, match="batch_norm needs the statistics of a whole batch"):
        scan(lambda h, x: (batch_norm(h + x, name="other"), None), start, xs)
    assert len(g.parameters) == 2


def test_what_does_not_fit_is_refused_with_its_operand() -> None:
    g = ge.Graph()
    x = g.input("x", ("batch", "channels"))
    with pytest.raises(
        ShapeError, match=r"no number of elements along channels(.|\n)*norm = batch_norm\(x\)(.|\n)*x is"
    ):
        batch_norm(x, name="norm")
    with pytest.raises(ShapeError, match="no number of elements along channels"):
        layer_norm(x)
    with pytest.raises(ShapeError, match=r"over the last 3 axes of float32\[batch, channels\]"):
        layer_norm(x, axes=3)
    with pytest.raises(ShapeError, match="over the last 0 axes"):
        rms_norm(x, axes=0)
    with pytest.raises(ShapeError, match="axis 5 of a value with 2 axes"):
        batch_norm(x, axis=5)
    with pytest.raises(ShapeError, match="3 groups do not divide 4 channels"):
        group_norm(g.input("image", ("batch", 4, 3)), 3)
    with pytest.raises(AttributeValueError, match="momentum"):
        batch_norm(g["image"], momentum=-0.1)


@pytest.mark.parametrize("layer", [batch_norm, layer_norm, rms_norm, partial(group_norm, groups=4)])
def test_a_steady_step_allocates_no_array(layer: Layer) -> None:
    g = ge.Graph()
    x = g.input("x", (16, 32, 49))
    g.output("loss", ge.mean(ge.square(layer(x * g.parameter("w", (32, 49), ge.init.Ones())))))
    exe = ge.compile(g, loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    feeds = {"x": f64(16, 32, 49).astype(np.float32)}
    for _ in range(3):
        exe.step(feeds)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        exe.step(feeds)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 4096  # the smallest array of all examples takes 100,352

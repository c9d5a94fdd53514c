"""Layers of convolutions: which parameters they declare, and that they learn."""

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, NamingError, ShapeError
from graphengine.layers import conv as layers
from tests.arrays import f64


def test_a_layer_is_its_convolution_with_bias_and_activation() -> None:
    graph = ge.Graph("g", "float64")
    x = graph.input("x", ("batch", 4, 6, 7))
    graph.output("y", layers.conv2d(x, 6, (3, 2), 2, "same", groups=2, name="edge", activation=ge.relu))
    exe = ge.compile(graph)
    assert {name: value.shape for name, value in exe.parameters.items()} == {
        "edge.weight": (6, 2, 3, 2),
        "edge.bias": (6,),
    }
    exe.parameters["edge.bias"] = np.linspace(-1, 1, 6)
    array = f64(2, 4, 6, 7)
    plain = ge.Graph("plain", "float64")
    images, kernel = plain.input("x", (2, 4, 6, 7)), plain.constant("w", exe.parameters["edge.weight"])
    plain.output("y", ge.conv2d(images, kernel, 2, "same", groups=2))
    expected = ge.compile(plain).forward({"x": array})["y"] + exe.parameters["edge.bias"].reshape(6, 1, 1)
    np.testing.assert_allclose(exe.forward({"x": array})["y"], np.maximum(expected, 0), atol=1e-12)


def test_sequences_and_enlarged_images_have_layers_too() -> None:
    graph = ge.Graph("g")
    sequence = layers.conv1d(graph.input("s", ("batch", 2, 9)), 5, 3, 2, name="s5", activation=ge.tanh)
    image = layers.conv2d_transpose(
        graph.input("x", ("batch", 4, 3, 3)), 6, 4, 2, 1, groups=2, name="up", activation=ge.relu
    )
    assert sequence.shape == ("batch", 5, 4)
    assert image.shape == ("batch", 6, 6, 6)
    assert graph["s5.weight"].shape == (5, 2, 3)
    assert graph["up.weight"].shape == (4, 3, 4, 4)
    assert graph["up.bias"].shape == (6,)


def test_a_layer_has_no_bias_if_none_is_wanted() -> None:
    graph = ge.Graph("g")
    layers.conv2d(graph.input("x", (1, 2, 4, 4)), 3, 3, name="c", bias=False)
    assert [node.name for node in graph.parameters] == ["c.weight"]


def test_kernels_start_from_the_law_that_suits_the_activation() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (1, 2, 8, 8))
    layers.conv2d(x, 3, 3, name="rectified", activation=ge.relu)
    layers.conv2d(x, 3, 3, name="squashed", activation=ge.tanh)
    layers.conv2d(x, 3, 3, name="own", activation=ge.relu, init=ge.init.Zeros())
    kinds = [node.op.init.kind for node in graph.parameters if node.name.endswith(".weight")]
    assert kinds == ["he_normal", "glorot_uniform", "zeros"]


@pytest.mark.parametrize(("stride", "window"), [(1, 3), (2, 4), (3, 3)])
def test_enlarged_images_of_unit_variance_keep_their_variance_before_a_rectifier(stride: int, window: int) -> None:
    graph = ge.Graph("g")
    x = graph.input("x", (1, 32, 24, 24))
    graph.output("y", layers.conv2d_transpose(x, 32, window, stride, name="up", bias=False, activation=ge.identity))
    y = ge.compile(graph).forward({"x": np.random.default_rng(0).normal(size=(1, 32, 24, 24))})["y"]
    assert y[..., 6:-6, 6:-6].var() == pytest.approx(1.0, rel=0.15)


def test_a_small_network_learns_which_way_stripes_run() -> None:
    generator = np.random.default_rng(0)
    across = generator.integers(0, 2, 64)
    stripes = np.where(np.arange(8) // 2 % 2, 1.0, -1.0)
    images = np.where(across[:, None, None], stripes, stripes[:, None]) + 0.3 * generator.normal(size=(64, 8, 8))
    graph = ge.Graph("stripes")
    x, label = graph.input("x", ("batch", 1, 8, 8)), graph.input("label", ("batch",), dtype="int64")
    h = layers.conv2d(x, 4, 3, name="conv", activation=ge.relu)
    logits = layers.conv2d(ge.max_pool2d(h, 2), 2, 3, name="scores")
    loss = graph.output("loss", ge.cross_entropy(ge.global_avg_pool(logits), label))
    exe = ge.compile(graph, loss=loss, optimizer=ge.Adam(learning_rate=0.02))
    losses = [exe.step({"x": images[:, None].astype("float32"), "label": across}) for _ in range(60)]
    assert losses[-1] < 0.05 < losses[0]


def test_what_does_not_fit_is_refused() -> None:
    graph = ge.Graph("g")
    x = graph.input("x", ("batch", 3, 8, 8))
    with pytest.raises(AttributeValueError, match="divide the 3 channels in and the 4 channels out"):
        layers.conv2d(x, 4, 3, groups=2, name="c")
    with pytest.raises(AttributeValueError, match="groups"):
        layers.conv2d(x, 4, 3, groups=0, name="c")
    with pytest.raises(AttributeValueError, match="window: an int is needed"):
        layers.conv2d(x, 4, 2.5, name="c")
    with pytest.raises(ShapeError, match=r"layers.conv1d of float32\[batch, 3, 8, 8\]: 3 axes are needed"):
        layers.conv1d(x, 4, 3, name="c")
    with pytest.raises(ShapeError, match="a kernel needs a number of channels, not depth"):
        layers.conv2d(graph.input("z", (1, "depth", 8, 8)), 4, 3, name="c")
    layers.conv2d(x, 4, 3, name="c")
    with pytest.raises(NamingError, match="taken"):
        layers.conv2d(x, 4, 3, name="c")

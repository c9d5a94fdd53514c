"""The MLP and LeNet: on pictures that the tests make up, in the form of Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import graphengine as ge
from graphengine.data import Split, fashion_mnist
from graphengine.zoo import fashion_mlp, lenet
from tests.data.fashion import write
from tests.zoo.learning import accuracy, first, learn

CHANCE = 0.1
BUILDERS = [fashion_mlp, lenet]


@pytest.fixture(scope="module")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return fashion_mnist(write(tmp_path_factory.mktemp("fashion"), train=300, test=100))


@pytest.mark.parametrize("build", BUILDERS)
def test_pictures_never_seen_are_told_apart(build: Callable[[], ge.Graph], stripes: Split) -> None:
    exe, history = learn(build(), stripes.train, epochs=4, batch_size=20)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert accuracy(exe, stripes.test) > CHANCE + 0.5


@pytest.mark.parametrize("build", BUILDERS)
def test_gradients_agree_with_differences(build: Callable[[], ge.Graph], stripes: Split) -> None:
    # Few pictures and elements, so that no step of a difference moves a pixel over a kink of relu or of the pooling.
    ge.gradcheck(build(), "loss", first(stripes.train, 2), samples=5)


@pytest.mark.parametrize("build", BUILDERS)
def test_the_document_gives_the_network_back(build: Callable[[], ge.Graph]) -> None:
    graph = build()
    assert ge.Graph.from_json(graph.to_json()) == graph


def test_the_mlp_has_the_units_that_it_is_named_after() -> None:
    weights = {node.name: node.shape for node in fashion_mlp().parameters if node.ndim == 2}
    assert weights == {"dense1.weight": (784, 256), "dense2.weight": (256, 128), "dense3.weight": (128, 10)}


def test_lenet_has_the_channels_and_units_that_caffe_gave_it() -> None:
    shapes = {node.name: node.shape for node in lenet().parameters if node.name.endswith("weight") and node.ndim > 1}
    assert shapes == {
        "conv1.weight": (20, 1, 5, 5),
        "conv2.weight": (50, 20, 5, 5),
        "dense1.weight": (800, 500),
        "dense2.weight": (500, 10),
    }


def test_what_lenet_says_of_a_picture_does_not_depend_on_the_others_of_its_batch(stripes: Split) -> None:
    exe, _ = learn(lenet(), stripes.train, epochs=1, batch_size=20)
    together = ge.predict(exe, first(stripes.test, 8), outputs="logits")["logits"]
    alone = ge.predict(exe, first(stripes.test, 1), outputs="logits")["logits"]
    assert alone[0] == pytest.approx(together[0], rel=1e-4, abs=1e-5)

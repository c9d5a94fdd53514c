"""Whole networks under all rewrites: each leaves a graph, and two steps of training are what they were."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphengine as ge
from graphengine.testing import in_float64
from graphengine.transform.rewrite.check import check_rewrite
from graphengine.transform.rewrite.passes import REWRITES

NETWORKS: dict[str, Callable[[], ge.Graph]] = {
    "mlp": ge.zoo.digits_network,
    "lenet": ge.zoo.lenet,
    "gru": ge.zoo.digits_gru,
    "lstm": ge.zoo.digits_lstm,
    "transformer": lambda: ge.zoo.character_transformer(11),
    "autoencoder": ge.zoo.convolutional_autoencoder,
}


def feeds_of(exe: ge.Executable) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    feeds = {}
    for name, type_ in exe.needs().items():
        shape = [dim if isinstance(dim, int) else 3 for dim in type_.shape]
        drawn = generator.random(shape) if type_.is_float else generator.integers(0, 2, shape)
        feeds[name] = drawn.astype(type_.dtype)
    return feeds


@pytest.mark.parametrize("name", NETWORKS)
def test_training_is_the_same_with_and_without(name: str) -> None:
    graph = in_float64(NETWORKS[name]())
    options = {"loss": "loss", "optimizer": ge.Adam(learning_rate=0.01)}
    plain, rewritten = (ge.compile(graph, rewrites=names, **options) for names in ((), None))
    feeds = feeds_of(plain)
    for _ in range(2):
        assert rewritten.step(feeds) == pytest.approx(plain.step(feeds), rel=1e-10)
    for parameter, value in plain.parameters.items():
        # Adam divides by the size of a gradient, so that rounding tells most where that is next to nothing.
        np.testing.assert_allclose(rewritten.parameters[parameter], value, rtol=1e-5, atol=1e-6, err_msg=parameter)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_rewrite_leaves_a_graph_that_may_stand_for_the_one_before(name: str) -> None:
    exe = ge.compile(NETWORKS[name](), loss="loss", optimizer=ge.SGD(learning_rate=0.01, momentum=0.9), rewrites=())
    graph = exe.programs.part("step", ()).stages()[0].copy()
    for rewrite in REWRITES.values():
        before = graph.copy()
        rewrite(graph)
        check_rewrite(before, graph)

"""The networks that read a digit row after row."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import graphengine as ge
from graphengine.data import digits
from graphengine.zoo import digits_gru, digits_lstm
from tests.zoo.learning import accuracy, first, learn

BUILDERS = [digits_lstm, digits_gru]
CHANCE = 0.1


@pytest.mark.parametrize("build", BUILDERS)
def test_digits_never_seen_are_read(build: Callable[[], ge.Graph]) -> None:
    data = digits()
    exe, history = learn(build(), data.train, epochs=5)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert accuracy(exe, data.test) > CHANCE + 0.5


@pytest.mark.parametrize("build", BUILDERS)
def test_gradients_agree_with_differences(build: Callable[[], ge.Graph]) -> None:
    ge.gradcheck(build(), "loss", first(digits().train, 4), samples=20)


@pytest.mark.parametrize("build", BUILDERS)
def test_the_document_gives_the_network_back(build: Callable[[], ge.Graph]) -> None:
    graph = build()
    assert ge.Graph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize("build", BUILDERS)
def test_the_order_of_the_rows_matters(build: Callable[[], ge.Graph]) -> None:
    pixels = digits().test["pixels"][:5]
    exe = ge.compile(build())
    upright, turned = (
        exe.forward({"pixels": rows.reshape(5, 64)}, outputs=["logits"])["logits"]
        for rows in (pixels, pixels.reshape(5, 8, 8)[:, ::-1])
    )
    assert abs(upright - turned).min() > 1e-6

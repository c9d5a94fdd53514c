"""The convolutional autoencoder."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.data import digits
from graphengine.zoo import convolutional_autoencoder
from tests.zoo.learning import learn


def pictures() -> list[dict[str, np.ndarray]]:
    return [{"pixels": part["pixels"]} for part in digits()]


def test_digits_never_seen_come_back_better_than_as_the_mean_of_all() -> None:
    train, test = pictures()
    exe, history = learn(convolutional_autoencoder(), train, epochs=4)
    assert history["loss"][-1] < 0.6 * history["loss"][0]
    values = ge.predict(exe, test, outputs=["code", "reconstruction"])
    error = np.mean((values["reconstruction"] - test["pixels"]) ** 2)
    assert error < 0.6 * np.mean((train["pixels"].mean(axis=0) - test["pixels"]) ** 2)
    assert values["code"].shape == (360, 8)


def test_gradients_agree_with_differences() -> None:
    # Not of digits: where a picture is blank, relu stands at its kink until the biases have moved.
    pixels = np.random.default_rng(0).random((4, 64))
    ge.gradcheck(convolutional_autoencoder(), "loss", {"pixels": pixels}, samples=10)


def test_the_document_gives_the_network_back() -> None:
    graph = convolutional_autoencoder()
    assert ge.Graph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize("code", [1, 20])
def test_the_code_is_as_long_as_asked(code: int) -> None:
    assert convolutional_autoencoder(code).outputs["code"].shape == ("batch", code)

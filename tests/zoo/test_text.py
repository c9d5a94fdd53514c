"""The causal transformer over characters."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from graphengine.baselines import Trigram
from graphengine.data import windows
from graphengine.errors import ValueRangeError
from graphengine.zoo import character_transformer
from tests.zoo.learning import learn

SYMBOLS = 6


def small() -> ge.Graph:
    return character_transformer(SYMBOLS, units=16, heads=2, blocks=2)


def with_a_memory(n: int, seed: int) -> np.ndarray:
    """Symbols drawn evenly, each said again five places later: three symbols tell nothing of the next, and five all."""
    text = np.random.default_rng(seed).integers(0, SYMBOLS, n).reshape(-1, 5)
    return np.repeat(text, 2, axis=0).ravel()


def test_it_finds_what_lies_too_far_back_for_a_trigram_model() -> None:
    train, test = with_a_memory(8000, seed=0), with_a_memory(1000, seed=1)
    exe, history = learn(small(), windows(train, 20), epochs=5)
    bits = ge.evaluate(exe, windows(test, 20))["loss"] / np.log(2)
    assert history["loss"][-1] < 0.85 * history["loss"][0]
    assert bits < 0.85 * Trigram.fit(train, SYMBOLS).bits(test)


def test_a_place_sees_nothing_that_comes_after_it() -> None:
    exe = ge.compile(small())
    text = np.random.default_rng(0).integers(0, SYMBOLS, (3, 12))
    changed = text.copy()
    changed[:, 7:] = (changed[:, 7:] + 1) % SYMBOLS
    one, other = (exe.forward({"characters": each}, outputs=["logits"])["logits"] for each in (text, changed))
    np.testing.assert_array_equal(one[:, :7], other[:, :7])
    assert np.abs(one[:, 7:] - other[:, 7:]).min() > 0


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (2, 30)])
def test_the_loss_is_the_mean_over_all_characters(batch: int, time: int) -> None:
    text = np.random.default_rng(0).integers(0, SYMBOLS, (batch, time))
    values = ge.compile(small()).forward({"characters": text, "next": text})
    scores = np.exp(values["logits"].astype(np.float64))
    chosen = np.take_along_axis(scores, text[..., None], axis=-1) / scores.sum(axis=-1, keepdims=True)
    assert values["loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-5)


def test_gradients_agree_with_differences() -> None:
    text = np.random.default_rng(0).integers(0, SYMBOLS, 11)
    ge.gradcheck(small(), "loss", windows(text, 5), samples=5)


def test_the_document_gives_the_network_back() -> None:
    assert ge.Graph.from_json(small().to_json()) == small()


def test_a_text_longer_than_there_are_positions_and_a_symbol_that_is_none_are_errors() -> None:
    exe = ge.compile(small())
    with pytest.raises(ValueRangeError):
        exe.forward({"characters": np.zeros((1, 129), int)}, outputs=["logits"])
    with pytest.raises(ValueRangeError):
        exe.forward({"characters": np.full((1, 4), SYMBOLS)}, outputs=["logits"])

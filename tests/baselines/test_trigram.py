"""The smoothed trigram model: probabilities, on texts where the best ones are known."""

from __future__ import annotations

import numpy as np
import pytest

from graphengine.baselines import Trigram
from graphengine.errors import AttributeValueError, ValueRangeError


def random_text(n: int, symbols: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, symbols, n)


@pytest.mark.parametrize("n", [3, 30, 3000])
def test_probabilities_sum_to_one_and_none_is_zero(n: int) -> None:
    table = Trigram.fit(random_text(n, 5), 7).table
    np.testing.assert_allclose(table.sum(axis=-1), 1, rtol=1e-12)
    assert table.min() > 0


def test_a_text_without_order_takes_the_bits_of_its_symbols() -> None:
    model = Trigram.fit(random_text(200_000, 8), 8)
    assert model.bits(random_text(20_000, 8, seed=1)) == pytest.approx(3, abs=0.01)


def test_a_text_whose_symbol_follows_from_the_two_before_takes_almost_none() -> None:
    text = np.tile([0, 1, 2, 0, 2, 1], 500)
    assert Trigram.fit(text[:2400], 3).bits(text[2400:]) < 0.01


def test_it_learns_the_probabilities_of_a_chain_of_that_order() -> None:
    generator = np.random.default_rng(0)
    chain = generator.dirichlet(np.full(4, 0.5), (4, 4))
    text = [0, 1]
    for uniform in generator.random(60_000):
        text.append(int(np.searchsorted(chain[text[-2], text[-1]].cumsum()[:-1], uniform)))
    train, test = np.array(text[:50_000]), np.array(text[50_000:])
    assert Trigram.fit(train, 4).bits(test) == pytest.approx(Trigram(chain).bits(test), abs=0.005)


def test_a_context_never_seen_falls_back_on_what_follows_its_last_symbol() -> None:
    text = np.array([0, 1, 2, 0, 1, 2, 3, 1, 2, 0])
    model = Trigram.fit(text, 4)
    assert model.table[1, 1].argmax() == 2  # 1, 1 is never seen, and 1 is always followed by 2


def test_smoothing_counts_the_contexts_of_a_symbol_not_its_occurrences() -> None:
    """After a context never seen, one symbol met in many contexts is likelier than one met often in one."""
    often_in_one = np.tile([0, 1], 50)
    once_in_many = np.array([2, 3, 4, 3, 5, 3, 6, 3])
    model = Trigram.fit(np.concatenate([often_in_one, once_in_many]), 8)
    assert model.table[7, 7, 3] > model.table[7, 7, 1]


def test_symbols_out_of_range_and_texts_too_short_are_refused() -> None:
    with pytest.raises(ValueRangeError, match=r"symbols lie in \[0, 3\), and the text has 0..3"):
        Trigram.fit(np.array([0, 1, 2, 3]), 3)
    with pytest.raises(ValueRangeError, match=r"at least 3 symbols, not shape \[2\]"):
        Trigram.fit(np.array([0, 1]), 3)
    with pytest.raises(ValueRangeError, match=r"symbols lie in \[0, 3\)"):
        Trigram.fit(np.array([0, 1, 2]), 3).bits(np.array([0, 1, -1]))
    with pytest.raises(AttributeValueError, match="1 to 512 symbols, not 5000"):
        Trigram.fit(np.array([0, 1, 2]), 5000)

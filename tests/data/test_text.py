"""Text as numbers: the alphabet, the text behind Python's help(), and stretches of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from graphengine.data import Alphabet, python_topics, windows
from graphengine.errors import TrainingError


def test_characters_are_numbered_from_1_in_their_order() -> None:
    alphabet = Alphabet.of("banana")
    assert (alphabet.characters, len(alphabet)) == ("abn", 4)
    assert alphabet.encode("nab").tolist() == [3, 1, 2]


def test_a_character_that_is_not_in_the_alphabet_is_0() -> None:
    alphabet = Alphabet.of("ab")
    numbers = alphabet.encode("a€b")
    assert numbers.tolist() == [1, 0, 2]
    assert alphabet.decode(numbers) == "a�b"


def test_a_text_comes_back_from_its_numbers() -> None:
    text = python_topics()[1]
    alphabet = Alphabet.of(text)
    assert alphabet.decode(alphabet.encode(text)) == text


def test_the_last_tenth_of_the_topics_is_held_out() -> None:
    train, held_out = python_topics()
    assert len(held_out) == pytest.approx((len(train) + len(held_out)) / 10, abs=1)
    assert train.startswith('The "assert" statement')
    assert '"yield"' in held_out
    assert '"yield" statement is semantically equivalent' not in train


def test_the_part_held_out_is_as_great_as_asked() -> None:
    assert len(python_topics(0.5)[0]) == pytest.approx(len(python_topics(0.5)[1]), abs=1)


def test_a_python_without_its_topics_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(TrainingError, match=r"this Python comes without pydoc_data\.topics"):
        python_topics()


def test_stretches_do_not_overlap_and_each_character_has_its_next() -> None:
    arrays = windows(np.arange(10), 3)
    assert arrays["characters"].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert arrays["next"].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_a_stretch_that_would_lack_its_last_next_character_is_dropped() -> None:
    assert windows(np.arange(9), 3)["next"].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_stretches_may_overlap() -> None:
    assert windows(np.arange(8), 4, stride=2)["characters"].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]


def test_a_text_shorter_than_a_stretch_is_an_error() -> None:
    with pytest.raises(TrainingError, match="a text of 3 characters has no window of 3"):
        windows(np.arange(3), 3)

"""Values in messages: short, on one line, printable, in no time."""

import numpy as np

import graphengine as ge
from graphengine.wording import shown


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError


def test_a_value_is_shown_as_it_is_written_or_by_what_it_is() -> None:
    assert shown(None) == "None"
    assert shown("adam") == "'adam'"
    assert shown("\x1b[31m") == r"'\x1b[31m'"
    assert shown(10**5000) == "an int of about 5,000 digits"
    assert shown(np.zeros((3, 4))) == "an array float64[3, 4]"
    assert shown(ge.Adam) == "the class Adam"
    assert shown(ge.relu) == shown(np.exp).replace("exp", "relu") == "the function relu"
    assert shown(ge.Graph("g").input("x", (3,))) == "x = input(): float32[3]"


def test_a_large_value_is_cut() -> None:
    for value in ("x" * 10**6, ["x" * 1000] * 10**6, {"a": list(range(10**6))}, Rude(), b"\n" * 999):
        assert len(shown(value)) < 1000
        assert shown(value).isprintable()

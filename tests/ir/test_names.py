"""Names: which there may be, and which is meant by one that there is not."""

import difflib
import random

from graphengine.ir.names import did_you_mean


def test_the_nearest_name_is_found_as_by_comparing_with_all() -> None:
    draw = random.Random(0)
    known = ["".join(draw.choices("abcdefg_", k=draw.randrange(1, 12))) for _ in range(300)]
    for name in known[:50]:
        wrong = name[1:] + draw.choice("xyz")
        near = difflib.get_close_matches(wrong, known, n=1)
        found = did_you_mean(wrong, known)
        assert bool(near) == bool(found)
        score = difflib.SequenceMatcher(None, near[0] if near else "", wrong).ratio()
        assert not near or difflib.SequenceMatcher(None, found.split("'")[1], wrong).ratio() >= 0.95 * score


def test_few_of_many_long_names_are_compared(monkeypatch) -> None:
    compared = []
    ratio = difflib.SequenceMatcher.ratio
    monkeypatch.setattr(difflib.SequenceMatcher, "ratio", lambda self: compared.append(1) or ratio(self))
    known = [*("a" * 100 + str(number) for number in range(5000)), "b" * 10**6, ""]
    assert "did you mean 'aaaa" in did_you_mean("a" * 105, known)
    assert len(compared) <= 2 * 16  # difflib asks twice


def test_a_name_that_is_longer_than_any_is_like_none() -> None:
    assert did_you_mean("a" * 10**6, ["a", "b"]) == ""

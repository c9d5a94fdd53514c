"""Slots in the arena: those that live at one time stand apart, and little is wasted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.schedule import arena
from graphengine.schedule.arena import fullest, pack, rounded
from graphengine.schedule.program import Slot

LINE = arena.CACHE_LINE


def slots_of(*rows: tuple[int, int, int]) -> list[Slot]:
    return [Slot(lines * LINE, first, last) for lines, first, last in rows]


def check(slots: list[Slot], peak: int) -> None:
    """What must hold of any placing, seen a cache line and an instruction at a time."""
    taken: set[tuple[int, int]] = set()
    for slot in slots:
        assert slot.offset % LINE == 0
        assert slot.offset + slot.nbytes <= peak
        lines = range(slot.offset // LINE, (slot.offset + slot.nbytes) // LINE)
        mine = {(time, line) for time in range(slot.first, slot.last + 1) for line in lines}
        assert not mine & taken
        taken |= mine
    lived = [sum(slot.nbytes for slot in slots if slot.first <= time <= slot.last) for time in range(64)]
    assert fullest(slots)[0] == max(lived) <= peak


ROWS = st.tuples(st.integers(0, 9), st.integers(0, 30), st.integers(0, 12)).map(lambda r: (r[0], r[1], r[1] + r[2]))
"""Lines, first and last instruction of a slot."""


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(ROWS, max_size=24))
def test_slots_that_live_at_one_time_stand_apart(rows: list[tuple[int, int, int]]) -> None:
    for place in (pack, arena._by_time, arena._by_size, arena._by_lifetime):
        slots = slots_of(*rows)
        check(slots, place(slots))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(ROWS, max_size=24))
def test_the_best_placing_is_taken(rows: list[tuple[int, int, int]]) -> None:
    slots = slots_of(*rows)
    best = min(place(slots) for place in (arena._by_time, arena._by_size, arena._by_lifetime))
    assert best <= pack(slots) <= max(best, arena._NEAR * fullest(slots)[0] / 100)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(ROWS, max_size=40))
def test_slots_of_one_size_take_no_more_than_what_lives_at_one_time(rows: list[tuple[int, int, int]]) -> None:
    slots = slots_of(*((3, first, last) for _, first, last in rows))
    assert arena._by_time(slots) == fullest(slots)[0]


def test_a_gap_that_is_too_wide_is_left_for_who_needs_it() -> None:
    # Best fit puts the slot of 2 lines into the gap of 2, and so finds the gap of 3 for the slot of 3.
    slots = slots_of((3, 0, 1), (1, 0, 9), (2, 0, 1), (1, 0, 9), (2, 2, 9), (3, 3, 9))
    assert arena._by_time(slots) == 7 * LINE


def test_gaps_that_touch_are_one() -> None:
    slots = slots_of((1, 0, 1), (1, 0, 2), (1, 0, 3), (1, 0, 9), (3, 4, 5))
    assert arena._by_time(slots) == 4 * LINE


def test_placing_by_size_saves_what_best_fit_wastes() -> None:
    slots = slots_of((1, 0, 2), (4, 0, 0), (1, 0, 2), (5, 1, 3))
    assert arena._by_time(slots) == 11 * LINE
    assert pack(slots) == fullest(slots)[0] == 7 * LINE


def test_nothing_takes_no_memory() -> None:
    assert pack([]) == 0
    assert pack(slots_of((0, 0, 5), (0, 2, 3))) == 0


@pytest.mark.parametrize(("nbytes", "lines"), [(0, 0), (1, 1), (64, 1), (65, 2)])
def test_sizes_are_whole_cache_lines(nbytes: int, lines: int) -> None:
    assert rounded(nbytes) == lines * LINE


def test_only_some_slots_are_placed_in_ways_that_take_quadratic_time(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    count = arena._MOST_ONE_BY_ONE + 1
    slots = slots_of(*((int(random.integers(1, 50)), t, t + int(random.integers(1, 100))) for t in range(count)))
    monkeypatch.delattr(arena, "_one_by_one")
    least, _ = fullest(slots)
    assert arena._NEAR * least < 100 * pack(slots) < 150 * least


@pytest.mark.parametrize("network", [ge.zoo.digits_network, ge.zoo.lenet, ge.zoo.digits_lstm, ge.zoo.fashion_mlp])
def test_networks_waste_next_to_nothing(network: object) -> None:
    program = ge.compile(network(), loss="loss", optimizer=ge.Adam()).plan("step", batch=32)
    assert program.peak_bytes <= 1.1 * fullest(program.slots)[0]

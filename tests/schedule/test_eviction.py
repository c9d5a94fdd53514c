"""The machine with little memory: what it does is right, fits, and costs little."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphengine.schedule.eviction import Work, evicting


def chain(length: int) -> list[Work]:
    """A chain of equal values, and one of equal adjoints that reads it from the end."""
    works = [Work((i - 1,) if i else (), (1,), 0, 1.0, may_drop=True) for i in range(length)]
    for number in range(length, 2 * length):
        value = 2 * length - 1 - number
        above = (number - 1,) if number > length else ()
        reads = (value, *((value - 1,) if value else ()), *above)
        works.append(Work(reads, (1,), 0, 2.0, may_drop=False, overwrites=above))
    return works


def needed(works: list[Work], order: list[int]) -> int:
    """The most that lives at one time when steps are run in this order; every value up to its last reader."""
    made: dict[int, int] = {}
    last: dict[int, int] = {}
    for time, step in enumerate(order):
        for read in works[step].reads:
            last[made[read]] = time
        made[step] = time
    lives = [(time, last.get(time, time), works[step].results[0]) for time, step in enumerate(order)]
    return max(
        works[step].scratch + sum(nbytes for first, end, nbytes in lives if first <= time <= end)
        for time, step in enumerate(order)
    )


def repetitions(length: int, memory: int) -> int:
    """How many values of a chain are computed again at least, with memory for so many (Griewank and Walther 2000)."""
    sweeps = 0
    while math.comb(memory + sweeps, memory) < length:
        sweeps += 1
    return sweeps * length - math.comb(memory + sweeps, memory + 1) - length


def test_with_enough_memory_nothing_is_computed_again() -> None:
    works = chain(20)
    assert evicting(works, (), 21, 0.0) == list(range(40))


@pytest.mark.parametrize("memory", [150, 80, 40, 28])
def test_a_chain_is_trained_in_root_n_memory_with_each_value_computed_twice_at_most(memory: int) -> None:
    works = chain(200)
    order = evicting(works, (), memory, math.inf)
    assert order is not None
    assert needed(works, order) <= memory + 1
    assert len(order) - 400 <= 200


@pytest.mark.parametrize("memory", [100, 40, 20, 12, 8])
def test_a_chain_is_computed_again_about_as_seldom_as_can_be(memory: int) -> None:
    works = chain(200)
    order = evicting(works, (), memory, math.inf)
    assert order is not None
    assert needed(works, order) <= memory + 1
    assert len(order) - 400 <= 1.15 * repetitions(200, memory - 3)


def test_less_than_a_step_takes_cannot_be_kept_to() -> None:
    assert evicting(chain(20), (), 2, math.inf) is None


def test_work_is_bounded() -> None:
    assert evicting(chain(200), (), 8, 300.0) is None
    assert evicting(chain(200), (), 8, 900.0) is not None


def test_of_a_long_row_that_no_adjoint_reads_some_values_stay_in_memory() -> None:
    count = 300
    works: list[Work] = []
    for i in range(count):  # a running sum, and a function of it that its adjoint reads
        works.append(Work((2 * i - 2,) if i else (), (1,), 0, 1.0, may_drop=True))
        works.append(Work((2 * i,), (1,), 0, 1.0, may_drop=True))
    for i in reversed(range(count)):
        above = (len(works) - 1,) if i < count - 1 else ()
        works.append(Work((2 * i + 1, *above), (1,), 0, 1.0, may_drop=False))
    order = evicting(works, (), 60, 8.0 * len(works))
    assert order is not None
    assert needed(works, order) <= 60
    assert len(order) < 3 * len(works)  # each from the start would be some 25 times as many


def test_what_is_cheap_for_its_size_is_dropped_first() -> None:
    # Three values are read at the end. One has to go when the fourth is made: the second, which is so not made before.
    dear = [Work((), (4,), 0, 8.0, may_drop=True), Work((), (2,), 0, 1.0, may_drop=True)]
    dear += [Work((), (1,), 0, 1.0, may_drop=True), Work((), (1,), 0, 1.0, may_drop=False)]
    works = [*dear, Work((0, 1, 2), (0,), 0, 1.0, may_drop=False)]
    assert evicting(works, (), 7, math.inf) == [0, 2, 3, 1, 4]


def test_scratch_needs_room_too() -> None:
    works = [Work((), (4,), 0, 1.0, may_drop=True), Work((), (1,), 5, 1.0, may_drop=False)]
    works.append(Work((0, 1), (1,), 0, 1.0, may_drop=False))
    assert evicting(works, (), 10, math.inf) == [0, 1, 2]
    assert evicting(works, (), 9, math.inf) == [1, 0, 2]  # computed first, it would only be dropped


def test_what_is_kept_to_the_end_stays() -> None:
    works = [Work((), (4,), 0, 1.0, may_drop=False), Work((), (4,), 0, 1.0, may_drop=True)]
    assert evicting(works, (0,), 7, math.inf) is None
    assert evicting(works, (), 7, math.inf) == [0, 1]


def test_results_of_one_step_are_computed_again_together() -> None:
    works = [Work((), (2, 2), 0, 1.0, may_drop=True), Work((0,), (4,), 0, 1.0, may_drop=False)]
    works.append(Work((1,), (1,), 0, 1.0, may_drop=False))
    works.append(Work((1, 3), (1,), 0, 1.0, may_drop=False))
    assert evicting(works, (), 8, math.inf) == [0, 1, 2, 3]
    assert evicting(works, (), 7, math.inf) == [0, 1, 0, 2, 3]  # the second went when the step that reads the first ran
    assert evicting(works, (), 5, math.inf) is None


@st.composite
def tangled(draw: st.DrawFn) -> list[Work]:
    works: list[Work] = []
    for number in range(draw(st.integers(1, 30))):
        reads = draw(st.lists(st.integers(0, number - 1), max_size=3)) if number else []
        nbytes, scratch = draw(st.integers(0, 5)), draw(st.integers(0, 2))
        works.append(
            Work(tuple(reads), (nbytes,), scratch, 1.0 + draw(st.integers(0, 9)), may_drop=draw(st.booleans()))
        )
    return works


@settings(max_examples=300, deadline=None, derandomize=True)
@given(tangled(), st.integers(1, 60))
def test_every_step_is_computed_after_what_it_reads_and_fits(works: list[Work], limit: int) -> None:
    order = evicting(works, (), limit, 1000.0)
    if order is None:
        return
    assert set(order) == set(range(len(works)))
    done: set[int] = set()
    for step in order:
        assert done.issuperset(works[step].reads)
        assert works[step].may_drop or step not in done
        done.add(step)
    assert needed(works, order) <= limit


@settings(max_examples=100, deadline=None, derandomize=True)
@given(tangled())
def test_what_a_program_takes_by_itself_is_enough(works: list[Work]) -> None:
    order = list(range(len(works)))
    assert evicting(works, (), needed(works, order), 0.0) == order

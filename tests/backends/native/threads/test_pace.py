"""Whether help pays, decided by runs whose times are made up."""

import random
from collections.abc import Callable

import pytest

from graphengine.backends.native.threads.pace import Pace


def run(pace: Pace, seconds: float, alone: Callable[[], float], together: Callable[[], float]) -> tuple[float, float]:
    """Runs for so many seconds: the mean of a run, and which part of the runs had help."""
    taken, helped, count = 0.0, 0, 0
    while taken < seconds:
        helped += pace.together
        took = together() if pace.together else alone()
        pace.note(took)
        taken += took
        count += 1
    return taken / count, helped / count


def always(seconds: float) -> Callable[[], float]:
    return lambda: seconds


def stalling(seconds: float, stall: float, every: int) -> Callable[[], float]:
    """Runs of which one in so many is held up: a thread that helps has lost its core to another process."""
    draw = random.Random(0)
    return lambda: seconds + (stall if draw.randrange(every) == 0 else 0.0)


@pytest.mark.parametrize("scale", [2e-5, 1e-3, 2e-2])
@pytest.mark.parametrize(
    ("alone", "together", "stall", "every"),
    [
        (1.0, 0.55, 0.0, 1),  # an idle machine
        (1.0, 1.3, 0.0, 1),  # helpers that share a core with the leader
        (1.0, 0.98, 0.0, 1),
        (1.0, 0.55, 5.0, 6),  # a busy one
        (1.0, 0.55, 5.0, 40),
        (1.0, 0.55, 100.0, 50),
    ],
)
def test_it_takes_little_more_time_than_the_better_way(
    scale: float, alone: float, together: float, stall: float, every: int
) -> None:
    pace = Pace()
    ways = always(alone * scale), stalling(together * scale, stall * scale, every)
    run(pace, 1000 * scale, *ways)
    mean, _ = run(pace, max(20.0, 5000 * scale), *ways)
    better = min(alone, together + stall / every) * scale
    assert mean <= 1.1 * better


def test_first_runs_have_help() -> None:
    assert Pace().together


def test_help_comes_back_when_the_machine_is_idle_again() -> None:
    pace = Pace()
    _, helped = run(pace, 10.0, always(1e-3), stalling(0.6e-3, 5e-3, 5))
    assert helped < 0.1
    run(pace, 3.0, always(1e-3), always(0.6e-3))
    _, helped = run(pace, 3.0, always(1e-3), always(0.6e-3))
    assert helped > 0.9


def test_help_is_left_soon_after_it_has_ceased_to_pay() -> None:
    pace = Pace()
    run(pace, 3.0, always(1e-3), always(0.6e-3))
    mean, _ = run(pace, 1.0, always(1e-3), always(3e-3))
    assert mean < 1.1e-3


def test_one_interruption_does_not_end_what_has_paid_for_long() -> None:
    pace = Pace()
    run(pace, 1.2, always(1e-3), always(0.6e-3))
    pace.note(8e-3)
    _, helped = run(pace, 1.0, always(1e-3), always(0.6e-3))
    assert helped > 0.95


def test_a_machine_on_which_everything_takes_longer_is_no_reason_to_go_alone() -> None:
    pace = Pace()
    run(pace, 3.0, always(1e-3), always(0.6e-3))
    run(pace, 2.0, always(2.5e-3), always(1.5e-3))
    _, helped = run(pace, 3.0, always(2.5e-3), always(1.5e-3))
    assert helped > 0.9

"""Whether a job takes less time with other threads' help or without: tried out, and tried again now and then.

On a machine whose cores have other work too, a thread that helps may lose its core in the middle of its part, for
milliseconds, in which the leader waits. Nobody tells a program that this is so; the clock does. Only the time that the
job itself has run is counted: however seldom it runs, trials take a small share of it.
"""

from __future__ import annotations

_TRIES = 5
"""How many runs a trial has. The first does not count: threads wake, and caches are another's."""

_CLEARLY = 1.25
"""A trial whose runs take so many times as long as usual is over after two."""

_STAKE = 0.002
"""Seconds that help may cost beyond what it has saved, before the job goes without; or two runs, if these are more."""

_BANK = 4
"""How many times as much may count of what it has saved: what is long ago says nothing of now."""

_REST, _LONGEST_REST = 0.02, 2.0
"""Seconds until help that did not pay is tried again: at first, and after it has not paid many times."""

_STEADY = 0.5
"""Seconds from trial to trial of runs without help, while help pays."""

_SHARE = 30
"""A trial that has cost seconds is repeated after so many times as many: trials cost little of the time."""

_RECENT = 16
"""Over about so many runs the mean is taken."""


class Pace:
    """How the next run of a job is to be made: with help if `together`."""

    __slots__ = ("_due", "_means", "_rest", "_saved", "_tried", "together")

    def __init__(self) -> None:
        self.together = True
        self._means: dict[bool, float] = {}
        self._tried: list[float] | None = []  # the runs of a trial; the very first runs are one, of help
        self._saved = 0.0
        self._rest = _REST
        self._due = 0.0

    def note(self, seconds: float) -> None:
        """A run has been made as `together` says, and has taken so long."""
        if self._tried is not None:
            self._tried.append(seconds)
            self._judge(self._tried)
            return
        self._means[self.together] += (seconds - self._means[self.together]) / _RECENT
        self._due -= seconds
        if self.together:
            stake = max(_STAKE, 2 * self._means[False])
            self._saved += self._means[False] - seconds
            if self._saved > _BANK * stake:
                self._saved, self._rest = _BANK * stake, _REST
            if self._saved < -stake:
                self._settle(False, cost=0.0)
                return
        if self._due <= 0:
            self.together, self._tried = not self.together, []

    def _judge(self, tried: list[float]) -> None:
        """If the trial has runs enough, take the way that takes less time."""
        if len(tried) < 2:
            return
        tested, usual = self.together, self._means.get(not self.together)
        counted = sorted(tried[1:])
        # An interruption of a run alone says nothing of the next ones; with help, interruptions are what it is about.
        taken = sum(counted) / len(counted) if tested else counted[len(counted) // 2]
        if len(tried) < _TRIES and (usual is None or taken < _CLEARLY * usual):
            return
        self._means[tested] = taken
        if usual is None:  # the very first runs
            self.together, self._tried = not tested, []
        else:
            self._settle(tested if taken < usual else not tested, cost=sum(tried) - len(tried) * usual)

    def _settle(self, together: bool, cost: float) -> None:
        """Run so until a trial of the other way is due; to learn this has cost so many seconds."""
        if not together or self.together:  # and not a trial without help which has shown that help still pays
            self._rest, self._saved = min(4 * self._rest, _LONGEST_REST), 0.0
        self._due = max(_STEADY if together else self._rest, _SHARE * cost)
        self._tried, self.together = None, together

"""What to compute again so that a program runs in less memory: its steps gone through on a machine that has so much.

The machine computes the steps in order. Where memory is short it drops the value that is the least loss: the one that
takes the least work to have again, for its bytes and for the time until it is read (the heuristic of dynamic tensor
rematerialization, Kirisame et al. 2021, arXiv:2006.09616; here that time is known and need not be guessed). The work
counts what was dropped next to a value, above it and below, so that what is dropped is scattered between what stays: a
chain of n equal values is trained in O(sqrt n) memory for O(n) work (Chen et al. 2016, arXiv:1604.06174). What is
computed again may be dropped again, so that less will do for more work, down to what one step needs by itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

_TOLERANCE = 1.1
"""How much dearer than the best a value may be that is dropped: what is found without asking all others again."""

_NEAR = 32
"""How many values that nothing reads any more are looked through for lost neighbours."""

_ROW = 4
"""How many values in a row may be only read to compute others before one of them may stay in memory."""


@dataclass(frozen=True, slots=True)
class Work:
    """One step of a program, as far as memory and work go. The results of all steps are numbered, in order: values."""

    reads: tuple[int, ...]
    """The values that it reads."""
    results: tuple[int, ...]
    """The bytes of each of its results."""
    scratch: int
    """Bytes that it needs besides, while it runs."""
    effort: float
    """What it costs to compute it."""
    may_drop: bool
    """Whether its results may be dropped, to be computed again."""
    overwrites: tuple[int, ...] = ()
    """The values that it reads which its results may be written over."""


def evicting(works: Sequence[Work], held: Collection[int], limit: int, most_again: float) -> list[int] | None:
    """The order in which a machine with `limit` bytes computes the steps, some of them more than once.

    The values `held` are there at the end. None if it cannot be done, or only if more than `most_again` of effort goes
    into computing things again.
    """
    values = _Values(works)
    order = _Machine(values, set(held), set(), limit, most_again).run()
    if order is not None and len(order) == len(works):
        return order
    other = _Machine(values, set(held), values.trunk(), limit, most_again).run()
    found = [_read(done, values, held) for done in (order, other) if done is not None]
    return min(found, key=lambda done: sum(works[step].effort for step in done), default=None)


def _read(order: Sequence[int], values: _Values, held: Collection[int]) -> list[int]:
    """`order` without the steps whose results nothing reads before they are computed again."""
    wanted, following, read = set(held), set[int](), []
    for step in reversed(order):
        results = values.of_step[step]
        if step not in following or not wanted.isdisjoint(results):
            read.append(step)
            wanted.difference_update(results)
            wanted.update(values.works[step].reads)
        following.add(step)
    return read[::-1]


class _Values:
    """The values of a program: of which step, how large, and who reads them."""

    def __init__(self, works: Sequence[Work]) -> None:
        self.works = works
        self.step_of = [step for step, work in enumerate(works) for _ in work.results]
        self.work_of = [works[step] for step in self.step_of]
        self.nbytes = [nbytes for work in works for nbytes in work.results]
        ends = list(accumulate(len(work.results) for work in works))
        self.of_step = [range(end - len(work.results), end) for end, work in zip(ends, works, strict=True)]
        self.readers: list[list[int]] = [[] for _ in self.nbytes]
        for step, work in enumerate(works):
            for value in dict.fromkeys(work.reads):
                self.readers[value].append(step)

    def trunk(self) -> set[int]:
        """Of long rows of values that are only read to compute others that may be dropped, some on the way.

        The running sum of a network's branches is such a row. To compute one of its last values again takes all of it,
        unless some of it is retained, though no step reads that any more.
        """
        found: set[int] = set()
        length = [0] * len(self.nbytes)
        for value in range(len(self.nbytes)):
            work = self.work_of[value]
            if work.may_drop and all(self.works[reader].may_drop for reader in self.readers[value]):
                length[value] = 1 + max((length[read] for read in work.reads), default=0)
            if length[value] > _ROW:
                found.add(value)
                length[value] = 0
        return found


class _Machine:
    """The steps done so far, and what is in memory; of what no step reads any more, the values of `trunk` stay."""

    def __init__(self, values: _Values, held: set[int], trunk: set[int], limit: int, most_again: float) -> None:
        self._values, self._works = values, values.works
        self._to_the_end, self._trunk = held | trunk, trunk
        self._limit, self._may_repeat = limit, most_again
        self._order: list[int] = []
        self._now = self._used = 0
        count = len(values.nbytes)
        self._in_memory = [False] * count
        self._lost = _Lost(values, self._in_memory)
        self._computed = [False] * len(values.works)
        self._locks = [0] * count
        self._reads_past = [0] * count
        self._heap: list[tuple[float, int]] = []

    def run(self) -> list[int] | None:
        """The order in which all steps are computed; None if that cannot be done."""
        return self._order if all(self._reach(step) for step in range(len(self._works))) else None

    def _reach(self, step: int) -> bool:
        """Compute `step`, and before it what it reads and is not in memory; whether that could be done."""
        self._now = step
        todo = self._missing(step)
        for number in todo:
            for value in self._works[number].reads:
                self._locks[value] += 1
        return all(self._compute(number) for number in todo)

    def _missing(self, step: int) -> list[int]:
        """`step` and all that has to be computed for it, in order."""
        found, pending = {step}, [step]
        while pending:
            for value in self._works[pending.pop()].reads:
                source = self._values.step_of[value]
                if not self._in_memory[value] and source not in found:
                    found.add(source)
                    pending.append(source)
        return sorted(found)

    def _compute(self, step: int) -> bool:
        work = self._works[step]
        if self._computed[step]:
            self._may_repeat -= work.effort
        if self._may_repeat < 0 or not self._make_room(self._needed(work)):
            return False
        self._order.append(step)
        self._computed[step] = True
        results = [value for value in self._values.of_step[step] if not self._in_memory[value]]
        for value in results:
            self._lost.take_out(value)
            self._in_memory[value] = True
            self._used += self._values.nbytes[value]
        for value in work.reads:
            self._locks[value] -= 1
        for value in dict.fromkeys((*work.reads, *results)):
            if not self._locks[value]:
                self._rest(value)
        return True

    def _needed(self, work: Work) -> int:
        """How many bytes have to be free to compute this: none for what is written over a value that is not read on."""
        spared = 0
        for value in work.overwrites:
            if self._locks[value] == work.reads.count(value) and self._next_read(value) is None:
                spared += self._values.nbytes[value]
        return work.scratch + max(0, sum(work.results) - spared)

    def _rest(self, value: int) -> None:
        """What becomes of a value that nothing in hand reads: it goes if nothing else will, or it may be dropped."""
        following = self._next_read(value)
        work = self._values.work_of[value]
        if following is None:
            self._leave(value)
        elif work.may_drop and self._values.nbytes[value]:
            heapq.heappush(self._heap, (self._loss(value, following, work.effort), value))

    def _next_read(self, value: int) -> int | None:
        """The next step of the program for which a value is in memory; None if there is none."""
        readers, past = self._values.readers[value], self._reads_past[value]
        while past < len(readers) and readers[past] <= self._now:
            past += 1
        self._reads_past[value] = past
        if past < len(readers):
            return readers[past]
        return len(self._works) if value in self._to_the_end else None

    def _make_room(self, nbytes: int) -> bool:
        while self._used + nbytes > self._limit:
            value = self._least_loss()
            if value is None:
                return False
            self._leave(value)
            if value not in self._trunk or self._reads_past[value] < len(self._values.readers[value]):
                self._lost.drop(value)
        return True

    def _leave(self, value: int) -> None:
        self._in_memory[value] = False
        self._used -= self._values.nbytes[value]
        self._lost.leave(value)

    def _least_loss(self) -> int | None:
        """The value to be dropped. The heap has each by what its loss was at least; it is worked out when it is up."""
        while self._heap:
            _, value = heapq.heappop(self._heap)
            following = self._next_read(value)
            if not self._in_memory[value] or self._locks[value] or following is None:
                continue
            loss = self._loss(value, following, self._lost.effort(value))
            if not self._heap or loss <= _TOLERANCE * self._heap[0][0]:
                return value
            heapq.heappush(self._heap, (loss, value))
        return None

    def _loss(self, value: int, following: int, effort: float) -> float:
        return effort / (self._values.nbytes[value] * (following - self._now + 1))


class _Lost:
    """The values that are not in memory: what it would take to have them again, and which of them hang together.

    What was dropped forms sets, each with its neighbours above and below. Computed again, a value leaves its set; that
    the rest may then fall apart is not looked into, as in the paper.
    """

    def __init__(self, values: _Values, in_memory: Sequence[bool]) -> None:
        self._values = values
        self._in_memory = in_memory
        self._up_to = list(accumulate(work.effort for work in values.works))
        self._alone = [0.0] * len(values.nbytes)
        """What it takes to have a value again, by itself: with what it is computed from and was gone when it went."""
        self._member: list[int | None] = [None] * len(values.nbytes)
        self._parents: list[int] = []
        self._efforts: list[float] = []

    def leave(self, value: int) -> None:
        """Note what it takes to have again a value that goes."""
        work = self._values.work_of[value]
        above = sum(self._alone[read] for read in self._gone(work.reads))
        self._alone[value] = min(self._up_to[self._values.step_of[value]], work.effort + above)

    def drop(self, value: int) -> None:
        """Put a value that goes, though it is still to be read, into one set with its lost neighbours."""
        own = len(self._parents)
        self._parents.append(own)
        self._efforts.append(0.0)
        pending = [value]
        while pending:
            lost = pending.pop()
            member = self._member[lost]
            if member is None:
                self._member[lost] = own
                self._efforts[self._root(own)] += self._effort_of(lost)
                pending += self._gone(self._values.work_of[lost].reads)
            else:
                self._unite(own, member)
        for member in self._below(value):
            self._unite(own, member)

    def take_out(self, value: int) -> None:
        """Take a value that is computed again out of its set."""
        member = self._member[value]
        if member is not None:
            self._efforts[self._root(member)] -= self._effort_of(value)
            self._member[value] = None

    def effort(self, value: int) -> float:
        """What it takes to have a value again, and the lost ones next to it, above and below."""
        total = self._values.work_of[value].effort
        members = self._below(value)
        seen, pending = {value}, [value]
        while pending:
            for read in self._gone(self._values.work_of[pending.pop()].reads):
                if read in seen:
                    continue
                seen.add(read)
                member = self._member[read]
                if member is not None:
                    members.append(member)
                elif len(seen) < _NEAR:
                    total += self._effort_of(read)
                    pending.append(read)
                else:
                    total += self._alone[read]
        return total + sum(self._efforts[root] for root in {self._root(member) for member in members})

    def _gone(self, reads: Collection[int]) -> list[int]:
        return [read for read in reads if not self._in_memory[read]]

    def _below(self, value: int) -> list[int]:
        """The sets of what was computed from a value."""
        results = (result for reader in self._values.readers[value] for result in self._values.of_step[reader])
        return [member for result in results if (member := self._member[result]) is not None]

    def _effort_of(self, value: int) -> float:
        """The work of a value by itself: an equal part of that of its step."""
        work = self._values.work_of[value]
        return work.effort / len(work.results)

    def _unite(self, a: int, b: int) -> None:
        a, b = self._root(a), self._root(b)
        if a != b:
            self._parents[b] = a
            self._efforts[a] += self._efforts[b]

    def _root(self, member: int) -> int:
        while self._parents[member] != member:
            self._parents[member] = self._parents[self._parents[member]]
            member = self._parents[member]
        return member

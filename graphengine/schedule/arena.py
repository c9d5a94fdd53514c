"""Offsets of slots in the arena: those whose lifetimes meet do not overlap, and the arena is as small as can be had.

To find the smallest arena is NP-hard. Best fit in order of time takes O(n log n), and needs the minimum where all slots
are of one size. Otherwise the largest are placed first, or those that live longest, each in the narrowest gap that is
left (Pisarchyk and Lee 2020, arXiv:2001.03288). That takes O(n^2), so it is tried for up to some 1,000 slots; next to
always it needs hardly more than what lives at one time, which is the minimum.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

from graphengine.schedule.program import Slot

CACHE_LINE = 64

_MOST_ONE_BY_ONE = 1024
"""How many slots are at most placed in another order than that of time: as many take some 40 ms."""

_NEAR = 101
"""An arena of this much of the minimum, in percent, is not tried to be made smaller."""


def rounded(nbytes: int) -> int:
    """`nbytes`, up to a whole number of cache lines, so that every slot starts at one."""
    return -(-nbytes // CACHE_LINE) * CACHE_LINE


def fullest(slots: Sequence[Slot]) -> tuple[int, int]:
    """The most bytes that live at one time, which no arena can do without, and the first such time."""
    change: defaultdict[int, int] = defaultdict(int)  # a Counter takes twice as long
    for slot in slots:
        change[slot.first] += slot.nbytes
        change[slot.last + 1] -= slot.nbytes
    times = sorted(change)
    levels = accumulate(change[time] for time in times)
    return max(zip(levels, times, strict=True), key=lambda pair: pair[0], default=(0, 0))


def pack(slots: Sequence[Slot]) -> int:
    """Give every slot its offset, and return the size of the arena."""
    placings = [_by_time, _by_size, _by_lifetime] if len(slots) <= _MOST_ONE_BY_ONE else [_by_time]
    enough = _NEAR * fullest(slots)[0] // 100
    tried: list[tuple[int, list[int]]] = []
    for place in placings:
        tried.append((place(slots), [slot.offset for slot in slots]))
        if tried[-1][0] <= enough:
            break
    peak, offsets = min(tried, key=lambda result: result[0])
    for slot, offset in zip(slots, offsets, strict=True):
        slot.offset = offset
    return peak


def _by_time(slots: Sequence[Slot]) -> int:
    """Place each slot, the first to live first, in the smallest gap that is free then."""
    gaps, peak = _Gaps(1 + 2 * sum(slot.nbytes for slot in slots)), 0
    ends: list[tuple[int, int, Slot]] = []
    for number, slot in sorted(enumerate(slots), key=lambda pair: pair[1].first):
        while ends and ends[0][0] < slot.first:
            gone = heapq.heappop(ends)[2]
            gaps.free(gone.offset, gone.nbytes)
        slot.offset = gaps.take(slot.nbytes)
        peak = max(peak, slot.offset + slot.nbytes)
        heapq.heappush(ends, (slot.last, number, slot))
    return peak


def _by_size(slots: Sequence[Slot]) -> int:
    return _one_by_one(sorted(slots, key=lambda slot: -slot.nbytes))


def _by_lifetime(slots: Sequence[Slot]) -> int:
    return _one_by_one(sorted(slots, key=lambda slot: slot.first - slot.last))


def _one_by_one(slots: Sequence[Slot]) -> int:
    """Place each slot in the narrowest gap between those placed before it whose lifetimes meet its own."""
    placed: list[tuple[int, int, Slot]] = []
    peak = 0
    for number, slot in enumerate(slots):
        slot.offset = _narrowest(slot, placed)
        insort(placed, (slot.offset, number, slot))
        peak = max(peak, slot.offset + slot.nbytes)
    return peak


def _narrowest(slot: Slot, placed: Sequence[tuple[int, int, Slot]]) -> int:
    end, best, width = 0, None, 0
    for offset, _, other in placed:
        if other.first <= slot.last and slot.first <= other.last:
            if offset - end >= slot.nbytes and (best is None or offset - end < width):
                best, width = end, offset - end
            end = max(end, offset + other.nbytes)
    return end if best is None else best


class _Gaps:
    """The free memory of an arena of this size, of which half is never taken; gaps that touch are one."""

    def __init__(self, size: int) -> None:
        self._by_size: list[tuple[int, int]] = []
        self._size_at: dict[int, int] = {}
        self._start_of: dict[int, int] = {}
        """By where a gap ends."""
        self.free(0, size)

    def take(self, size: int) -> int:
        """The offset of `size` bytes in the smallest gap that has as many."""
        width, offset = self._by_size[bisect_left(self._by_size, (size, 0))]
        self._remove(offset)
        self.free(offset + size, width - size)
        return offset

    def free(self, offset: int, size: int) -> None:
        """Let `size` bytes at `offset` be taken again."""
        if offset in self._start_of:
            before = self._start_of[offset]
            offset, size = before, size + self._remove(before)
        if offset + size in self._size_at:
            size += self._remove(offset + size)
        if size:
            self._size_at[offset], self._start_of[offset + size] = size, offset
            insort(self._by_size, (size, offset))

    def _remove(self, offset: int) -> int:
        size = self._size_at.pop(offset)
        del self._start_of[offset + size]
        del self._by_size[bisect_left(self._by_size, (size, offset))]
        return size

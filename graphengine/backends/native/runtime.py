"""The machine code around the kernels: a loop over calls, run by one thread or by a team of them.

These functions are compiled as kernels are. Words that threads wait on stand a cache line apart, 8 words of 8 bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphengine.ir.op import Array

if TYPE_CHECKING:  # the names that these functions use, which only machine code knows
    from graphengine.backends.native.intrinsics import (
        add,
        call,
        exchange,
        get_threads,
        load,
        pause,
        set_threads,
        store,
    )

__all__ = ["ASLEEP", "BUSY", "IDLE", "ROW", "lead", "run", "serve"]

ASLEEP, IDLE, RESERVED, BUSY = range(4)
"""What the state of a worker says: it waits in Python; it looks for work; it is to wait for a job; it has one."""

ROW = 4
"""Words to a row of a table of calls: the kernel, its arguments, whether all threads run it, and meet after it.

The kernel of a call that is made within another is 0.
"""


def run(table: Array, count: int, sync: Array, give_way: int, rank: int, ranks: int) -> None:
    """Make `count` calls of `table`. After the one that sets `fault`, which is sync[8], no other is made.

    sync[0] counts arrivals where threads meet; sync[16] becomes the number, from 1, of the call that set the fault.
    """
    met = 0
    for row in range(count):
        if table[4 * row] != 0 and load(sync, 8) == 0:
            if table[4 * row + 2] != 0:
                call(table[4 * row], table[4 * row + 1], rank, ranks)
            elif rank == 0:
                call(table[4 * row], table[4 * row + 1], 0, 1)
        if ranks > 1 and table[4 * row + 3] != 0:
            met += ranks
            add(sync, 0, 1)
            waited = 0
            while load(sync, 0) < met:
                pause(waited, give_way)
                waited += 1
        if rank == 0 and load(sync, 8) != 0 and sync[16] == 0:
            sync[16] = row + 1


def lead(
    run: int,
    arguments: int,
    sync: Array,
    states: Array,
    workers: int,
    get_blas_threads: int,
    set_blas_threads: int,
) -> None:
    """Run a table as the first of a team: of all workers if all are idle, and else alone."""
    sync[0] = 0
    sync[8] = 0
    sync[16] = 0
    called = 0
    while called < workers and exchange(states, 8 * called, 1, 2):
        called += 1
    team = 1
    if called == workers:
        team = workers + 1
    for worker in range(called):
        if team > 1:
            states[8 * workers + 0] = run
            states[8 * workers + 1] = arguments
            store(states, 8 * worker, 3)
        else:
            store(states, 8 * worker, 1)
    before = 0
    if set_blas_threads != 0:
        before = get_threads(get_blas_threads)
        if before != 1:
            set_threads(set_blas_threads, 1)
    call(run, arguments, 0, team)
    if team > 1:
        for worker in range(workers):
            waited = 0
            while load(states, 8 * worker) == 3:
                pause(waited, 0)
                waited += 1
    if set_blas_threads != 0 and before != 1:
        set_threads(set_blas_threads, before)


def serve(states: Array, workers: int, worker: int, patience: int) -> None:
    """Do the jobs of a worker until none has come for `patience` looks."""
    looked = 0
    while looked < patience or not exchange(states, 8 * worker, 1, 0):
        if load(states, 8 * worker) == 3:
            call(states[8 * workers], states[8 * workers + 1], worker + 1, workers + 1)
            store(states, 8 * worker, 1)
            looked = 0
        else:
            pause(looked, 0)
            looked += 1

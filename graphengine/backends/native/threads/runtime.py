"""The machine code around the kernels: one thread, the leader, makes the calls; others help where a call has parts.

These functions are compiled as kernels are. The threads communicate through words of memory, the *board*. LINE words
of it are a line of the cache. The first line says what is to be computed; each thread has a line of its own:

- A call is split into as many parts as there are threads. Each part is offered to one of them by a *ticket*, an odd
  number. Whoever takes the part makes it even, by subtracting one. Every call has a number of its own, so that nobody
  takes a part of a call that is over. When the part is computed, the even number is written after the ticket.
- The leader computes its own part, then all that nobody has taken, and waits only for threads that are computing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphengine.ir.types import Array

if TYPE_CHECKING:  # the names that these functions use, which only machine code knows
    from graphengine.backends.native.llvm.intrinsics import call, exchange, load, pause, store

LINE = 8
"""Words of 8 bytes to a line of the board.

Words of the first: 0 is 1 while a leader has the team; 1 the number of the call; 2, 3 and 4 its kernel, its arguments
and its parts. Words of a thread's: 0 its ticket; 1 the number of the last call of which its part was computed; 2 STATE.
"""

STATE = 2
ASLEEP, AWAKE = range(2)
"""What the state of a worker says: it waits in Python, or looks for work."""

ROW = 3
"""Words to a row of a table of calls: the kernel, its arguments, and in how many parts it is cut; 1 if in none."""


def lead(table: Array, count: int, fault: Array, board: Array, is_shared: int, give_way: int) -> None:
    """Make `count` calls of `table`, with the workers if `is_shared`. After one that sets `fault[0]` no other is made.

    `fault[8]` becomes the number, from 1, of the call that set it.
    """
    fault[0] = 0
    fault[8] = 0
    if is_shared != 0:
        store(board, 0, 1)
    for row in range(count):
        kernel, arguments, parts = table[3 * row], table[3 * row + 1], table[3 * row + 2]
        if kernel == 0:  # never: but for this test it is called from memory, not a register, which takes 0.5 ns more
            break
        if parts == 1 or is_shared == 0:
            call(kernel, arguments, 0, 1)
        else:
            number = load(board, 1) + 2
            store(board, 1, number)
            store(board, 2, kernel)
            store(board, 3, arguments)
            store(board, 4, parts)
            for part in range(1, parts):
                store(board, 8 * part + 8, number + 1)
            call(kernel, arguments, 0, parts)
            for part in range(1, parts):
                if exchange(board, 8 * part + 8, number + 1, number):
                    call(kernel, arguments, part, parts)
                    store(board, 8 * part + 9, number)
            for part in range(1, parts):
                waited = 0
                while load(board, 8 * part + 9) != number:
                    pause(waited, give_way)
                    waited += 1
        if load(fault, 0) != 0:
            fault[8] = row + 1
            break
    if is_shared != 0:
        store(board, 0, 0)


def serve(board: Array, rank: int, patience: int, give_way: int) -> None:
    """Compute this thread's parts of calls, and then others' that nobody has taken.

    Ends when no part has come for `patience` looks and no leader has the team.
    """
    mine = 8 * rank + 8
    looked = 0
    while looked < patience or load(board, 0) != 0 or not exchange(board, mine + 2, 1, 0):
        ticket = load(board, mine)
        kernel, arguments, parts = load(board, 2), load(board, 3), load(board, 4)
        if ticket % 2 == 1 and exchange(board, mine, ticket, ticket - 1):  # what was read is of this call, then
            call(kernel, arguments, rank, parts)
            store(board, mine + 1, ticket - 1)
            for part in range(1, parts):
                other = 8 * part + 8
                if load(board, other) == ticket and exchange(board, other, ticket, ticket - 1):
                    call(kernel, arguments, part, parts)
                    store(board, other + 1, ticket - 1)
            looked = 0
        else:
            pause(looked, give_way)
            looked += 1

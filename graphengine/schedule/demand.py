"""How much memory a program takes once it is bound, and what in it takes the most."""

from __future__ import annotations

from graphengine.schedule.arena import fullest
from graphengine.schedule.program import Buffer, Loop, Program, Slot

_SHOWN = 3
"""How many values are named."""

_CALL_BYTES = 1000
"""What a bound call takes, about: 360 bytes by NumPy, up to 3,300 by machine code that works on many arrays."""

_SHARED_CALL_BYTES = 100
"""What is counted for a call that is the same one at each step: some 20 bytes, and the time to bind it, 0.3 us."""


def demand(program: Program) -> int:
    """The bytes that a program takes: its leaves, its arena, copies of its results and, about, the calls of its scans.

    A result that is a view, of what is broadcast say, may take more than the arena once it is copied.
    """
    loops = [step.loop for step in program.instructions if step.loop is not None]
    copies = sum(result.type.nbytes for result in program.results.values())
    return program.leaf_bytes + program.peak_bytes + copies + sum(map(_bytes_of_calls, loops))


def greatest(program: Program) -> list[str]:
    """A line on each of the few parts of that which take the most: leaves, values, and the calls of scans."""
    values = dict.fromkeys((*program.leaves.values(), *largest(program), *program.results.values()))
    parts = [(value.type.nbytes, f"{value.name}, {value.type}") for value in values]
    for step in program.instructions:
        if step.loop is not None:
            calls = f"the calls of {step}, declared at {step.where}, for each of {step.loop.steps:,} steps"
            parts.append((_bytes_of_calls(step.loop), calls))
    parts.sort(key=lambda part: -part[0])
    return [f"{what}, {nbytes:,} bytes" for nbytes, what in parts[:_SHOWN]]


def largest(program: Program) -> list[Buffer]:
    """The largest values where the most memory is held at one time."""
    _, where = fullest(program.slots)
    written: dict[Slot, Buffer] = {}
    for step in program.instructions[: where + 1]:
        written.update({buffer.slot: buffer for buffer in (*step.results, *step.scratch) if buffer.slot})
    held = [buffer for slot, buffer in written.items() if slot.last >= where]
    return sorted(held, key=lambda buffer: -buffer.type.nbytes)[:_SHOWN]


def _bytes_of_calls(loop: Loop) -> int:
    """What the calls of a scan take, which is bound step by step."""
    moving = loop.moving
    step = _SHARED_CALL_BYTES
    for instruction in loop.body.instructions:
        if instruction.loop is not None:
            step += _bytes_of_calls(instruction.loop)
        else:
            step += _CALL_BYTES if instruction in moving else _SHARED_CALL_BYTES
    return loop.steps * step

"""Programs that fit a memory budget, at the least recomputation that was found for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from graphengine.errors import CompileError
from graphengine.ir.graph import Graph
from graphengine.ir.node import Phase
from graphengine.schedule.arena import fullest, rounded
from graphengine.schedule.eviction import Work, evicting
from graphengine.schedule.memory import plan
from graphengine.schedule.program import Buffer, Instruction, Program, Slot
from graphengine.transform.remat import repeated

__all__ = ["plan_within"]

_TRIALS = 12
"""How many memory sizes are tried: halving what is left each time, the last is known to one in some thousand."""

_SPARE = 0.01
"""The part of a budget that may be left unused."""

_SHOWN = 3
"""How many values a refusal names."""

_MOST_AGAIN = 8
"""How many times the work of a whole program may be done again at most."""


def plan_within(budget: int | None, name: str, graph: Graph, binding: Mapping[str, int]) -> Program:
    """The program of a graph's outputs and updates, whose arena takes at most `budget` bytes unless that is None.

    Where values must be dropped for that and computed again, machines with less and less memory are tried, and what
    they do is planned. Raises CompileError if none of it fits.
    """
    program = plan(name, graph.outputs, graph.updates, binding)
    if budget is None:
        return program
    if program.peak_bytes > budget:
        program = _Search(program, graph, binding, budget).best()
    return replace(program, budget=budget)


class _Search:
    """Bisection over the memory that values are dropped for: the most of it for which the plan fits."""

    def __init__(self, program: Program, graph: Graph, binding: Mapping[str, int], budget: int) -> None:
        self._whole, self._graph, self._binding, self._budget = program, graph, binding, budget
        steps = [step for step in program.instructions if _is_of(step, graph) and not step.is_view]
        self._nodes = [graph[step.name] for step in steps]
        self._views = [graph[step.name] for step in program.instructions if _is_of(step, graph) and step.is_view]
        copied = [step.operands[0] for step in program.instructions if not _is_of(step, graph)]
        self._works, self._kept = _works(steps, {buffer.root for buffer in (*program.results.values(), *copied)})

    def best(self) -> Program:
        """The program that fits and computes least again; raises CompileError if there is none."""
        low, high, limit = 0, self._whole.peak_bytes, self._budget
        fitting: list[Program] = []
        least = self._whole
        for _ in range(_TRIALS):
            program = self._planned(limit)
            spare = self._budget - program.peak_bytes if program else 0
            if program is None or spare >= 0:
                low = limit
            else:
                high = limit
            if program and program.peak_bytes < least.peak_bytes:
                least = program
            if program and spare >= 0:
                fitting.append(program)
                if spare <= _SPARE * self._budget:
                    break
            limit = limit + spare if spare and low < limit + spare < high else (low + high) // 2
        if not fitting:
            raise CompileError(_refusal(self._whole, least, self._budget))
        return min(fitting, key=lambda program: (program.recomputed_flops, program.peak_bytes))

    def _planned(self, limit: int) -> Program | None:
        """The plan for what a machine with so much memory does; None if it cannot do it."""
        most_again = _MOST_AGAIN * sum(work.effort for work in self._works)
        order = evicting(self._works, self._kept, limit, most_again)
        if order is None:
            return None
        again = repeated(self._graph, (self._nodes[number] for number in order), self._views)
        program = plan(self._whole.name, again.graph.outputs, again.graph.updates, self._binding)
        return replace(program, recomputed=frozenset(again.again))


def _is_of(step: Instruction, graph: Graph) -> bool:
    """Whether an instruction computes a node, and is not a copy that brings a value to where it belongs."""
    return step.name in graph and not graph[step.name].is_leaf


def _works(steps: Sequence[Instruction], kept: Collection[Buffer]) -> tuple[list[Work], list[int]]:
    """The instructions as far as memory and work go, and the values of them that stand in `kept`."""
    number: dict[Buffer, int] = {}
    works = []
    for step in steps:
        reads = [number.get(operand.root) for operand in step.operands]
        results = _results(step)
        number.update({result: len(number) + place for place, result in enumerate(results)})
        works.append(
            Work(
                reads=tuple(read for read in reads if read is not None),
                results=tuple(rounded(result.type.nbytes) if result.slot else 0 for result in results),
                scratch=sum(rounded(buffer.type.nbytes) for buffer in step.scratch),
                effort=float(step.flops + step.bytes_moved),
                may_drop=step.phase is Phase.FORWARD and not any(result in kept for result in results),
                overwrites=_overwritten(step, reads),
            )
        )
    return works, [value for result, value in number.items() if result in kept]


def _results(step: Instruction) -> list[Buffer]:
    """The buffers that an instruction writes."""
    return list(dict.fromkeys(part.root for part in step.out.parts.values())) or [step.out]


def _overwritten(step: Instruction, reads: Sequence[int | None]) -> tuple[int, ...]:
    """The reads that a result may be written over, at all places at which they are read."""
    results = step.out.parts or {0: step.out}
    allowed = {
        place
        for item, result in results.items()
        for place in step.op.may_overwrite(item)
        if place < len(reads) and step.operands[place].root.type == result.type
    }
    spared = {read for place, read in enumerate(reads) if place not in allowed}
    return tuple(sorted({read for read in reads if read is not None} - spared))


def _refusal(whole: Program, least: Program, budget: int) -> str:
    """What does not fit, what would, and what takes the memory."""
    return (
        f"program {whole.name!r} does not fit in a memory_budget of {budget:,} bytes: it takes {whole.peak_bytes:,}, "
        f"and the least found, with values computed again, is {least.peak_bytes:,}. "
        f"There, most is held by {_holders(least)}"
    )


def _holders(program: Program) -> str:
    """The largest values where the most memory is held."""
    _, where = fullest(program.slots)
    written: dict[Slot, Buffer] = {}
    for step in program.instructions[: where + 1]:
        written.update({buffer.slot: buffer for buffer in (*_results(step), *step.scratch) if buffer.slot})
    held = [buffer for slot, buffer in written.items() if slot.last >= where]
    largest = sorted(held, key=lambda buffer: -buffer.type.nbytes)[:_SHOWN]
    return ", ".join(f"{buffer.name} ({buffer.type}, {buffer.type.nbytes:,} bytes)" for buffer in largest)

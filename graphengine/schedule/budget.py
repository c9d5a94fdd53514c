"""Programs that fit a memory budget, at the least recomputation that was found for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from graphengine.errors import CompileError
from graphengine.ir.graph import Graph
from graphengine.ir.node import Phase
from graphengine.schedule.arena import rounded
from graphengine.schedule.demand import largest
from graphengine.schedule.eviction import Work, evicting
from graphengine.schedule.memory import Scratch, numpy_scratch, plan
from graphengine.schedule.program import Buffer, Instruction, Program
from graphengine.transform.rematerialization import Repeated

_PLANS = 4
"""How many plans are made at most to use a budget up."""

_SPARE = 50
"""The part of a budget that may be left unused: one in so many bytes."""

_MOST_EFFORT = 2**900
"""What more work than that counts for, so that floats hold it."""

_HALVINGS = 12
"""To how many bits the least memory is found that a machine can do with."""

_MOST_AGAIN = 8
"""How many times the work of a whole program may be done again at most."""


def plan_within(
    budget: int | None, name: str, graph: Graph, binding: Mapping[str, int], scratch: Scratch = numpy_scratch
) -> Program:
    """The program of a graph's outputs and updates, whose arena takes at most `budget` bytes unless that is None.

    Where values must be dropped for that and computed again, machines with less and less memory are tried, and what
    they do is planned. Raises CompileError if none of it fits.
    """
    program = plan(name, graph.outputs, graph.updates, binding, scratch=scratch)
    if budget is None:
        return program
    if program.peak_bytes > budget:
        program = _Search(program, graph.bind(binding), budget, scratch).best()
    return replace(program, binding=dict(binding), budget=budget)


class _Search:
    """The search for the program that fits: what machines do with little memory, planned."""

    def __init__(self, whole: Program, graph: Graph, budget: int, scratch: Scratch) -> None:
        """`whole` is the program of `graph` without a budget; all dims are bound in both."""
        self._whole, self._graph, self._budget, self._scratch = whole, graph, budget, scratch
        nodes = {node.name: node for node in graph.nodes if not node.is_leaf}
        copied = [step.operands[0] for step in whole.instructions if step.name not in nodes]
        own = [step for step in whole.instructions if step.name in nodes]
        steps = [step for step in own if not step.is_view]
        self._nodes = [nodes[step.name] for step in steps]
        self._views = [nodes[step.name] for step in own if step.is_view]
        works, held = _works(steps, {buffer.root for buffer in (*whole.results.values(), *copied)})
        self._evicting = partial(evicting, works, held, most_again=_MOST_AGAIN * sum(work.effort for work in works))

    def best(self) -> Program:
        """The program that fits and computes least again; raises CompileError if none is found."""
        fitting = self._fitting()
        if fitting:
            return min(fitting, key=lambda program: (program.recomputed_flops, program.peak_bytes))
        least = min((self._whole, self._least()), key=lambda program: program.peak_bytes)
        if least.peak_bytes > self._budget:
            raise _refusal(self._whole, least, self._budget)
        return least

    def _fitting(self) -> list[Program]:
        """Programs that fit: a plan takes about what its machine has, and by what it differs, the next one is given."""
        fitting = []
        limit = self._budget
        for _ in range(_PLANS):
            order = self._evicting(limit)
            if order is None:
                break
            program = self._planned(order)
            spare = self._budget - program.peak_bytes
            fitting += [program] if spare >= 0 else []
            if 0 <= spare <= self._budget // _SPARE:
                break
            limit += spare
        return fitting

    def _least(self) -> Program:
        """The program for the least memory that a machine can do with."""
        low, high = 0, self._whole.peak_bytes
        least = None
        for _ in range(_HALVINGS):
            limit = (low + high) // 2
            order = self._evicting(limit)
            low, high = (limit, high) if order is None else (low, limit)
            least = order or least
        return self._planned(least) if least else self._whole

    def _planned(self, order: Sequence[int]) -> Program:
        again = Repeated(self._graph, (self._nodes[number] for number in order), self._views)
        program = plan(self._whole.name, again.graph.outputs, again.graph.updates, {}, scratch=self._scratch)
        return replace(program, recomputed=frozenset(again.again))


def _works(steps: Sequence[Instruction], held: Collection[Buffer]) -> tuple[list[Work], list[int]]:
    """The instructions as far as memory and work go, and the values of them that are in `held`."""
    number: dict[Buffer, int] = {}
    works = []
    for step in steps:
        reads = [number.get(operand.root) for operand in step.operands]
        results = step.results
        number.update({result: index for index, result in enumerate(results, len(number))})
        works.append(
            Work(
                reads=tuple(read for read in reads if read is not None),
                results=tuple(rounded(result.type.nbytes) if result.slot else 0 for result in results),
                scratch=sum(rounded(buffer.type.nbytes) for buffer in step.scratch),
                effort=float(min(step.flops + step.bytes_moved, _MOST_EFFORT)),
                may_drop=step.phase is Phase.FORWARD and not any(result in held for result in results),
                overwrites=_overwritten(step, reads),
            )
        )
    return works, [value for result, value in number.items() if result in held]


def _overwritten(step: Instruction, reads: Sequence[int | None]) -> tuple[int, ...]:
    """The reads that a result may be written over, at all positions at which they are read."""
    allowed = {
        position
        for item, result in step.out.components.items()
        for position in step.op.may_overwrite(item)
        if position < len(reads) and step.operands[position].root.type == result.type
    }
    spared = {read for position, read in enumerate(reads) if position not in allowed}
    return tuple(sorted({read for read in reads if read is not None} - spared))


def _refusal(whole: Program, least: Program, budget: int) -> CompileError:
    """What does not fit, what would, and what takes the memory."""
    error = CompileError(
        f"program {whole.name!r} does not fit in a memory_budget of {budget:,} bytes: it takes {whole.peak_bytes:,}, "
        f"and {least.peak_bytes:,} is the least found with values computed again"
    )
    held = (f"{buffer.name}, {buffer.type}, {buffer.type.nbytes:,} bytes" for buffer in largest(least))
    error.quote("where that has the most in memory, it holds", *held)
    return error

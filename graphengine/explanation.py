"""What was made of a program, and what runs it: each rewrite with what it changed and spared, each kernel with its
backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from graphengine.backends.backend import KernelUse
from graphengine.ir.graph import Graph
from graphengine.programs import LISTED_BYTES, Prepared, Programs
from graphengine.schedule.budget import plan_within
from graphengine.schedule.cost import Cost, cost_of
from graphengine.schedule.program import Program, columns, headline
from graphengine.transform.rewrite.changes import Change, changes

SHOWN = 6
"""How many changes of one rewrite, and how many names, the text gives."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """One rewrite: what it changed, and what the program costs before and after it, with all the memory it wants."""

    name: str
    changes: tuple[Change, ...]
    before: Cost
    after: Cost

    @property
    def spared(self) -> dict[str, int]:
        """What a run takes less: instructions, FLOPs, bytes moved and peak bytes; below 0 where it takes more."""
        costs = zip(_figures(self.before).items(), _figures(self.after).values(), strict=True)
        return {name: before - after for (name, before), after in costs}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A program explained. `str` of it is the text."""

    program: str
    binding: dict[str, int]
    """The sizes of named dims for which costs are given."""
    cost: Cost
    """Of the program that runs, after all rewrites."""
    left_out: tuple[str, ...]
    """The nodes of the graph that this program does not need."""
    declared: tuple[Change, ...]
    """What the rewrite `stabilization` changed in the declared graph, before it was differentiated."""
    rewrites: tuple[Rewritten, ...]
    kernels: tuple[KernelUse, ...]
    """What runs each instruction; of a scan also those of a step, once.

    They are found by binding the program: there are none for one that has not run and takes more than 2^28 bytes.
    """
    shows_source: bool = False

    @property
    def sources(self) -> tuple[str, ...]:
        """The texts of the kernels that have one, each once."""
        return tuple(dict.fromkeys(use.source for use in self.kernels if use.source is not None))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        figures = ", ".join(f"{figure:,} {name}" for name, figure in _figures(self.cost).items())
        yield f"program {headline(self.program, self.binding)}: {figures}"
        if self.left_out:
            names = ", ".join(self.left_out[:SHOWN]) + (", ..." if len(self.left_out) > SHOWN else "")
            yield f"left out, as nothing here needs them, {len(self.left_out)} nodes: {names}"
        rows = [(r.name, str(len(r.changes)), *map("{:,}".format, r.spared.values())) for r in self.rewrites]
        head = "rewrite", "changes", *(f"{name} spared" for name in _figures(self.cost))
        yield from ("", *columns([head, *rows], right_from=1))
        if self.declared:
            yield from ("", "stabilization, before differentiating", *_told(self.declared))
        for rewrite in self.rewrites:
            if rewrite.changes:
                yield from ("", rewrite.name, *_told(rewrite.changes))
        if not self.kernels and self.cost.instructions:
            yield from ("", f"a program of more than {LISTED_BYTES:,} bytes has its kernels listed once it has run")
            return
        uses = [(use.backend, use.kernel, use.instruction) for use in self.kernels]
        yield from ("", *columns([("backend", "kernel", "instruction"), *uses], right_from=3))
        for source in self.sources if self.shows_source else ():
            yield from ("", source.rstrip("\n"))


def explained(
    programs: Programs, prepared: Prepared, kernels: tuple[KernelUse, ...], shows_source: bool
) -> Explanation:
    """What each rewrite made of a program that these kernels run. The plans between the rewrites are made anew."""
    training, settings = programs.training, programs.settings
    program, stages = prepared.program, prepared.part.stages()

    def plan(graph: Graph) -> Program:
        return plan_within(None, program.name, graph, program.binding, settings.backend.scratch)

    return Explanation(
        program=program.name,
        binding=program.binding,
        cost=cost_of(program),
        left_out=tuple(node.name for node in training.graph.nodes if not node.is_leaf and node.name not in stages[0]),
        declared=training.stabilized,
        rewrites=tuple(_rewritten(stages, settings.rewrites, plan)),
        kernels=kernels,
        shows_source=shows_source,
    )


def _rewritten(stages: Sequence[Graph], names: Sequence[str], plan: Callable[[Graph], Program]) -> Iterator[Rewritten]:
    cost = cost_of(plan(stages[0]))
    for name, before, after in zip(names, stages, stages[1:], strict=False):
        earlier, cost = cost, cost if after is before else cost_of(plan(after))
        yield Rewritten(name, tuple(changes(before, after)), earlier, cost)


def _figures(cost: Cost) -> dict[str, int]:
    return {
        "instructions": cost.instructions,
        "FLOPs": cost.total_flops,
        "bytes moved": sum(cost.bytes_moved.values()),
        "peak bytes": cost.peak_bytes,
    }


def _told(found: Sequence[Change]) -> Iterator[str]:
    yield from (f"  {change}" for change in found[:SHOWN])
    if len(found) > SHOWN:
        yield f"  and {len(found) - SHOWN} more"

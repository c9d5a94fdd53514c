"""A second opinion on a memory plan: the program replayed over places that know whose value they hold.

Nothing here asks the planner when a buffer lives. Every place starts with its leaf or with nothing; every instruction
is checked to read exactly the values of its node's parents, and overwrites the place of its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphengine.ir.graph import Graph, Node
from graphengine.schedule.program import Buffer, Instruction, Program

Place = tuple[str, int | str]


@dataclass
class Replay:
    """What every slot and leaf holds, by the name of the node whose value it is."""

    program: Program
    graph: Graph
    held: dict[Place, object] = field(default_factory=dict)
    views: dict[Buffer, tuple[str, object]] = field(default_factory=dict)

    def run(self) -> None:
        for name in self.program.leaves:
            self.held["leaf", name] = name
        for step in self.program.instructions:
            if step.is_view:
                self._look(step)
            else:
                self._write(step)

    def read(self, buffer: Buffer) -> str:
        """The name of the node whose value is found in `buffer`."""
        content = self.held.get(place_of(buffer))
        assert content is not None, f"{buffer.name} is read from {place_of(buffer)}, where nothing was written"
        if buffer.source is None:
            return str(content)
        name, seen = self.views[buffer]
        assert content == seen, f"{name} is a view of {seen}, but {content} stands there by now"
        return name

    def _look(self, step: Instruction) -> None:
        operand = step.operands[0]
        assert self.read(operand) == self.graph[step.name].parents[0].name
        assert place_of(step.out) == place_of(operand)
        self.views[step.out] = (step.name, self.held[place_of(operand)])

    def _write(self, step: Instruction) -> None:
        out = place_of(step.out)
        work = [place_of(buffer) for buffer in step.scratch]
        sources = [place_of(operand) for operand in step.operands]
        assert len({out, *work}) == 1 + len(work), f"{step.name}: work memory overlaps"
        assert not set(work) & set(sources), f"{step.name}: work memory overlaps an operand"
        for buffer in (step.out, *step.scratch):
            if buffer.slot is not None:
                assert buffer.type.nbytes <= self.program.slot_bytes[buffer.slot]
        found = [self.read(operand) for operand in step.operands]
        if self._is_move(step):
            (value,) = found
        else:
            value = step.name
            assert found == [parent.name for parent in self.graph[step.name].parents], f"{step.name} reads {found}"
            for position, operand in enumerate(step.operands):
                if sources[position] == out:
                    assert position in step.op.overwrites, f"{step.name} may not run over operand {position}"
                    assert operand.source is None, f"{step.name} runs over a view"
                    assert operand.type == step.out.type
        for place in work:
            self.held[place] = f"garbage of {step.name}"
        self.held[out] = value

    def _is_move(self, step: Instruction) -> bool:
        """Whether the planner put this copy in, to bring a value to where it belongs."""
        return step.op.kind == "copy" and not (step.name in self.graph and self.graph[step.name].op.kind == "copy")


def place_of(buffer: Buffer) -> Place:
    """The memory that a buffer, or what it is a view of, stands in."""
    while buffer.source is not None:
        buffer = buffer.source
    return ("slot", buffer.slot) if buffer.slot is not None else ("leaf", str(buffer.leaf))


def prove(program: Program, graph: Graph, results: Sequence[Node], updates: Mapping[Node, Node]) -> None:
    """Replay `program`, and check that every result and every leaf holds at its end what it should."""
    replay = Replay(program, graph)
    replay.run()
    for node in results:
        buffer = program.results[node.name]
        assert replay.read(buffer) == node.name
    next_values = {target.name: node.name for target, node in updates.items()}
    for name in program.leaves:
        content = replay.held["leaf", name]
        assert content == next_values.get(name, name), f"leaf {name} ends with {content}"
    assert set(next_values) <= set(program.leaves)

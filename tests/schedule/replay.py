"""A second opinion on a memory plan: the program replayed over places that know whose value they hold.

Nothing here asks the planner when a buffer lives. Every place starts with its leaf or with nothing; every instruction
is checked to read exactly the values of its node's parents, and overwrites the place of its result, and with it all
that stands in any byte of it. The body of a scan
is replayed likewise, as a step reads and writes its leaves; and that what one step writes is what the next one reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ir.op import GetItem
from graphengine.ops.scan import Scan
from graphengine.schedule.program import Buffer, Instruction, Loop, Program
from graphengine.transform.training_graph import ProgramName

Place = tuple[str, int | str, int]
"""An arena's bytes, or a leaf: ("slot", first byte, bytes) or ("leaf", name, 0)."""


def named(nodes: Iterable[Node]) -> dict[str, Node]:
    """Results for a plan, under the names of their nodes."""
    return {node.name: node for node in nodes}


@dataclass
class Replay:
    """What every slot and leaf holds, by the name of the node whose value it is."""

    program: Program
    graph: Graph
    held: dict[Place, object] = field(default_factory=dict)
    views: dict[Buffer, tuple[str, object]] = field(default_factory=dict)

    def run(self) -> None:
        for name in self.program.leaves:
            self.held["leaf", name, 0] = name
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
        assert self.read(operand) == parents_of(self.graph[step.name])[0]
        assert place_of(step.out) == place_of(operand)
        for buffer in (step.out, *step.out.parts.values()):
            self.views[buffer] = (buffer.name, self.held[place_of(operand)])

    def _write(self, step: Instruction) -> None:
        outs = {place_of(part): part.name for part in step.out.parts.values()} or {place_of(step.out): step.name}
        work = [place_of(buffer) for buffer in step.scratch]
        sources = [place_of(operand) for operand in step.operands]
        for number, place in enumerate(work):
            others = [*outs, *work[:number]]
            assert not any(overlap(place, other) for other in others), f"{step.name}: work memory overlaps"
            assert not any(overlap(place, other) for other in sources), f"{step.name}: work memory overlaps an operand"
        for place in (*outs, *work):
            assert place[0] == "leaf" or int(place[1]) + place[2] <= self.program.peak_bytes
        found = [self.read(operand) for operand in step.operands]
        if self._is_move(step):
            outs = dict.fromkeys(outs, found[0])
        else:
            assert tuple(found) == parents_of(self.graph[step.name]), f"{step.name} reads {found}"
            for position, operand in enumerate(step.operands):
                if any(overlap(sources[position], place) for place in outs):
                    self._check_overwriting(step, position, operand)
        if step.loop is not None:
            prove_loop(step, step.loop)
        for place in (*work, *outs):
            self.held = {other: content for other, content in self.held.items() if not overlap(place, other)}
        self.held |= outs
        for part in step.out.parts.values():
            self.views[part] = (part.name, self.held[place_of(part)])

    def _check_overwriting(self, step: Instruction, position: int, operand: Buffer) -> None:
        results = step.out.parts or {0: step.out}
        over = [item for item, result in results.items() if place_of(result) == place_of(operand)]
        assert len(over) == 1, f"{step.name} runs over part of operand {position}, or twice over it"
        assert position in step.op.may_overwrite(over[0]), f"{step.name} may not run over operand {position}"
        assert operand.type == results[over[0]].type
        is_item = operand.name in self.graph and isinstance(self.graph[operand.name].op, GetItem)
        assert operand.source is None or is_item, f"{step.name} runs over a view"

    def _is_move(self, step: Instruction) -> bool:
        """Whether the planner put this copy in, to bring a value to where it belongs."""
        return step.op.kind == "copy" and not (step.name in self.graph and self.graph[step.name].op.kind == "copy")


def parents_of(node: Node) -> tuple[str, ...]:
    """The names under which buffers hold what `node` reads."""
    if isinstance(node.op, GetItem):
        return (f"{node.parents[0].name}[{node.op.index}]",)
    return tuple(parent.name for parent in node.parents)


def names_of(node: Node) -> set[str]:
    """The names under which buffers hold the value of `node`: of an item, that of the bundle's part as well."""
    return {node.name, *(parents_of(node) if isinstance(node.op, GetItem) else ())}


def prove_loop(step: Instruction, loop: Loop) -> None:
    """Replay one step of a scan, and check that it leaves its leaves as the next step, and the items, need them."""
    assert isinstance(step.op, Scan)
    graph, items = step.op.opened, step.op.items
    replay = Replay(loop.body, graph)
    replay.run()
    written = {name: name.rstrip("'") for name in loop.rows if name.endswith("'")}
    written |= {name: items[place].name for place, name in carried(step) if name in loop.held}
    for name in loop.body.leaves:
        content = replay.held["leaf", name, 0]
        expected = names_of(graph[written[name]]) if name in written else {name}
        assert content in expected, f"at a step of {step.name}, leaf {name} ends with {content}"
    ahead = -1 if step.op.reverse else 1
    for place, name in carried(step):
        if name in loop.rows:
            here = loop.rows[name]
            nexts = {leaf: rows for leaf, rows in loop.rows.items() if rows.stack is here.stack and leaf != name}
            assert {written[leaf] for leaf in nexts} == {items[place].name}, f"{step.name} carries {nexts} as {name}"
            assert all(rows.shift == here.shift + ahead for rows in nexts.values())
    for item, rows in loop.stacked.items():
        held = {leaf for leaf, other in loop.rows.items() if other == rows}
        assert items[item].name in {written.get(leaf, leaf) for leaf in held}, f"item {item} of {step.name} is {held}"
    for rows in loop.rows.values():
        assert all(0 <= t + rows.shift < rows.stack.type.shape[0] for t in loop.order)


def carried(step: Instruction) -> list[tuple[int, str]]:
    """The carries that are computed: their places, and the leaves of the body that they are."""
    assert isinstance(step.op, Scan)
    assert step.loop is not None
    names = enumerate(node.name for node in step.op.opened.inputs[: step.op.carries])
    return [(place, name) for place, name in names if name in step.loop.firsts]


def place_of(buffer: Buffer) -> Place:
    """The memory that a buffer, or what it is a view of, stands in; what has no bytes is nowhere else."""
    while buffer.source is not None:
        buffer = buffer.source
    if buffer.slot is None:
        return "leaf", str(buffer.leaf), 0
    if not buffer.type.nbytes:
        return "leaf", f"nothing, at {id(buffer)}", 0
    return "slot", buffer.slot.offset, buffer.type.nbytes


def overlap(a: Place, b: Place) -> bool:
    """Whether two places share memory."""
    if a[0] != b[0] or a[0] == "leaf":
        return a == b
    return int(a[1]) < int(b[1]) + b[2] and int(b[1]) < int(a[1]) + a[2]


def prove_plan(exe: Executable, which: ProgramName, **sizes: int) -> None:
    """Replay a program of `exe` for these sizes of the named dims, on the graph that it was planned from."""
    graph = exe.programs.part(which, () if which == "step" else tuple(exe.graph.outputs)).graph
    prove(exe.plan(which, **sizes), graph, graph.outputs, graph.updates)


def prove(
    program: Program, graph: Graph, results: Mapping[str, Node] | Iterable[Node], updates: Mapping[Node, Node]
) -> None:
    """Replay `program`, and check that every result and every leaf holds at its end what it should."""
    replay = Replay(program, graph)
    replay.run()
    for name, node in (results if isinstance(results, Mapping) else named(results)).items():
        assert replay.read(program.results[name]) == node.name
    next_values = {target.name: names_of(node) for target, node in updates.items()}
    for name in program.leaves:
        content = replay.held["leaf", name, 0]
        assert content in next_values.get(name, {name}), f"leaf {name} ends with {content}"
    assert set(next_values) <= set(program.leaves)

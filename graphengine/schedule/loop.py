"""Where the values of a scan stand while it runs: which of them are kept for each step, and which are written over.

Whatever somebody reads of all steps has a stack, a row a step, which the step's kernel writes directly. A carry that is
read of all steps has a stack of one row more: each step reads a row and writes the next, so nothing is copied from one
step to the next, and the values before and after the steps are the same memory. A carry of which only the end is read
has one place, where each step writes it over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from graphengine.ir import dims
from graphengine.ir.leaf import Input
from graphengine.ir.node import Node, Phase
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import TensorType
from graphengine.ops.scan import Scan
from graphengine.schedule.program import Buffer, Loop, Program, Rows


class Layout:
    """The memory of a scan whose items `out.parts` are read; all dims are bound."""

    def __init__(self, scan: Scan, out: Buffer, operands: Sequence[Buffer]) -> None:
        self._scan, self._out, self._operands = scan, out, operands
        self._body, self._items = scan.opened, scan.items
        self._inputs = self._body.inputs
        self._count = dims.bind(scan.steps([operand.type for operand in operands]), {})
        self._kept = dict.fromkeys(self._items[item] for item in sorted(out.parts) if item >= scan.carries)
        self._stack_of: dict[Node, Rows] = {}
        self.updates: dict[Node, Node] = {}
        """The leaves that a step writes, each with the node whose value it gets."""
        self.held: dict[str, Buffer] = {}
        self.rows: dict[str, Rows] = {}
        self.firsts: dict[str, Buffer] = {}
        self._ends: dict[int, Rows] = {}
        self._place_operands()
        self._place_carries()
        self._place_results()

    @property
    def strided(self) -> set[str]:
        """The leaves of the body that are not contiguous, or may not be."""
        pairs = zip(self._inputs, self._operands, strict=True)
        return {node.name for node, operand in pairs if not operand.contiguous} - set(self.firsts)

    def loop(self, body: Program) -> Loop:
        """The scan, to be run by the program of one step."""
        order = range(self._count)
        return Loop(
            body=body,
            order=order[::-1] if self._scan.reverse else order,
            held=self.held,
            rows=self.rows,
            firsts=self.firsts,
            ends=self._ends,
            stacked={i: self._stack_of[self._items[i]] for i in self._out.parts if i >= self._scan.carries},
            memory=Buffer(f"{self._out.name}.body", TensorType((body.peak_bytes,), "uint8")),
        )

    def _place_operands(self) -> None:
        stepped = self._scan.carries + self._scan.sequences
        for place in range(self._scan.carries, len(self._inputs)):
            node, operand = self._inputs[place], self._operands[place]
            if place < stepped:
                self.rows[node.name] = Rows(operand, 0)
            else:
                self.held[node.name] = operand

    def _place_carries(self) -> None:
        read, written = (1, 0) if self._scan.reverse else (0, 1)
        stacks: dict[int, Buffer] = {}
        stacked = self._kept.keys() & self._inputs[: self._scan.carries]
        for place in self._live_carries():
            before, after = self._inputs[place], self._items[place]
            self.firsts[before.name] = self._operands[place]
            if before in self._kept or (after in self._kept and after not in stacked):
                stacked.add(after)
                stack = stacks[place] = self._stack(before, self._count + 1)
                self.rows[before.name] = self._stack_of[before] = self._ends[place] = Rows(stack, read)
            else:
                self.held[before.name] = self._out.parts.get(place) or Buffer(before.name, before.type)
        for place, stack in stacks.items():
            self._write(Rows(stack, written), self._items[place])
        for place, before in enumerate(self._inputs[: self._scan.carries]):
            if before.name in self.held and self._items[place] is not before:
                self.updates[before] = self._items[place]

    def _place_results(self) -> None:
        for node in self._kept:
            if node not in self._stack_of:
                self._write(Rows(self._stack(node, self._count), 0), node)
        for item, part in self._out.parts.items():
            if item >= self._scan.carries:
                part.source = self._stack_of[self._items[item]].stack
            elif item in self._ends:
                part.source = self._ends[item].stack

    def _write(self, rows: Rows, node: Node) -> None:
        """Let every step write the value of `node` to its row."""
        name = f"{node.name}'"
        while name in self.rows:
            name += "'"
        leaf = Input(shape=node.shape, dtype=node.dtype)
        self.updates[Node(self._body, -1, name, leaf, (), node.type, Phase.FORWARD, node.where, None)] = node
        self.rows[name] = rows
        self._stack_of.setdefault(node, rows)

    def _stack(self, node: Node, count: int) -> Buffer:
        return Buffer(f"{self._out.name}.{node.name}", TensorType((count, *node.shape), node.dtype))

    def _live_carries(self) -> list[int]:
        """The carries that are asked for, or that others depend on which are."""
        carries = self._scan.carries
        live: Collection[int] = {item for item in self._out.parts if item < carries}
        while True:
            needed = set(needed_nodes([*self._kept, *(self._items[place] for place in live)]))
            more = {place for place in range(carries) if self._inputs[place] in needed or place in live}
            if more == live:
                return sorted(live)
            live = more

"""The memory of the values of a scan: which of them are retained for each step, and which are written over.

Whatever somebody reads of all steps has a stack, a row a step, which the step's kernel writes directly. A carry that is
read of all steps has a stack of one row more: each step reads a row and writes the next, so nothing is copied from one
step to the next, and the values before and after the steps are the same memory. A carry of which only the end is read
has one buffer, which each step writes over.
"""

from __future__ import annotations

from collections.abc import Sequence

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
        self._scan, self._out = scan, out
        self._body, self._items = scan.opened, scan.items
        self._inputs = self._body.inputs
        self._given = dict(zip(self._inputs, operands, strict=True))
        self._count = dims.bind(scan.steps([operand.type for operand in operands]), {})
        self._retained = dict.fromkeys(self._items[item] for item in sorted(out.parts) if item >= scan.carries)
        self._stack_of: dict[Node, Rows] = {}
        self.updates: dict[Node, Node] = {}
        """The leaves that a step writes, each with the node whose value it gets."""
        stepped = scan.carries + scan.sequences
        self.rows = {node.name: Rows(self._given[node], 0) for node in self._inputs[scan.carries : stepped]}
        self.held = {node.name: self._given[node] for node in self._inputs[stepped:]}
        self.firsts: dict[str, Buffer] = {}
        self._ends: dict[int, Rows] = {}
        self._place_carries()
        self._place_results()

    @property
    def strided(self) -> set[str]:
        """The leaves of the body that are not contiguous, or may not be."""
        return {node.name for node, operand in self._given.items() if not operand.contiguous} - set(self.firsts)

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
            stacked=self._stacked,
            memory=Buffer(f"{self._out.name}.body", TensorType((body.peak_bytes,), "uint8")),
        )

    def _place_carries(self) -> None:
        read, written = (1, 0) if self._scan.reverse else (0, 1)
        stacks: dict[int, Buffer] = {}
        stacked = self._retained.keys() & self._inputs[: self._scan.carries]
        for index in self._live_carries():
            before, after = self._inputs[index], self._items[index]
            self.firsts[before.name] = self._given[before]
            if before in self._retained or (after in self._retained and after not in stacked):
                stacked.add(after)
                stack = stacks[index] = self._stack(before, self._count + 1)
                self.rows[before.name] = self._stack_of[before] = self._ends[index] = Rows(stack, read)
            else:
                self.held[before.name] = self._out.parts.get(index) or Buffer(before.name, before.type)
        for index, stack in stacks.items():
            self._write(Rows(stack, written), self._items[index])
        for before, after in zip(self._inputs[: self._scan.carries], self._items, strict=False):
            if before.name in self.held and after is not before:
                self.updates[before] = after

    def _place_results(self) -> None:
        for node in self._retained:
            if node not in self._stack_of:
                self._write(Rows(self._stack(node, self._count), 0), node)
        parts = self._out.parts
        self._stacked = {item: self._stack_of[self._items[item]] for item in parts if item >= self._scan.carries}
        for item, rows in (self._stacked | self._ends).items():
            if item in parts:
                parts[item].source = rows.stack

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
        carries = range(self._scan.carries)
        live = self._out.parts.keys() & carries
        while True:
            needed = set(needed_nodes([*self._retained, *(self._items[index] for index in live)]))
            more = live | {index for index in carries if self._inputs[index] in needed}
            if more == live:
                return sorted(live)
            live = more

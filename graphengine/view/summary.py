"""A graph as a table: what every node is, and what it costs to compute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from graphengine.compile import compile
from graphengine.errors import FeedError
from graphengine.feeds import check_size
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Parameter
from graphengine.ir.names import did_you_mean
from graphengine.ir.node import Node
from graphengine.schedule.cost import Cost
from graphengine.schedule.program import Instruction
from graphengine.transform.training_graph import dim_names, trains_itself


@dataclass(frozen=True, slots=True)
class Row:
    """One node: how many parameters it holds, the FLOPs of computing it, and the bytes of its value (0 for a view)."""

    name: str
    op: str
    type: str
    parameters: int
    flops: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Summary:
    """The nodes of a graph in order of declaration, and the cost of a run, for these sizes of the named dims."""

    graph: str
    sizes: dict[str, int]
    rows: tuple[Row, ...]
    forward: Cost
    step: Cost | None
    """One step of the training that the graph's document describes, if it describes one."""

    @property
    def total(self) -> Row:
        """The columns added up."""
        columns = ("parameters", "flops", "bytes")
        return Row("total", "", "", *(sum(getattr(row, name) for row in self.rows) for name in columns))

    def to_dict(self) -> dict[str, Any]:
        """The whole as JSON values."""
        total = {key: value for key, value in asdict(self.total).items() if isinstance(value, int)}
        return {
            "graph": self.graph,
            "sizes": self.sizes,
            "nodes": [asdict(row) for row in self.rows],
            "total": total,
            "forward": asdict(self.forward),
            "step": asdict(self.step) if self.step else None,
        }


def summarize(graph: Graph, **sizes: int) -> Summary:
    """The table of `graph` with its named dims bound to `sizes`; those left out have size 1. Nothing is run.

    Raises CompileError if the graph has no outputs, and FeedError for a name that is no dim of it, or a size below 1.
    """
    sizes = all_sizes(graph, sizes)
    forward = compile(graph, rewrites=())
    computed = {step.name: step for step in forward.plan("forward", **sizes).instructions}
    step = None
    if graph.training is not None:
        rule = None if trains_itself(graph) else graph.training.optimizer
        trainer = compile(graph, loss=graph.training.loss, optimizer=rule)
        step = trainer.cost(**sizes)
    return Summary(
        graph=graph.name,
        sizes=sizes,
        rows=tuple(_row(node, computed.get(node.name), sizes) for node in graph.nodes),
        forward=forward.cost(**sizes),
        step=step,
    )


def _row(node: Node, computed: Instruction | None, sizes: dict[str, int]) -> Row:
    type_ = node.type.bind(sizes)
    held = type_.size if isinstance(node.op, Parameter) else 0
    own = node.is_leaf or (computed is not None and not computed.is_view)
    flops = computed.flops if computed else 0
    return Row(node.name, node.op.kind, str(node.type), held, flops, type_.nbytes if own else 0)


def all_sizes(graph: Graph, given: Mapping[str, int]) -> dict[str, int]:
    """The size of every named dim: as `given`, and 1 where it is left out. Raises FeedError."""
    names = sorted(dim_names(graph))
    for name, size in given.items():
        if name not in names:
            raise FeedError(f"graph {graph.name!r} has no named dim {name!r}{did_you_mean(name, names)}")
        check_size(name, size)
    return {name: given.get(name, 1) for name in names}

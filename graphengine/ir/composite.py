"""What a function that adds several nodes needs: where leaves go, what it is called, what its errors quote."""

from __future__ import annotations

from itertools import chain
from types import TracebackType

from graphengine.errors import GraphError
from graphengine.ir.graph import Graph
from graphengine.ir.names import free_name
from graphengine.ir.node import Node
from graphengine.ir.where import caller


def outermost(graph: Graph) -> Graph:
    """The graph that holds the parameters and states: `graph`, or for the body of a scan the graph around it all."""
    while graph.outer is not None:
        graph = graph.outer
    return graph


def layer_name(graph: Graph, kind: str) -> str:
    """The first of kind_1, kind_2, ... that is free for a layer: no node has it, alone or ahead of a dot."""
    nodes = chain(graph.nodes, outermost(graph).nodes if graph.outer is not None else ())
    return free_name(kind, {node.name.partition(".")[0] for node in nodes}, 1, bare=False)


class declaring:  # noqa: N801  # it is used as contextlib's are; theirs would stand between an error and the user's line
    """A context in which errors quote the operands and the line of `kind(*operands)`, as those of a single op do."""

    def __init__(self, kind: str, *operands: Node, name: str | None = None) -> None:
        self.kind = kind
        self.operands = operands
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, GraphError):
            call = f"{self.kind}({', '.join(node.name for node in self.operands)})"
            error.quote(
                f"node  {f'{self.name} = ' if self.name else ''}{call}",
                f"declared at {caller()}",
                *(f"{node.name} is {node.type}, declared at {node.where}" for node in dict.fromkeys(self.operands)),
            )

"""Several nodes added at once: the name of a layer, what its errors quote, and nodes that are taken back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from graphengine.errors import GraphError
from graphengine.ir.graph import Graph
from graphengine.ir.names import free_name
from graphengine.ir.node import Node
from graphengine.where import caller


def layer_name(graph: Graph, kind: str) -> str:
    """The first of kind_1, kind_2, ... that is free for a layer: no node has it, alone or ahead of a dot."""
    nodes = graph.nodes if graph.outer is None else [*graph.nodes, *graph.root.nodes]
    return free_name(kind, {node.name.partition(".")[0] for node in nodes}, 1, bare=False)


class declaring:  # noqa: N801  # it is used as contextlib's are; theirs would come between an error and the user's line
    """A context in which errors quote the operands and the line of `kind(*operands)`, as those of a single op do."""

    def __init__(self, kind: str, *operands: Node, name: str | None = None) -> None:
        self.kind, self.operands, self.name = kind, operands, name

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, GraphError):
            call = f"{self.kind}({', '.join(node.name for node in self.operands)})"
            error.quote(
                f"node  {f'{self.name} = ' if self.name else ''}{call}",
                f"declared at {caller()}",
                *(f"{node.name} is {node.type}, declared at {node.where}" for node in dict.fromkeys(self.operands)),
            )


@contextmanager
def scaffold(graph: Graph) -> Iterator[list[Node]]:
    """Take back what is added inside, except what the nodes put into the list need; after an error, all of it."""
    start = len(graph)
    keep: list[Node] = []
    try:
        yield keep
    except BaseException:
        keep.clear()
        raise
    finally:
        graph.discard(start, keep)

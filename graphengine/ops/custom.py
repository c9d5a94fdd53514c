"""A function of nodes whose derivative is a rule of the user's own, in the place of that of the nodes it declares.

The nodes of the function are in the graph as they are. Behind them is one node more, a view of the last, which takes no
memory and no time; its operands are the arguments of the function, and its VJP is the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, update_wrapper
from typing import Annotated, Any, ClassVar

from pydantic import PlainSerializer

from graphengine.errors import GraphError
from graphengine.ir.composite import scaffold
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant
from graphengine.ir.node import Node, apply, innermost
from graphengine.ir.op import Op
from graphengine.ir.types import Array, TensorType
from graphengine.wording import shown

__all__ = ["custom_vjp"]

Forward = Callable[..., Node]
Rule = Callable[..., Node | Sequence[Node | None] | None]


def _name(function: Any) -> str:
    return getattr(getattr(function, "func", function), "__name__", repr(function))


class CustomVJP(Op):
    """y = its first operand, which was computed from the others; their adjoints are what `rule` makes of that of y.

    It is not registered, as no document can hold it: a rule is code.
    """

    is_view: ClassVar[bool] = True
    keeps_layout: ClassVar[bool] = True
    rule: Annotated[Rule, PlainSerializer(_name)]

    def infer(self, y: TensorType, *_: TensorType) -> TensorType:
        return y

    def eval(self, xp: Any, y: Any, *_: Any) -> Any:
        return y

    def view(self, operand: Array) -> Array:
        return operand

    def vjp(self, y: Node, y_bar: Node, *parents: Node) -> Sequence[Node | None]:
        operands = parents[1:]
        try:
            adjoints = self.rule(y, y_bar, *operands)
        except GraphError as error:
            rule = f"in the rule {_name(self.rule)} of {y!r}, which may read what it is given, and nothing else"
            error.context = (*error.context, rule)
            raise
        if adjoints is None or isinstance(adjoints, Node):
            adjoints = (adjoints,)
        if len(adjoints) != len(operands):
            raise GraphError(
                f"the rule {_name(self.rule)} gives {len(adjoints)} adjoints, and there are {len(operands)} operands"
            )
        return (None, *adjoints)


class CustomFunction:
    """A function of nodes that has its own rule; see `custom_vjp`."""

    __name__: str

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self.rule: Rule | None = None
        update_wrapper(self, forward)

    def defvjp(self, rule: Rule) -> Rule:
        """Let `rule(y, y_bar, *operands, **settings)` give the adjoint of each operand; usable as a decorator."""
        self.rule = rule
        return rule

    def __call__(self, *operands: Node, name: str | None = None, **settings: Any) -> Node:
        """The node of the value; `settings` are handed to the function and to its rule."""
        if self.rule is None:
            raise GraphError(f"{self.__name__} has no rule yet; give it one by {self.__name__}.defvjp")
        graph = _graph(self.__name__, operands)
        inside = [graph.own(operand) for operand in operands]
        start = len(graph)
        rule = partial(self.rule, **settings) if settings else self.rule
        with scaffold(graph) as keep:
            y = self.forward(*inside, **settings)
            if not isinstance(y, Node) or y.graph is not graph:
                raise GraphError(f"{self.__name__} returns one node of the graph of its operands, not {y!r}")
            self._check_closed(graph, start, inside)
            keep.append(apply(CustomVJP(kind="custom_vjp", rule=rule), y, *inside, name=name))
        return keep[0]

    def _check_closed(self, graph: Graph, start: int, operands: Sequence[Node]) -> None:
        """Raise unless the function read operands and constants alone: all else would get no gradient, in silence."""
        for node in graph.nodes[start:]:
            for parent in node.parents:
                computed = parent.index >= start and not parent.is_leaf
                if not computed and parent not in operands and not isinstance(parent.op, Constant):
                    raise GraphError(
                        f"{self.__name__} reads {parent.name!r}, to which its rule could give no adjoint; "
                        "make it an operand"
                    )


def custom_vjp(forward: Forward) -> CustomFunction:
    """Give a function of nodes a derivative of your own, by `defvjp`; a decorator, which returns a function of nodes.

    The rule takes the node of the value, that of its adjoint, and the operands, and returns nodes: for every operand
    its adjoint, of its type, or None where no path leads. It reads nothing else, and is linear in the adjoint it is
    given. What it emits is differentiated like all else, for second derivatives and tangents.

        @ge.custom_vjp
        def staircase(x):
            return ge.floor(x)

        @staircase.defvjp
        def straight_through(y, y_bar, x):
            return y_bar

    Raises GraphError if a call has no rule, or if a rule's adjoints do not fit the operands. A graph that holds such a
    function runs, copies, differentiates and trains; saving it is a SpecError, as documents hold no code. For an op
    with a kernel of its own, see docs/add-an-op.md.
    """
    if not callable(forward):
        raise GraphError(f"custom_vjp takes a function of nodes, not {shown(forward)}; write @ge.custom_vjp above one")
    return CustomFunction(forward)


def _graph(function: str, operands: Sequence[Node]) -> Graph:
    """The innermost graph of the operands."""
    for operand in operands:
        if not isinstance(operand, Node):
            raise GraphError(f"{function} takes nodes by place, and settings by name; {operand!r} is no node")
    if not operands:
        raise GraphError(f"{function} needs at least one node for an operand")
    return innermost(operands)

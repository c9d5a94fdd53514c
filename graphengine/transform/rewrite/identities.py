"""Identities of pointwise functions as rules: `log(1 + exp(x))` is replaced by `softplus(x)`.

Both sides are written by the functions that users call, of operands that match any node. A number matches all
nodes that hold it in every element, and 1 / x for the reciprocal and the power -1 too. Sums and products match in
either order. Each element of a side depends on the same element of the operands alone, so shapes do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, wraps
from typing import Any

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node
from graphengine.ir.types import ValueType
from graphengine.ops.activation import Identity, identity
from graphengine.ops.broadcast import BroadcastTo
from graphengine.ops.elementwise import Add, Divide, Multiply
from graphengine.transform.rewrite.numbers import both_ways, number, quotient
from graphengine.transform.rewrite.walk import Apply, Expression, Site

Identities = Iterator[tuple[Node, Node]]
"""What is replaced, and by what."""

_Operands = Mapping[Node, Node]
"""What the operands of an identity match."""

_Matcher = Callable[[Any, _Operands, Any], _Operands | None]
"""The operands, beside those that are known, with which a node has a form, in a rule for a site; None if it has not."""

once = identity
"""Marks a value of the left side that is to have no other reader, since it is computed for that one in any case."""


def identities(written: Callable[..., Identities]) -> Callable[[Site | Node], Expression | None]:
    """The rule of the identities that a function yields, one parameter an operand. The first that fits is followed."""

    @cache
    def pairs() -> list[tuple[_Matcher, Node]]:
        graph = Graph("identities")
        operands = [graph.input(name, ()) for name in written.__annotations__ if name != "return"]
        with graph.declared_at(operands[0].where):  # to find the line of each takes longer than all else
            return [(_matcher(left), right) for left, right in written(*operands)]

    @wraps(written)
    def rule(y: Site | Node) -> Expression | None:
        for match, right in pairs():
            operands = match(y, _NONE, y)
            if operands is not None:
                found = _put_in(right, operands)
                return found if _type(found) == y.type else Apply(BroadcastTo(shape=y.type.shape), found)
        return None

    return rule


_NONE: _Operands = {}


def _matcher(form: Node) -> _Matcher:
    if isinstance(form.op, Input):
        return lambda node, known, _: {**known, form: node} if known.get(form, node) is node else None
    if isinstance(form.op, Constant):
        value = form.op.value.item()
        return lambda node, known, _: known if number(node) == value else None
    inner = [_matcher(parent) for parent in form.parents]
    if isinstance(form.op, Identity):  # see `once`
        return lambda node, known, y: inner[0](node, known, y) if y.once(node) else None
    kind, is_inverse = type(form.op), isinstance(form.op, Divide) and number(form.parents[0]) == 1
    # what fits any node goes last, and what is divided goes behind the divisor
    order = sorted(range(len(inner)), key=lambda index: (isinstance(form.parents[index].op, Input), -index))

    def match(node: Node | Site, known: _Operands, y: Site | Node) -> _Operands | None:
        if type(node.op) is not kind:
            under = quotient(node)[1] if is_inverse else None
            return None if under is None else inner[1](under, known, y)
        for parents in both_ways(node) if kind in _COMMUTATIVE else (node.parents,):
            found: _Operands | None = known
            for index in order:
                found = None if found is None else inner[index](parents[index], found, y)
            if found is not None:
                return found
        return None

    return match


_COMMUTATIVE = frozenset({Add, Multiply})


def _put_in(form: Node, operands: _Operands) -> Node | Apply:
    found = operands.get(form)
    return Apply(form.op, *[_put_in(parent, operands) for parent in form.parents]) if found is None else found


def _type(x: Expression) -> ValueType:
    assert isinstance(x, Node | Apply)  # no right side has a number
    return x.type if isinstance(x, Node) else x.op.infer(*map(_type, x.operands))

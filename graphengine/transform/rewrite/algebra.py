"""Algebra: what is computed by fewer operations, or by none, with values that differ by rounding alone."""

from __future__ import annotations

from graphengine.ir.graph import Graph
from graphengine.transform.rewrite.arithmetic import ARITHMETIC
from graphengine.transform.rewrite.arrangement import ARRANGEMENT
from graphengine.transform.rewrite.reductions import REDUCTIONS
from graphengine.transform.rewrite.walk import Rules, apply_rules

_RULES = Rules(ARITHMETIC, ARRANGEMENT, REDUCTIONS)


def simplify(graph: Graph) -> bool:
    """Follow the rules of arithmetic, arrangement and reductions, in the bodies of scans too."""
    return apply_rules(graph, _RULES)

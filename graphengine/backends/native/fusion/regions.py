"""Regions that the backend makes by itself: of one op, of rows of partial results, and of parts of another region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase
from graphengine.ir.op import Op
from graphengine.ir.types import DType, TensorType, check_dtype
from graphengine.ops.fusion.region import Region, Result


@lru_cache(maxsize=4096)
def single(op: Op, dtype: object, dtypes: tuple[object, ...]) -> Region | None:
    """The region of `op` alone, for the dtypes of its value and of its operands; None if it has no scalar form."""
    if not dtypes or op.scalar(*(f"x{index}" for index in range(len(dtypes)))) is None:
        return None
    graph, operands = operands_of(tuple([check_dtype(operand) for operand in dtypes]))
    type_ = TensorType((), check_dtype(dtype))
    node = graph.append(op, tuple(operands), type_, "y", Phase.FORWARD, operands[0].where, None)
    return Region(graph, [Result(node)])


@lru_cache(maxsize=4096)
def totals(kinds: tuple[str, ...], dtypes: tuple[DType, ...], divisors: tuple[float | None, ...]) -> Region:
    """The region that reduces each operand, of two axes, over the first."""
    graph, operands = operands_of(dtypes)
    given = zip(operands, kinds, divisors, strict=True)
    return Region(graph, [Result(node, kind, (0,), divisor=divisor) for node, kind, divisor in given])


def operands_of(dtypes: Sequence[DType]) -> tuple[Graph, list[Node]]:
    """A graph with an input of each dtype, whose shapes do not count."""
    graph = Graph("region")
    return graph, [graph.input(f"x{index}", (), dtype) for index, dtype in enumerate(dtypes)]


@lru_cache(maxsize=4096)
def part(region: Region, indices: tuple[int, ...]) -> Region:
    """The region of the results at `indices` alone."""
    return Region(region.graph, [region.results[index] for index in indices])


@lru_cache(maxsize=4096)
def sums(region: Region, indices: tuple[int, ...]) -> Region:
    """The region in which those of the results at `indices` that are means are sums."""
    results = [
        replace(result, reduction="sum") if index in indices and result.reduction == "mean" else result
        for index, result in enumerate(region.results)
    ]
    return Region(region.graph, results) if results != region.results else region

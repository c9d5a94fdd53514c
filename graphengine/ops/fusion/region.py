"""What a fused region computes, apart from where its arrays lie: values, one after the other, and which are results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Input
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.types import DType, check_axes, check_dtype
from graphengine.ops.broadcast import Reduction

__all__ = ["Load", "Number", "Region", "Result", "Step", "Value", "part", "region_of", "single", "sums", "totals"]


@dataclass(frozen=True, slots=True)
class Load:
    """An element of operand number `place`."""

    place: int
    dtype: DType


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float | int | bool
    dtype: DType


@dataclass(frozen=True, slots=True)
class Step:
    """What an op makes of values before this one, given by their places."""

    op: Op
    operands: tuple[int, ...]
    dtype: DType


Value = Load | Number | Step


@dataclass(frozen=True, slots=True)
class Result:
    """What is written: the value of this place at every place of the space, or what it is reduced to over `axes`."""

    value: int
    reduction: str | None = None
    axes: tuple[int, ...] = ()
    keepdims: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Values, parents first, and the results. It equals itself alone, so that what is cached by it is found quickly."""

    values: tuple[Value, ...]
    results: tuple[Result, ...]


class _Same:
    """A graph as a key: found again by identity."""

    __slots__ = ("graph",)

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __hash__(self) -> int:
        return id(self.graph)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.graph is self.graph


def region_of(body: Graph) -> Region:
    """The region that `body`, which does not change any more, declares."""
    return _region_of(_Same(body))


@lru_cache(maxsize=4096)
def _region_of(same: _Same) -> Region:
    body = same.graph
    places: dict[Node, int] = {}
    values: list[Value] = []
    loads = 0
    for node in body.nodes:
        if isinstance(node.op, Reduction):
            continue
        places[node] = len(values)
        if isinstance(node.op, Input):
            values.append(Load(loads, node.dtype))
            loads += 1
        elif isinstance(node.op, Constant):
            values.append(Number(node.op.value.item(), node.dtype))
        else:
            values.append(Step(node.op, tuple(places[parent] for parent in node.parents), node.dtype))
    return Region(tuple(values), tuple(_result(node, places) for node in body.outputs.values()))


def _result(node: Node, places: dict[Node, int]) -> Result:
    if not isinstance(node.op, Reduction):
        return Result(places[node])
    (x,) = node.parents
    return Result(places[x], node.op.kind, check_axes(node.op.axis, x.ndim), node.op.keepdims)


@lru_cache(maxsize=4096)
def single(op: Op, dtype: object, dtypes: tuple[object, ...]) -> Region | None:
    """The region of `op` alone, for the dtypes of its value and of its operands; None if it has no scalar form."""
    if not dtypes or op.scalar(*(f"x{place}" for place in range(len(dtypes)))) is None:
        return None
    loads = [Load(place, check_dtype(operand)) for place, operand in enumerate(dtypes)]
    step = Step(op, tuple(range(len(dtypes))), check_dtype(dtype))
    return Region((*loads, step), (Result(len(dtypes)),))


@lru_cache(maxsize=4096)
def totals(kinds: tuple[str, ...], dtypes: tuple[DType, ...]) -> Region:
    """The region that reduces each operand, of two axes, over the first."""
    loads = tuple(Load(place, dtype) for place, dtype in enumerate(dtypes))
    return Region(loads, tuple(Result(place, kind, (0,)) for place, kind in enumerate(kinds)))


@lru_cache(maxsize=4096)
def part(region: Region, places: tuple[int, ...]) -> Region:
    """The region of the results at `places` alone."""
    return Region(region.values, tuple([region.results[place] for place in places]))


@lru_cache(maxsize=4096)
def sums(region: Region, places: tuple[int, ...]) -> Region:
    """The region in which those of the results at `places` that are means are sums."""
    results = [
        replace(result, reduction="sum") if place in places and result.reduction == "mean" else result
        for place, result in enumerate(region.results)
    ]
    return Region(region.values, tuple(results)) if results != list(region.results) else region

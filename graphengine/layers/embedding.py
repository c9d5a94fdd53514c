"""Vectors for tokens and for places: embeddings, learned positions and sinusoidal ones.

Tables start from the standard normal law, about as wide as sinusoids are, so that in a sum of both neither is lost.
"""

from __future__ import annotations

from graphengine.errors import DTypeError, ShapeError
from graphengine.ir.composite import declaring, layer_name
from graphengine.ir.init import Initializer, Normal
from graphengine.ir.node import Node
from graphengine.ir.types import FLOATS, INTEGERS
from graphengine.layers.usual import check_size, parameter
from graphengine.ops.index import SinusoidalPositions, arange, gather
from graphengine.ops.index import slice as part


def embedding(ids: Node, count: int, units: int, *, name: str | None = None, init: Initializer | None = None) -> Node:
    """Embedding: row ids[...] of the parameter `name.weight` [count, units].

    ids: integers of any shape; returns [..., units] in the graph's dtype, or in float32 if that is no float.
    Raises DTypeError for other ids, AttributeValueError for a count or units below 1; when it runs, ValueRangeError for
    an id that is negative or not below `count`.
    """
    name = name or layer_name(ids.graph, "embedding")
    with declaring("embedding", ids, name=name):
        check_size("count is", count)
        check_size("units is", units)
        if ids.dtype not in INTEGERS:
            raise DTypeError(f"an embedding takes integers, the numbers of its rows, not {ids.type}")
        home = ids.graph.root
        dtype = home.dtype if home.dtype in FLOATS else "float32"
        table = home.parameter(f"{name}.weight", (count, units), Normal() if init is None else init, dtype)
        return gather(table, ids, name=name)


def learned_positions(x: Node, max_length: int, *, name: str | None = None, init: Initializer | None = None) -> Node:
    """Learned position embedding: the first rows [time, units] of the parameter `name.weight` [max_length, units].

    x: floats [..., time, units]; returns [time, units], to be added to x.
    Raises DTypeError for other dtypes, ShapeError for a time above `max_length` or an unknown number of units,
    AttributeValueError for a max_length below 1; when it runs, ValueRangeError for a named time above `max_length`.
    Source: Gehring et al. 2017.
    """
    name = name or layer_name(x.graph, "learned_positions")
    with declaring("learned_positions", x, name=name):
        units = _units(x)
        check_size("max_length is", max_length)
        time = x.shape[-2]
        if isinstance(time, int) and time > max_length:
            raise ShapeError(f"there are {max_length} positions, and {x.type} has {time}")
        table = parameter(x, f"{name}.weight", (max_length, units), Normal() if init is None else init)
        if isinstance(time, int):
            return part(table, slice(time), name=name)
        return gather(table, arange(x.graph, time), name=name)


def sinusoidal_positions(x: Node, *, name: str | None = None) -> Node:
    """Sinusoidal positions: sin(p / 10000^(2i / units)) at unit 2i of position p, the cosine at unit 2i + 1.

    x: floats [..., time, units]; returns [time, units], to be added to x; it has no parameter.
    Raises DTypeError for other dtypes, ShapeError for an unknown number of units.
    Source: Vaswani et al. 2017, section 3.5.
    """
    with declaring("sinusoidal_positions", x, name=name):
        op = SinusoidalPositions(length=x.shape[-2] if x.ndim > 1 else 0, units=_units(x), dtype=x.dtype)
        return x.graph.add(op, name=name)


def _units(x: Node) -> int:
    if x.ndim < 2 or not isinstance(x.shape[-1], int):
        raise ShapeError(f"positions are those of [..., time, units], units being a number: this is {x.type}")
    if not x.type.is_float:
        raise DTypeError(f"positions are added to floats, not to {x.type}")
    return x.shape[-1]

"""What a graph holds between runs: the arrays of its parameters and states."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

from graphengine.errors import NamingError
from graphengine.ir import dims, leaf
from graphengine.ir.array import assignable
from graphengine.ir.graph import Graph
from graphengine.ir.names import did_you_mean
from graphengine.ir.node import Node
from graphengine.ir.types import Array, ValueType


class Weights:
    """Arrays by the names of their parameters and states. First values are drawn from `seed`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.arrays: dict[str, Array] = {}
        self.assignments = 0
        """How often a value has been assigned from outside."""

    def add(self, graph: Graph) -> None:
        """Draw what `graph` holds and is not there yet."""
        for node in graph.nodes:
            if isinstance(node.op, leaf.Parameter | leaf.State) and node.name not in self.arrays:
                shape = tuple(dims.bind(dim, {}) for dim in node.shape)
                self.arrays[node.name] = node.op.init.draw(self.seed, node.name, shape, node.dtype)


class Held(MutableMapping[str, Array]):
    """Parameters or states by name. Reading gives a read-only copy; assignment checks shape and dtype, and sets."""

    def __init__(self, weights: Weights, nodes: Sequence[Node], what: str) -> None:
        self._weights = weights
        self._types = {node.name: node.type for node in nodes}
        self._what = what

    def __getitem__(self, name: str) -> Array:
        self._type(name)
        array = self._weights.arrays[name].copy()
        array.flags.writeable = False
        return array

    def __setitem__(self, name: str, value: Any) -> None:
        type_ = self._type(name)
        self._weights.arrays[name][...] = assignable(value, type_, f"{self._what} {name!r}")
        self._weights.assignments += 1

    def get(self, name: str, default: Any = None) -> Any:
        """The value of this name, or `default` if there is none."""
        return self[name] if name in self._types else default

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"a {self._what} of a compiled graph is there to stay")

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def __len__(self) -> int:
        return len(self._types)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name}: {type}' for name, type in self._types.items())}}}"

    def _type(self, name: str) -> ValueType:
        if name not in self._types:
            raise NamingError(f"no {self._what} {name!r}{did_you_mean(name, self._types)}")
        return self._types[name]

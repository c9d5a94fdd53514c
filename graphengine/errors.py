"""Every error that graphengine raises on purpose.

    GraphEngineError
    ├── GraphError              a declaration is wrong
    │   ├── NamingError         a name is malformed, taken or unknown
    │   ├── ShapeError          shapes do not fit each other
    │   ├── DTypeError          dtypes do not fit each other
    │   ├── AttributeValueError an attribute of an op or a configuration has a value that it cannot have
    │   └── CycleError          nodes depend on each other in a cycle
    ├── SpecError               a JSON document is not a valid graph
    ├── CompileError            a graph cannot be compiled as asked
    ├── ExecutionError          a compiled graph cannot run as asked
    │   ├── FeedError           a feed is missing, unknown, or of the wrong dtype, rank or size
    │   └── ValueRangeError     a value met while running lies outside what an op admits, as a label can
    └── TrainingError           data, a metric, or saved weights do not fit the network

What went wrong is in the first line; the lines under it name the node, its operands and where each was declared.
"""

from __future__ import annotations

__all__ = [
    "AttributeValueError",
    "CompileError",
    "CycleError",
    "DTypeError",
    "ExecutionError",
    "FeedError",
    "GraphEngineError",
    "GraphError",
    "NamingError",
    "ShapeError",
    "SpecError",
    "TrainingError",
    "ValueRangeError",
]

__dir__ = __all__.copy

from collections.abc import Sequence


class GraphEngineError(Exception):
    """The root of the tree; catching it catches everything that graphengine raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.context: tuple[str, ...] = ()

    def quote(self, *lines: str) -> None:
        """Add lines of context, unless code nearer to the fault has done so already."""
        self.context = self.context or lines

    def __str__(self) -> str:
        return "\n  ".join((self.message, *self.context))


class GraphError(GraphEngineError):
    """A declaration is wrong."""


class NamingError(GraphError):
    """A name is malformed, taken or unknown."""


class ShapeError(GraphError):
    """Shapes do not fit each other."""


class DTypeError(GraphError):
    """Dtypes do not fit each other."""


class AttributeValueError(GraphError):
    """An attribute of an op or a configuration has a value that it cannot have."""


class CycleError(GraphError):
    """Nodes depend on each other in a cycle: `circle` has them, the first not repeated at the end."""

    def __init__(self, message: str, circle: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.circle = tuple(circle)


class SpecError(GraphEngineError):
    """A JSON document is not a valid graph."""


class CompileError(GraphEngineError):
    """A graph cannot be compiled as asked."""


class ExecutionError(GraphEngineError):
    """A compiled graph cannot run as asked."""


class FeedError(ExecutionError):
    """A feed is missing, unknown, or of the wrong dtype, rank or size."""


class ValueRangeError(ExecutionError):
    """A value met while running lies outside what an op admits."""


class TrainingError(GraphEngineError):
    """Data, a metric, or saved weights do not fit the network."""

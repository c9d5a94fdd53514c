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
    │   ├── NonFiniteError      the loss or a gradient of a step is NaN or infinite
    │   └── ValueRangeError     a value met while running lies outside what an op admits, as a label can
    ├── TrainingError           data, a metric, or saved weights do not fit the network
    ├── PickleError             what cannot be pickled, or was pickled by another version; a pickle.PickleError
    ├── UsageError              an argument or an operation is not one that a function or an object takes; a TypeError
    └── UnknownAttributeError   a module or an object has no such attribute; an AttributeError

What went wrong is in the first line; the lines under it name the node, its operands and where each was declared, or
else the line of the program that led to the error.
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
    "NonFiniteError",
    "PickleError",
    "ShapeError",
    "SpecError",
    "TrainingError",
    "UnknownAttributeError",
    "UsageError",
    "ValueRangeError",
]

__dir__ = __all__.copy

import pickle
from collections.abc import Sequence

from graphengine.where import caller
from graphengine.wording import cut, printable

_LENGTH = 2000
"""The maximum length of a line of an error, in characters."""

_LINES = 40
"""The maximum number of its lines."""


class GraphEngineError(Exception):
    """The root of the tree; catching it catches everything that graphengine raises on purpose."""

    def __init__(self, message: str) -> None:
        self.message = cut(printable(message), _LENGTH)
        super().__init__(self.message)
        self.context: tuple[str, ...] = ()
        self.where = caller()
        """The line of the program that led to this error."""

    def quote(self, *lines: str) -> None:
        """Add lines of context, unless code nearer to the fault has done so already."""
        if len(lines) > _LINES:
            lines = (*lines[:_LINES], f"... and {len(lines) - _LINES:,} more")
        self.context = self.context or tuple(cut(printable(line, lines=False), _LENGTH) for line in lines)

    def __str__(self) -> str:
        return "\n  ".join((self.message, *(self.context or (f"at {self.where}",))))


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


class NonFiniteError(ExecutionError):
    """The loss of a step, or a gradient, is NaN or infinite; the step has changed nothing."""

    def __init__(self, message: str, found: str | None = None) -> None:
        super().__init__(message)
        self.found = found or message
        """What is not finite, as in "the loss is nan"."""


class ValueRangeError(ExecutionError):
    """A value met while running lies outside what an op admits.

    `value` is that, and `index` where it is in the op's operand; None where there is no such operand.
    """

    def __init__(self, message: str, value: object = None, index: tuple[int, ...] | None = None) -> None:
        super().__init__(message)
        self.value, self.index = value, index


class TrainingError(GraphEngineError):
    """Data, a metric, or saved weights do not fit the network."""


class PickleError(GraphEngineError, pickle.PickleError):
    """An object cannot be pickled, or another version has pickled it."""


class UsageError(GraphEngineError, TypeError):
    """An argument or an operation is not one that a function or an object takes."""


class UnknownAttributeError(GraphEngineError, AttributeError):
    """A module or an object has no such attribute."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.obj = None  # with an object Python would add a guess of its own

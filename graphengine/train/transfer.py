"""Weights from one network to another, by name."""

from __future__ import annotations

from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node, Phase
from graphengine.train.renaming import Rename, renamed
from graphengine.train.weights_file import set_weights


def transfer(source: Executable, target: Executable, rename: Rename | None = None, *, strict: bool = True) -> list[str]:
    """Set the parameters of `target` to those of `source`, and return their names in `target`.

    What a network keeps in float states, running statistics say, goes with its parameters; an optimizer's slots do not.
    `rename` says what a name of the source is in the target, and None for what stays behind. A key that ends in a dot,
    or the empty one, is a prefix: {"encoder.": "left.", "head.": None}, {"": "encoder."}. A whole name goes before a
    prefix, and a longer prefix before a shorter one.

    Shapes and dtypes must agree. With `strict`, every parameter of the target must be given, and everything of the
    source that is not said to stay behind must be taken; without, what only one of the two has is ignored. That nothing
    is in both is a UserWarning.
    Raises TrainingError, which lists all that does not fit, and sets nothing; NamingError for a wrong `rename`.
    """
    names = [node.name for node in _weights(source.graph)]
    given = renamed(names, rename, source.graph.name)
    message = f"{source.graph.name!r} does not fit {target.graph.name!r}; nothing was set"
    arrays = {}
    for name, origin in given.items():  # each is copied as it is read, so the optimizer's slots are left alone
        arrays[name] = (source.state if origin in source.state else source.parameters)[origin]
    notes = {name: f" (from {origin})" for name, origin in given.items() if origin != name}
    return set_weights(target, _weights(target.graph), arrays, message, strict, notes)


def _weights(graph: Graph) -> list[Node]:
    """Parameters, and the float states that the network itself declares."""
    states = [node for node in graph.states if node.type.is_float and node.phase is Phase.FORWARD]
    return [*graph.parameters, *states]

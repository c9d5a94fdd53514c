"""Weights from one network to another, by name."""

from __future__ import annotations

from collections.abc import Mapping

from graphengine.errors import NamingError, TrainingError
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.names import did_you_mean
from graphengine.ir.node import Node, Phase
from graphengine.ir.types import Array

Rename = Mapping[str, str | None]


def transfer(source: Executable, target: Executable, rename: Rename | None = None, *, strict: bool = True) -> list[str]:
    """Set the parameters of `target` to those of `source`, and return their names in `target`.

    What a network keeps in float states, running statistics say, goes with its parameters; an optimizer's slots do not.
    `rename` says what a name of the source is in the target, and None for what stays behind. A key that ends in a dot,
    or the empty one, is a prefix: {"encoder.": "left.", "head.": None}, {"": "encoder."}. A whole name goes before a
    prefix, and a longer prefix before a shorter one.

    Shapes and dtypes must agree. With `strict`, every parameter of the target must be given, and everything of the
    source that is not said to stay behind must be taken; without, what only one of the two has is ignored.
    Raises TrainingError, which lists all that does not fit, and sets nothing; NamingError for a wrong `rename`.
    """
    given = _renamed(source, rename or {})
    wanted = {node.name: node for node in _weights(target.graph)}
    faults = _missing(given, wanted) if strict else []
    names = [name for name in wanted if name in given]
    for name in names:
        if given[name].type != wanted[name].type:
            faults.append(f"of another type: {name} is {wanted[name].type}, and {_said(given[name], name)} is given")
    if faults:
        error = TrainingError(f"{source.graph.name!r} does not fit {target.graph.name!r}; nothing was set")
        error.quote(*faults)
        raise error
    for name in names:
        held = target.parameters if name in target.parameters else target.state
        held[name] = _value(source, given[name])
    return names


def _weights(graph: Graph) -> list[Node]:
    """Parameters, and the float states that the network itself declares."""
    states = [node for node in graph.states if node.type.is_float and node.phase is Phase.FORWARD]
    return [*graph.parameters, *states]


def _renamed(source: Executable, rename: Rename) -> dict[str, Node]:
    """What the source gives, by the names in the target."""
    nodes = {node.name: node for node in _weights(source.graph)}
    for key in rename:
        if not any(_matches(key, name) for name in nodes):
            raise NamingError(f"rename: {source.graph.name!r} has no weights {key!r}{did_you_mean(key, nodes)}")
    given: dict[str, Node] = {}
    for name, node in nodes.items():
        new = _new_name(name, rename)
        if new in given:
            raise NamingError(f"rename: {given[new].name!r} and {name!r} would both become {new!r}")
        if new is not None:
            given[new] = node
    return given


def _matches(key: str, name: str) -> bool:
    return name == key or ((key.endswith(".") or not key) and name.startswith(key))


def _new_name(name: str, rename: Rename) -> str | None:
    keys = [key for key in rename if _matches(key, name)]
    if not keys:
        return name
    key = name if name in rename else max(keys, key=len)
    new = rename[key]
    return None if new is None else new + name[len(key) :]


def _missing(given: Mapping[str, Node], wanted: Mapping[str, Node]) -> list[str]:
    """What strictness complains of."""
    missing = [f"missing: {name}, {node.type}" for name, node in wanted.items() if name not in given]
    unexpected = [f"unexpected: {_said(node, name)}" for name, node in given.items() if name not in wanted]
    return missing + unexpected


def _said(node: Node, name: str) -> str:
    came_from = f" (from {node.name})" if node.name != name else ""
    return f"{name}, {node.type}{came_from}"


def _value(exe: Executable, node: Node) -> Array:
    return exe.parameters[node.name] if node.name in exe.parameters else exe.state[node.name]

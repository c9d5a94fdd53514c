"""The JSON form of a graph: one canonical document, written and read.

Same graph, same bytes: a node is a line, in order of declaration; keys are in a fixed order, and defaults are left out;
floats are exact. A document that is read is checked as a whole: the first fault raises one SpecError with its JSON
pointer, its node and the remedy, and nothing is half loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from graphengine.errors import GraphError, NamingError, SpecError
from graphengine.files import check_writable, is_plain, open_file, resolved, sharing, write
from graphengine.ir.array import to_json_value
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Constant, Leaf
from graphengine.ir.limits import USUAL, Limits
from graphengine.ir.names import NAME_LENGTH, did_you_mean, free_name
from graphengine.ir.node import Node, Phase, context
from graphengine.ir.op import Op
from graphengine.ir.spec import beside
from graphengine.ir.spec.attributes import graph_fields
from graphengine.ir.spec.document import FORMAT, VERSION, Place, parse
from graphengine.ir.spec.reader import read
from graphengine.ir.training import Training
from graphengine.ir.types import DType
from graphengine.where import warn

INLINE_ELEMENTS = 4096
"""The size up to which a constant is in the document itself."""


def to_json(graph: Graph) -> str:
    """The canonical document. Of a constant of more than 4,096 elements it holds the SHA-256, and `save` the rest."""
    held = _HeldGraphs(graph.dtype)
    header = {"format": FORMAT, "version": VERSION, "name": graph.name, "dtype": graph.dtype}
    sections = {key: _line(value) for key, value in header.items()}
    sections["nodes"] = _block("[]", [_line(_node(graph, node, INLINE_ELEMENTS, held)) for node in graph.nodes])
    sections["outputs"] = _block("{}", _pairs(_outputs(graph)))
    if held.texts:
        sections["graphs"] = _block("{}", (f"{_line(name)}: {text}" for text, name in held.texts.items()))
    if graph.updates:
        targets = sorted(graph.updates, key=lambda target: target.index)
        sections["updates"] = _block("{}", _pairs({target.name: graph.updates[target].name for target in targets}))
    if graph.training is not None:
        sections["training"] = _block("{}", _pairs(_training(graph, graph.training)))
    return "{\n" + ",\n".join(f'  "{key}": {text}' for key, text in sections.items()) + "\n}\n"


def from_json(text: str | bytes, *, limits: Limits = USUAL, source: str = "<json>") -> Graph:
    """The graph of a document; raises SpecError for a wrong one, and for one that is not whole without its file.

    source: what errors call the document.
    """
    place = Place(source)
    return read(parse(text, place, limits), place, beside.nothing, limits)


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the document, and constants of more than 4,096 elements to a file beside it: see `beside.path_beside`.

    The document is replaced last, so whatever happens on the way, it has the constants that belong to it.
    """
    path, text = Path(path), to_json(graph).encode()
    large = _large(graph)
    if not is_plain(path) and large:
        raise SpecError(f"{path} is no file, and the constants {', '.join(large)} need one beside the document")
    if not is_plain(path):
        write(path, text)
        return
    check_writable(path)
    document = resolved(path)
    file = beside.path_beside(document, _digests(large))
    with sharing(document.parent) as is_alone:
        before, was_there = _version(document), file.exists()
        try:
            if large:
                beside.write(file, {name: op.value for name, op in large.items()})
            write(path, text)
        except BaseException:
            if not was_there and is_alone() and _version(document) == before:
                file.unlink(missing_ok=True)
            raise
        beside.copy(document, file if large else None)
        if is_alone() and document.stat().st_size == len(text) and document.read_bytes() == text:
            beside.remove_others(document, file)


def constants_of(graph: Graph, path: str | os.PathLike[str]) -> Path | None:
    """The file beside the graph's document at `path` that holds its large constants; None if there are none."""
    large = _large(graph)
    return beside.find(Path(path), _digests(large)) if large else None


def _large(graph: Graph) -> dict[str, Constant]:
    ops = {node.name: node.op for node in graph.nodes if isinstance(node.op, Constant)}
    return {name: op for name, op in ops.items() if op.value.size > INLINE_ELEMENTS}


def _digests(constants: dict[str, Constant]) -> dict[str, str]:
    return {name: op.digest() for name, op in constants.items()}


def _version(path: Path) -> tuple[int, int] | None:
    """What tells a file from those that take its place; None if there is none."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else None


def load(path: str | os.PathLike[str], *, limits: Limits = USUAL, max_bytes: int | None = None) -> Graph:
    """Read a graph from a document and the constants beside it; returns the graph.

    limits: how much the document may ask for. max_bytes: deprecated, `limits=ge.Limits(document_bytes=...)`.
    Raises SpecError if the document or its constants are wrong or ask for more, OSError if the document cannot be read;
    a FIFO is not read.
    """
    if max_bytes is not None:
        message = "max_bytes= is deprecated; write limits=ge.Limits(document_bytes=...)"
        warn(message, DeprecationWarning)
        limits = Limits(**dict(limits) | {"document_bytes": max_bytes})
    path = Path(path)
    place = Place(str(path))
    with sharing(resolved(path).parent), open_file(path) as file:
        document = parse(file.read(limits.document_bytes + 1), place, limits)
        return read(document, place, partial(beside.read, path, limits), limits)


def digest(graph: Graph) -> str:
    """The SHA-256 of the canonical document, in hex."""
    return hashlib.sha256(to_json(graph).encode()).hexdigest()


class _HeldGraphs:
    """The graphs that nodes hold, as the body of a scan is one, under names made from those of the nodes.

    What a graph is called elsewhere says nothing of what it is, so equal ones are here once, under the first name.
    """

    def __init__(self, dtype: DType) -> None:
        self.dtype = dtype
        self.texts: dict[str, str] = {}
        """The name of each, by its text; the innermost first."""

    def name(self, graph: Graph, node: Node, key: str) -> str:
        """The name of `graph`, which is the attribute `key` of `node`."""
        nodes = [_line(_node(graph, inside, None, self)) for inside in graph.nodes]
        sections = {"nodes": _block("[]", nodes, depth=3), "outputs": _line(_outputs(graph))}
        if graph.dtype != self.dtype:
            sections = {"dtype": _line(graph.dtype), **sections}
        text = _block("{}", (f'"{section}": {value}' for section, value in sections.items()), depth=2)
        if text not in self.texts:
            self.texts[text] = free_name(f"{node.name[: NAME_LENGTH - 16]}_{key}", self.texts.values())
        return self.texts[text]


def _node(graph: Graph, node: Node, inline: int | None, held: _HeldGraphs) -> dict[str, Any]:
    """The entry of a node, in which constants of more than `inline` elements leave them out; None for no limit."""
    if node.op.kind not in Op.registry:
        what = f"no document holds {node.name!r}: {node.op.kind} is not a registered op, for what it does is code"
        error = SpecError(f"{what}; save the graph without it, and apply it again after loading")
        error.quote(*context(node.name, node.op, node.parents, node.where))
        raise error
    entry: dict[str, Any] = {"name": node.name, "op": node.op.kind}
    if node.parents:
        entry["inputs"] = [parent.name for parent in node.parents]
    if node.phase is not Phase.FORWARD:
        entry["phase"] = node.phase.name.lower()
    entry.update(_constant(node.op, inline) if isinstance(node.op, Constant) else node.op.attributes())
    if isinstance(node.op, Leaf) and entry["dtype"] == graph.dtype:
        del entry["dtype"]
    for key in graph_fields(type(node.op)):
        entry[key] = held.name(getattr(node.op, key), node, key)
    return entry


def _outputs(graph: Graph) -> dict[str, str]:
    return {name: node.name for name, node in graph.outputs.items()}


def _constant(op: Constant, inline: int | None) -> dict[str, Any]:
    value = op.value
    if inline is not None and value.size > inline:
        return {"dtype": op.dtype, "shape": list(value.shape), "sha256": op.digest()}
    if value.size == 0 and value.ndim > 1:  # nested lists without elements lose the axes behind the first that is 0
        return {"dtype": op.dtype, "shape": list(value.shape), "value": []}
    return {"dtype": op.dtype, "value": to_json_value(value)}


def _training(graph: Graph, training: Training) -> dict[str, Any]:
    if not isinstance(training, Training):
        raise GraphError(f"training is a ge.Training, not {training!r}")
    if training.loss not in graph.outputs:
        near = did_you_mean(training.loss, graph.outputs)
        raise NamingError(f"training names the loss {training.loss!r}, which is no output of {graph.name!r}{near}")
    return training.to_dict()


def _block(brackets: str, lines: Iterable[str], depth: int = 1) -> str:
    """The lines in brackets, which open in a line that is indented `depth` times."""
    margin = "  " * depth
    text = f",\n{margin}  ".join(lines)
    return f"{brackets[0]}\n{margin}  {text}\n{margin}{brackets[1]}" if text else brackets


def _pairs(section: dict[str, Any]) -> list[str]:
    return [f"{_line(key)}: {_line(value)}" for key, value in section.items()]


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False)

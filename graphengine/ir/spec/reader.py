"""From the values of a document to a graph: every section, every node, every attribute checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import truediv
from typing import Any

from graphengine.errors import CycleError, GraphError, SpecError
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Leaf
from graphengine.ir.limits import Limits
from graphengine.ir.names import check_name, did_you_mean
from graphengine.ir.node import Phase
from graphengine.ir.op import Op
from graphengine.ir.order import parents_first
from graphengine.ir.spec.attributes import graph_fields, read_fields, read_op
from graphengine.ir.spec.document import FORMAT, VERSION, Place, check_keys, check_limit, expect, shown
from graphengine.ir.training import Training
from graphengine.ir.types import DTYPES, Array, DType

SECTIONS = ("format", "version", "name", "dtype", "nodes", "outputs")
OPTIONAL_SECTIONS = ("graphs", "updates", "training")
GRAPH_SECTIONS = ("nodes", "outputs")
OPTIONAL_GRAPH_SECTIONS = ("dtype",)

ENTRY_FIELDS = ("name", "op", "inputs", "phase")
"""What a node may have besides the attributes of its op."""

PHASES = {phase.name.lower(): phase for phase in Phase}

Fetch = Callable[[Mapping[str, Place], Mapping[str, Any]], Mapping[str, Array]]
"""Gives the large constants by name, for the places that ask for them and what these say is their SHA-256."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A node as the document has it."""

    place: Place
    name: str
    op: type[Op]
    phase: Phase
    parents: list[str]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Section:
    """A graph as the document has it: the document's own, or one of its `graphs`."""

    place: Place
    graph: Graph
    """Where the nodes are to be declared."""
    entries: dict[str, _Entry]
    outputs: Any

    def references(self) -> dict[str, Place]:
        """The names of the graphs that nodes hold, with the first place of each."""
        found: dict[str, Place] = {}
        for entry, key in self._held():
            found.setdefault(expect(entry.attributes[key], str, entry.place, key), entry.place / key)
        return found

    def holds(self) -> list[str]:
        """The names of the graphs that nodes hold, one for each time."""
        return [entry.attributes[key] for entry, key in self._held()]

    def _held(self) -> Iterator[tuple[_Entry, str]]:
        for entry in self.entries.values():
            yield from ((entry, key) for key in graph_fields(entry.op) if key in entry.attributes)


def read(document: Any, place: Place, fetch: Fetch, limits: Limits) -> Graph:
    """The graph that the document declares; raises SpecError at the first fault."""
    _check_header(document, place)
    section = _section(document, place, document["name"], document["dtype"], limits)
    graphs = _graphs(document.get("graphs", {}), place / "graphs", section, limits)
    graph = _declare(section, graphs, fetch)
    for fed in graph.inputs:
        at = Place(fed.where.file, str(fed.where.place), fed.name)
        with _Quoting("give it an int or a name, which the feed gives a size", at):
            fed.op.check_dims()  # type: ignore[attr-defined]  # it is an Input
    for target, node in _pairs(graph, document.get("updates", {}), place / "updates"):
        if target not in graph:
            raise _no_node(target, (known.name for known in graph.nodes), place / "updates" / target)
        with _Quoting("let a parameter or a state have one update, of its own type", place, "updates", target):
            graph.update(graph[target], graph[node])
    if "training" in document:
        graph.training = _training(graph, document["training"], place / "training")
    return graph


def _graphs(value: Any, place: Place, outermost: _Section, limits: Limits) -> dict[str, Graph]:
    """The graphs that nodes hold, by name: each held by some node, and none by a node of its own."""
    sections = {}
    for name, section in expect(value, dict, place).items():
        check_keys(section, GRAPH_SECTIONS, OPTIONAL_GRAPH_SECTIONS, place / name, "a graph inside a node")
        sections[name] = _section(section, place / name, name, section.get("dtype", outermost.graph.dtype), limits)
    held = {name: section.references() for name, section in sections.items()}
    used = outermost.references()
    for references in (used, *held.values()):
        for name, at in references.items():
            if name not in sections:
                raise at.fault(
                    f"no graph {shown(name)}{did_you_mean(name, sections)}", 'name one of the graphs in "graphs"'
                )
    ordered = _innermost_first(held)
    for name in reversed(ordered):
        if name not in used:
            raise (place / name).fault(f"the graph {name!r} belongs to no node", "take it out, or let a node hold it")
        used |= held[name]
    _check_repetition(outermost, {name: sections[name] for name in ordered}, limits)
    graphs: dict[str, Graph] = {}
    for name in ordered:
        graphs[name] = _declare(sections[name], graphs, _whole)
    return graphs


def _check_repetition(outermost: _Section, sections: Mapping[str, _Section], limits: Limits) -> None:
    """Raise if graphs that hold each other several times are many nodes: a few at every level double and double."""
    counts: dict[str, int] = {}
    for name, section in sections.items():  # the innermost first
        counts[name] = len(section.entries) + sum(map(counts.__getitem__, section.holds()))
    check_limit(limits, "body_nodes", sum(map(counts.__getitem__, outermost.holds())), outermost.place / "graphs")


def _innermost_first(held: Mapping[str, Mapping[str, Place]]) -> list[str]:
    try:
        return parents_first(held)
    except CycleError as error:
        circle = [str(name) for name in reversed(error.circle)]
        message = f"graphs contain each other in a cycle: {' -> '.join([*circle, circle[0]])}"
        at = held[circle[0]][circle[1 % len(circle)]]
        raise at.fault(message, "let the innermost be a graph of its own") from None


def _whole(places: Mapping[str, Place], _: Mapping[str, Any]) -> dict[str, Array]:
    """The file beside the document holds no constants of a graph inside a node."""
    for place in places.values():
        raise place.fault("the constants of a graph inside a node are written in full", "write its elements as value")
    return {}


def _section(value: dict[str, Any], place: Place, name: Any, dtype: Any, limits: Limits) -> _Section:
    expect(name, str, place, "name")
    expect(dtype, str, place, "dtype")
    if dtype not in DTYPES:
        message = f"no dtype {shown(dtype)}; there are {', '.join(sorted(DTYPES))}"
        raise (place / "dtype").fault(message, "name a dtype that there is")
    with _Quoting("give the graph another name", place, *(() if place.pointer else ("name",))):
        graph = Graph(name, dtype)
    nodes = expect(value["nodes"], list, place, "nodes")
    check_limit(limits, "nodes", len(nodes), place / "nodes")
    return _Section(place, graph, _entries(nodes, place / "nodes", graph.dtype), value["outputs"])


def _declare(section: _Section, graphs: Mapping[str, Graph], fetch: Fetch) -> Graph:
    """The graph of a section, whose nodes may hold `graphs`."""
    graph, entries = section.graph, section.entries
    stored = {"sha256", "shape"}
    large = [entry for entry in entries.values() if entry.attributes.keys() - {"dtype"} == stored]
    places = {entry.name: entry.place / "sha256" for entry in large}
    arrays = fetch(places, {entry.name: entry.attributes["sha256"] for entry in large})
    for entry in _in_order(entries):
        with _Quoting("give the node operands and attributes that fit each other", entry.place):
            held = {key: graphs[entry.attributes[key]] for key in graph_fields(entry.op) if key in entry.attributes}
            op = read_op(entry.op, entry.attributes, entry.place, arrays.get(entry.name), held)
            with graph.declared_at(entry.place.where()):
                added = graph.add(op, [graph[parent] for parent in entry.parents], name=entry.name)
            added.phase = entry.phase  # as it was emitted; what it was emitted of, a document does not say
    for name, node in _pairs(graph, section.outputs, section.place / "outputs"):
        with _Quoting("give the output a name", section.place, "outputs", name):
            graph.output(name, graph[node])
    return graph


class _Quoting:  # a generator would take three times as long, twice for every node
    """Make a SpecError of what the graph says of a declaration, which is at `tokens` below `place`."""

    __slots__ = ("_place", "_remedy", "_tokens")

    def __init__(self, remedy: str, place: Place, *tokens: str) -> None:
        self._remedy, self._place, self._tokens = remedy, place, tokens

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, GraphError):
            place = reduce(truediv, self._tokens, self._place)
            context = [line for line in error.context if not line.startswith("declared at ")]
            raise place.fault(error.message, self._remedy, context) from None


def _check_header(document: Any, place: Place) -> None:
    expect(document, dict, place)
    if document.get("format", FORMAT) != FORMAT:
        remedy = f'a graph says "format": "{FORMAT}"'
        raise (place / "format").fault(f"not a graph, but format {shown(document['format'])}", remedy)
    check_keys(document, SECTIONS, OPTIONAL_SECTIONS, place, "a document")
    version = expect(document["version"], int, place, "version")
    if version != VERSION:
        message = f"version {version} of the format, and this graphengine reads version {VERSION}"
        remedy = "upgrade graphengine" if version > VERSION else f'write "version": {VERSION}'
        raise (place / "version").fault(message, remedy)


def _entries(nodes: list[Any], place: Place, dtype: DType) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for index, value in enumerate(nodes):
        entry = _entry(value, place / index, dtype)
        if entry.name in entries:
            message = f"the name {entry.name!r} is taken by the node at {entries[entry.name].place.pointer}"
            raise (entry.place / "name").fault(message, "give one of the two another name")
        entries[entry.name] = entry
    return entries


def _entry(value: Any, place: Place, dtype: DType) -> _Entry:
    expect(value, dict, place)
    for key in ("name", "op"):
        if key not in value:
            named = Place(place.file, place.pointer, value["name"]) if isinstance(value.get("name"), str) else place
            raise named.fault(f"a node lacks its field {key!r}", f"add {key!r}")
    name = expect(value["name"], str, place, "name")
    with _Quoting("give the node another name", place, "name"):
        check_name(name)
    place = Place(place.file, place.pointer, name)
    op = _kind(expect(value["op"], str, place, "op"), place)
    parents = expect(value.get("inputs", []), list, place, "inputs")
    for slot, parent in enumerate(parents):
        expect(parent, str, place, "inputs", slot)
    attributes = {key: item for key, item in value.items() if key not in ENTRY_FIELDS}
    if issubclass(op, Leaf):
        attributes.setdefault("dtype", dtype)
    return _Entry(place, name, op, _phase(value, place), parents, attributes)


def _phase(value: dict[str, Any], place: Place) -> Phase:
    name = expect(value.get("phase", "forward"), str, place, "phase")
    if name not in PHASES:
        raise (place / "phase").fault(f"no phase {shown(name)}; there are {', '.join(PHASES)}", "name one of these")
    return PHASES[name]


def _kind(kind: str, place: Place) -> type[Op]:
    if kind not in Op.registry:
        message = f"no op {shown(kind)}{did_you_mean(kind, Op.registry)}"
        raise (place / "op").fault(message, "name an op that `graphengine schema` lists")
    return Op.registry[kind]


def _in_order(entries: dict[str, _Entry]) -> list[_Entry]:
    """The entries with parents first, otherwise in the order of the document."""
    for entry in entries.values():
        for index, parent in enumerate(entry.parents):
            if parent not in entries:
                raise _no_node(parent, entries, entry.place / "inputs" / index)
    try:
        return [entries[name] for name in parents_first({name: entry.parents for name, entry in entries.items()})]
    except CycleError as error:
        circle = [str(name) for name in error.circle]
        shown_part = circle if len(circle) <= 12 else [*circle[:6], f"({len(circle) - 11} more)", *circle[-5:]]
        message = f"nodes depend on each other in a cycle: {' -> '.join([*shown_part, circle[0]])}"
        raise (entries[circle[0]].place / "inputs").fault(message, "take one of these steps out") from None


def _no_node(name: str, known: Iterable[str], place: Place) -> SpecError:
    return place.fault(f"no node {shown(name)}{did_you_mean(name, list(known))}", "name a node of this document")


def _pairs(graph: Graph, section: Any, place: Place) -> Iterator[tuple[str, str]]:
    """The items of a section that maps names to nodes, each of which the graph has."""
    for name, node in expect(section, dict, place).items():
        expect(node, str, place, name)
        if node not in graph:
            raise _no_node(node, (known.name for known in graph.nodes), place / name)
        yield name, node


def _training(graph: Graph, section: Any, place: Place) -> Training:
    if isinstance(section, dict) and "schedule" in section:
        remedy = "write it there, in the place of the number"
        raise (place / "schedule").fault("the schedule is the learning_rate of the optimizer", remedy)
    training = read_fields(Training, section, place, "training")
    if training.loss not in graph.outputs:
        near = did_you_mean(training.loss, graph.outputs)
        message = f"the loss is no output of this document: {shown(training.loss)}{near}"
        raise (place / "loss").fault(message, "name an output")
    return training

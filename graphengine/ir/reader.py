"""From the values of a document to a graph: every section, every node, every attribute checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from graphengine.errors import CycleError, GraphError, SpecError
from graphengine.ir import beside, order
from graphengine.ir.attributes import graph_fields, read_fields, read_op
from graphengine.ir.document import FORMAT, VERSION, Place, check_keys, expect, shown
from graphengine.ir.graph import NAME_LENGTH, Graph, Node, Phase, check_name, did_you_mean
from graphengine.ir.leaf import Leaf
from graphengine.ir.op import Array, Op
from graphengine.ir.training import Training
from graphengine.ir.types import DTYPES, DType

GRAPH_SECTIONS = ("name", "dtype", "nodes", "outputs")
SECTIONS = ("format", "version", *GRAPH_SECTIONS)
OPTIONAL_SECTIONS = ("updates", "training")

ENTRY_FIELDS = ("name", "op", "inputs", "phase")
"""What a node may have besides the attributes of its op."""

PHASES = {phase.name.lower(): phase for phase in Phase}

Fetch = Callable[[Mapping[str, Place]], Mapping[str, Array]]
"""Gives the large constants by name, for the places that ask for them."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A node as the document has it."""

    place: Place
    name: str
    op: type[Op]
    phase: Phase
    parents: list[str]
    attributes: dict[str, Any]


def read(document: Any, place: Place, fetch: Fetch) -> Graph:
    """The graph that the document declares; raises SpecError at the first fault."""
    _check_header(document, place)
    graph = _declare(document, place, fetch)
    _check_inputs(graph)
    for target, node in _pairs(graph, document.get("updates", {}), place / "updates"):
        if target not in graph:
            raise _no_node(target, graph.nodes, place / "updates" / target)
        with _quoting("let a parameter or a state have one update, of its own type", place, "updates", target):
            graph.update(graph[target], graph[node])
    if "training" in document:
        graph.training = _training(graph, document["training"], place / "training")
    return graph


def _declare(section: dict[str, Any], place: Place, fetch: Fetch) -> Graph:
    """The graph of a document, or of a node's attribute: its name, dtype, nodes and outputs."""
    graph = _empty(section, place)
    entries = _entries(section["nodes"], place / "nodes", graph.dtype)
    stored = {"sha256", "shape"}
    arrays = fetch({e.name: e.place / "sha256" for e in entries.values() if e.attributes.keys() - {"dtype"} == stored})
    for entry in _parents_first(entries):
        _add(graph, entry, arrays)
    for name, node in _pairs(graph, section["outputs"], place / "outputs"):
        with _quoting("give the output a name", place, "outputs", name):
            graph.output(name, graph[node])
    return graph


def _check_inputs(graph: Graph) -> None:
    for node in graph.inputs:
        at = Place(node.where.file, str(node.where.place), node.name)
        with _quoting("give it an int or a name, which the feed gives a size", at):
            node.op.check_dims()  # type: ignore[attr-defined]  # it is an Input


def _inner(section: Any, place: Place) -> Graph:
    """The graph that an attribute is."""
    check_keys(section, GRAPH_SECTIONS, (), place, "a graph inside a node")
    return _declare(section, place, beside.nothing)


@contextmanager
def _quoting(remedy: str, place: Place, *tokens: str) -> Iterator[None]:
    """Make a SpecError of what the graph says of a declaration, which stands at `tokens` below `place`."""
    try:
        yield
    except GraphError as error:
        for token in tokens:
            place = place / token
        context = [line for line in error.context if not line.startswith("declared at ")]
        raise place.fault(error.message, remedy, context) from None


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


def _empty(section: dict[str, Any], place: Place) -> Graph:
    name = expect(section["name"], str, place, "name")
    dtype = expect(section["dtype"], str, place, "dtype")
    if dtype not in DTYPES:
        message = f"no dtype {shown(dtype)}; there are {', '.join(sorted(DTYPES))}"
        raise (place / "dtype").fault(message, "name a dtype that there is")
    with _quoting("give the graph another name", place, "name"):
        return Graph(name, dtype)


def _entries(nodes: Any, place: Place, dtype: DType) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for index, value in enumerate(expect(nodes, list, place)):
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
    with _quoting("give the node another name", place, "name"):
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
        near = did_you_mean(kind, Op.registry) if len(kind) < 80 else ""
        raise (place / "op").fault(f"no op {shown(kind)}{near}", "name an op that `graphengine schema` lists")
    return Op.registry[kind]


def _parents_first(entries: dict[str, _Entry]) -> Iterable[_Entry]:
    """The entries in an order in which the graph can take them: their own, where parents stand first already."""
    rank = {name: place for place, name in enumerate(entries)}
    in_order = True
    for name, entry in entries.items():
        for slot, parent in enumerate(entry.parents):
            if parent not in rank:
                raise _no_node(parent, entries.values(), entry.place / "inputs" / slot)
            in_order = in_order and rank[parent] < rank[name]
    if in_order:
        return entries.values()
    try:
        names = order.parents_first({e.name: e.parents for e in entries.values()}, lambda name: (rank[name],))
    except CycleError as error:
        _raise_cycle([str(name) for name in error.circle], entries)
    return [entries[name] for name in names]


def _raise_cycle(circle: list[str], entries: Mapping[str, _Entry]) -> NoReturn:
    shown_part = circle if len(circle) <= 12 else [*circle[:6], f"({len(circle) - 11} more)", *circle[-5:]]
    text = " -> ".join([*shown_part, circle[0]])
    place = entries[circle[0]].place / "inputs"
    raise place.fault(f"nodes depend on each other in a circle: {text}", "take one of these steps out") from None


def _no_node(name: str, known: Iterable[_Entry] | Iterable[Node], place: Place) -> SpecError:
    near = did_you_mean(name, [node.name for node in known]) if len(name) <= NAME_LENGTH else ""
    return place.fault(f"no node {shown(name)}{near}", "name a node of this document")


def _add(graph: Graph, entry: _Entry, arrays: Mapping[str, Array]) -> None:
    with _quoting("give the node operands and attributes that fit each other", entry.place):
        graphs = {
            key: _inner(entry.attributes[key], entry.place / key)
            for key in graph_fields(entry.op)
            if key in entry.attributes
        }
        op = read_op(entry.op, entry.attributes, entry.place, arrays.get(entry.name), graphs)
        with graph.declared_at(entry.place.where()):
            node = graph.add(op, [graph[parent] for parent in entry.parents], name=entry.name)
        node.phase = entry.phase  # as it was emitted; what it was emitted of, a document does not say


def _pairs(graph: Graph, section: Any, place: Place) -> Iterator[tuple[str, str]]:
    """The items of a section that maps names to nodes, each of which the graph has."""
    for name, node in expect(section, dict, place).items():
        expect(node, str, place, name)
        if node not in graph:
            raise _no_node(node, graph.nodes, place / name)
        yield name, node


def _training(graph: Graph, section: Any, place: Place) -> Training:
    if isinstance(section, dict) and "schedule" in section:
        remedy = "write it there, in the place of the number"
        raise (place / "schedule").fault("the schedule stands in the optimizer, as its learning_rate", remedy)
    training = read_fields(Training, section, place, "training")
    if training.loss not in graph.outputs:
        near = did_you_mean(training.loss, graph.outputs) if len(training.loss) <= NAME_LENGTH else ""
        message = f"the loss is no output of this document: {shown(training.loss)}{near}"
        raise (place / "loss").fault(message, "name an output")
    return training

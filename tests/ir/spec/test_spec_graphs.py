"""Graphs that nodes hold, as a scan its body: each a section of the document, read as strictly as the rest."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest

import graphengine as ge
from graphengine.errors import SpecError
from graphengine.ir import spec
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from tests.ir.spec.test_spec_faults import MISSING, _token


def looped() -> Graph:
    """Two scans with the same body, one with another, and one inside."""
    graph = ge.Graph("looped")
    h, x = graph.input("h", (2,)), graph.input("x", ("time", 2))
    w = graph.parameter("w", (2,))

    def double(h: Node, x: Node) -> tuple[Node, Node]:
        return h * 2.0 + x, h

    def outer(h: Node, x: Node) -> tuple[Node, None]:
        last, _ = ge.scan(lambda c, _: (ge.sin(c) * w, None), h, length=3, name="inside")
        return last + x, None

    ge.scan(double, h, x, name="first")
    ge.scan(double, h, x, name="second")
    h, _ = ge.scan(outer, h, x, name="third", reverse=True)
    graph.output("h", h)
    return graph


DOCUMENT: dict[str, Any] = json.loads(looped().to_json())


def changed(pointer: str, value: object) -> str:
    document = copy.deepcopy(DOCUMENT)
    *path, last = [_token(text) for text in pointer.split("/")[1:]]
    at: Any = document
    for token in path:
        at = at[token]
    if value is MISSING:
        del at[last]
    else:
        at[last] = value
    return json.dumps(document)


def test_a_body_is_a_named_graph_of_the_document_the_innermost_first_equal_ones_once() -> None:
    text = looped().to_json()
    assert list(DOCUMENT["graphs"]) == ["first_body", "inside_body", "third_body"]
    bodies = {node["name"]: node["body"] for node in DOCUMENT["nodes"] if node["op"] == "scan"}
    assert bodies == {"first": "first_body", "second": "first_body", "third": "third_body"}
    lines = text[text.index('  "graphs": {') :].splitlines()
    assert lines[:9] == [
        '  "graphs": {',
        '    "first_body": {',
        '      "nodes": [',
        '        {"name": "carry_0", "op": "input", "shape": [2]},',
        '        {"name": "x_0", "op": "input", "shape": [2]},',
        '        {"name": "constant_1", "op": "constant", "value": 2.0},',
        '        {"name": "multiply_1", "op": "multiply", "inputs": ["carry_0", "constant_1"]},',
        '        {"name": "add_1", "op": "add", "inputs": ["multiply_1", "x_0"]}',
        "      ],",
    ]
    assert lines[9] == '      "outputs": {"next_0": "add_1", "y_0": "carry_0"}'


def test_a_graph_with_bodies_comes_back_equal_and_to_the_same_bytes() -> None:
    graph = looped()
    again = Graph.from_json(graph.to_json())
    assert again == graph
    assert again.to_json() == graph.to_json()
    assert again.hash() == graph.hash()
    assert again["third"].op.body.name == "third_body"


def test_what_comes_back_computes_the_same() -> None:
    feeds = {"h": [1.0, 2.0], "x": [[0.5, 0.25], [1.0, 2.0]]}
    values = [
        ge.compile(graph, seed=1).forward(feeds)["h"] for graph in (looped(), Graph.from_json(looped().to_json()))
    ]
    assert (values[0] == values[1]).all()


def test_a_derivative_with_its_adjoint_bodies_comes_back_equal() -> None:
    graph = looped()
    (bar,) = ge.grad(ge.sum(graph.outputs["h"]), [graph["w"]])
    ge.grad(ge.sum(ge.sin(bar)), [graph["h"]])
    text = graph.to_json()
    assert Graph.from_json(text) == graph
    assert Graph.from_json(text).to_json() == text


def test_different_bodies_under_one_name_are_told_apart() -> None:
    graph = ge.Graph("names")
    h = graph.input("h", ())

    def outer(h: Node, _: None) -> tuple[Node, None]:
        return ge.scan(lambda c, _: (c * 3.0, None), h, length=2, name="loop")[0], None

    ge.scan(lambda h, _: (h * 2.0, None), h, length=2, name="loop")
    ge.scan(outer, h, length=2, name="outer")
    text = graph.to_json()
    assert list(json.loads(text)["graphs"]) == ["loop_body", "loop_body_2", "outer_body"]
    assert Graph.from_json(text) == graph
    assert Graph.from_json(text).to_json() == text


def test_a_long_name_leaves_room_for_that_of_the_body() -> None:
    graph = ge.Graph("long")
    for end in "ab":
        ge.scan(lambda h, _, end=end: (h * float(ord(end)), None), graph.input(end, ()), length=1, name="n" * 127 + end)
    assert Graph.from_json(graph.to_json()) == graph


def test_the_dtype_of_a_body_stands_there_where_it_is_not_the_documents() -> None:
    graph = looped()
    assert all("dtype" not in section for section in DOCUMENT["graphs"].values())
    twin = ge.Graph("twin", dtype="float64")
    h = twin.input("h", (2,), dtype="float32")
    twin.add(graph["first"].op, [h, twin.input("x", ("time", 2), dtype="float32")])
    document = json.loads(twin.to_json())
    assert [section["dtype"] for section in document["graphs"].values()] == ["float32"]
    assert Graph.from_json(twin.to_json()) == twin


def test_large_constants_stand_whole_in_a_body() -> None:
    graph = ge.Graph("large")
    inner = ge.Graph("body")
    h = inner.input("h", (5000,))
    inner.output("next_0", h + inner.constant("c", [0.5] * 5000))
    op = type(looped()["first"].op)(body=inner, carries=1, sequences=0, length=2)
    graph.add(op, [graph.input("h", (5000,))])
    assert Graph.from_json(graph.to_json()) == graph


def test_the_schema_admits_it_and_refuses_what_is_none() -> None:
    schema = spec.json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(DOCUMENT)
    for pointer, value in [
        ("/graphs", []),
        ("/graphs/first_body/nodes", MISSING),
        ("/graphs/first_body/name", "twice"),
        ("/graphs/first_body/nodes/0/op", "loop"),
        ("/nodes/3/body", {"nodes": [], "outputs": {}}),
        ("/nodes/3/body", MISSING),
    ]:
        assert not validator.is_valid(json.loads(changed(pointer, value))), pointer


@pytest.mark.parametrize(
    ("pointer", "value", "at", "words"),
    [
        ("/graphs", [], "/graphs", ["an object is needed, not []"]),
        ("/graphs", {}, "/nodes/3/body", ['no graph "first_body"', "node  first"]),
        ("/graphs/first_body", [], "/graphs/first_body", ["an object is needed"]),
        ("/graphs/first_body/nodes", MISSING, "/graphs/first_body", ["lacks its field 'nodes'"]),
        ("/graphs/first_body/updates", {}, "/graphs/first_body/updates", ['has no field "updates"']),
        ("/graphs/first_body/dtype", "half", "/graphs/first_body/dtype", ['no dtype "half"']),
        ("/graphs/1st", {"nodes": [], "outputs": {}}, "/graphs/1st", ["not a name: '1st'"]),
        ("/graphs/more", {"nodes": [], "outputs": {}}, "/graphs/more", ["the graph 'more' belongs to no node"]),
        ("/graphs/first_body/nodes/3/op", "multiplies", "/graphs/first_body/nodes/3/op", ["did you mean 'multiply'"]),
        ("/graphs/first_body/nodes/3/inputs/1", "w", "/graphs/first_body/nodes/3/inputs/1", ['no node "w"']),
        ("/graphs/first_body/nodes/3/inputs", ["x_0"], "/graphs/first_body/nodes/3", ["node  multiply_1"]),
        (
            "/graphs/first_body/nodes/1/name",
            "carry_0",
            "/graphs/first_body/nodes/1/name",
            ["is taken by the node at /gra"],
        ),
        ("/graphs/first_body/outputs/y_0", "y", "/graphs/first_body/outputs/y_0", ['no node "y"']),
        (
            "/graphs/first_body/nodes/0/op",
            "state",
            "/nodes/3",
            ["has no state of its own, as carry_0 is", "first = scan"],
        ),
        ("/graphs/first_body/nodes/0/shape", [3], "/graphs/first_body/nodes/4", ["shapes do not broadcast"]),
        ("/nodes/3/body", 3, "/nodes/3/body", ["a string is needed, not 3"]),
        ("/nodes/3/body", "first_bod", "/nodes/3/body", ["no graph \"first_bod\"; did you mean 'first_body'?"]),
        ("/nodes/3/body", MISSING, "/nodes/3", ["lacks its field 'body'"]),
        ("/nodes/3/body", "third_body", "/nodes/3", ["the body of the scan has 3 inputs"]),
        ("/nodes/3/carries", 2, "/nodes/3", ["does not do for 2 carries and 1 sequences"]),
        (
            "/graphs/first_body/nodes/2",
            {"name": "constant_1", "op": "constant", "shape": [5000], "sha256": "0" * 64},
            "/graphs/first_body/nodes/2/sha256",
            ["the constants of a graph inside a node are written in full"],
        ),
    ],
)
def test_a_wrong_document_is_refused_with_its_place(pointer: str, value: object, at: str, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        Graph.from_json(changed(pointer, value))
    text = str(caught.value)
    for word in words:
        assert word in text
    assert f"at <json>#{at}\n" in text
    assert "remedy: " in text


def test_graphs_that_hold_each_other_are_refused_and_the_circle_is_printed() -> None:
    inside = next(place for place, node in enumerate(DOCUMENT["graphs"]["third_body"]["nodes"]) if node["op"] == "scan")
    with pytest.raises(SpecError) as caught:
        Graph.from_json(changed(f"/graphs/third_body/nodes/{inside}/body", "third_body"))
    text = str(caught.value)
    assert "graphs contain each other in a cycle: third_body -> third_body" in text
    assert f"at <json>#/graphs/third_body/nodes/{inside}/body" in text

    document = copy.deepcopy(DOCUMENT)
    scan = document["graphs"]["third_body"]["nodes"][inside]
    document["graphs"]["inside_body"]["nodes"].append({**scan, "name": "again", "body": "third_body"})
    with pytest.raises(SpecError, match=r"in a cycle: .*_body -> .*_body -> .*_body") as caught:
        Graph.from_json(json.dumps(document))
    assert "node  " in str(caught.value)


def test_graphs_nested_too_deep_are_refused() -> None:
    graphs: dict[str, Any] = {}
    node = {"name": "y", "op": "negative", "inputs": ["h"]}
    for depth in range(18):
        graphs[f"g{depth}"] = {
            "nodes": [{"name": "h", "op": "input", "shape": []}, node, {"name": "z", "op": "item", "inputs": ["y"]}],
            "outputs": {"next_0": "z" if depth else "y"},
        }
        graphs[f"g{depth}"]["nodes"][2:] = [{**graphs[f"g{depth}"]["nodes"][2], "index": 0}] if depth else []
        node = {
            "name": "y",
            "op": "scan",
            "inputs": ["h"],
            "body": f"g{depth}",
            "carries": 1,
            "sequences": 0,
            "length": 1,
        }
    document = {
        "format": "graphengine",
        "version": 1,
        "name": "deep",
        "dtype": "float32",
        "nodes": [{"name": "h", "op": "input", "shape": []}, node],
        "outputs": {},
        "graphs": graphs,
    }
    with pytest.raises(SpecError, match="scans stand inside each other 17 deep, and may 16"):
        Graph.from_json(json.dumps(document))


def test_graphs_may_stand_in_any_order() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["graphs"] = dict(reversed(document["graphs"].items()))
    assert Graph.from_json(json.dumps(document)) == looped()


def test_a_fault_of_the_text_inside_a_body_names_the_node() -> None:
    text = looped().to_json().replace('"value": 2.0', '"value": NaN', 1)
    with pytest.raises(SpecError) as caught:
        Graph.from_json(text)
    assert "node  constant_1" in str(caught.value)
    assert "/graphs/first_body/nodes/2/value" in str(caught.value)


def test_graphs_that_double_at_every_level_are_refused_in_time() -> None:
    """Sixteen graphs, each of which holds the one before it twice, would be 65,536 loops."""
    item = {"op": "item", "index": 0}
    graphs: dict[str, Any] = {
        "g0": {
            "nodes": [{"name": "h", "op": "input", "shape": []}, {"name": "y", "op": "negative", "inputs": ["h"]}],
            "outputs": {"next_0": "y"},
        }
    }
    loop = {"op": "scan", "carries": 1, "sequences": 0, "length": 2}
    for depth in range(1, 16):
        scans = [{"name": f"s{i}", **loop, "inputs": ["h"], "body": f"g{depth - 1}"} for i in (0, 1)]
        items = [{"name": f"y{i}", **item, "inputs": [f"s{i}"]} for i in (0, 1)]
        total = {"name": "y", "op": "add", "inputs": ["y0", "y1"]}
        nodes = [{"name": "h", "op": "input", "shape": []}, *scans, *items, total]
        graphs[f"g{depth}"] = {"nodes": nodes, "outputs": {"next_0": "y"}}
    nodes = [{"name": "h", "op": "input", "shape": []}, {"name": "s", **loop, "inputs": ["h"], "body": "g15"}]
    document = {"format": "graphengine", "version": 1, "name": "deep", "dtype": "float32", "nodes": nodes}
    with pytest.raises(SpecError, match="over the limit of 8,192 nodes of the graphs inside nodes"):
        Graph.from_json(json.dumps({**document, "outputs": {}, "graphs": graphs}))

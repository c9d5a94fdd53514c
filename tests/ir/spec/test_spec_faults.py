"""Wrong documents: each gets one SpecError that names place, node and remedy, and never another exception."""

import copy
import json
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.ir import spec
from graphengine.ir.graph import Graph
from tests.random_graphs import grow

DOCUMENT: dict[str, Any] = {
    "format": "graphengine",
    "version": 1,
    "name": "net",
    "dtype": "float32",
    "nodes": [
        {"name": "x", "op": "input", "shape": ["batch", 3]},
        {"name": "w", "op": "parameter", "shape": [3, 2], "init": {"kind": "normal", "std": 0.1}},
        {"name": "h", "op": "matmul", "inputs": ["x", "w"]},
        {"name": "c", "op": "constant", "value": [0.5, 1.5]},
        {"name": "y", "op": "add", "inputs": ["h", "c"]},
        {"name": "loss", "op": "sum", "inputs": ["y"]},
        {"name": "s", "op": "state", "shape": [2]},
        {"name": "t", "op": "add", "inputs": ["s", "c"]},
    ],
    "outputs": {"y": "y", "loss": "loss"},
    "updates": {"s": "t"},
    "training": {"loss": "loss", "optimizer": {"kind": "sgd", "learning_rate": 0.1}},
}

MISSING = ...


def changed(pointer: str, value: object) -> dict[str, Any]:
    """The document with another value at a JSON pointer; MISSING takes away what is there."""
    document = copy.deepcopy(DOCUMENT)
    *path, last = [_token(text) for text in pointer.split("/")[1:]]
    at: Any = document
    for token in path:
        at = at[token]
    if value is MISSING:
        del at[last]
    elif last == "-":
        at.append(value)
    else:
        at[last] = value
    return document


def _token(text: str) -> int | str:
    return int(text) if text.isdecimal() else text.replace("~1", "/").replace("~0", "~")


def fault(text: object, load: Callable[[Any], Graph] = Graph.from_json) -> str:
    with pytest.raises(ge.SpecError) as caught:
        load(text)
    return str(caught.value)


def node(**fields: object) -> dict[str, Any]:
    return {"name": "new", **fields}


NEW = "/nodes/-"
AT_NEW = "/nodes/8"

ROWS: list[tuple[str, object, str, str | None, list[str]]] = [
    # where the document is changed, to what, the pointer of the fault, the node named, words of the message
    ("/format", "onnx", "/format", None, ['"onnx"', '"format": "graphengine"']),
    ("/format", MISSING, "", None, ["lacks its field 'format'", "add 'format'"]),
    ("/version", 2, "/version", None, ["version 2", "upgrade graphengine"]),
    ("/version", 0, "/version", None, ["version 0", '"version": 1']),
    ("/version", True, "/version", None, ["an integer is needed, not true"]),
    ("/version", 1.0, "/version", None, ["an integer is needed, not 1.0"]),
    ("/version", "1", "/version", None, ['not "1"']),
    ("/name", MISSING, "", None, ["lacks its field 'name'"]),
    ("/name", "a b", "/name", None, ["not a name: 'a b'"]),
    ("/name", None, "/name", None, ["a string is needed, not null"]),
    ("/dtype", "float16", "/dtype", None, ['no dtype "float16"', "float32"]),
    ("/dtype", ["float32"], "/dtype", None, ["a string is needed"]),
    ("/nodes", {}, "/nodes", None, ["a list is needed, not {}"]),
    ("/nodes", MISSING, "", None, ["lacks its field 'nodes'"]),
    ("/outputs", MISSING, "", None, ["lacks its field 'outputs'"]),
    ("/outputs", [], "/outputs", None, ["an object is needed, not []"]),
    ("/output", {}, "/output", None, ['no field "output"', "did you mean 'outputs'"]),
    ("/a~1b~0c", {}, "/a~1b~0c", None, ["no field"]),
    ("/nodes/2", "h", "/nodes/2", None, ['an object is needed, not "h"']),
    ("/nodes/2", None, "/nodes/2", None, ["not null"]),
    ("/nodes/2/name", MISSING, "/nodes/2", None, ["lacks its field 'name'"]),
    ("/nodes/2/op", MISSING, "/nodes/2", "h", ["lacks its field 'op'"]),
    ("/nodes/2/op", "matmull", "/nodes/2/op", "h", ['no op "matmull"', "did you mean 'matmul'"]),
    ("/nodes/2/op", "numpy.linalg.inv", "/nodes/2/op", "h", ["no op"]),
    ("/nodes/2/op", 3, "/nodes/2/op", "h", ["a string is needed, not 3"]),
    ("/nodes/2/op", ["add"], "/nodes/2/op", "h", ["a string is needed"]),
    ("/nodes/2/name", "x", "/nodes/2/name", "x", ["'x' is taken by the node at /nodes/0", "another name"]),
    ("/nodes/2/name", 5, "/nodes/2/name", None, ["a string is needed, not 5"]),
    ("/nodes/2/name", "", "/nodes/2/name", None, ["not a name: ''"]),
    ("/nodes/2/name", "a\0b", "/nodes/2/name", None, ["not a name: 'a\\x00b'"]),
    ("/nodes/2/name", "__h__", "/nodes/2/name", None, ["no part in double underscores"]),
    ("/nodes/2/name", "h" * 129, "/nodes/2/name", None, ["at most 128 characters"]),
    ("/nodes/2/name", "\ud800", "/nodes/2/name", None, ["half of a surrogate pair"]),
    ("/nodes/2/name", "h\n", "/nodes/2/name", None, ["not a name"]),
    ("/nodes/2/name", "größe", "/nodes/2/name", None, ["not a name: 'größe'"]),
    ("/nodes/2/inputs", MISSING, "/nodes/2", "h", ["matmul takes 2 operands, not 0"]),
    ("/nodes/2/inputs", ["x"], "/nodes/2", "h", ["matmul takes 2 operands, not 1"]),
    ("/nodes/2/inputs", ["x", "w", "w"], "/nodes/2", "h", ["matmul takes 2 operands, not 3"]),
    ("/nodes/2/inputs", "x", "/nodes/2/inputs", "h", ['a list is needed, not "x"']),
    ("/nodes/2/inputs", None, "/nodes/2/inputs", "h", ["a list is needed, not null"]),
    ("/nodes/2/inputs", ["x", 1], "/nodes/2/inputs/1", "h", ["a string is needed, not 1"]),
    ("/nodes/2/inputs", ["x", "ww"], "/nodes/2/inputs/1", "h", ['no node "ww"', "did you mean 'w'"]),
    ("/nodes/2/inputs", ["w", "x"], "/nodes/2", "h", ["inner sizes differ", "float32[3, 2] @ float32[batch, 3]"]),
    ("/nodes/2/inputs", ["h", "w"], "/nodes/2/inputs", "h", ["in a cycle: h -> h"]),
    ("/nodes/2/inputs", ["y", "w"], "/nodes/", None, ["in a cycle: ", "h -> y -> h", "take one of these steps out"]),
    ("/nodes/2/phase", "later", "/nodes/2/phase", "h", ['no phase "later"; there are forward, backward, update']),
    ("/nodes/2/phase", 1, "/nodes/2/phase", "h", ["a string is needed, not 1"]),
    ("/nodes/2/axis", 1, "/nodes/2/axis", "h", ["op 'matmul' has no field \"axis\""]),
    ("/nodes/5/axes", [0], "/nodes/5/axes", "loss", ['no field "axes"', "did you mean 'axis'"]),
    ("/nodes/5/axis", [0.0], "/nodes/5/axis/0", "loss", ["valid integer", "it is 0.0"]),
    ("/nodes/5/axis", [True], "/nodes/5/axis/0", "loss", ["valid integer", "it is true"]),
    ("/nodes/5/axis", ["0"], "/nodes/5/axis/0", "loss", ["valid integer", 'it is "0"']),
    ("/nodes/5/axis", 0, "/nodes/5/axis", "loss", ["it is 0"]),
    ("/nodes/5/axis", [7], "/nodes/5", "loss", ["axis 7 of a value with 2 axes"]),
    ("/nodes/5/axis", [0, 0], "/nodes/5", "loss", ["an axis is named twice"]),
    ("/nodes/5/keepdims", 1, "/nodes/5/keepdims", "loss", ["valid boolean", "it is 1"]),
    ("/nodes/5/keepdims", "yes", "/nodes/5/keepdims", "loss", ["valid boolean"]),
    ("/nodes/5/kind", "sum", "/nodes/5/kind", "loss", ['no field "kind"']),
    ("/nodes/0/shape", MISSING, "/nodes/0", "x", ["op 'input' lacks its field 'shape'"]),
    ("/nodes/0/shape", ["batch", -3], "/nodes/0/shape", "x", ["a dim is at least 0, not -3"]),
    ("/nodes/0/shape", ["batch", 3.0], "/nodes/0/shape", "x", ["a dim is an int or a name, not 3.0"]),
    ("/nodes/0/shape", ["batch", True], "/nodes/0/shape", "x", ["not True"]),
    ("/nodes/0/shape", ["batch", "3"], "/nodes/0/shape", "x", ["a size that is known is an int: 3, not '3'"]),
    ("/nodes/0/shape", ["batch", None], "/nodes/0/shape", "x", ["not None"]),
    ("/nodes/0/shape", ["2*batch", 3], "/nodes/0", "x", ["a dim of an input is an int or a name, not '2*batch'"]),
    ("/nodes/0/shape", ["a b", 3], "/nodes/0/shape", "x", ["not a dim: 'a b'"]),
    ("/nodes/0/shape", ["batch!", 3], "/nodes/0/shape", "x", ["not a dim: 'batch!'"]),
    ("/nodes/0/shape", 3, "/nodes/0/shape", "x", ["a shape is a list of ints and names"]),
    ("/nodes/0/shape", [1] * 65, "/nodes/0/shape", "x", ["a shape has at most 64 axes, not 65"]),
    ("/nodes/0/dtype", "complex64", "/nodes/0/dtype", "x", ["'float32'", '"complex64"']),
    ("/nodes/0/dtype", None, "/nodes/0/dtype", "x", ["it is null"]),
    ("/nodes/0/inputs", ["w"], "/nodes/0", "x", ["input takes 0 operands, not 1"]),
    ("/nodes/1/shape", ["n", 2], "/nodes/1", "w", ["the dims of a parameter or a state are ints, not 'n'"]),
    ("/nodes/1/shape", "3", "/nodes/1/shape", "w", ['"3"']),
    ("/nodes/1/trainable", "no", "/nodes/1/trainable", "w", ["valid boolean"]),
    ("/nodes/1/init", "zeros", "/nodes/1/init", "w", ['an object with a "kind" is needed', 'it is "zeros"']),
    ("/nodes/1/init", {"std": 0.1}, "/nodes/1/init", "w", ['an object with a "kind" is needed']),
    ("/nodes/1/init/kind", "nromal", "/nodes/1/init", "w", ["no kind 'nromal'", "normal"]),
    ("/nodes/1/init/kind", ["normal"], "/nodes/1/init", "w", ["no kind"]),
    ("/nodes/1/init/std", "0.1", "/nodes/1/init/std", "w", ["valid number", 'it is "0.1"']),
    ("/nodes/1/init/std", True, "/nodes/1/init/std", "w", ["valid number", "it is true"]),
    ("/nodes/1/init/std", -1, "/nodes/1/init/std", "w", ["greater than or equal to 0", "it is -1"]),
    ("/nodes/1/init/sdt", 0.1, "/nodes/1/init/sdt", "w", ["there is no such field"]),
    ("/nodes/1/init", {"kind": "constant"}, "/nodes/1/init", "w", ["it lacks the field 'value'"]),
    ("/nodes/3/value", MISSING, "/nodes/3", "c", ["op 'constant' lacks its field 'value'"]),
    ("/nodes/3/value", [[1.0], [1.0, 2.0]], "/nodes/3/value", "c", ["rows of equal length"]),
    ("/nodes/3/value", [1.0, [2.0]], "/nodes/3/value", "c", ["rows of equal length"]),
    ("/nodes/3/value", [1.0, True], "/nodes/3/value", "c", ["the elements of a float32 array are numbers"]),
    ("/nodes/3/value", [1.0, None], "/nodes/3/value", "c", ["the elements of a float32 array are numbers"]),
    ("/nodes/3/value", {"a": 1}, "/nodes/3/value", "c", ["the elements of a float32 array are numbers"]),
    ("/nodes/3/value", ["nan", 1.0], "/nodes/3/value", "c", ["'nan' is not a number", "NaN, Infinity, -Infinity"]),
    ("/nodes/3/value", [1e39, 1.0], "/nodes/3/value", "c", ["1e+39 does not fit float32"]),
    ("/nodes/3/dtype", "int32", "/nodes/3/value", "c", ["the elements of a int32 array are ints"]),
    ("/nodes/3/sha256", "0" * 64, "/nodes/3/value", "c", ['has no field "value"']),
    ("/nodes/3/shape", [2], "/nodes/3/value", "c", ["op 'constant'"]),
    (NEW, node(op="constant", dtype="uint8", value=[1, 300]), f"{AT_NEW}/value", "new", ["300 does not fit uint8"]),
    (NEW, node(op="constant", dtype="bool", value=[1, 0]), f"{AT_NEW}/value", "new", ["true or false"]),
    (NEW, node(op="constant", dtype="int64", value=["NaN"]), f"{AT_NEW}/value", "new", ["ints"]),
    (NEW, node(op="constant", dtype="half", value=1), f"{AT_NEW}/dtype", "new", ['"half"']),
    (NEW, node(op="constant", shape=[2, 2], value=[]), f"{AT_NEW}/shape", "new", ["no elements are given"]),
    (NEW, node(op="constant", shape=[0, 2**62], value=[]), f"{AT_NEW}/shape", "new", ["no array has this shape"]),
    (NEW, node(op="constant", shape=[-1, 0], value=[]), f"{AT_NEW}/shape/0", "new", ["greater than or equal to 0"]),
    (NEW, node(op="constant", shape=[9], sha256="0" * 64), f"{AT_NEW}/sha256", "new", ["ge.load"]),
    (NEW, node(op="add", inputs=["x", "y"]), AT_NEW, "new", ["x is float32[batch, 3]", "y is float32[batch, 2]"]),
    (NEW, node(op="reshape", inputs=["x"], shape=[-1, -1]), f"{AT_NEW}/shape", "new", ["at most one of them -1"]),
    (NEW, node(op="reshape", inputs=["x"], shape=[7]), AT_NEW, "new", ["3*batch elements"]),
    (NEW, node(op="clip", inputs=["x"]), AT_NEW, "new", ["op 'clip': low, high or both are needed"]),
    (NEW, node(op="cast", inputs=["x"]), AT_NEW, "new", ["op 'cast' lacks its field 'dtype'"]),
    (NEW, node(op="dim_size", size=-1, dtype="int64"), f"{AT_NEW}/size", "new", ["a dim is at least 0"]),
    ("/outputs/y", "yy", "/outputs/y", None, ['no node "yy"', "did you mean 'y'"]),
    ("/outputs/y", 4, "/outputs/y", None, ["a string is needed, not 4"]),
    ("/outputs/a b", "y", "/outputs/a b", None, ["not a name: 'a b'"]),
    ("/updates", None, "/updates", None, ["an object is needed"]),
    ("/updates/x", "x", "/updates/x", None, ["only parameters and states have updates, and 'x' is a input"]),
    ("/updates/q", "t", "/updates/q", None, ["no node \"q\""]),
    ("/updates/s", "q", "/updates/s", None, ['no node "q"']),
    ("/updates/s", "y", "/updates/s", None, ["the next value of 's' is float32[batch, 2], but it is float32[2]"]),
    ("/training", [], "/training", None, ["an object is needed"]),
    ("/training/loss", "los", "/training/loss", None, ['no output of this document: "los"', "did you mean 'loss'"]),
    ("/training/loss", 1, "/training/loss", None, ["valid string"]),
    ("/training/loss", MISSING, "/training", None, ["training lacks its field 'loss'"]),
    ("/training/epoch", 3, "/training/epoch", None, ["did you mean 'epochs'"]),
    ("/training/epochs", 0, "/training/epochs", None, ["greater than or equal to 1"]),
    ("/training/epochs", 2.0, "/training/epochs", None, ["valid integer"]),
    ("/training/batch_size", True, "/training/batch_size", None, ["valid integer"]),
    ("/training/seed", -1, "/training/seed", None, ["greater than or equal to 0"]),
    ("/training/schedule", {"kind": "constant"}, "/training/schedule", None, ["is the learning_rate of the optimizer"]),
    ("/training/optimizer/kind", "sdg", "/training/optimizer", None, ["no kind 'sdg'"]),
    ("/training/optimizer/learning_rate", "0.1", "/training/optimizer/learning_rate", None, ["number"]),
    ("/training/optimizer/learning_rate", {"kind": "step"}, "/training/optimizer/learning_rate", None, ["step_decay"]),
    ("/training/optimizer/momentum", False, "/training/optimizer/momentum", None, ["valid number"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "value", "pointer", "name", "words"), ROWS, ids=[f"{r[0]}={r[1]!r:.30}" for r in ROWS]
)
def test_a_wrong_document_is_refused_with_place_node_and_remedy(
    change: str, value: object, pointer: str, name: str | None, words: list[str]
) -> None:
    text = fault(json.dumps(changed(change, value)))
    assert f"at <json>#{pointer}" in text
    assert "\n  remedy: " in text
    if name is not None:
        assert f"\n  node  {name}" in text
    if pointer.endswith("/"):
        return
    assert f"at <json>#{pointer}\n" in text
    for word in words:
        assert word in text


def test_the_document_that_the_rows_change_is_right() -> None:
    assert Graph.from_json(json.dumps(DOCUMENT)).training is not None


TEXTS: list[tuple[object, list[str]]] = [
    ("", ["the document is empty"]),
    (" \n", ["the document is empty"]),
    (b"", ["the document is empty"]),
    ("{", ["not JSON", "line 1, column 2"]),
    ('{\n  "format": "graphengine",\n  oops\n}', ["not JSON", "line 3, column 3"]),
    ("[1, 2,]", ["not JSON", "line 1"]),
    ("{} {}", ["not JSON: Extra data"]),
    ("\0", ["not JSON"]),
    ('{"a": "\t"}', ["not JSON"]),
    ("[]", ["an object is needed, not []"]),
    ("null", ["an object is needed, not null"]),
    ("3", ["an object is needed, not 3"]),
    ("\ufeff{}", ["byte order mark"]),
    (b"\xef\xbb\xbf{}", ["byte order mark"]),
    (b"\xff\xfe{\0}\0", ["not UTF-8", "0xff at offset 0"]),
    (b'{"name": "\xe9"}', ["not UTF-8", "0xe9 at offset 10"]),
    (7, ["a document is text, not int"]),
    (None, ["a document is text, not NoneType"]),
    ('{"a": {"b": 1, "b": 2}}', ['the key "b" stands twice', "#/a/b"]),
    ('{"nodes": [{"name": "h", "op": "x", "op": "y"}]}', ['the key "op" stands twice', "#/nodes/0/op", "node  h"]),
    ('{"name": "a", "name": "b"}', ['the key "name" stands twice', "#/name"]),
    ('{"nodes": [{"name": "c", "value": [1, NaN]}]}', ["NaN is not JSON", "#/nodes/0/value/1", "node  c", '"NaN"']),
    ('{"a": -Infinity}', ["-Infinity is not JSON", "#/a"]),
    ('{"a": 1e400}', ["1e400 is beyond 64 bits", "#/a"]),
    ('{"a": [0, -1e999]}', ["-1e999 is beyond 64 bits", "#/a/1"]),
    ('{"a": 9223372036854775808}', ["9223372036854775808 is beyond 64 bits", "#/a"]),
    ('{"a": ' + "9" * 900 + "}", ["is beyond 64 bits", "(900 characters)"]),
    ('{"a": "\\ud800"}', ["half of a surrogate pair", "#/a"]),
    ('{"\\udfff": 1}', ["half of a surrogate pair"]),
    ("[" * 101 + "]" * 101, ["over the limit of 100 brackets inside each other", "there are 101"]),
    ("[" * 100_000, ["over the limit of 100 brackets inside each other", "there are 100,000"]),
    ('{"a":' * 100_000, ["over the limit of 100 brackets inside each other", "there are 100,000"]),
    ('["]]]]", ' * 150, ["there are 150"]),
    ('["\\"]", ' * 150, ["there are 150"]),
]


@pytest.mark.parametrize(("text", "words"), TEXTS, ids=[f"{text!r:.30}" for text, _ in TEXTS])
def test_a_text_that_is_no_document_is_refused(text: object, words: list[str]) -> None:
    said = fault(text)
    for word in [*words, "at <json>#", "remedy: "]:
        assert word in said


def test_brackets_inside_of_strings_do_not_nest() -> None:
    document = changed("/name", "[" * 1000)
    assert "not a name" in fault(json.dumps(document))


def test_a_document_over_the_limit_is_refused_and_the_limit_can_be_raised(tmp_path: Path) -> None:
    text = json.dumps(DOCUMENT)
    path = tmp_path / "net.json"
    path.write_text(text)
    limit = len(text) - 1
    for load, source in ((spec.from_json, text), (spec.from_json, text.encode()), (spec.load, path)):
        limits = ge.Limits(document_bytes=limit)
        assert f"over the limit of {limit:,} bytes of a document" in fault(
            source, lambda x, load=load, limits=limits: load(x, limits=limits)
        )
        assert load(source, limits=ge.Limits(document_bytes=limit + 1)) == Graph.from_json(text)
    with pytest.deprecated_call(match=r"limits=ge\.Limits"):
        assert spec.load(path, max_bytes=limit + 1) == Graph.from_json(text)


def test_a_file_that_never_ends_is_read_up_to_the_limit() -> None:
    limits = ge.Limits(document_bytes=1000)
    assert "over the limit of 1,000" in fault("/dev/zero", lambda path: spec.load(path, limits=limits))


def test_a_fault_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text(json.dumps(changed("/nodes/2/op", "matmull")))
    assert f"at {path}#/nodes/2/op" in fault(path, ge.load)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("/nodes/2/name", "h" * 10**6),
        ("/nodes/2/op", "h" * 10**6),
        ("/nodes/2/inputs", ["h" * 10**6, "w"]),
        ("/nodes/2/inputs", [1] * 10**5),
        ("/nodes/0/shape", [-1] * 10**5),
        ("/nodes/5/axis", ["a"] * 10**5),
        ("/nodes/5/axis", ["a"] * 10**4),
        ("/nodes/1/init/kind", "h" * 10**6),
        ("/nodes/1/init", {str(i): i for i in range(10**4)}),
        ("/nodes/3/value", ["h" * 10**6]),
        ("/nodes/3/value", [None] * 10**5),
        ("/" + "h" * 10**6, 1),
        ("/outputs/y", "h" * 10**6),
        ("/outputs/" + "h" * 10**6, "y"),
        ("/training/loss", "h" * 10**6),
    ],
)
def test_a_huge_wrong_value_does_not_make_a_huge_message(change: str, value: object) -> None:
    assert len(fault(json.dumps(changed(change, value)))) < 2500


def test_a_long_circle_is_told_in_part() -> None:
    names = [f"a{i}" for i in range(5000)]
    document = changed("/nodes/-", {"name": "a0", "op": "exp", "inputs": ["a4999"]})
    document["nodes"] += [{"name": b, "op": "exp", "inputs": [a]} for a, b in pairwise(names)]
    said = fault(json.dumps(document))
    assert "in a cycle: " in said
    assert "(4989 more)" in said
    assert len(said) < 1000


def test_nothing_is_half_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Graph] = []
    monkeypatch.setattr(
        Graph, "__init__", lambda self, *args, original=Graph.__init__: made.append(original(self, *args))
    )
    fault(json.dumps(changed("/training/loss", "los")))
    assert len(made) == 1  # the one that is thrown away with the error


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
) | st.sampled_from([0, 1, -1, 2**62, -(2**62), "x", "w", "batch", "2*batch", [], {}, [0], [[0]], "matmul", "float64"])


def places(value: object, pointer: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    items: list[Any] = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    return [pointer, *(place for key, item in items for place in places(item, (*pointer, key)))]


def mutated(document: Any, data: st.DataObject) -> Any:
    """The document with a value replaced, taken away, or put in the place of another."""
    document = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 3))):
        found = [place for place in places(document) if place]
        *path, last = data.draw(st.sampled_from(found))
        at = document
        for token in path:
            at = at[token]
        action = data.draw(st.sampled_from(["replace", "replace", "delete", "copy", "rename"]))
        if action == "delete":
            del at[last]
        elif action == "rename" and isinstance(at, dict):
            at[data.draw(st.text(max_size=4))] = at.pop(last)
        elif action == "copy":
            source = document
            for token in data.draw(st.sampled_from(found)):
                source = source[token] if not isinstance(source, dict) or token in source else source
            at[last] = copy.deepcopy(source)
        else:
            at[last] = data.draw(VALUES)
    return document


def loads_or_is_refused(text: str | bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            graph = Graph.from_json(text)
        except ge.SpecError as error:
            str(error).encode().index(b"remedy: ")
            return
    assert Graph.from_json(graph.to_json()) == graph


GROWN = [json.loads(grow(seed).graph.to_json()) for seed in range(12)]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_document_changed_at_random_loads_or_is_refused(data: st.DataObject) -> None:
    document = mutated(data.draw(st.sampled_from([DOCUMENT, *GROWN])), data)
    loads_or_is_refused(json.dumps(document))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_text_changed_at_random_loads_or_is_refused(data: st.DataObject) -> None:
    text = bytearray(json.dumps(DOCUMENT).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text) - 1))
        text[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"{", b"]", b","])
        )
    loads_or_is_refused(bytes(text))

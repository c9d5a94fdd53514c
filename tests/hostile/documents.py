"""Documents that strangers might write: how each is made, the error that it must give, and the place it must name."""

import json
from collections.abc import Iterable
from typing import Any

Case = tuple[str, str | bytes, str, str]
"""A name, a document, the class of the error ("" where nothing may be wrong), and what the message must hold."""

X = {"name": "x", "op": "input", "shape": [2]}


def node(name: str, op: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, **({"inputs": list(inputs)} if inputs else {}), **attributes}


def text(*nodes: Any, outputs: Any = None, **sections: Any) -> str:
    last = nodes[-1].get("name") if nodes and isinstance(nodes[-1], dict) else "x"
    header = {"format": "graphengine", "version": 1, "name": "h", "dtype": "float32"}
    return json.dumps(
        {**header, "nodes": list(nodes), "outputs": {"out": last} if outputs is None else outputs, **sections}
    )


def shaped(shape: Any) -> str:
    return text(node("x", "input", shape=shape))


def nested(depth: int, width: int) -> str:
    graphs = {"b0": {"nodes": [node("c", "input", shape=[2]), node("t", "tanh", "c")], "outputs": {"o": "t"}}}
    for level in range(1, depth):
        nodes, last = [node("c", "input", shape=[2])], "c"
        for k in range(width):
            nodes += [_loop(f"s{k}", last, f"b{level - 1}"), node(f"i{k}", "item", f"s{k}", index=0)]
            last = f"i{k}"
        graphs[f"b{level}"] = {"nodes": nodes, "outputs": {"o": last}}
    return text(X, _loop("s", "x", f"b{depth - 1}"), node("i", "item", "s", index=0), graphs=graphs)


def _loop(name: str, carry: str, body: str, **more: Any) -> dict[str, Any]:
    return node(name, "scan", carry, **{"body": body, "carries": 1, "sequences": 0, "length": 1, **more})


def costly() -> Iterable[Case]:
    names = [f"{'abcdefghij' * 9}{k}" for k in range(3000)]
    for depth, width in ((7, 10), (20, 3), (12, 2)):
        over = "body_nodes" if width**depth > 8192 / 3 else ""
        yield f"scans {depth} deep, {width} wide", nested(depth, width), "SpecError" if over else "", over
    yield "graphs 40 deep", nested(40, 1), "SpecError", "#/graphs/b17/nodes/1"
    for name, dim in {
        "blanks": "a" + " " * 40_000 + "b",
        "names": "+".join(f"a{k}" for k in range(5000)),
        "factors": "*".join(["a"] * 20_000),
        "digits": "9" * 40_000,
        "signs": "-" * 40_000 + "a",
    }.items():
        yield f"a dim of many {name}", shaped([dim]), "SpecError", "#/nodes/0/shape/0"
    squares = [node(f"y{k}", "matmul", f"y{k - 1}" if k else "x", f"y{k - 1}" if k else "x") for k in range(100)]
    yield (
        "a circle of 3,000",
        text(*(node(f"x{k}", "tanh", f"x{(k + 1) % 3000}") for k in range(3000))),
        "SpecError",
        ("in a cycle"),
    )
    yield (
        "one of 3,000 long names is wrong",
        text(*(node(name, "input", shape=[]) for name in names), node("y", "tanh", "b" * 95)),
        "SpecError",
        "#/nodes/3000/inputs/0",
    )
    yield "squares", text({**X, "shape": ["n", "n"]}, *squares), "", ""
    yield "empty lists", "[" + "[]," * 1_500_000 + "0]", "SpecError", "values"
    yield "empty objects", "[" + "{}," * 1_500_000 + "0]", "SpecError", "values"
    yield "zeros", "[" + "0," * 3_000_000 + "0]", "SpecError", "values"
    yield "3,000 unknown keys", text({**X, **{f"k{k}": 1 for k in range(3000)}}), "SpecError", "#/nodes/0/k0"
    yield "a key 5,000 times", "{" + ",".join(['"a": 1'] * 5000) + "}", "SpecError", "#/a"
    yield "a length of 2^40", text(X, _loop("s", "x", "b", length=2**40), node("i", "item", "s", index=0), graphs={
        "b": {"nodes": [node("c", "input", shape=[2]), node("t", "tanh", "c")], "outputs": {"o": "t"}}
    }), "", ""  # fmt: skip
    yield "a parameter of 2^40", text(node("w", "parameter", shape=[2**40])), "", ""


def malformed() -> Iterable[Case]:
    good = text(X)
    for name, document, said in [
        ("nothing", "", "is empty"),
        ("blanks", "  \n", "is empty"),
        ("a mark", "\ufeff" + good, "byte order mark"),
        ("no UTF-8", b"\xff\xfe" + good.encode(), "not UTF-8"),
        ("half", good[: len(good) // 2], "not JSON"),
        ("twice", good + good, "not JSON"),
        ("a comma", good[:-1] + ",}", "not JSON"),
        ("quotes", '"' * 50_001, "not JSON"),
        ("backslashes", '{"a": "' + "\\" * 49_999, "not JSON"),
        ("NUL", "\0" * 1000, "not JSON"),
        ("deep lists", "[" * 100_000, "brackets"),
        ("deep objects", '{"a":' * 100_000, "brackets"),
        ("NaN", '{"a": NaN}', "#/a"),
        ("1e400", '{"a": 1e400}', "#/a"),
        ("2^63", '{"a": [9223372036854775808]}', "#/a/0"),
        ("digits", '{"a": ' + "9" * 50_000 + "}", "#/a"),
        ("decimals", '{"a": 0.' + "9" * 50_000 + "}", "#/a"),
        ("a surrogate", '{"a": "\\ud800"}', "#/a"),
        ("a key twice", '{"a": 1, "a": 2}', "#/a"),
        ("a string of 1 MB", '{"a": "' + "x" * 10**6 + '"}', "#/a"),
    ]:
        yield name, document, "SpecError", said


_OTHERS: list[Any] = [None, True, 1, -1, 1.5, "", "x", [], {}, [None], {"a": 1}, 2**62]


def of_wrong_types() -> Iterable[Case]:
    good = json.loads(
        text(X, node("w", "parameter", shape=[2], init={"kind": "normal"}), node("y", "multiply", "x", "w"))
    )
    for key in ("format", "version", "name", "dtype", "nodes", "outputs", "graphs", "updates", "training"):
        for other in (None, 1.5, [None], "?"):
            yield f"{key} is {other!r}", json.dumps({**good, key: other}), "SpecError", f"#/{key}"
    for key in ("name", "op", "inputs", "phase"):
        for other in (None, 1.5, {"a": 1}, [[]]):
            changed = [*good["nodes"][:2], {**good["nodes"][2], key: other}]
            yield f"{key} of a node is {other!r}", json.dumps({**good, "nodes": changed}), "SpecError", "#/nodes/2"
    for key in ("shape", "init", "trainable"):
        for other in (None, 1.5, {"a": 1}, [[]], "?"):
            changed = [X, {**good["nodes"][1], key: other}, good["nodes"][2]]
            yield f"{key} of a parameter is {other!r}", json.dumps({**good, "nodes": changed}), "SpecError", "#/nodes/1"
    for other in _OTHERS:
        yield f"a document is {other!r}", json.dumps(other), "SpecError", "#"


def referring() -> Iterable[Case]:
    body = {"nodes": [node("c", "input", shape=[2]), node("t", "tanh", "c")], "outputs": {"o": "t"}}

    def looped(inner: Any, **more: Any) -> str:
        return text(X, _loop("s", "x", "b", **more), node("i", "item", "s", index=0), graphs={"b": inner})

    yield "itself", text(node("x", "tanh", "x")), "SpecError", "#/nodes/0/inputs"
    yield "each other", text(node("x", "tanh", "y"), node("y", "tanh", "x")), "SpecError", "/inputs"
    yield "nothing", text(node("x", "tanh", "y")), "SpecError", "#/nodes/0/inputs/0"
    yield "a name twice", text(X, X), "SpecError", "#/nodes/1/name"
    yield (
        "a body itself",
        looped({"nodes": [*body["nodes"][:1], _loop("t", "c", "b")], "outputs": {}}),
        "SpecError",
        "b",
    )
    yield "no body", text(X, _loop("s", "x", "b")), "SpecError", "#/nodes/1/body"
    yield "no holder", text(X, graphs={"b": body}), "SpecError", "#/graphs/b"
    outward = {"nodes": [body["nodes"][0], node("t", "add", "c", "x")], "outputs": {"o": "t"}}
    yield "a body outward", looped(outward), "SpecError", "#/graphs/b/nodes/1/inputs/1"
    for count in (-1, 2, 3, 2**62):
        yield f"{count} carries", looped(body, carries=count), "SpecError", "#/nodes/1"
    yield "2^62 sequences", looped(body, sequences=2**62), "SpecError", "#/nodes/1"
    yield "an output nothing", text(X, outputs={"o": "z"}), "SpecError", "#/outputs/o"
    yield "an update nothing", text(X, updates={"z": "x"}), "SpecError", "#/updates/z"
    yield "an update of an input", text(X, updates={"x": "x"}), "SpecError", "#/updates/x"
    for leaf in ("state", "parameter"):
        other = text(node("s", leaf, shape=[2]), X, node("y", "sum", "x"), updates={"s": "y"})
        yield f"an update of another type of a {leaf}", other, "SpecError", "#/updates/s"
    for name in ("custom", "fused", "no_such_op", "__class__", ""):
        yield f"the op {name!r}", text(X, node("y", name, "x")), "SpecError", "#/nodes/1"


def of_huge_shapes() -> Iterable[Case]:
    for name, shape in {
        "2^63": [2**63],
        "-1": [-1],
        "2^62, 2^62": [2**62, 2**62],
        "2^62, 0, 2^62": [2**62, 0, 2**62],
        "65 axes": [1] * 65,
        "20,000 axes": [1] * 20_000,
        "a bool": [True],
        "1.5": [1.5],
        "no name": ["1a"],
        "a sum": ["a+b"],
        "a difference": ["a-9"],
    }.items():
        yield f"a shape of {name}", shaped(shape), "SpecError", "#/nodes/0"
    x = node("x", "input", shape=[2**30, 2**30])
    yield "stacked", text(x, node("y", "stack", "x", "x", axis=0)), "SpecError", "#/nodes/1"
    deep = node("x", "input", shape=[1] * 64)
    yield "an axis more", text(deep, node("y", "expand_dims", "x", axis=0)), "SpecError", "#/nodes/1"
    table, index = node("x", "input", shape=[2] * 40), node("i", "input", shape=[1] * 40, dtype="int64")
    yield "gathered", text(table, index, node("y", "gather", "x", "i", axis=0)), "SpecError", "#/nodes/2"
    yield "broadcast", text(X, node("y", "broadcast_to", "x", shape=[2**62, 2])), "SpecError", "#/nodes/1"
    yield "padded", text(X, node("y", "pad", "x", before=[2**62], after=[2**62])), "SpecError", "#/nodes/1"
    yield (
        "one-hot",
        text(node("x", "input", shape=[2**30], dtype="int64"), node("y", "one_hot", "x", classes=2**40)),
        "SpecError",
        "#/nodes/1",
    )
    for shape, said in (([2**62, 0, 4], "/shape"), ([3], "/shape"), ([-1], "/shape"), ([1.5, 0], "/shape")):
        yield f"a constant of shape {shape}", text(node("c", "constant", shape=shape, value=[])), "SpecError", said


def of_any_phase() -> Iterable[Case]:
    nodes = [X, node("w", "parameter", shape=[2]), node("y", "multiply", "x", "w"), node("loss", "sum", "y")]
    training = {"loss": "loss", "optimizer": {"kind": "adam"}}
    for phase in ("backward", "update"):
        for index in range(4):
            changed = [{**each, **({"phase": phase} if k == index else {})} for k, each in enumerate(nodes)]
            yield (
                f"node {index} is of phase {phase}",
                text(*changed, outputs={"loss": "loss"}, training=training),
                "",
                "",
            )
    for name, op in {
        "split": node("t", "split", "x", sizes=[1, 1], axis=0),
        "attention": node("t", "attention", "q", "q", "q", block=2),
    }.items():
        q = node("q", "input", shape=[2, 4, 8])
        yield f"{name} is an output", text(X, q, op), "SpecError", "#/outputs/out"
        loss = text(X, q, op, outputs={"loss": "t"}, training=training)
        yield f"{name} is the loss", loss, "SpecError", "#/outputs/loss"
        yield f"{name} is an operand", text(X, q, op, node("y", "tanh", "t")), "SpecError", "#/nodes/3"


def of_strange_training() -> Iterable[Case]:
    nodes = [X, node("w", "parameter", shape=[2]), node("y", "multiply", "x", "w"), node("loss", "sum", "y")]

    def trained(**section: Any) -> str:
        given = {"loss": "loss", "optimizer": {"kind": "sgd", "learning_rate": 0.1}, **section}
        return text(*nodes, outputs={"loss": "loss", "y": "y"}, training=given)

    for key, others in {
        "loss": ["no", 1, None],
        "optimizer": ["sgd", None, [], {}, {"kind": "no"}, {"kind": []}, {"kind": "sgd", "learning_rate": "0.1"}],
        "batch_size": [0, -1, 1.5, True, "8"],
        "epochs": [0, 2.5, [], None],
        "seed": [-1, 1.5, "x"],
        "schedule": [{"kind": "warmup"}],
        "more": [1],
    }.items():
        for other in others:
            yield f"training: {key} is {other!r}", trained(**{key: other}), "SpecError", f"#/training/{key}"
    yield "the loss is no number", trained(loss="y"), "", ""


def of_strange_names() -> Iterable[Case]:
    for name in ("\x1b[2J", "a\nb", "a\0b", "a b", "é", "a" * 129, "a" * 10**5, "__class__", "../a", "a..b", "\u202e"):
        yield f"a node {name[:9]!r}", text({**X, "name": name}), "SpecError", "#/nodes/0/name"
        yield f"an output {name[:9]!r}", text(X, outputs={name: "x"}), "SpecError", "#/outputs"
        yield f"a key {name[:9]!r}", text({**X, name: 1}), "SpecError", "#/nodes/0"


KINDS = {
    "costly": costly,
    "malformed": malformed,
    "of wrong types": of_wrong_types,
    "referring": referring,
    "of huge shapes": of_huge_shapes,
    "of any phase": of_any_phase,
    "of strange training": of_strange_training,
    "of strange names": of_strange_names,
}

"""Recurrent layers, held against their formulas written out in NumPy, in all their forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import AttributeValueError, DTypeError, GraphError, NamingError, ShapeError
from tests.arrays import f64

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 2

Array = np.ndarray
Step = Callable[[dict[str, Array], tuple[Array, ...], Array], tuple[Array, ...]]


def sigmoid(z: Array) -> Array:
    return 1 / (1 + np.exp(-z))


def rnn_step(p: dict[str, Array], state: tuple[Array, ...], x: Array) -> tuple[Array, ...]:
    return (np.tanh(x @ p["input_weight"] + state[0] @ p["recurrent_weight"] + p["bias"]),)


def lstm_step(p: dict[str, Array], state: tuple[Array, ...], x: Array) -> tuple[Array, ...]:
    h, c = state
    i, f, g, o = np.split(x @ p["input_weight"] + h @ p["recurrent_weight"] + p["bias"], 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(p: dict[str, Array], state: tuple[Array, ...], x: Array) -> tuple[Array, ...]:
    (h,) = state
    r, z, n = np.split(x @ p["input_weight"] + p["bias"], 3, axis=1)
    u_r, u_z, u_n = np.split(p["recurrent_weight"], 3, axis=1)
    r, z = sigmoid(r + h @ u_r), sigmoid(z + h @ u_z)
    n = np.tanh(n + r * (h @ u_n + p["recurrent_bias"]))
    return ((1 - z) * n + z * h,)


STEPS: dict[str, Step] = {"rnn": rnn_step, "lstm": lstm_step, "gru": gru_step}
STATES = {"rnn": 1, "lstm": 2, "gru": 1}

every_kind = pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])


def a_pass(
    kind: str, p: dict[str, Array], x: Array, state: tuple[Array, ...], reverse: bool, mask: Array
) -> tuple[Array, tuple[Array, ...]]:
    """h of all steps, 0 where they are padding; and the states at the end."""
    y = np.zeros((*x.shape[:2], p["recurrent_weight"].shape[0]))
    for t in reversed(range(x.shape[1])) if reverse else range(x.shape[1]):
        real = mask[:, t, None]
        state = tuple(np.where(real, new, old) for new, old in zip(STEPS[kind](p, state, x[:, t]), state, strict=True))
        y[:, t] = np.where(real, state[0], 0)
    return y, state


def under(parameters: Any, head: str) -> dict[str, Array]:
    return {name.removeprefix(f"{head}."): value for name, value in parameters.items() if name.startswith(f"{head}.")}


def reference(kind: str, parameters: Any, x: Array, options: dict[str, Any], initial: Any, mask: Array) -> Any:
    layers, both = options.get("num_layers", 1), options.get("bidirectional", False)
    directions = [(".forward", False), (".backward", True)] if both else [("", options.get("reverse", False))]
    ends = []
    for layer in range(layers):
        head = "cell" if layers == 1 else f"cell.layer_{layer}"
        ys, lasts = [], []
        for tail, reverse in directions:
            y, end = a_pass(kind, under(parameters, head + tail), x, initial[len(ends)], reverse, mask)
            ys.append(y)
            lasts.append(end[0])
            ends.append(end)
        x = np.concatenate(ys, axis=2)
    return x if options.get("return_sequences") else np.concatenate(lasts, axis=1), ends


def declare(kind: str, options: dict[str, Any], with_initial: bool, with_mask: bool) -> tuple[ge.Graph, int]:
    graph = ge.Graph(kind, dtype="float64")
    x = graph.input("x", ("batch", TIME, FEATURES))
    passes = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    given: Any = [tuple(graph.input(f"s{i}_{j}", ("batch", UNITS)) for j in range(STATES[kind])) for i in range(passes)]
    mask = graph.input("mask", ("batch", TIME), dtype="bool") if with_mask else None
    if STATES[kind] == 1:
        given = [state[0] for state in given]
    layer = getattr(ge.layers, kind)
    y, states = layer(
        x,
        UNITS,
        name="cell",
        return_state=True,
        mask=mask,
        initial=(given if passes > 1 else given[0]) if with_initial else None,
        **options,
    )
    graph.output("y", y)
    flat = [node for state in (states if passes > 1 else [states]) for node in _as_tuple(state)]
    for place, node in enumerate(flat):
        graph.output(f"end_{place}", node)
    graph.output("loss", ge.sum(ge.sin(y)) + sum((ge.sum(node * node) for node in flat[1:]), ge.sum(flat[0])))
    return graph, passes


def _as_tuple(state: Any) -> tuple[Any, ...]:
    return (state,) if isinstance(state, ge.Node) else tuple(state)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"return_sequences": True},
    {"reverse": True},
    {"reverse": True, "return_sequences": True},
    {"bidirectional": True},
    {"bidirectional": True, "return_sequences": True, "num_layers": 2},
    {"num_layers": 3},
]


@every_kind
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("given", [False, True])
def test_a_layer_is_its_formula_at_every_step(kind: str, options: dict[str, Any], given: bool) -> None:
    graph, passes = declare(kind, options, with_initial=given, with_mask=given)
    exe = ge.compile(graph, seed=5)
    for name in exe.parameters:
        exe.parameters[name] = f64(*exe.parameters[name].shape, seed=len(name), low=-1, high=1)
    feeds: dict[str, Array] = {"x": f64(BATCH, TIME, FEATURES)}
    initial = [tuple(np.zeros((BATCH, UNITS)) for _ in range(STATES[kind])) for _ in range(passes)]
    mask = np.ones((BATCH, TIME), bool)
    if given:
        mask = np.arange(TIME) < np.array([[5], [3], [1]])
        initial = [tuple(f64(BATCH, UNITS, seed=9 * i + j) for j in range(STATES[kind])) for i in range(passes)]
        feeds |= {f"s{i}_{j}": array for i, state in enumerate(initial) for j, array in enumerate(state)}
        feeds["mask"] = mask
    found = exe.forward({name: feeds[name] for name in exe.needs(list(graph.outputs))})
    y, ends = reference(kind, exe.parameters, feeds["x"], options, initial, mask)
    np.testing.assert_allclose(found["y"], y, rtol=1e-12, atol=1e-13)
    for place, end in enumerate(array for state in ends for array in state):
        np.testing.assert_allclose(found[f"end_{place}"], end, rtol=1e-12, atol=1e-13)


@every_kind
def test_gradients_agree_with_central_differences(kind: str) -> None:
    options = {"bidirectional": True, "num_layers": 2, "return_sequences": True}
    graph, passes = declare(kind, options, with_initial=True, with_mask=True)
    feeds = {f"s{i}_{j}": f64(2, UNITS, seed=i + j) for i in range(passes) for j in range(STATES[kind])}
    feeds |= {"x": f64(2, TIME, FEATURES), "mask": np.arange(TIME) < np.array([[4], [2]])}
    wrt = [leaf for leaf in (*graph.inputs, *graph.parameters) if leaf.type.is_float]
    ge.gradcheck(graph, "loss", feeds, wrt=wrt, samples=8)


@every_kind
def test_the_second_derivative_agrees_with_central_differences(kind: str) -> None:
    graph, _ = declare(kind, {}, with_initial=False, with_mask=False)
    bars = ge.grad(graph.outputs["loss"], graph.parameters)
    graph.output("second", sum((ge.sum(bar * bar) for bar in bars[1:]), ge.sum(bars[0])))
    ge.gradcheck(graph, "second", {"x": f64(2, TIME, FEATURES)}, samples=5)


def test_an_rnn_may_rectify() -> None:
    graph = ge.Graph("rectified", dtype="float64")
    x = graph.input("x", ("batch", TIME, FEATURES))
    graph.output("y", ge.layers.rnn(x, UNITS, name="cell", activation=ge.relu))
    exe = ge.compile(graph, seed=2)
    value, h = f64(BATCH, TIME, FEATURES), np.zeros((BATCH, UNITS))
    p = under(exe.parameters, "cell")
    for t in range(TIME):
        h = np.maximum(value[:, t] @ p["input_weight"] + h @ p["recurrent_weight"] + p["bias"], 0)
    np.testing.assert_allclose(exe.forward({"x": value})["y"], h, rtol=1e-12)


@every_kind
def test_padding_changes_nothing(kind: str) -> None:
    graph, _ = declare(kind, {"return_sequences": True}, with_initial=False, with_mask=True)
    exe = ge.compile(graph, loss="loss")
    mask = np.arange(TIME) < np.array([[4], [2]])
    x = f64(2, TIME, FEATURES)
    values, gradients = [], []
    for padding in (0.0, 1e3):
        feeds = {"x": np.where(mask[..., None], x, padding), "mask": mask}
        values.append(exe.forward(feeds))
        gradients.append(exe.backward())
    for first, second in (values, gradients):
        for name in first:
            np.testing.assert_array_equal(first[name], second[name])
    assert not values[0]["y"][~mask].any()


@every_kind
def test_time_may_be_a_name(kind: str) -> None:
    graph = ge.Graph("named", dtype="float64")
    x = graph.input("x", ("batch", "time", FEATURES))
    graph.output("y", getattr(ge.layers, kind)(x, UNITS, name="cell", return_sequences=True, bidirectional=True))
    exe = ge.compile(graph, seed=1)
    long = f64(BATCH, 7, FEATURES)
    zeros = [(np.zeros((BATCH, UNITS)),) * STATES[kind]] * 2
    for time in (1, 4, 7):
        options = {"return_sequences": True, "bidirectional": True}
        expected, _ = reference(kind, exe.parameters, long[:, :time], options, zeros, np.ones((BATCH, time), bool))
        np.testing.assert_allclose(exe.forward({"x": long[:, :time]})["y"], expected, rtol=1e-12)


def test_parameters_have_the_names_and_the_first_values_that_are_promised() -> None:
    graph = ge.Graph("names")
    x = graph.input("x", ("batch", TIME, FEATURES))
    ge.layers.lstm(x, UNITS, name="plain")
    graph.output("y", ge.layers.gru(x, UNITS, name="deep", num_layers=2, bidirectional=True))
    types = {node.name: str(node.type) for node in graph.parameters}
    assert types["plain.input_weight"] == "float32[4, 8]"
    assert types["plain.recurrent_weight"] == "float32[2, 8]"
    assert types["plain.bias"] == "float32[8]"
    passes = [f"deep.layer_{layer}.{way}" for layer in range(2) for way in ("forward", "backward")]
    assert {name for name in types if name.startswith("deep")} == {
        f"{head}.{leaf}" for head in passes for leaf in ("input_weight", "recurrent_weight", "bias", "recurrent_bias")
    }
    assert types["deep.layer_1.backward.input_weight"] == "float32[4, 6]"
    exe = ge.compile(graph)
    np.testing.assert_array_equal(exe.parameters["plain.bias"], [0, 0, 1, 1, 0, 0, 0, 0])
    u = exe.parameters["plain.recurrent_weight"]
    np.testing.assert_allclose(u @ u.T, np.eye(UNITS), atol=1e-6)
    assert not exe.parameters["deep.layer_0.forward.recurrent_bias"].any()


def test_layers_without_names_get_some() -> None:
    graph = ge.Graph("unnamed")
    x = graph.input("x", ("batch", TIME, FEATURES))
    first = ge.layers.lstm(x, UNITS, num_layers=2)
    second = ge.layers.lstm(x, UNITS, num_layers=2, return_sequences=True)
    assert [first.name, second.name] == ["lstm_1", "lstm_2"]
    with pytest.raises(NamingError, match="taken"):
        ge.layers.lstm(x, UNITS, name="lstm_1")


def test_only_what_the_result_needs_is_kept() -> None:
    graph = ge.Graph("kept")
    x = graph.input("x", ("batch", "time", FEATURES))
    graph.output("y", ge.layers.lstm(x, UNITS, name="cell"))
    program = ge.compile(graph).plan("forward", batch=2, time=100)
    (step,) = (step for step in program.instructions if step.loop)
    assert [str(part.type) for part in step.out.parts.values()] == ["float32[2, 2]"]
    products = [inner.op.kind for inner in step.loop.body.instructions].count("matmul")
    assert products == 1  # that of the input is taken for all steps at once


@every_kind
def test_a_layer_learns_to_remember_what_came_first(kind: str) -> None:
    graph = ge.Graph("first")
    x, y = graph.input("x", ("batch", 6, 1)), graph.input("y", ("batch",), dtype="int64")
    h = getattr(ge.layers, kind)(x, 16, name="cell")
    graph.output("loss", ge.cross_entropy(ge.layers.dense(h, 2, name="head"), y))
    exe = ge.compile(graph, loss="loss", optimizer=ge.Adam(learning_rate=0.02), seed=0)
    bits = (np.arange(64)[:, None] >> np.arange(6) & 1).astype("float32")
    feeds = {"x": bits[..., None], "y": bits[:, 0].astype(int)}
    losses = [exe.step(feeds) for _ in range(150)]
    assert losses[-1] < 0.05 < losses[0]


@every_kind
def test_what_a_layer_cannot_take_is_refused_with_its_line(kind: str) -> None:
    layer = getattr(ge.layers, kind)
    graph = ge.Graph("wrong")
    x = graph.input("x", ("batch", TIME, FEATURES))
    with pytest.raises(
        ShapeError, match=rf"{kind} takes \[batch, time, features\], .*, not float32\[batch, 4\]"
    ) as caught:
        layer(graph.input("flat", ("batch", 4)), UNITS, name="cell")
    assert f"node  cell = {kind}(flat)" in str(caught.value)
    assert "test_recurrent.py" in str(caught.value)
    with pytest.raises(ShapeError, match="with a number of features"):
        layer(graph.input("wide", ("batch", TIME, "features")), UNITS)
    with pytest.raises(DTypeError, match="takes floats"):
        layer(graph.input("ints", ("batch", TIME, FEATURES), dtype="int64"), UNITS)
    for wrong in ({"units": 0}, {"units": True}, {"units": 2, "num_layers": 0}):
        with pytest.raises(AttributeValueError, match="an int of at least 1"):
            layer(x, **wrong)
    with pytest.raises(AttributeValueError, match="leave reverse out"):
        layer(x, UNITS, bidirectional=True, reverse=True)
    with pytest.raises(DTypeError, match=rf"the mask of {kind} is of bools, not float32\[batch, 5\]"):
        layer(x, UNITS, mask=graph.input("floats", ("batch", TIME)))
    with pytest.raises(ShapeError, match=r"is bool\[batch, 5\], not bool\[batch\]"):
        layer(x, UNITS, mask=graph.input("short", ("batch",), dtype="bool"))


def test_states_that_a_layer_cannot_start_from_are_refused() -> None:
    graph = ge.Graph("states")
    x, h = graph.input("x", ("batch", TIME, FEATURES)), graph.input("h", ("batch", UNITS))
    with pytest.raises(GraphError, match="a state of lstm is h and c, and 1 are given"):
        ge.layers.lstm(x, UNITS, initial=h)
    with pytest.raises(GraphError, match="gru makes 2 passes, and 1 initial states are given"):
        ge.layers.gru(x, UNITS, initial=h, bidirectional=True)
    with pytest.raises(ShapeError, match=r"starts from float32\[batch, 3\], and h is float32\[batch, 2\]"):
        ge.layers.gru(x, 3, initial=h)

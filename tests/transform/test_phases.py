"""Graphs made of derived ones: whatever an output, or what it reads, once was for, forward computes it."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.node import Phase
from graphengine.ir.types import TupleType
from graphengine.transform.extract import settle_phases
from tests.random_graphs import BATCH, SEED, SEEDS, evaluate, grow

X = {"x": np.random.default_rng(0).normal(size=(4, 3))}
W = np.array([0.5, -1.0, 2.0])
GRADIENT = (2 * X["x"] ** 2 * W / 12).sum(0)


def derived() -> Graph:
    """A graph whose outputs are a loss, its gradient times 0.1, and the weights after a step."""
    graph = ge.Graph("g", dtype="float64")
    graph.output("loss", ge.mean(ge.square(graph.input("x", (4, 3)) * graph.parameter("w", (3,)))))
    copy = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1)).graph.copy()
    following = copy.updates[copy["w"]]
    copy.output("next_w", following)
    copy.output("scaled", following.parents[1])
    return copy


def with_weights(exe: Executable, name: str = "w") -> Executable:
    exe.parameters[name] = W
    return exe


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("rewrites", [None, []])
@pytest.mark.parametrize("settings", [{}, {"loss": "loss"}, {"loss": "loss", "memory_budget": 10_000}])
@pytest.mark.parametrize("made", [derived, lambda: Graph.from_json(derived().to_json())], ids=["copy", "document"])
def test_outputs_of_a_later_phase_are_computed(
    made: Callable[[], Graph], settings: dict[str, object], rewrites: list[str] | None, backend: str
) -> None:
    exe = with_weights(ge.compile(made(), rewrites=rewrites, backend=backend, **settings))
    for _ in range(2):
        values = exe.forward(X)
        np.testing.assert_allclose(values["next_w"], W - 0.1 * GRADIENT, rtol=1e-12)
        np.testing.assert_allclose(values["scaled"], 0.1 * GRADIENT, rtol=1e-12)
    np.testing.assert_array_equal(exe.forward(X, ["next_w"])["next_w"], values["next_w"])
    if settings:
        exe.forward(X)
        np.testing.assert_allclose(exe.backward()["w"], GRADIENT, rtol=1e-12)
        exe.step(X)
        np.testing.assert_array_equal(exe.parameters["w"], values["next_w"])


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("rewrites", [None, []])
def test_a_loss_may_hold_a_gradient_of_an_imported_graph(rewrites: list[str] | None, backend: str) -> None:
    big = ge.Graph("big", dtype="float64")
    found = big.import_graph(derived(), "m", {"x": big.input("x", (4, 3))})
    big.output("total", found["loss"] + ge.sum(ge.square(found["scaled"])))
    exe = with_weights(ge.compile(big, loss="total", wrt=["m.w"], rewrites=rewrites, backend=backend), "m.w")
    expected = np.mean((X["x"] * W) ** 2) + np.sum((0.1 * GRADIENT) ** 2)
    np.testing.assert_allclose(exe.forward(X)["total"], expected, rtol=1e-12)
    slope = (2 * X["x"] ** 2 / 12).sum(0)  # of the gradient, by its weight
    np.testing.assert_allclose(exe.backward()["m.w"], GRADIENT + 0.02 * GRADIENT * slope, rtol=1e-12)
    assert exe.audit().ok


def document(nodes: list[dict[str, object]], outputs: dict[str, str], **sections: object) -> str:
    head = {"format": "graphengine", "version": 1, "name": "d", "dtype": "float64"}
    return json.dumps({**head, "nodes": nodes, "outputs": outputs, **sections})


@pytest.mark.parametrize("phase", ["update", "backward"])
@pytest.mark.parametrize("loss", [None, "y"])
def test_phases_written_by_hand_give_what_the_nodes_say(phase: str, loss: str | None) -> None:
    text = document(
        [
            {"name": "w", "op": "parameter", "shape": [3], "init": {"kind": "ones"}, "phase": phase},
            {"name": "c", "op": "constant", "value": [1.0, 2.0, 3.0], "phase": phase},
            {"name": "m", "op": "multiply", "inputs": ["c", "w"], "phase": phase},
            {"name": "e", "op": "exp", "inputs": ["m"]},
            {"name": "y", "op": "sum", "inputs": ["e"], "phase": phase},
        ],
        {"y": "y"},
    )
    exe = ge.compile(Graph.from_json(text), loss=loss)
    np.testing.assert_allclose(exe.forward({})["y"], np.exp([1.0, 2.0, 3.0]).sum(), rtol=1e-12)
    if loss:
        np.testing.assert_allclose(exe.backward()["w"], [1, 2, 3] * np.exp([1.0, 2.0, 3.0]), rtol=1e-12)


@pytest.mark.parametrize(("phase", "message"), [("update", "updates nothing"), ("backward", "of a later phase")])
def test_the_body_of_a_scan_with_phases_that_cannot_be_is_refused(phase: str, message: str) -> None:
    body = [
        {"name": "h", "op": "input", "shape": [3]},
        {"name": "a", "op": "exp", "inputs": ["h"], "phase": phase},
        {"name": "b", "op": "tanh", "inputs": ["a"], "phase": phase if phase == "update" else "forward"},
    ]
    scan = {"name": "s", "op": "scan", "inputs": ["x"], "body": "body", "carries": 1, "sequences": 0, "length": 2}
    text = document(
        [{"name": "x", "op": "input", "shape": [3]}, scan, {"name": "i", "op": "item", "inputs": ["s"], "index": 0}],
        {"y": "i"},
        graphs={"body": {"nodes": body, "outputs": {"next": "b"}}},
    )
    with pytest.raises(ge.SpecError, match=message):
        Graph.from_json(text)


def test_leaves_keep_what_says_who_declared_them() -> None:
    graph = ge.Graph("g")
    state = graph.state("slot", (3,))
    with graph.emitting(Phase.UPDATE, state):
        slot, following = graph.state("another", (3,)), state * 2.0
    value = following + slot
    settle_phases(graph, [value])
    assert (slot.phase, following.phase, value.phase) == (Phase.UPDATE, Phase.FORWARD, Phase.FORWARD)


@pytest.mark.filterwarnings("ignore::graphengine.UnreachedParameterWarning")
@pytest.mark.parametrize("rewrites", [None, []])
@pytest.mark.parametrize("seed", list(SEEDS)[:6])
def test_any_node_of_a_graph_that_trains_may_be_an_output(seed: int, rewrites: list[str] | None) -> None:
    sample, random = grow(seed), np.random.default_rng(seed)
    options = {"loss": "loss", "rewrites": rewrites, "seed": SEED}
    whole = ge.compile(sample.graph, optimizer=ge.Adam(learning_rate=0.1), **options)
    graph = whole.graph.copy()
    computed = [node for node in graph.nodes if not node.is_leaf and not isinstance(node.type, TupleType)]
    for number in random.choice(len(computed), size=8, replace=False):
        graph.output(f"late{number}", computed[number])
    exe = ge.compile(Graph.from_json(graph.to_json()), **options)
    held = {name: np.asarray(value) for name, value in {**exe.parameters, **exe.state}.items()}
    expected = evaluate(graph.nodes, {**sample.given, **held}, {"batch": BATCH})
    for name, value in exe.forward(sample.feeds).items():
        np.testing.assert_allclose(value, expected[graph.outputs[name].name], rtol=1e-6, atol=1e-8)
    for _ in range(2):
        assert exe.step(sample.feeds) == whole.step(sample.feeds)
    for name, value in {**whole.parameters, **whole.state}.items():
        np.testing.assert_array_equal({**exe.parameters, **exe.state}[name], value)

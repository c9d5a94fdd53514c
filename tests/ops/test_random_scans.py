"""Random scans, held against the same loop written out, in all that is derived of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from tests.arrays import f64
from tests.ops.random_scans import AROUND, FEEDS, Drawn, declared, draw
from tests.ops.unrolled import Loop, assert_same, unroll
from tests.random_graphs import evaluate
from tests.schedule.replay import prove_plan

every_seed = pytest.mark.parametrize("seed", range(18))


def drawn(seed: int) -> tuple[Drawn, dict[str, np.ndarray]]:
    """A scan, and the feeds of its graph."""
    found = draw(np.random.default_rng(seed), AROUND)
    return found, {name: value for name, value in FEEDS.items() if name[0] != "x" or name == f"x{found.length}"}


def compiled(graph: Graph, loss: str, wrt: list[Node] | None, **options: Any) -> ge.Executable:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ge.UnreachedParameterWarning)
        return ge.compile(graph, loss=loss, wrt=wrt, seed=3, **options)


def found(loop: Loop, seed: int, **options: Any) -> dict[str, np.ndarray]:
    """The value, a tangent, a function of the gradients, and the gradients of all three."""
    scan, feeds = drawn(seed)
    graph = ge.Graph("drawn", dtype="float64")
    loss, leaves = declared(graph, loop, scan)
    graph.output("loss", loss)
    graph.output("slope", ge.jvp([loss], leaves, [ge.cos(leaf) for leaf in leaves])[0])
    graph.output("steepness", sum((ge.sum(ge.sin(bar)) for bar in ge.grad(loss, leaves)), loss))
    results: dict[str, np.ndarray] = {}
    for name in graph.outputs:
        exe = compiled(graph, name, leaves, **options)
        results[name] = exe.forward(feeds, outputs=[name])[name]
        results |= {f"{name} by {leaf}": np.array(bar) for leaf, bar in exe.backward().items()}
        assert exe.audit().ok, exe.audit()
        prove_plan(exe, "gradient")
    return results


@every_seed
def test_values_and_all_their_derivatives_are_those_of_the_loop_written_out(seed: int) -> None:
    expected = found(unroll, seed)
    backends = installed_backends() if seed < 3 else ["numpy"]
    for options in ({"rewrites": rewrites, "backend": name} for rewrites in (None, []) for name in backends):
        for name, value in found(ge.scan, seed, **options).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-9, atol=1e-11, err_msg=f"{name}, {options}")


@every_seed
def test_eval_budgets_and_steps_agree(seed: int) -> None:
    scan, feeds = drawn(seed)
    graph = ge.Graph("drawn", dtype="float64")
    loss, leaves = declared(graph, ge.scan, scan)
    graph.output("loss", loss)
    graph.update(graph["s"], ge.tanh(graph["s"] * ge.cos(loss)))
    assert Graph.from_json(graph.to_json()) == graph
    exe = compiled(graph, "loss", leaves)
    value, bars = exe.forward(feeds)["loss"], exe.backward()
    given = {**feeds, "w": exe.parameters["w"], "s": exe.state["s"]}
    np.testing.assert_allclose(evaluate(graph.nodes, given, {})[loss.name], value, rtol=1e-12)
    for share in (0.8, 0.5):
        try:
            frugal = compiled(graph, "loss", leaves, memory_budget=int(share * exe.plan("gradient").peak_bytes))
        except ge.CompileError:
            continue  # so little is not enough
        assert frugal.forward(feeds)["loss"] == value
        for name, bar in frugal.backward().items():
            np.testing.assert_array_equal(bar, bars[name], err_msg=name)
    plain, rewritten = (
        compiled(graph, "loss", None, optimizer=ge.SGD(learning_rate=0.1), rewrites=rewrites) for rewrites in ([], None)
    )
    prove_plan(plain, "step")
    for _ in range(2):
        np.testing.assert_allclose(plain.step(feeds), rewritten.step(feeds), rtol=1e-9)
    np.testing.assert_allclose(plain.parameters["w"], rewritten.parameters["w"], rtol=1e-9)
    np.testing.assert_allclose(plain.state["s"], rewritten.state["s"], rtol=1e-9)


def test_a_carry_may_be_a_result_that_another_carry_becomes() -> None:
    graph = ge.Graph("fibonacci", dtype="float64")
    a, b = graph.input("a", ()), graph.input("b", ())
    _, y = ge.scan(lambda c, _: ((c[1], c[0] + c[1]), c[1]), (a, b), length=6)
    graph.output("y", y)
    np.testing.assert_array_equal(ge.compile(graph).forward({"a": 0.0, "b": 1.0})["y"], [1, 1, 2, 3, 5, 8])


def test_one_value_that_two_carries_become_is_kept_once() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        a, b = graph.input("a", (2,)), graph.input("b", (2,))

        def body(carry: Any, _: None) -> Any:
            new = ge.sin(carry[0] * carry[1])
            return (new, new), new

        (_, b), y = loop(body, (a, b), length=3)
        return ge.sum(ge.square(y)) + ge.sum(b)

    assert_same(declare, {"a": f64(2), "b": f64(2, seed=1)})


@pytest.mark.parametrize("is_read", [False, True])
def test_a_result_that_is_the_sequence_itself_has_the_gradient_of_it(is_read: bool) -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        x, c = graph.input("x", (4, 3)), graph.input("c", (3,))
        c, y = loop(lambda c, x: (ge.tanh(c + x), x), c, x)
        return ge.sum(ge.square(y)) + (ge.sum(c) if is_read else 0.0)

    assert_same(declare, {"x": f64(4, 3), "c": f64(3)})


@pytest.mark.parametrize("time", [1, 3])
def test_without_any_step_the_adjoint_of_the_last_carry_is_that_of_the_first(time: int) -> None:
    graph = ge.Graph("steps", dtype="float64")
    x, c = graph.input("x", ("time", 2)), graph.input("c", (2,))
    last, _ = ge.scan(lambda _, x: (x, None), c, x[1:])
    graph.output("loss", ge.sum(ge.square(last)))
    exe = ge.compile(graph, loss="loss", wrt=["c", "x"])
    feeds = {"x": f64(time, 2), "c": f64(2)}
    exe.forward(feeds)
    bars = exe.backward()
    np.testing.assert_array_equal(bars["c"], 2 * feeds["c"] if time == 1 else np.zeros(2))
    np.testing.assert_array_equal(bars["x"][-1], np.zeros(2) if time == 1 else 2 * feeds["x"][-1])


def test_a_scan_without_carries_and_results_is_nothing() -> None:
    graph = ge.Graph("nothing")
    before = len(graph)
    x = graph.input("x", (3, 2))
    assert ge.scan(lambda *_: ((), None), (), x) == ((), None)
    assert ge.scan(lambda *_: ((), ()), (), x) == ((), ())
    assert len(graph) == before + 1


def test_a_scan_over_what_is_farther_out_may_read_what_is_nearer() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        sequence, c, k = graph.input("x", (3, 2)), graph.input("c", (2,)), graph.input("k", (2,))

        def outer(carry: Node, row: Node) -> Any:
            near = ge.sin(carry)

            def inner(c: Node, _: Node) -> Any:
                c = ge.tanh(row * k + c)  # at first, all that it reads is of the outer body
                deepest, _ = loop(lambda d, x: (ge.sin(d + x * c + near), None), k, sequence)
                return c + deepest, c * near

            last, y = loop(inner, k, sequence)
            return near * last, ge.sum(y, axis=0)

        last, y = loop(outer, c, sequence)
        return ge.sum(last) + ge.sum(ge.square(y))

    assert_same(declare, {"x": f64(3, 2), "c": f64(2), "k": f64(2, seed=1)}, second_order=False)

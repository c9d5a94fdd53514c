"""Scan: held against the same loop written out, over carries and sequences of every kind; and what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphengine as ge
from graphengine.errors import GraphError, ShapeError
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.scan import MAX_NESTING, Scan
from tests.arrays import boolean, f64, i64
from tests.ops.unrolled import Loop, assert_same, unroll
from tests.random_graphs import evaluate

TIME, BATCH, FEATURES, UNITS = 5, 2, 3, 4


def network(graph: Graph, loop: Loop, **options: Any) -> Node:
    """Elman's network; every step gives a value of its own, and the loss reads these and the last state."""
    x = graph.input("x", (TIME, BATCH, FEATURES))
    h = graph.input("h", (BATCH, UNITS))
    w = graph.parameter("w", (FEATURES, UNITS))
    u = graph.parameter("u", (UNITS, UNITS))
    b = graph.parameter("b", (UNITS,), init=ge.init.Normal())

    def body(state: Node, step: Node) -> tuple[Node, Node]:
        state = ge.tanh(step @ w + state @ u + b)
        return state, state * ge.sin(state)

    last, y = loop(body, h, x, **options)
    return ge.sum(last * last) + ge.sum(ge.exp(y))


FEEDS = {"x": f64(TIME, BATCH, FEATURES), "h": f64(BATCH, UNITS)}


@pytest.mark.parametrize("reverse", [False, True])
def test_a_recurrent_network_is_what_it_is_written_out(reverse: bool) -> None:
    assert_same(lambda graph, loop: network(graph, loop, reverse=reverse), FEEDS)


def test_several_carries_and_sequences_and_results() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        x, y = graph.input("x", (TIME, 2)), graph.input("y", (TIME, 2, 3))
        a, b = graph.input("a", (2,)), graph.input("b", (2, 3))

        def body(carry: Any, step: Any) -> Any:
            (a, b), (x, y) = carry, step
            total = ge.sum(b, axis=1)
            return (a * x + total, ge.sin(b) * y), (a * total, b, x)

        (a, b), (p, q, r) = loop(body, (a, b), (x, y))
        return ge.sum(a) + ge.sum(b * b) + ge.sum(p * r) + ge.sum(ge.cos(q))

    feeds = {"x": f64(TIME, 2), "y": f64(TIME, 2, 3), "a": f64(2), "b": f64(2, 3)}
    assert_same(declare, feeds)


def test_carries_may_trade_places() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        a, b, c = (graph.input(name, (2,)) for name in "abc")
        (a, b, c), y = loop(lambda carry, _: ((carry[1], carry[2], carry[0] * carry[1]), carry[0]), (a, b, c), length=7)
        return ge.sum(a * b) + ge.sum(c) + ge.sum(y * y)

    assert_same(declare, {name: f64(2, seed=seed) for seed, name in enumerate("abc")})


def test_a_carry_may_pass_through_unchanged_and_one_value_may_be_two_carries() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        a, b, c = (graph.input(name, (2,)) for name in "abc")

        def body(carry: Any, _: None) -> Any:
            a, b, c = carry
            new = ge.sin(a * b + c)
            return (a, new, new), (a, new, a * c)

        (a, b, c), (p, q, r) = loop(body, (a, b, c), length=4)
        return ge.sum(a * b * c) + ge.sum(p * q) + ge.sum(ge.square(r))

    assert_same(declare, {name: f64(2, seed=seed) for seed, name in enumerate("abc")})


def test_what_is_read_at_each_step_may_be_a_leaf_of_the_body_or_a_view() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        x, h, k = graph.input("x", (TIME, 2, 3)), graph.input("h", (2, 3)), graph.input("k", (3, 2))

        def body(h: Node, x: Node) -> Any:
            return ge.reshape(ge.reshape(x, (3, 2)) * k, (2, 3)) + h, (x, k, h.T, ge.broadcast_to(h[0], (2, 3)), h[1:])

        h, ys = loop(body, h, x)
        return sum((ge.sum(y * y * y) for y in ys), ge.sum(h * h))

    assert_same(declare, {"x": f64(TIME, 2, 3), "h": f64(2, 3), "k": f64(3, 2)})


def test_operands_that_are_not_contiguous_are_read_as_they_are() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        x, h, k = graph.input("x", (2, TIME, 3)), graph.input("h", (3, 2)), graph.input("k", (3, 2))
        turned = k.T

        def body(h: Node, x: Node) -> Any:
            flat = ge.reshape(x, (6,)) * ge.reshape(turned, (6,))
            return ge.sin(ge.reshape(flat, (2, 3)) + h), flat

        h, y = loop(body, h.T, ge.transpose(x, (1, 0, 2)))
        return ge.sum(h * h) + ge.sum(y * y * y)

    assert_same(declare, {"x": f64(2, TIME, 3), "h": f64(3, 2), "k": f64(3, 2)})


def test_ints_and_bools_are_carried_beside_floats() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        x, keep = graph.input("x", (TIME, 3)), graph.input("keep", (TIME,), dtype="bool")
        h = graph.input("h", (3,))
        start = graph.constant("start", np.array(0), dtype="int64")

        def body(carry: Any, step: Any) -> Any:
            (count, h), (x, keep) = carry, step
            h = ge.where(keep, h * x * ge.cast(count, "float64"), h)
            return (count + 1, h), count

        (count, h), counts = loop(body, (start, h), (x, keep))
        return ge.sum(h) * ge.cast(count, "float64") + ge.cast(ge.sum(counts), "float64") * ge.sum(h * h)

    feeds = {"x": f64(TIME, 3), "keep": boolean(TIME), "h": f64(3)}
    assert_same(declare, feeds)


@pytest.mark.parametrize("reverse", [False, True])
def test_one_step_and_no_step(reverse: bool) -> None:
    graph = ge.Graph("short", dtype="float64")
    h = graph.input("h", (2,))
    for length in (0, 1):
        last, y = ge.scan(lambda h, _: (h * 2.0, h + 1.0), h, length=length, reverse=reverse)
        graph.output(f"last_{length}", last)
        graph.output(f"y_{length}", y)
    values = ge.compile(graph).forward({"h": np.array([1.0, 3.0])})
    np.testing.assert_array_equal(values["last_0"], [1, 3])
    assert values["y_0"].shape == (0, 2)
    np.testing.assert_array_equal(values["last_1"], [2, 6])
    np.testing.assert_array_equal(values["y_1"], [[2, 4]])


def test_without_carries_a_scan_maps() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        x, k = graph.input("x", (TIME, 3)), graph.input("k", (3,))
        _, y = loop(lambda _, x: ((), ge.sin(x * k)), (), x)
        return ge.sum(y * y)

    assert_same(declare, {"x": f64(TIME, 3), "k": f64(3)})


def test_scans_nest() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        x, h, k = graph.input("x", (3, 2, 2)), graph.input("h", (2,)), graph.input("k", (2,))

        def outer(h: Node, x: Node) -> Any:
            scale = ge.cos(h)

            def inner(c: Node, row: Node) -> Any:
                c = ge.sin(c * scale + row * k)
                return c, c * row

            last, y = loop(inner, h, x, reverse=True)
            return last, ge.sum(y * y, axis=0)

        h, y = loop(outer, h, x)
        return ge.sum(h * h) + ge.sum(y * ge.exp(y))

    assert_same(declare, {"x": f64(3, 2, 2), "h": f64(2), "k": f64(2)})


def test_scans_nest_three_deep_and_scan_what_they_carry() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        h, k = graph.input("h", (2, 2)), graph.input("k", (2,))

        def innermost(c: Node, row: Node) -> Any:
            return ge.sin(c + row * k), c

        def middle(c: Node, _: None) -> Any:
            last, y = loop(innermost, c[0], c)
            return y * last, None

        def outer(c: Node, _: None) -> Any:
            last, _ = loop(middle, c, length=2)
            return ge.tanh(last), c

        last, y = loop(outer, h, length=3)
        return ge.sum(last) + ge.sum(y * y)

    assert_same(declare, {"h": f64(2, 2), "k": f64(2)}, second_order=False)


def test_a_scan_may_scan_what_another_has_stacked() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        x, h, w = graph.input("x", (TIME, 3)), graph.input("h", (3,)), graph.parameter("w", (3, 3))
        h, y = loop(lambda h, x: (ge.tanh(h @ w + x), ge.sin(h)), h, x)
        h, z = loop(lambda h, x: (ge.tanh(x @ w + h), h), h, y, reverse=True)
        return ge.sum(h) + ge.sum(y * z)

    assert_same(declare, {"x": f64(TIME, 3), "h": f64(3)})


def test_gradients_inside_a_body_are_ordinary_nodes_of_it() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        h = graph.input("h", (3,))

        def body(h: Node, _: None) -> Any:
            moved = h * 1.0
            (slope,) = ge.grad(ge.sum(ge.sin(moved * moved)), [moved])
            return h - 0.1 * slope, None

        h, _ = loop(body, h, length=4)
        return ge.sum(h * h)

    assert_same(declare, {"h": f64(3)})


@pytest.mark.parametrize("second_order", [False, True])
def test_every_form_of_a_weight_in_a_product_has_its_gradient(second_order: bool) -> None:
    """Left and right, batched, transposed, reshaped, of vectors, added, scaled: each is summed over the steps."""

    def declare(graph: Graph, loop: Loop) -> Node:
        x = graph.input("x", (3, 2, 2, 3))
        w, v, s = graph.parameter("w", (3, 3)), graph.parameter("v", (3,)), graph.parameter("s", ())

        def body(h: Node, x: Node) -> Any:
            left = w @ x[0].T
            right = (x @ w) * v + ge.reshape(v, (1, 3))
            vector = (x[0, 0] @ w) @ v
            h = ge.sin(h @ w.T + ge.sum(right, axis=0) + left.T * s) + vector * s
            return h, w * vector

        h, y = loop(body, ge.broadcast_to(graph.scalar(0.5, "float64"), (2, 3)), x)
        return ge.sum(h * h) + ge.sum(ge.sin(y))

    assert_same(declare, {"x": f64(3, 2, 2, 3)}, second_order)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[list[tuple[str, int, int]], bool, int]:
    """Instructions over a growing list of values: the op, and which two values it takes."""
    size = draw(st.integers(1, 8))
    kinds = st.sampled_from(["add", "multiply", "sin", "tanh", "maximum", "where", "square", "matmul"])
    steps = [(draw(kinds), draw(st.integers(0, 5 + i)), draw(st.integers(0, 5 + i))) for i in range(size)]
    return steps, draw(st.booleans()), draw(st.integers(1, 3))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(bodies())
def test_random_bodies_are_what_they_are_written_out(drawn: tuple[list[tuple[str, int, int]], bool, int]) -> None:
    steps, reverse, length = drawn

    def declare(graph: Graph, loop: Loop) -> Node:
        x, a, b = graph.input("x", (length, 3, 3)), graph.input("a", (3, 3)), graph.input("b", (3, 3))
        k, w = graph.input("k", (3,)), graph.parameter("w", (3, 3))

        def body(carry: Any, x: Node) -> Any:
            values = [*carry, x, k * carry[0], w, ge.sin(w)]
            for kind, first, second in steps:
                values.append(combined(kind, values[first], values[second]))
            return (ge.tanh(values[-1]), ge.sin(values[-2])), (values[-1], values[len(values) // 2])

        (a, b), (y, z) = loop(body, (a, b), x, reverse=reverse)
        return ge.sum(a * b) + ge.sum(ge.sin(y)) + ge.sum(ge.cos(z))

    feeds = {"x": f64(length, 3, 3), "a": f64(3, 3, seed=1), "b": f64(3, 3, seed=2), "k": f64(3)}
    assert_same(declare, feeds, second_order=False)


def combined(kind: str, a: Node, b: Node) -> Node:
    if kind == "where":
        return ge.where(a > 0.1, b, a)
    if kind in ("add", "multiply", "maximum", "matmul"):
        return {"add": ge.add, "multiply": ge.multiply, "maximum": ge.maximum, "matmul": ge.matmul}[kind](a, b * 0.5)
    return {"sin": ge.sin, "tanh": ge.tanh, "square": ge.square}[kind](a)


def test_gradients_agree_with_central_differences() -> None:
    graph = ge.Graph("differences", dtype="float64")
    graph.output("loss", network(graph, ge.scan))
    ge.gradcheck(graph, "loss", FEEDS, wrt=["x", "h", "w", "u", "b"])


def named() -> Graph:
    """A network over sequences of any length, in batches of any size."""
    graph = ge.Graph("named", dtype="float64")
    x, h = graph.input("x", ("time", "batch", 3)), graph.input("h", ("batch", 3))
    w = graph.parameter("w", (3, 3))

    def body(h: Node, x: Node) -> Any:
        return ge.tanh(x + h @ w) + ge.broadcast_to(graph.scalar(0.5, "float64"), ("batch", 3)), ge.mean(h)

    last, y = ge.scan(body, h, x)
    graph.output("loss", ge.sum(last) + ge.sum(y))
    return graph


def test_time_and_batch_may_be_names_and_every_size_is_planned_once() -> None:
    exe = ge.compile(named(), loss="loss", wrt=["w", "x", "h"])
    for time, batch in [(1, 1), (4, 2), (7, 3), (4, 2)]:
        feeds = {"x": f64(time, batch, 3), "h": f64(batch, 3)}
        value = exe.forward(feeds)["loss"]
        gradients = exe.backward()
        fixed = ge.Graph("fixed", dtype="float64")
        x, h = fixed.input("x", (time, batch, 3)), fixed.input("h", (batch, 3))
        w = fixed.parameter("w", (3, 3))
        last, y = unroll(lambda h, x, w=w: (ge.tanh(x + h @ w) + 0.5, ge.mean(h)), h, x)
        fixed.output("loss", ge.sum(last) + ge.sum(y))
        reference = ge.compile(fixed, loss="loss", wrt=["w", "x", "h"])
        np.testing.assert_allclose(value, reference.forward(feeds)["loss"], rtol=1e-12)
        for name, expected in reference.backward().items():
            np.testing.assert_allclose(gradients[name], expected, rtol=1e-10, atol=1e-12, err_msg=name)
    assert len(exe.programs.cached) == 3


def scans(exe: ge.Executable, which: str | None = None, **sizes: int) -> list[Any]:
    return [step for step in exe.plan(which, **sizes).instructions if step.loop]


def test_the_plan_is_as_long_for_a_thousand_steps_as_for_one() -> None:
    exe = ge.compile(named(), loss="loss")
    short, long = (exe.plan(time=time, batch=2) for time in (1, 1000))
    assert [step.name for step in short.instructions] == [step.name for step in long.instructions]
    bodies = [[step.loop.body for step in program.instructions if step.loop] for program in (short, long)]
    assert [str(body) for body in bodies[0]] == [str(body) for body in bodies[1]]


def test_what_nobody_reads_is_neither_computed_nor_kept() -> None:
    graph = ge.Graph("unread")
    x, h, c = graph.input("x", ("time", 2)), graph.input("h", (2,)), graph.input("c", (2,))

    def body(carry: Any, x: Node) -> Any:
        h, c = carry
        return (ge.sin(h + x), ge.exp(c * h)), (ge.cos(x), ge.tanh(h))

    (h, _), (_, z) = ge.scan(body, (h, c), x)
    graph.output("h", h)
    graph.output("z", z)
    (step,) = scans(ge.compile(graph, rewrites=()), time=10)
    assert [inner.op.kind for inner in step.loop.body.instructions] == ["add", "sin", "tanh", "copy"]
    assert set(step.out.parts) == {0, 3}
    assert set(step.loop.body.leaves) == {"carry_0", "x_0", "tanh_1'"}


def test_results_and_kept_carries_are_written_where_they_stay() -> None:
    graph = ge.Graph("kept")
    x, h = graph.input("x", ("time", 2, 2)), graph.input("h", (2, 2))
    h, y = ge.scan(lambda h, x: (new := ge.sin(h @ x), new), h, x)
    graph.output("loss", ge.sum(h) + ge.sum(y))
    exe = ge.compile(graph, loss="loss", wrt=["x", "h"])
    forward, backward = scans(exe, "gradient", time=10)
    for step in (forward, backward):
        assert not any(inner.op.kind == "copy" for inner in step.loop.body.instructions)
    rows = {id(rows.stack) for rows in forward.loop.rows.values()} - {id(operand) for operand in forward.operands}
    assert len(rows) == 2  # h, with its values before and after all steps in one stack; and the product, for sin's rule


def test_a_weight_gets_one_summed_gradient_by_one_product_over_all_steps() -> None:
    exe = ge.compile(named(), loss="loss", optimizer=ge.SGD(learning_rate=0.1), rewrites=())
    program = exe.plan(time=10, batch=4)
    forward, backward = (step for step in program.instructions if step.loop)
    assert [step.op.kind for step in forward.loop.body.instructions].count("matmul") == 1
    assert [step.op.kind for step in backward.loop.body.instructions].count("matmul") == 1  # of the state's adjoint
    products = [step for step in program.instructions if step.op.kind == "matmul"]
    assert [str(step.out.type) for step in products] == ["float64[3, 3]"]
    assert [str(operand.type) for operand in products[0].operands] == ["float64[3, 40]", "float64[40, 3]"]


def test_what_is_the_same_in_every_step_is_computed_once_outside() -> None:
    graph = ge.Graph("same", dtype="float64")
    x, k = graph.input("x", (TIME, 3)), graph.input("k", (3,))

    def body(_: Any, x: Node) -> Any:
        factor = ge.exp(k * 2.0) + np.array([1.0, 2.0, 3.0])
        return (), (x * factor, factor)

    _, (y, z) = ge.scan(body, (), x)
    graph.output("y", y)
    graph.output("z", z)
    exe = ge.compile(graph)
    (step,) = scans(exe)
    assert [inner.op.kind for inner in step.loop.body.instructions] == ["multiply", "copy"]
    assert [node.op.kind for node in graph.nodes].count("exp") == 1
    values = exe.forward({"x": f64(TIME, 3), "k": f64(3)})
    factor = np.exp(2 * f64(3)) + np.array([1, 2, 3])
    np.testing.assert_allclose(values["y"], f64(TIME, 3) * factor)
    np.testing.assert_allclose(values["z"], np.tile(factor, (TIME, 1)))


def test_a_matrix_that_each_step_multiplies_by_is_put_in_order_once() -> None:
    graph = ge.Graph("turned")
    x, h, w = graph.input("x", ("time", 2, 3)), graph.input("h", (2, 3)), graph.parameter("w", (3, 3))
    graph.output("h", ge.scan(lambda h, x: (ge.tanh(h @ w.T + x), None), h, x)[0])
    program = ge.compile(graph, rewrites=()).plan(time=9)
    (step,) = (step for step in program.instructions if step.loop)
    assert [inner.op.kind for inner in step.loop.body.instructions] == ["matmul", "add", "tanh"]
    assert [outer.op.kind for outer in program.instructions] == ["transpose", "copy", "scan", "item"]


def test_no_gradient_reaches_what_influences_no_carry_that_is_read() -> None:
    graph = ge.Graph("apart", dtype="float64")
    a, b = graph.parameter("a", ()), graph.parameter("b", ())
    h, c = graph.input("h", ()), graph.input("c", ())
    (h, c), _ = ge.scan(lambda carry, _: ((carry[0] * a, carry[1] * b), None), (h, c), length=3)
    graph.output("loss", h)
    with pytest.warns(ge.UnreachedParameterWarning, match="b: no gradient passes scan_1"):
        exe = ge.compile(graph, loss="loss", wrt=["a", "b", "h", "c"])
    exe.forward({"h": np.array(2.0), "c": np.array(1.0)})
    assert exe.backward()["c"] == exe.backward()["b"] == 0
    (_, backward) = scans(exe)
    assert len(backward.op.body.inputs) == 4  # the adjoint of h and a's sum so far, the residual h, and a


def test_flops_are_those_of_a_step_times_the_steps() -> None:
    graph = ge.Graph("flops")
    h, w = graph.input("h", (4, 8)), graph.parameter("w", (8, 8))
    h, _ = ge.scan(lambda h, _: (ge.sin(h @ w), None), h, length=10)
    graph.output("loss", ge.sum(h))
    cost = ge.compile(graph, loss="loss").cost()
    product, elements = 4 * 8 * 15, 4 * 8
    assert cost.flops["FORWARD"] == 10 * (product + elements) + elements - 1
    # cos and a product of elements, h_bar = z_bar w^T at each step, and w_bar = h^T z_bar over all at once
    assert cost.flops["BACKWARD"] == 10 * (2 * elements + product) + 8 * 8 * (2 * 40 - 1)


@pytest.mark.parametrize("time", [1, 6])
def test_the_memory_that_is_allocated_is_the_peak_that_was_predicted(time: int) -> None:
    exe = ge.compile(named(), loss="loss", optimizer=ge.SGD(learning_rate=0.5))
    predicted = exe.cost(time=time, batch=2).peak_bytes
    exe.step({"x": f64(time, 2, 3), "h": f64(2, 3)})
    bound = exe.programs.latest
    part = bound.prepared.part
    arena = bound.runnable.arena.base
    assert arena.nbytes == predicted + 64
    graph = part.graph
    graphs = [graph, *(node.op.body for node in graph.nodes if node.op.kind == "scan")]
    constants = [node.op.value for graph in graphs for node in graph.nodes if node.op.kind == "constant"]
    weights = exe.programs.weights.of(bound.program.leaves)
    allowed = [arena, *constants, *weights.values(), *bound.feeds.values()]
    for function, arguments in bound.runnable.calls:
        for array in arguments:
            if isinstance(array, np.ndarray):
                assert any(np.may_share_memory(array, known) for known in allowed) or not array.ndim, function


def test_residuals_are_planned_like_any_buffer() -> None:
    graph = ge.Graph("residuals")
    h = graph.input("h", (256,))
    h, _ = ge.scan(lambda h, _: (ge.sin(h), None), h, length=100)
    graph.output("loss", ge.sum(h))
    exe = ge.compile(graph, loss="loss", wrt=["h"])
    kilobyte = 4 * 256
    assert exe.plan("forward").peak_bytes == kilobyte + 64  # one place, written over at each step; and the loss
    assert exe.cost().retained_bytes == 101 * kilobyte + 64  # h before and after every step, and the loss


def test_the_listing_shows_the_body_under_its_scan() -> None:
    lines = str(ge.compile(named()).plan(time=3, batch=2)).splitlines()
    place = next(place for place, line in enumerate(lines) if "scan_1 = scan(" in line)
    assert "tuple(float64[2, 3], float64[3])" in lines[place]
    assert lines[place + 1].split()[:2] == ["3", "times:"]
    assert lines[place + 2].startswith(" " * 13 + "matmul_1 = matmul(carry_0, w)")


def test_the_reference_semantics_agree_with_the_plan() -> None:
    graph = named()
    feeds = {"x": f64(4, 2, 3), "h": f64(2, 3)}
    exe = ge.compile(graph, seed=1)
    values = evaluate(graph.nodes, {**feeds, "w": exe.parameters["w"]}, {"time": 4, "batch": 2})
    np.testing.assert_allclose(exe.forward(feeds)["loss"], values[graph.outputs["loss"].name], rtol=1e-12)
    history = dict(zip(graph["scan_1"].op.items, values["scan_1"], strict=True))
    before = next(value for node, value in history.items() if node.name == "carry_0")
    np.testing.assert_array_equal(before[0], feeds["h"])


def test_a_body_is_part_of_what_makes_graphs_equal_and_its_name_is_not() -> None:
    def declare(factor: float, name: str) -> Graph:
        graph = ge.Graph("equal")
        h = graph.input("h", (2,))
        ge.scan(lambda h, _: (h * factor, None), h, length=3, name="loop")
        graph["loop"].op.body.name = name
        return graph

    assert declare(2.0, "a") == declare(2.0, "b")
    assert hash(declare(2.0, "a")["loop"].op) == hash(declare(2.0, "b")["loop"].op)
    assert declare(2.0, "a") != declare(3.0, "a")


def test_an_error_in_a_kernel_names_the_node_of_the_body_its_line_and_the_scan() -> None:
    graph = ge.Graph("labels")
    x, h = graph.input("x", (TIME, 4)), graph.input("h", ())
    labels = graph.input("labels", (TIME,), dtype="int64")

    def body(h: Node, step: Any) -> Any:
        x, label = step
        return h + ge.sum(ge.gather(x, label)), None

    h, _ = ge.scan(body, h, (x, labels))
    graph.output("h", h)
    exe = ge.compile(graph)
    feeds = {"x": f64(TIME, 4), "h": np.array(0.0), "labels": i64(TIME, high=4)}
    exe.forward(feeds)
    with pytest.raises(ge.ValueRangeError) as caught:
        exe.forward({**feeds, "labels": np.array([0, 1, 9, 1, 1])})
    text = str(caught.value)
    assert "node  gather_1 = gather(x_0, x_1)" in text
    assert "test_scan.py" in text
    assert "in the body of scan_1 = scan(h, x, labels), declared at" in text


def test_a_carry_whose_type_changes_is_refused_with_both_types() -> None:
    graph = ge.Graph("changes")
    h = graph.input("state", ("batch", 3))
    with pytest.raises(ShapeError) as caught:
        ge.scan(lambda h, _: (ge.sum(h, axis=0, name="total"), None), h, length=3)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the carry state is float32[batch, 3], and after a step it is float32[3] (total)"
    assert any("test_scan.py" in line for line in lines)
    with pytest.raises(ShapeError, match=r"is float32\[batch, 3\], and after a step it is bool\[batch, 3\]"):
        ge.scan(lambda h, _: (h > 0.0, None), h, length=3)


def test_sequences_of_different_lengths_are_refused() -> None:
    graph = ge.Graph("lengths")
    h, x, y = graph.input("h", ()), graph.input("x", ("time", 2)), graph.input("y", (3, 2))
    with pytest.raises(ShapeError, match="differ in length: time and 3"):
        ge.scan(lambda h, _: (h, None), h, (x, y))
    with pytest.raises(ShapeError, match=r"float32\[\] has no axis"):
        ge.scan(lambda h, _: (h, None), h, h)


def test_nodes_of_a_body_are_no_operands_outside() -> None:
    graph = ge.Graph("leak")
    h = graph.input("h", ())
    leaked: list[Node] = []

    def body(h: Node, _: None) -> Any:
        leaked.append(h * 2.0)
        return h, None

    ge.scan(body, h, length=3)
    with pytest.raises(GraphError, match="'multiply_1' belongs to graph 'body'"):
        ge.add(h, leaked[0])


def test_a_scan_that_is_refused_leaves_nothing_behind() -> None:
    graph = ge.Graph("nothing")
    h, x, y = graph.input("h", (2,)), graph.input("x", (4, 2)), graph.input("y", (3, 2))
    before = graph.copy()
    with pytest.raises(ShapeError):
        ge.scan(lambda h, _: (h * ge.exp(h.graph.outer["h"]) + np.ones(2), None), h, (x, y))
    assert graph == before


def test_a_scan_knows_how_many_steps_it_takes() -> None:
    graph = ge.Graph("steps")
    h, x = graph.input("h", ()), graph.input("x", (3,))
    with pytest.raises(GraphError, match="needs sequences, or a length"):
        ge.scan(lambda h, _: (h, None), h)
    with pytest.raises(GraphError, match="leave length out"):
        ge.scan(lambda h, _: (h, None), h, x, length=3)
    with pytest.raises(GraphError, match="needs a carry or a sequence"):
        ge.scan(lambda *_: ((), None), (), length=3)


def test_a_body_gives_back_as_much_as_it_carries() -> None:
    graph = ge.Graph("back")
    h = graph.input("h", ())
    with pytest.raises(GraphError, match="carries 1 values, and gives 2 back"):
        ge.scan(lambda h, _: ((h, h), None), h, length=3)


def test_a_body_declares_no_leaves_outputs_or_updates_of_its_own() -> None:
    graph = ge.Graph("own")
    h = graph.input("h", ())
    with pytest.raises(GraphError, match="w is declared inside a body; declare it outside"):
        ge.scan(lambda h, _: (h * h.graph.parameter("w", ()), None), h, length=3)

    def body(h: Node, _: None) -> Any:
        h.graph.output("h", h)
        return h * 2.0, None

    with pytest.raises(GraphError, match="outputs and updates are declared outside"):
        ge.scan(body, h, length=3)


def test_layers_in_a_body_have_their_parameters_outside() -> None:
    def declare(graph: Graph, loop: Loop) -> Node:
        h = graph.input("h", (2, 3))
        w = graph.parameter("w", (3, 3))
        h, _ = loop(lambda h, _: (ge.tanh(h @ w), None), h, length=3)
        return ge.sum(h)

    assert_same(declare, {"h": f64(2, 3)})
    graph = ge.Graph("layers", dtype="float64")
    h = graph.input("h", (2, 3))
    h, _ = ge.scan(lambda h, _: (ge.layers.dense(h, 3, name="dense", activation=ge.tanh), None), h, length=3)
    graph.output("loss", ge.sum(h))
    assert [node.name for node in graph.parameters] == ["dense.weight", "dense.bias"]
    ge.gradcheck(graph, "loss", {"h": f64(2, 3)})


def test_nodes_of_another_graph_are_refused_inside_too() -> None:
    h, foreign = ge.Graph("one").input("h", ()), ge.Graph("other").input("x", ())
    with pytest.raises(GraphError, match="'x' belongs to graph 'other'"):
        ge.scan(lambda h, _: (h * foreign, None), h, length=3)


def test_scans_do_not_stand_inside_each_other_without_end() -> None:
    graph = ge.Graph("deep")

    def nest(h: Node, depth: int) -> Node:
        return ge.scan(lambda h, _: (nest(h, depth - 1) if depth else h * 2.0, None), h, length=1)[0]

    nest(graph.input("h", ()), MAX_NESTING - 1)
    with pytest.raises(GraphError, match=f"inside each other {MAX_NESTING + 1} deep, and may {MAX_NESTING}"):
        nest(graph.input("g", ()), MAX_NESTING)


def test_bodies_that_do_not_fit_their_operands_are_refused() -> None:
    graph = ge.Graph("fit")
    h, x = graph.input("h", (2,)), graph.input("x", (5, 2))
    ge.scan(lambda h, x: (h * x, None), h, x, name="loop")
    op = graph["loop"].op
    assert isinstance(op, Scan)
    with pytest.raises(GraphError, match="has 2 inputs, and there are 1 operands"):
        graph.add(op, [h])
    with pytest.raises(ShapeError, match=r"x_0 of the scan's body is float32\[2\], and it is given float32\[3\]"):
        graph.add(op, [h, graph.input("y", (5, 3))])
    with pytest.raises(GraphError, match="a body of 2 inputs and 1 outputs does not do for 2 carries"):
        graph.add(op.model_copy(update={"carries": 2, "sequences": 0}), [h, x])
    body = ge.Graph("body")
    body.output("y", body.parameter("w", (2,)))
    with pytest.raises(GraphError, match="has no parameter of its own, as w is"):
        graph.add(Scan(body=body, carries=0, sequences=0, length=3), [h])

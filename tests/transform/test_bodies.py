"""Derivatives taken inside the bodies of scans: paths lead on through what the body reads from around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

import graphengine as ge
from graphengine.compile import installed_backends
from graphengine.ir.composite import scaffold
from graphengine.ir.graph import Graph
from graphengine.ir.node import Node
from graphengine.ops.scan import scan
from tests.arrays import f64
from tests.transform.values import parameters

STEPS = 3


@ge.custom_vjp
def squared(x: Node) -> Node:
    return x * x


@squared.defvjp
def _squared(_: Node, y_bar: Node, x: Node) -> Node:
    return 2.0 * x * y_bar


def declared() -> tuple[Graph, Node, Node, Node]:
    graph = ge.Graph("bodies", dtype="float64")
    x, w, u = graph.input("x", (STEPS, 3)), graph.parameter("w", (4, 3)), graph.parameter("u", (3,))
    return graph, x, w, u


def check(
    graph: Graph,
    x: Node,
    inside: Callable[[Node], Sequence[Node]],
    backend: str,
    unrolled: Callable[[Node], Sequence[Node]] | None = None,
) -> None:
    """Hold what a scan over `x` stacks of `inside` against the same, or `unrolled`, declared once for every step."""
    _, found = scan(lambda carry, row: (carry, inside(row)), ge.sum(x) * 0.0, x)
    steps = [(unrolled or inside)(x[place]) for place in range(STEPS)]
    for number, (stacked, alone) in enumerate(zip(found, zip(*steps, strict=True), strict=True)):
        graph.output(f"inside{number}", stacked)
        graph.output(f"unrolled{number}", ge.stack(list(alone)))
    for rewrites in (None, ()):
        exe = ge.compile(graph, backend=backend, rewrites=rewrites)
        for name, value in parameters(graph).items():
            exe.parameters[name] = value
        results = exe.forward({"x": f64(STEPS, 3)})
        for number in range(len(found)):
            expected = results[f"unrolled{number}"]
            assert np.any(expected != 0)
            np.testing.assert_allclose(results[f"inside{number}"], expected, rtol=1e-10, atol=1e-13)


AROUND = {
    "elementwise": lambda w, u: ge.tanh(w * 2.0) * u,
    "views": lambda w, u: (w * u).T.T[::-1],
    "reduced": lambda w, u: w / ge.sqrt(ge.variance(w, axis=0) + 1.0) + ge.logsumexp(w * u, axis=1, keepdims=True),
    "gathered": lambda w, u: ge.gather(w, np.array([1, 1, 0, 3])) * u,
    "attention": lambda w, u: ge.attention(w, ge.sin(w) * u, w),
    "split": lambda w, u: ge.concat(ge.split(w, 2, axis=0)[::-1], axis=0) * u,
    "scan": lambda w, u: scan(lambda c, v: (ge.sin(c * v) + v, c * v * u), ge.sum(w, axis=0), w)[1],
    "custom": lambda w, u: squared(w * u),
    "gradient": lambda w, u: ge.grad(ge.sum(ge.sin(w * w) * u), [w])[0],
}
COMPILED = [(backend, "scan") for backend in installed_backends() if backend != "numpy"]
"""Compiling takes seconds, so one kind does."""


@pytest.mark.parametrize(("backend", "around"), [("numpy", kind) for kind in AROUND] + COMPILED)
def test_derivatives_pass_what_a_body_captures(backend: str, around: str) -> None:
    graph, x, w, u = declared()
    h = AROUND[around](w, u)

    def inside(row: Node) -> list[Node]:
        y = ge.sin(h * row) * ge.cos(w * row)
        loss = ge.sum(y) + ge.sum(u * row * h[0])
        gradients = ge.grad(loss, [w, u, h])
        second = ge.grad(ge.sum(gradients[0] * gradients[0]), [u])
        return [*gradients, *second, *ge.jvp([loss, y, h], [w, u], [ge.cos(h), row])]

    check(graph, x, inside, backend)


def test_products_and_whole_derivatives_pass_what_a_body_captures() -> None:
    graph, x, w, u = declared()
    h = ge.tanh(w) * u

    def inside(row: Node) -> list[Node]:
        y = ge.sin(h @ row)
        hessian = ge.hessian(ge.sum(y), u)
        return [
            *ge.hvp(ge.sum(y), [w, u], [ge.cos(w), row]),
            hessian,
            *(ge.jacobian(y, u, mode=mode) for mode in ("forward", "reverse")),
        ]

    check(graph, x, inside, "numpy")


@pytest.mark.parametrize("backend", installed_backends())
def test_derivatives_pass_what_bodies_in_bodies_capture(backend: str) -> None:
    graph, x, w, u = declared()
    h = ge.tanh(w * u)

    def results(k: Node, row: Node) -> list[Node]:
        y = ge.sin(k * row) * w + h
        return [*ge.grad(ge.sum(y * y), [k, w, u]), *ge.jvp([y], [k, u], [h, row])]

    def inside(row: Node) -> list[Node]:
        k = ge.exp(h * row) * u
        return list(scan(lambda carry, inner: (carry, results(k, inner)), ge.sum(row) * 0.0, x)[1])

    def unrolled(row: Node) -> list[Node]:
        k = ge.exp(h * row) * u
        return [ge.stack(list(each)) for each in zip(*(results(k, x[place]) for place in range(STEPS)), strict=True)]

    check(graph, x, inside, backend, unrolled)


def test_what_was_captured_on_the_way_and_taken_back_is_captured_again() -> None:
    _, x, _, u = declared()

    def step(carry: Node, row: Node) -> tuple[Node, Node]:
        body = row.graph
        with scaffold(body):
            gone = body.own(u)
        assert body.own(u) is not gone
        assert body.own(u) in body.nodes
        return carry, u * row

    scan(step, ge.sum(x) * 0.0, x)

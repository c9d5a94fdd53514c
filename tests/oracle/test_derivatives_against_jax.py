"""Derivatives beyond the gradient against another engine, jax, in float64: of the zoo's systems, and of small ones
that are written out a second time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import graphengine as ge
from graphengine.executable import Executable
from graphengine.ir.graph import Graph
from graphengine.ir.leaf import Input
from graphengine.ir.node import Node
from graphengine.ir.op import Op
from graphengine.ir.subgraph import needed_nodes
from graphengine.ops.loss import Loss
from graphengine.ops.scan import scan
from graphengine.testing import in_float64
from tests.arrays import f64, i64
from tests.random_graphs import evaluate

jax = pytest.importorskip("jax")
jax.config.update("jax_enable_x64", True)
jnp = jax.numpy

N = 3
"""The size of "batch"."""
SMALL = 150
"""Up to how many parameters a system has its whole Hessian checked."""


def same(actual: object, expected: object, what: str) -> None:
    expected = np.asarray(expected)
    scale = max(1e-3, float(np.max(np.abs(expected), initial=0.0)))
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-10, atol=1e-10 * scale, err_msg=what)


@dataclass
class System:
    """A graph with a loss, and the same loss as a function in jax of the parameters by name."""

    graph: Graph
    feeds: dict[str, np.ndarray]
    of_examples: Callable[[dict], object]
    """The losses of the examples."""

    def __post_init__(self) -> None:
        generator = np.random.default_rng(7)
        shapes = {node.name: node.type.static_shape for node in self.graph.parameters}
        self.held = {name: generator.normal(size=shape) * 0.4 for name, shape in shapes.items()}
        self.directions = {name: generator.normal(size=shape) for name, shape in shapes.items()}

    @property
    def losses(self) -> Node:
        """The node of the losses of the examples."""
        return self.graph.outputs["losses"]

    def directions_as_nodes(self) -> list[Node]:
        return [self.graph.constant(None, self.directions[node.name]) for node in self.graph.parameters]

    def values(self, nodes: list[Node]) -> list[np.ndarray]:
        twin = self.graph.copy()
        twin.outputs = {f"out{i}": twin.nodes[node.index] for i, node in enumerate(nodes)}
        exe: Executable = ge.compile(twin)
        for name, value in self.held.items():
            exe.parameters[name] = value
        return list(exe.forward(self.feeds).values())

    def loss_by_jax(self, held: dict) -> object:
        return jnp.mean(self.of_examples(held))


def of_zoo(graph: Graph) -> System:
    """A system of the zoo, whose nodes jax differentiates, each by its `eval` over jax.numpy.

    Sigmoids are jax's own: it differentiates 1 / (1 + exp(-x)) to NaN where exp overflows.
    """

    def run(_: Node, op: Op, operands: list) -> object:
        return jax.nn.sigmoid(*operands) if op.kind == "sigmoid" else op.eval(jnp, *operands)

    graph = in_float64(graph)
    (loss,) = [node for node in needed_nodes([graph.outputs["loss"]]) if isinstance(node.op, Loss)]
    losses = graph.add(loss.op.model_copy(update={"reduction": "none"}), loss.parents)
    signs = loss.op.kind in ("hinge", "perceptron_loss")
    feeds = {node.name: fed(node, signs) for node in graph.inputs}
    graph.output("losses", losses)
    nodes = needed_nodes([losses])
    binding = {name: N for node in graph.inputs for name in node.type.names()}
    carried = {node.name: np.asarray(ge.compile(graph).state[node.name]) for node in graph.states}

    def of_examples(held: dict) -> object:
        return evaluate(nodes, {**feeds, **carried, **held}, binding, run=run)[losses.name]

    return System(graph, feeds, of_examples)


def fed(node: Node, signs: bool) -> np.ndarray:
    assert isinstance(node.op, Input)
    shape = [N if isinstance(dim, str) else dim for dim in node.shape]
    if not node.type.is_float:
        return i64(*shape, high=3).astype(node.dtype)
    if node.name in ("x", "pixels"):
        return f64(*shape, low=0.05, high=1.0)
    return np.where(f64(*shape, seed=1) > 0, 1.0, -1.0 if signs else 0.0)


def classifier() -> System:
    graph = ge.Graph("classifier", dtype="float64")
    x, y = graph.input("x", ("batch", 4)), graph.input("y", ("batch",), dtype="int64")
    w, b = graph.parameter("w", (4, 3)), graph.parameter("b", (3,))
    graph.output("losses", ge.cross_entropy(x @ w + b, y, reduction="none"))
    feeds = {"x": f64(N, 4), "y": i64(N, high=3)}

    def of_examples(p: dict) -> object:
        return -jax.nn.log_softmax(feeds["x"] @ p["w"] + p["b"])[jnp.arange(N), feeds["y"]]

    return System(graph, feeds, of_examples)


def perceptron_of_two_layers() -> System:
    graph = ge.Graph("mlp", dtype="float64")
    x, y = graph.input("x", ("batch", 4)), graph.input("y", ("batch", 2))
    w, b = graph.parameter("w", (4, 5)), graph.parameter("b", (5,))
    v, s = graph.parameter("v", (5, 2)), graph.parameter("s", ())
    hidden = ge.gelu(x @ w + b) * ge.softplus(s)
    graph.output("losses", ge.half_squared_error(ge.sigmoid(hidden @ v), y, reduction="none"))
    feeds = {"x": f64(N, 4), "y": f64(N, 2, seed=1)}

    def of_examples(p: dict) -> object:
        inside = jax.nn.gelu(feeds["x"] @ p["w"] + p["b"], approximate=False) * jax.nn.softplus(p["s"])
        return 0.5 * jnp.sum((jax.nn.sigmoid(inside @ p["v"]) - feeds["y"]) ** 2, axis=1)

    return System(graph, feeds, of_examples)


def convolution() -> System:
    graph = ge.Graph("convolution", dtype="float64")
    x = graph.input("x", ("batch", 2, 6, 5))
    kernel, v = graph.parameter("kernel", (3, 2, 3, 2)), graph.parameter("v", (6,))
    scale, shift = graph.parameter("scale", (6,)), graph.parameter("shift", (6,))
    maps = ge.conv2d(x, kernel, stride=(2, 1), padding=1)
    rows = ge.reshape(ge.max_pool2d(ge.tanh(maps), (2, 2)), ("batch", -1))[:, :6]
    graph.output("losses", ge.square(ge.layer_norm(rows, scale, shift) @ v))
    feeds = {"x": f64(N, 2, 6, 5)}

    def of_examples(p: dict) -> object:
        maps = jax.lax.conv_general_dilated(feeds["x"], p["kernel"], (2, 1), [(1, 1), (1, 1)])
        pooled = jax.lax.reduce_window(jnp.tanh(maps), -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        rows = pooled.reshape(N, -1)[:, :6]
        centered = rows - rows.mean(axis=1, keepdims=True)
        rows = centered / jnp.sqrt(jnp.mean(centered**2, axis=1, keepdims=True) + 1e-5) * p["scale"] + p["shift"]
        return (rows @ p["v"]) ** 2

    return System(graph, feeds, of_examples)


def recurrence() -> System:
    graph = ge.Graph("recurrence", dtype="float64")
    x = graph.input("x", (5, "batch", 2))
    w, u, v = graph.parameter("w", (2, 3)), graph.parameter("u", (3, 3)), graph.parameter("v", (3,))
    last, states = scan(lambda h, row: (after := ge.tanh(row @ w + h @ u), after * h), x[0] @ w, x)
    graph.output("losses", ge.square(last @ v) + ge.sum(ge.sin(states), axis=(0, 2)))
    feeds = {"x": f64(5, N, 2)}

    def of_examples(p: dict) -> object:
        def step(h: object, row: object) -> tuple[object, object]:
            after = jnp.tanh(row @ p["w"] + h @ p["u"])
            return after, after * h

        last, states = jax.lax.scan(step, feeds["x"][0] @ p["w"], feeds["x"])
        return (last @ p["v"]) ** 2 + jnp.sum(jnp.sin(states), axis=(0, 2))

    return System(graph, feeds, of_examples)


SYSTEMS: dict[str, Callable[[], System]] = {
    "classifier": classifier,
    "mlp": perceptron_of_two_layers,
    "convolution": convolution,
    "recurrence": recurrence,
    "linear_regression": lambda: of_zoo(ge.zoo.linear_regression(4, 2)),
    "logistic_regression": lambda: of_zoo(ge.zoo.logistic_regression(4)),
    "perceptron": lambda: of_zoo(ge.zoo.perceptron(4)),
    "neuron": lambda: of_zoo(ge.zoo.neuron()),
    "three_layer": lambda: of_zoo(ge.zoo.three_layer(4, (5, 4), 3)),
    "linear_network": lambda: of_zoo(ge.zoo.linear_network([4, 3, 2, 3])),
    "digits_network": lambda: of_zoo(ge.zoo.digits_network()),
}

NETWORKS: dict[str, Callable[[], Graph]] = {
    "fashion_mlp": ge.zoo.fashion_mlp,
    "lenet": ge.zoo.lenet,
    "digits_lstm": ge.zoo.digits_lstm,
    "digits_gru": ge.zoo.digits_gru,
    "convolutional_autoencoder": ge.zoo.convolutional_autoencoder,
    "character_transformer": lambda: ge.zoo.character_transformer(5, units=8, heads=2),
}
"""What takes jax some seconds to compile."""

every_system = pytest.mark.parametrize("name", SYSTEMS)
"""By name, and made anew for each test, as derivatives are emitted into its graph."""


@pytest.mark.parametrize("name", [*SYSTEMS, *NETWORKS])
def test_tangents_and_products_with_the_hessian(name: str) -> None:
    system = SYSTEMS[name]() if name in SYSTEMS else of_zoo(NETWORKS[name]())
    loss, wrt, directions = ge.mean(system.losses), system.graph.parameters, system.directions_as_nodes()
    found = system.values([*ge.jvp([loss], wrt, directions), *ge.hvp(loss, wrt, directions)])

    def along(function: Callable[[dict], object]) -> Callable:
        return jax.jit(lambda held, directions: jax.jvp(function, (held,), (directions,))[1])

    tangent = along(system.loss_by_jax)(system.held, system.directions)
    products = along(jax.grad(system.loss_by_jax))(system.held, system.directions)
    same(found[0], tangent, "jvp")
    for node, product in zip(wrt, found[1:], strict=True):
        same(product, products[node.name], f"hvp by {node.name}")


@every_system
def test_hessians(name: str) -> None:
    system = SYSTEMS[name]()
    wrt = system.graph.parameters
    wrt = wrt if sum(node.type.size for node in wrt) <= SMALL else wrt[-1:]
    names = [node.name for node in wrt]

    def loss(part: dict) -> object:
        return system.loss_by_jax({**system.held, **part})

    expected = jax.jit(jax.hessian(loss))({name: system.held[name] for name in names})
    blocks = ge.hessian(ge.mean(system.losses), wrt)
    found = iter(system.values([block for row in blocks for block in row]))
    for first in names:
        for second in names:
            same(next(found), expected[first][second], f"hessian by {first} and {second}")


@every_system
def test_jacobians_and_gradients_of_examples(name: str) -> None:
    system = SYSTEMS[name]()
    wrt = system.graph.parameters
    expected = jax.jit(jax.jacrev(system.of_examples))(system.held)
    for node, rows in zip(wrt, system.values(ge.per_example_grad(system.losses, wrt)), strict=True):
        same(rows, expected[node.name], f"gradients of examples by {node.name}")
    small = [node for node in wrt if node.type.size <= SMALL]
    jacobians = ge.jacobian(system.losses, small, mode="forward")
    for node, rows in zip(small, system.values(jacobians), strict=True):
        same(rows, expected[node.name], f"jacobian by {node.name}")


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_of_the_examples_of_networks(name: str) -> None:
    system = of_zoo(NETWORKS[name]())
    wrt = system.graph.parameters
    expected = jax.jit(jax.jacrev(system.of_examples))(system.held)
    for node, rows in zip(wrt, system.values(ge.per_example_grad(system.losses, wrt)), strict=True):
        same(rows, expected[node.name], f"gradients of examples by {node.name}")


@pytest.mark.parametrize("name", NETWORKS)
def test_whole_derivatives_of_networks_by_their_smallest_parameter(name: str) -> None:
    system = of_zoo(NETWORKS[name]())
    node = min(system.graph.parameters, key=lambda node: node.type.size)

    def part(function: Callable[[dict], object]) -> Callable:
        return lambda value: function({**system.held, node.name: value})

    value = system.held[node.name]
    ((hessian,),) = ge.hessian(ge.mean(system.losses), [node])
    (jacobian,) = ge.jacobian(system.losses, [node])
    found = system.values([hessian, jacobian])
    same(found[0], jax.jit(jax.hessian(part(system.loss_by_jax)))(value), f"hessian by {node.name}")
    same(found[1], jax.jit(jax.jacfwd(part(system.of_examples)))(value), f"jacobian by {node.name}")

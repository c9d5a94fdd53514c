"""The lecture's systems, each trained on data until it has learned what it can learn."""

from collections.abc import Mapping

import numpy as np
import pytest

import graphengine as ge
from graphengine import zoo
from graphengine.errors import AttributeValueError
from graphengine.executable import Executable

Data = Mapping[str, np.ndarray]


def train(graph: ge.Graph, data: Data, learning_rate: float, steps: int, seed: int = 0) -> Executable:
    """Gradient descent on the full batch; the loss must not end above where it began."""
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=learning_rate), seed=seed)
    first = exe.step(data)
    for _ in range(steps - 1):
        exe.step(data)
    assert exe.forward(data, outputs=["loss"])["loss"] <= first
    return exe


def two_clouds(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Points on both sides of a line that does not pass the origin, at least 0.2 from it, and the side of each."""
    points = np.random.default_rng(0).uniform(-2, 2, (4 * n, 2))
    distance = points @ [0.6, -0.8] - 0.5
    kept = np.flatnonzero(np.abs(distance) > 0.2)[:n]
    return points[kept], np.sign(distance[kept])[:, None]


def test_linear_regression_recovers_least_squares() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(50, 3))
    y = x @ generator.normal(size=(3, 2)) + 0.7 + 0.1 * generator.normal(size=(50, 2))
    exe = train(zoo.linear_regression(3, targets=2, dtype="float64"), {"x": x, "y": y}, learning_rate=0.3, steps=300)
    best, *_ = np.linalg.lstsq(np.column_stack([x, np.ones(50)]), y)
    np.testing.assert_allclose(exe.parameters["linear.weight"], best[:3], atol=1e-9)
    np.testing.assert_allclose(exe.parameters["linear.bias"], best[3], atol=1e-9)


def test_logistic_regression_separates_two_clouds() -> None:
    x, side = two_clouds()
    exe = train(zoo.logistic_regression(2), {"x": x, "y": side > 0}, learning_rate=2.0, steps=500)
    values = exe.forward({"x": x}, outputs=["prediction", "logits"])
    np.testing.assert_array_equal(values["prediction"] > 0.5, side > 0)
    np.testing.assert_allclose(values["prediction"], 1 / (1 + np.exp(-values["logits"])), rtol=1e-5)


def test_logistic_regression_ends_where_its_gradient_is_zero_when_the_clouds_overlap() -> None:
    generator = np.random.default_rng(0)
    y = generator.integers(0, 2, (80, 1)).astype(np.float64)
    x = generator.normal(size=(80, 2)) + y
    exe = train(zoo.logistic_regression(2, dtype="float64"), {"x": x, "y": y}, learning_rate=1.0, steps=1500)
    u = exe.forward({"x": x}, outputs=["prediction"])["prediction"]
    np.testing.assert_allclose(np.column_stack([x, np.ones(80)]).T @ (u - y), 0, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_the_perceptron_reaches_zero_errors_by_the_full_batch(seed: int) -> None:
    x, y = two_clouds()
    exe = train(zoo.perceptron(2), {"x": x, "y": y}, learning_rate=1.0, steps=200, seed=seed)
    np.testing.assert_array_equal(exe.forward({"x": x}, outputs=["prediction"])["prediction"], y)


def test_the_perceptron_reaches_zero_errors_one_example_at_a_time_and_then_rests() -> None:
    x, y = two_clouds()
    exe = ge.compile(zoo.perceptron(2), loss="loss", optimizer=ge.SGD(learning_rate=1.0))
    for _ in range(10):
        losses = [exe.step({"x": x[i : i + 1], "y": y[i : i + 1]}) for i in range(len(x))]
    np.testing.assert_array_equal(exe.forward({"x": x}, outputs=["prediction"])["prediction"], y)
    assert not any(losses)


def test_the_neurons_gradients_equal_the_closed_form() -> None:
    penalty = 0.03
    exe = ge.compile(zoo.neuron(penalty, dtype="float64"), loss="loss")
    x, y = np.random.default_rng(0).uniform(-2, 2, (2, 7))
    for w, b in ((0.4, -0.3), (-1.7, 2.0), (0.0, 0.0)):
        exe.parameters["neuron.weight"], exe.parameters["neuron.bias"] = w, b
        u = 1 / (1 + np.exp(-(w * x + b)))
        values = exe.forward({"x": x, "y": y})
        np.testing.assert_allclose(values["prediction"], u, rtol=1e-12)
        np.testing.assert_allclose(values["loss"], np.mean((u - y) ** 2) / 2 + penalty * w**2, rtol=1e-12)
        slope = (u - y) * u * (1 - u)
        gradients = exe.backward()
        np.testing.assert_allclose(gradients["neuron.weight"], np.mean(slope * x) + 2 * penalty * w, rtol=1e-12)
        np.testing.assert_allclose(gradients["neuron.bias"], np.mean(slope), rtol=1e-12)


def test_the_neuron_shows_the_terms_that_its_loss_is_made_of() -> None:
    exe = ge.compile(zoo.neuron(0.5, dtype="float64"))
    values = exe.forward({"x": [1.0], "y": [0.0]})
    w = exe.parameters["neuron.weight"]
    np.testing.assert_allclose(values["z"], [w], rtol=1e-15)
    np.testing.assert_allclose(values["r"], w**2, rtol=1e-15)
    np.testing.assert_allclose(values["loss"], values["l"] + 0.5 * values["r"], rtol=1e-15)


def test_the_neuron_learns_which_side_of_a_threshold_a_number_is_on() -> None:
    x = np.linspace(-3, 5, 40)
    exe = train(zoo.neuron(0.0), {"x": x, "y": x > 1.1}, learning_rate=10.0, steps=1000)
    np.testing.assert_array_equal(exe.forward({"x": x}, outputs=["prediction"])["prediction"] > 0.5, x > 1.1)


def two_spirals(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Two spirals of three quarters of a turn, wound into each other, and which of them each point is on."""
    turn = np.linspace(0.4, 1.9, n) * np.pi
    arm = np.column_stack([turn * np.cos(turn), turn * np.sin(turn)]) / 6
    return np.concatenate([arm, -arm]), np.repeat([0, 1], n)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_three_layer_network_tells_two_spirals_apart(activation: zoo.Activation) -> None:
    x, y = two_spirals()
    exe = train(zoo.three_layer(2, (16, 16), 2, activation), {"x": x, "y": y}, learning_rate=0.5, steps=1500)
    values = exe.forward({"x": x}, outputs=["prediction", "probabilities"])
    np.testing.assert_array_equal(values["prediction"], y)
    np.testing.assert_allclose(values["probabilities"].sum(axis=1), 1, rtol=1e-5)


def test_the_three_layer_network_learns_exclusive_or_as_numbers() -> None:
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    y = x[:, :1] ^ x[:, 1:]
    graph = zoo.three_layer(2, (8, 8), 1, "sigmoid", "half_squared_error", dtype="float64")
    exe = train(graph, {"x": x, "y": y}, learning_rate=1.0, steps=4000)
    np.testing.assert_allclose(exe.forward({"x": x}, outputs=["prediction"])["prediction"], y, atol=0.05)


def test_the_three_layer_network_has_three_weights_and_three_biases() -> None:
    graph = zoo.three_layer(64, (32, 16), 10)
    shapes = {node.name: node.shape for node in graph.parameters}
    assert shapes == {
        "layer1.weight": (64, 32),
        "layer1.bias": (32,),
        "layer2.weight": (32, 16),
        "layer2.bias": (16,),
        "layer3.weight": (16, 10),
        "layer3.bias": (10,),
    }


def test_the_linear_network_learns_a_map_that_is_the_product_of_its_matrices() -> None:
    generator = np.random.default_rng(0)
    x, target = generator.normal(size=(40, 4)), generator.normal(size=(4, 3))
    graph = zoo.linear_network([4, 6, 5, 3], dtype="float64")
    exe = train(graph, {"x": x, "y": x @ target}, learning_rate=0.1, steps=1500)
    w1, w2, w3 = (exe.parameters[f"layer{place}.weight"] for place in (1, 2, 3))
    np.testing.assert_allclose(w1 @ w2 @ w3, target, atol=1e-6)
    prediction = exe.forward({"x": x}, outputs=["prediction"])["prediction"]
    np.testing.assert_allclose(prediction, x @ (w1 @ w2 @ w3), rtol=1e-10, atol=1e-12)


EVERY = {
    "linear_regression": zoo.linear_regression(3),
    "logistic_regression": zoo.logistic_regression(3),
    "perceptron": zoo.perceptron(3),
    "neuron": zoo.neuron(),
    "three_layer": zoo.three_layer(3, (4, 4), 2),
    "linear_network": zoo.linear_network([3, 4, 4, 2]),
}


@pytest.mark.parametrize("graph", EVERY.values(), ids=EVERY)
def test_a_system_is_named_and_says_its_inputs_and_outputs(graph: ge.Graph, request: pytest.FixtureRequest) -> None:
    assert graph.name == request.node.callspec.id
    assert [node.name for node in graph.inputs] == ["x", "y"]
    assert {"prediction", "loss"} <= set(graph.outputs)
    assert graph.outputs["loss"].shape == ()


def test_sizes_activations_and_losses_that_are_not_there_are_refused() -> None:
    with pytest.raises(AttributeValueError, match=r"sizes begin .*\[3\] does not"):
        zoo.mlp([3])
    with pytest.raises(AttributeValueError, match="no activation 'cosine' here; there are relu, sigmoid, tanh"):
        zoo.mlp([3, 2, 1], activation="cosine")  # type: ignore[arg-type]  # what is under test
    with pytest.raises(AttributeValueError, match="no loss 'zero_one' here"):
        zoo.mlp([3, 2, 1], loss="zero_one")  # type: ignore[arg-type]  # what is under test

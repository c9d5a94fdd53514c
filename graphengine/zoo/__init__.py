"""Systems ready made: graphs that are declared, with what they are named after in their docstrings."""

from graphengine.zoo.lecture import (
    Activation,
    Objective,
    linear_network,
    linear_regression,
    logistic_regression,
    mlp,
    neuron,
    perceptron,
    three_layer,
)

__all__ = [
    "Activation",
    "Objective",
    "linear_network",
    "linear_regression",
    "logistic_regression",
    "mlp",
    "neuron",
    "perceptron",
    "three_layer",
]

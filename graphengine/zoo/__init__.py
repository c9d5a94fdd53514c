"""Systems ready made: graphs that are declared, with what they are named after in their docstrings."""

from graphengine.zoo.digits import digits_network
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
    "digits_network",
    "linear_network",
    "linear_regression",
    "logistic_regression",
    "mlp",
    "neuron",
    "perceptron",
    "three_layer",
]

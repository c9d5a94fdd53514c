"""Systems ready made: graphs that are declared, with what they are named after in their docstrings."""

from graphengine.ir.arguments import check_public
from graphengine.ir.names import unknown_in
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
from graphengine.zoo.networks import (
    character_transformer,
    convolutional_autoencoder,
    digits_gru,
    digits_lstm,
    digits_network,
    fashion_mlp,
    lenet,
)

__all__ = [
    "Activation",
    "Objective",
    "character_transformer",
    "convolutional_autoencoder",
    "digits_gru",
    "digits_lstm",
    "digits_network",
    "fashion_mlp",
    "lenet",
    "linear_network",
    "linear_regression",
    "logistic_regression",
    "mlp",
    "neuron",
    "perceptron",
    "three_layer",
]

__dir__ = __all__.copy
__getattr__ = unknown_in("zoo")

check_public(globals(), __all__)

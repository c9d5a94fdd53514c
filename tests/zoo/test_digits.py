"""The network of the demo, and its document."""

from graphengine.data import digits
from graphengine.ir.graph import Graph
from graphengine.testing import gradcheck
from graphengine.zoo.networks import digits_network, digits_spec


def test_the_document_that_ships_is_that_of_the_builder() -> None:
    assert digits_spec() == digits_network().to_json()
    assert Graph.from_json(digits_spec()) == digits_network()


def test_gradients_of_the_network_agree_with_differences() -> None:
    batch = {name: array[:8] for name, array in digits().train.items()}
    gradcheck(digits_network(), "loss", batch, samples=20)

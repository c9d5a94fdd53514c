"""Differences, one parameter at a time, against backpropagation."""

import numpy as np
import pytest

import graphengine as ge
from graphengine.baselines import Differences, Element, every_element, sample_elements
from graphengine.errors import ExecutionError, NamingError
from tests.arrays import f64
from tests.baselines.graphs import two_layers

FEEDS = {"x": f64(5, 3)}


def test_differences_of_every_element_are_the_gradient_of_backpropagation() -> None:
    exe = ge.compile(two_layers(), loss="loss", seed=1)
    exe.forward(FEEDS)
    gradients = exe.backward()
    ways = Differences(two_layers(), "loss", seed=1)
    differences = np.array([ways.derivative(FEEDS, element) for element in every_element(exe.parameters)])
    backprop = np.concatenate([gradients[name].ravel() for name in exe.parameters])
    np.testing.assert_allclose(differences, backprop, rtol=1e-6, atol=1e-6 * np.abs(backprop).max())


def test_parameters_are_what_they_were_also_after_an_error() -> None:
    ways = Differences(two_layers(), "loss", seed=1)
    before = dict(ways.executable.parameters)
    for element in every_element(before):
        ways.derivative(FEEDS, element)
    with pytest.raises(ge.errors.FeedError):
        ways.derivative({}, Element("w", 0))
    for name, value in before.items():
        assert np.array_equal(ways.executable.parameters[name], value)


def test_an_element_that_is_not_there_is_an_error() -> None:
    ways = Differences(two_layers(), "loss")
    with pytest.raises(ExecutionError, match="elements 0 to 11, and not 12"):
        ways.derivative(FEEDS, Element("w", 12))
    with pytest.raises(NamingError, match="no parameter 'u'"):
        ways.derivative(FEEDS, Element("u", 0))


def test_a_sample_holds_different_elements_and_is_fixed_by_its_seed() -> None:
    elements = every_element(ge.compile(two_layers()).parameters)
    sample = sample_elements(elements, 10, seed=3)
    assert sample == sample_elements(elements, 10, seed=3) != sample_elements(elements, 10, seed=4)
    assert len(set(sample)) == 10
    assert sample_elements(elements, 1000) == elements


def test_the_cost_is_that_of_two_forward_passes_and_four_operations() -> None:
    flops = Differences(two_layers(), "loss").flops({"batch": 5})
    forward = ge.compile(two_layers()).cost(batch=5).total_flops
    assert flops == dict.fromkeys(["w", "b", "v"], 2 * forward + 4)

"""Differences, one parameter at a time, against backpropagation."""

import numpy as np
import pytest

import graphengine as ge
from graphengine.baselines import Element, central_differences, compare, every_element, sample_elements
from graphengine.errors import ExecutionError, NamingError
from tests.arrays import f64

FEEDS = {"x": f64(5, 3)}


def two_layers() -> ge.Graph:
    g = ge.Graph("two_layers", dtype="float64")
    x = g.input("x", ("batch", 3))
    h = ge.exp(x @ g.parameter("w", (3, 4)) + g.parameter("b", (4,)))
    g.output("loss", ge.sum(ge.exp(-(h @ g.parameter("v", (4, 2))))))
    return g


def test_differences_of_every_element_are_the_gradient_of_backpropagation() -> None:
    exe = ge.compile(two_layers(), loss="loss", seed=1)
    exe.forward(FEEDS)
    gradients = exe.backward()
    differences = central_differences(exe, FEEDS, "loss", every_element(exe))
    backprop = np.concatenate([gradients[name].ravel() for name in exe.parameters])
    np.testing.assert_allclose(differences, backprop, rtol=1e-6, atol=1e-6 * np.abs(backprop).max())


def test_an_executable_without_gradients_gives_the_same_differences() -> None:
    elements = [Element("w", 5), Element("v", 0)]
    with_loss = ge.compile(two_layers(), loss="loss", seed=1)
    without = ge.compile(two_layers(), seed=1)
    expected = central_differences(with_loss, FEEDS, "loss", elements)
    assert np.array_equal(central_differences(without, FEEDS, "loss", elements), expected)


def test_parameters_are_what_they_were_also_after_an_error() -> None:
    exe = ge.compile(two_layers(), seed=1)
    before = dict(exe.parameters)
    central_differences(exe, FEEDS, "loss", every_element(exe))
    with pytest.raises(ge.errors.FeedError):
        central_differences(exe, {}, "loss", [Element("w", 0)])
    for name, value in before.items():
        assert np.array_equal(exe.parameters[name], value)


def test_an_element_that_is_not_there_is_an_error() -> None:
    exe = ge.compile(two_layers())
    with pytest.raises(ExecutionError, match="elements 0 to 11, and not 12"):
        central_differences(exe, FEEDS, "loss", [Element("w", 12)])
    with pytest.raises(NamingError, match="no parameter 'u'"):
        central_differences(exe, FEEDS, "loss", [Element("u", 0)])


def test_a_sample_holds_different_elements_and_is_fixed_by_its_seed() -> None:
    exe = ge.compile(two_layers())
    sample = sample_elements(exe, 10, seed=3)
    assert sample == sample_elements(exe, 10, seed=3) != sample_elements(exe, 10, seed=4)
    assert len(set(sample)) == 10
    assert sample_elements(exe, 1000) == every_element(exe)


def test_a_comparison_measures_a_sample_and_scales_it_to_all_parameters() -> None:
    compared = compare(two_layers(), "loss", FEEDS, samples=6)
    assert (compared.parameters, compared.sample) == (24, 6)
    assert compared.disagreement < 1e-6
    assert compared.ratio == compared.naive_seconds / compared.backprop_seconds > 1

"""One gradient in all ways, timed and counted."""

from __future__ import annotations

import pytest

import graphengine as ge
from benchmarks.networks import ladder
from graphengine.baselines import WAYS, compare
from tests.arrays import f64
from tests.baselines.graphs import two_layers

FEEDS = {"x": f64(5, 3)}


def test_a_comparison_measures_a_sample_and_scales_it_to_all_parameters() -> None:
    compared = compare(two_layers(), "loss", FEEDS, samples=6)
    assert compared.parameters == compared.backprop.sample == 24
    assert not compared.backprop.scaled
    assert set(compared.others) == set(WAYS)
    for name, way in compared.others.items():
        assert (way.sample, way.scaled) == (6, True)
        assert way.disagreement is not None
        assert way.disagreement < 1e-6
        assert compared.slowdown(name) == way.seconds / compared.backprop.seconds > 1


def test_what_is_measured_whole_is_not_marked_as_scaled() -> None:
    compared = compare(two_layers(), "loss", FEEDS, ways=["forward mode"])
    assert list(compared.others) == ["forward mode"]
    assert (compared.others["forward mode"].sample, compared.others["forward mode"].scaled) == (24, False)


def test_a_parameter_without_elements_has_no_share_in_it() -> None:
    graph = two_layers()
    loss = graph.outputs.pop("loss")
    graph.output("loss", loss + ge.sum(graph.parameter("none", (0, 3))))
    assert compare(graph, "loss", FEEDS, samples=2).parameters == 24


def test_flops_are_those_of_the_programs_of_the_loss_alone() -> None:
    graph = two_layers()
    graph.output("more", ge.exp(graph["x"]))
    compared = compare(graph, "loss", FEEDS, samples=1)
    alone = two_layers()
    forward = ge.compile(alone).cost(batch=5).total_flops
    assert compared.forward_flops == forward
    assert compared.backprop.flops == ge.compile(alone, loss="loss").cost(batch=5).total_flops
    assert compared.others["central differences"].flops == 24 * (2 * forward + 4)


def test_paths_left_out_are_scaled_and_their_derivative_not_compared() -> None:
    compared = compare(ladder(20), "loss", {})
    unshared = compared.others["chain rule, unshared"]
    assert (unshared.sample, unshared.scaled, unshared.disagreement) == (1, True, None)
    assert unshared.flops > 2**20
    assert compared.slowdown("chain rule, unshared") > 100
    assert not compared.others["forward mode"].scaled


def test_a_ladder_of_few_rungs_is_followed_whole() -> None:
    unshared = compare(ladder(5), "loss", {}).others["chain rule, unshared"]
    assert not unshared.scaled
    assert unshared.disagreement == pytest.approx(0, abs=1e-13)

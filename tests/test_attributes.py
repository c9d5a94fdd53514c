"""Attributes that are set by mistake: refused, with what to write instead, since they would change nothing."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import GraphEngineError
from tests.test_copies import COPIES, compiled, feeds, network

EXECUTABLE = {
    "learning_rate": "which makes another",
    "optimizer": "which makes another",
    "parameters": r"write exe.parameters.update\(arrays\)",
    "state": r"write exe.state.update\(arrays\)",
    "seed": r"write ge.compile\(graph, seed=...\)",
    "graph": "'graph' cannot be set",
    "loss": r"write ge.compile\(graph, loss=...\)",
    "programs": "'programs' cannot be set",
    "inference": "'inference' cannot be set",
    "anything": r"dir\(exe\) lists what there is",
}


@pytest.mark.parametrize(("name", "remedy"), EXECUTABLE.items(), ids=EXECUTABLE)
def test_an_executable_refuses_to_be_given_attributes(name: str, remedy: str) -> None:
    exe = compiled()
    for each in (exe, exe.inference, copy.copy(exe)):
        with pytest.raises(AttributeError, match=remedy) as raised:
            setattr(each, name, 1)
        assert isinstance(raised.value, GraphEngineError)
    exe.epochs_done = 3
    assert copy.copy(exe).epochs_done == 3


CONFIGURATIONS = (ge.Adam(), ge.SGD(0.1), ge.CosineDecay(0.1, steps=3), ge.ClipByValue(1.0), ge.init.HeNormal())


@pytest.mark.parametrize("thing", [*CONFIGURATIONS, ge.Training(loss="loss", optimizer=ge.Adam())], ids=repr)
def test_configurations_never_change(thing: Any) -> None:
    for name in (*type(thing).model_fields, "anything"):
        before = repr(thing)
        with pytest.raises(AttributeError, match=f"never changes: {name!r} cannot be set") as raised:
            setattr(thing, name, 0.5)
        assert isinstance(raised.value, GraphEngineError)
        assert repr(thing) == before
    assert all(copied(thing) == thing for copied in COPIES.values())


def test_a_graph_has_no_other_attributes() -> None:
    graph = network()
    for name in ("loss", "optimizer", "learning_rate", "seed"):
        with pytest.raises(AttributeError, match=r"write graph.training = ge.Training\(loss=..., optimizer=...\)"):
            setattr(graph, name, 1)
    with pytest.raises(AttributeError, match=r"write graph.input\(name, shape\)"):
        graph.inputs = []
    with pytest.raises(AttributeError, match="'anything' cannot be set"):
        graph.anything = 1
    for wrong in (ge.Adam(), "loss", {"loss": "loss"}):
        with pytest.raises(GraphEngineError, match=r"graph.training is a ge.Training\(loss=..., optimizer=...\)"):
            graph.training = wrong
    graph.training = ge.Training(loss="loss", optimizer=ge.Adam())
    graph.training = None
    assert graph.copy() == graph


def test_what_is_set_by_name_is_not_set_as_an_attribute() -> None:
    exe = compiled()
    with pytest.raises(AttributeError, match=r"write exe.parameters\['w'\] = array"):
        exe.parameters.w = np.zeros(3)
    with pytest.raises(AttributeError, match=r"write exe.state\['w'\] = array"):
        exe.state.w = np.zeros(3)
    with pytest.raises(AttributeError):
        exe.gradients(feeds()).w = 1
    with pytest.raises(AttributeError):
        ge.History().loss = []
    with pytest.raises(AttributeError):
        exe.graph.outputs["loss"].value = 1

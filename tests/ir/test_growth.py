"""While a graph grows, Python's collector rests; afterwards what has grown counts as old."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

import graphengine as ge
from graphengine.ir import growth
from graphengine.ir.growth import growing


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """The collector as it was, whatever a test does with it."""
    was_on = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if was_on else gc.disable)()


def test_inside_nothing_is_collected_and_afterwards_it_is_as_before() -> None:
    gc.enable()
    with growing():
        assert not gc.isenabled()
        with growing():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    with growing():
        pass
    assert not gc.isenabled()


def test_an_error_leaves_the_collector_as_it_was() -> None:
    gc.enable()
    with pytest.raises(RuntimeError), growing():
        raise RuntimeError
    assert gc.isenabled()


def test_what_has_grown_is_old_and_still_collected() -> None:
    gc.enable()
    with growing():
        circle: list[object] = []
        circle.append(circle)
    assert any(held is circle for held in gc.get_objects(generation=2))
    assert gc.get_freeze_count() == 0
    del circle
    assert gc.collect() > 0


def test_graphs_that_nobody_holds_are_freed_without_being_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "MOST_UNSEEN", 1_000)
    gc.enable()
    alive: list[weakref.ref[object]] = []
    for _ in range(60):
        graph = ge.Graph("line")
        graph.output("loss", ge.sum(graph.parameter("w", (3,)) * 2.0))
        exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1))
        exe.step({})
        alive.append(weakref.ref(exe.graph))
        del graph, exe
    assert sum(held() is not None for held in alive) < 40


def test_what_somebody_has_frozen_stays_frozen() -> None:
    gc.enable()
    gc.freeze()
    frozen = gc.get_freeze_count()
    with growing():
        pass
    assert gc.get_freeze_count() == frozen > 0


def test_reading_compiling_and_the_first_step_leave_the_collector_on() -> None:
    gc.enable()
    graph = ge.Graph("line")
    graph.output("loss", ge.sum(graph.parameter("w", (3,)) * 2.0))
    again = ge.Graph.from_json(graph.to_json())
    assert gc.isenabled()
    exe = ge.compile(again, loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    assert gc.isenabled()
    exe.step({})
    assert gc.isenabled()

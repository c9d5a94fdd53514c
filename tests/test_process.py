"""A library leaves the process as it found it: the collector, settings of Python and of NumPy, the threads of BLAS."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from itertools import count

import numpy as np
import pytest

import graphengine as ge
from graphengine.backends import threads
from graphengine.compile import installed_backends

every_backend = pytest.mark.parametrize("backend", installed_backends())


def interpreter() -> tuple[object, ...]:
    """What holds for all threads, and is the same in the middle of a call as before it."""
    collector = gc.isenabled(), gc.get_freeze_count(), gc.get_threshold()
    return *collector, sys.getswitchinterval(), sys.getrecursionlimit()


def state() -> tuple[object, ...]:
    """All that is to be the same after a call."""
    blas = threads._blas()[0]() if threads._blas() else None
    return *interpreter(), np.geterr(), np.getbufsize(), np.get_printoptions(), blas


@pytest.fixture(autouse=True)
def unusual() -> object:
    """Settings that nobody would put back by chance."""
    before = gc.get_threshold(), sys.getswitchinterval(), np.seterr(over="ignore", invalid="ignore")
    blas = threads._blas()[0]() if threads._blas() else None
    gc.set_threshold(701, 11, 12)
    sys.setswitchinterval(0.0041)
    if blas is not None:
        threads._blas()[1](2)
    yield
    gc.set_threshold(*before[0])
    sys.setswitchinterval(before[1])
    np.seterr(**before[2])
    if blas is not None:
        threads._blas()[1](blas)


numbers = count()


def mlp() -> ge.Graph:
    """A classifier with a kernel that no process has compiled, so that machine code is made for it."""
    graph = ge.Graph("mlp")
    x, labels = graph.input("x", ("batch", 64)), graph.input("labels", ("batch",), "int64")
    h = ge.relu(ge.layers.dense(x, 96) * (1.0 + 2.0**-20 * next(numbers)))
    graph.output("loss", ge.mean(ge.cross_entropy(ge.layers.dense(h, 10), labels)))
    return graph


FEEDS = {"x": np.ones((40, 64), "float32"), "labels": np.arange(40) % 10}


def compiled(backend: str, graph: ge.Graph) -> ge.Executable:
    return ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1), backend=backend)


def calls(backend: str, graph: ge.Graph) -> list[Callable[[], object]]:
    """Reading, compiling, running: the first run plans, and compiles kernels."""
    exe: list[ge.Executable] = []
    return [
        lambda: ge.Graph.from_json(graph.to_json()),
        lambda: exe.append(compiled(backend, graph)),
        lambda: exe[0].step(FEEDS),
        lambda: exe[0].step(FEEDS),
        lambda: exe[0].forward(FEEDS),
        lambda: exe[0].backward(),
        lambda: exe[0].explain(batch=40),
    ]


@every_backend
def test_every_call_leaves_all_settings_as_they_were(backend: str) -> None:
    before = state()
    for call in calls(backend, mlp()):
        call()
        assert state() == before


@every_backend
def test_another_thread_sees_no_other_settings_in_between(backend: str) -> None:
    before, seen, done = interpreter(), set(), threading.Event()

    def watch() -> None:
        while not done.wait(1e-4):
            seen.add(interpreter())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for call in calls(backend, mlp()):
            call()
    finally:
        done.set()
        watcher.join()
    assert seen == {before}


@every_backend
def test_a_callback_of_a_training_sees_the_settings_of_its_caller(backend: str) -> None:
    seen: list[tuple[object, ...]] = []

    class Look(ge.train.Callback):
        def on_epoch_end(self, exe: ge.Executable, history: ge.train.History) -> None:
            seen.append(state())

    before = state()
    ge.train.fit(compiled(backend, mlp()), FEEDS, batch_size=20, epochs=2, callbacks=[Look()], progress=False)
    assert len(seen) == 2
    assert all(each == before for each in seen)


@every_backend
def test_an_error_leaves_all_settings_as_they_were(backend: str) -> None:
    graph = mlp()
    exe = compiled(backend, graph)
    before = state()
    with pytest.raises(ge.ValueRangeError):
        exe.step({**FEEDS, "labels": np.full(40, 77)})
    with pytest.raises(ge.GraphEngineError):
        ge.compile(graph, loss="no output", backend=backend)
    with pytest.raises(ge.GraphEngineError):
        ge.Graph.from_json('{"graphengine": 1, "nodes": [')
    assert state() == before

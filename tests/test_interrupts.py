"""Exceptions of signal handlers in the middle of runs: what changes weights is whole or not at all."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

import graphengine as ge
from graphengine.backends import bound, threads
from graphengine.backends.undisturbed import undisturbed
from graphengine.compile import installed_backends
from graphengine.ir.node import apply
from graphengine.ir.op import Op
from graphengine.ir.types import Array, TensorType
from tests.ticks import Ticks, needs_signals

every_backend = pytest.mark.parametrize("backend", installed_backends())


class StopError(Exception):
    """What a handler raises."""


def stop() -> None:
    raise StopError


def network() -> ge.Graph:
    """Kernels in Python, in place, of a scan, and of several calls; states that FORWARD advances; slots."""
    g = ge.Graph("many")
    words, labels = g.input("words", ("batch", 6), "int64"), g.input("labels", ("batch",), "int64")
    h = ge.layers.embedding(words, 9, 4)
    h = ge.layers.batch_norm(ge.reshape(h, (-1, 4)))
    h = ge.dropout(ge.reshape(ge.softmax(ge.gelu(h)), ("batch", 24)), 0.2)
    h, _ = ge.scan(lambda c, _: (ge.tanh(c) * 0.9, None), ge.layers.dense(h, 5), None, length=4)
    g.output("loss", ge.cross_entropy(ge.layers.dense(h, 3), labels))
    return g


FEEDS = {"words": np.arange(48).reshape(8, 6) % 9, "labels": np.arange(8) % 3}


def compiled(backend: str) -> ge.Executable:
    return ge.compile(network(), loss="loss", optimizer=ge.Adam(0.01, clip=ge.ClipByGlobalNorm(1.0)), backend=backend)


def state(exe: ge.Executable) -> bytes:
    """All that a step changes."""
    return b"".join(held[name].tobytes() for held in (exe.parameters, exe.state) for name in held)


def interrupted(work: Callable[[], object], seconds: float) -> bool:
    """Do work in which a signal handler raises, so many seconds after its begin; whether it did."""
    before = signal.signal(signal.SIGALRM, lambda *_: stop())
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except StopError:
        return True
    finally:
        signal.signal(signal.SIGALRM, before)
    return False


@needs_signals
@every_backend
def test_steps_that_are_interrupted_are_whole(backend: str) -> None:
    other, exe = compiled(backend), compiled(backend)
    places = {state(other): 0}
    for number in range(1, 1500):
        other.step(FEEDS)
        places[state(other)] = number
    exe.step(FEEDS)
    draw, hits, reached = random.Random(0), 0, 1
    begin = time.perf_counter()
    for _ in range(5):
        exe.step(FEEDS)
    step = (time.perf_counter() - begin) / 5

    def steps() -> None:
        for _ in range(8):
            exe.step(FEEDS)

    while hits < 100 and reached < 1480:
        hits += interrupted(steps, draw.uniform(2e-5, 7 * step + 5e-5))
        assert places.get(state(exe), -1) >= reached
        reached = places[state(exe)]
    assert hits > 20
    before = threads._blas()[0]() if threads._blas() else None
    assert exe.step(FEEDS) > 0
    assert before is None or threads._blas()[0]() == before


@needs_signals
@every_backend
def test_halves_assignments_and_backward_are_whole_and_the_executable_goes_on(backend: str) -> None:
    exe = compiled(backend)
    exe.step(FEEDS)
    names = list(exe.parameters)
    right = exe.forward(FEEDS), exe.backward()
    zeros = {name: np.zeros_like(exe.parameters[name]) for name in names}
    values = {name: exe.parameters[name] for name in names}
    draw, hits, tries = random.Random(0), 0, 0

    def works() -> None:
        exe.forward(FEEDS)
        exe.backward()
        exe.parameters.update(zeros)
        exe.parameters.update(values)

    while hits < 30 and tries < 1000:
        hits, tries = hits + interrupted(works, draw.uniform(2e-5, 2e-3)), tries + 1
        assert all(np.array_equal(exe.parameters[n], values[n]) or not exe.parameters[n].any() for n in names)
        exe.parameters.update(values)
        again = exe.forward(FEEDS), exe.backward()
        for one, other in zip(right, again, strict=True):
            assert all(np.array_equal(one[name], other[name]) for name in one)
    assert hits == 30


@needs_signals
def test_signals_that_come_all_the_time_leave_steps_whole() -> None:
    exe, other = compiled("numpy"), compiled("numpy")
    places = {state(other): 0}
    for number in range(1, 400):
        other.step(FEEDS)
        places[state(other)] = number
    armed, hits, reached = [False], 0, 0
    with Ticks(lambda: stop() if armed[0] else None, 5e-4):
        while hits < 50 and reached < 300:
            try:
                armed[0] = True
                for _ in range(5):
                    exe.step(FEEDS)
            except StopError:
                hits += 1
            finally:
                armed[0] = False
            assert places.get(state(exe), -1) >= reached
            reached = places[state(exe)]
    assert hits > 5


class HalfWay(Op):
    """y = x + 1, by a kernel of Python over its operand, which lets the first element be counted as it goes."""

    overwrites: ClassVar[tuple[int, ...]] = (0,)
    kind: Literal["half_way"] = "half_way"
    pauses: ClassVar[list[Callable[[], object]]] = []

    def infer(self, x: TensorType) -> TensorType:
        return x

    def eval(self, xp: Any, x: Any) -> Any:
        return x + 1

    def bind(self, out: Array, *operands: Array, scratch: Any = ()) -> Any:
        def run() -> None:
            out[...] = operands[0]
            out[:2] += 1
            for pause in self.pauses:
                pause()
            out[2:] += 1

        return run, ()


@pytest.mark.parametrize("error", [StopError(), KeyboardInterrupt(), ge.ExecutionError("of a handler")])
def test_a_kernel_of_python_that_is_cut_off_over_its_operand_is_made_again(error: BaseException) -> None:
    g = ge.Graph("half")
    w = g.state("w", (4,), init=ge.init.Zeros())
    g.update(w, apply(HalfWay(), w))
    v = g.parameter("v", (4,), init=ge.init.Zeros())
    g.output("loss", ge.sum(v))
    exe = ge.compile(g, loss="loss", optimizer=ge.SGD(1.0), rewrites=())
    exe.step({})
    raised = [error]

    def once() -> None:
        if raised and threading.current_thread() is threading.main_thread():
            raise raised.pop()

    HalfWay.pauses.append(once)
    try:
        with pytest.raises(type(error)):
            exe.step({})
    finally:
        HalfWay.pauses.clear()
    assert exe.state["w"].tolist() == [2.0] * 4
    assert exe.parameters["v"].tolist() == [-2.0] * 4


def test_an_error_of_a_kernel_itself_is_raised_with_its_node() -> None:
    exe = compiled("numpy")
    with pytest.raises(ge.ValueRangeError, match="label 7") as raised:
        exe.step({**FEEDS, "labels": np.full(8, 7)})
    assert "node  " in str(raised.value)


def test_no_kernel_of_ours_is_of_python_over_its_operand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a one is bound to memory of its own, which no plan knows of."""
    seen: list[object] = []
    found = bound._begins_again
    monkeypatch.setattr(bound, "_begins_again", lambda calls, out: found(calls, out) or seen.append(calls))
    for graph in (network(), norms()):
        exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(0.1))
        exe.step({name: FEEDS.get(name, np.ones((8, 6), "float32")) for name in exe.needs()})
    assert not seen


def norms() -> ge.Graph:
    g = ge.Graph("norms")
    x, labels = g.input("x", ("batch", 6)), g.input("labels", ("batch",), "int64")
    h = ge.log_softmax(ge.layers.layer_norm(ge.dropout(ge.layers.dense(x, 6), 0.5)))
    h = ge.erf(ge.clip(ge.maximum(h * 2.0, -h), -1.0, 1.0))
    g.output("loss", ge.cross_entropy(ge.layers.dense(h, 3), labels) + 0.1 * ge.l2(g["dense_1.weight"]))
    return g


def test_undisturbed_work_is_done_once_and_returns_its_error() -> None:
    done: list[int] = []
    assert undisturbed(done.append, 1) is None
    assert done == [1]
    error = undisturbed(stop)
    assert isinstance(error, StopError)

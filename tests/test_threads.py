"""Threads that share an executable: runs side by side, changes one at a time, signal handlers, processes forked off."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import graphengine as ge
from graphengine import programs
from graphengine.compile import installed_backends
from tests.ticks import Ticks, needs_signals

every_backend = pytest.mark.parametrize("backend", installed_backends())
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture(autouse=True)
def many_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def net() -> ge.Graph:
    g = ge.Graph("net")
    x, labels = g.input("x", ("batch", 4)), g.input("labels", ("batch",), "int64")
    z = ge.layers.dense(ge.tanh(ge.layers.dense(x, 5)), 3)
    g.output("logits", z)
    g.output("loss", ge.cross_entropy(z, labels))
    return g


def compiled(backend: str) -> ge.Executable:
    return ge.compile(net(), loss="loss", optimizer=ge.Adam(0.01), backend=backend)


def batch(seed: int, size: int = 6) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {"x": draw.normal(size=(size, 4)).astype("float32"), "labels": draw.integers(0, 3, size)}


def together(*works: Callable[[], object]) -> None:
    """Do all at once; raises the first error."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


@every_backend
def test_eight_threads_get_their_own_values_each_time(backend: str) -> None:
    exe = compiled(backend)
    feeds = [batch(seed) for seed in range(8)]
    right = [compiled(backend).forward(each, ["logits"])["logits"].tobytes() for each in feeds]
    wrong = [0] * 8

    def work(i: int) -> None:
        for _ in range(10_000):
            wrong[i] += exe.forward(feeds[i], ["logits"])["logits"].tobytes() != right[i]

    together(*(lambda i=i: work(i) for i in range(8)))
    assert wrong == [0] * 8


@every_backend
def test_predictions_and_gradients_belong_to_their_thread(backend: str) -> None:
    exe = compiled(backend)
    feeds = [batch(seed, size=3 + seed % 2) for seed in range(4)]
    alone = [compiled(backend) for _ in feeds]
    right = [(other.forward(each), other.backward()) for other, each in zip(alone, feeds, strict=True)]
    predicted = [ge.predict(compiled(backend), {"x": each["x"]})["logits"] for each in feeds]

    def work(i: int) -> None:
        for _ in range(100):
            values, gradients = exe.forward(feeds[i]), exe.backward()
            assert all(values[name].tobytes() == array.tobytes() for name, array in right[i][0].items())
            assert all(gradients[name].tobytes() == array.tobytes() for name, array in right[i][1].items())
            assert ge.predict(exe, {"x": feeds[i]["x"]})["logits"].tobytes() == predicted[i].tobytes()

    together(*(lambda i=i: work(i) for i in range(4)))


def test_backward_is_refused_without_a_forward_of_this_thread() -> None:
    exe = compiled("numpy")
    exe.forward(batch(0))
    with pytest.raises(ge.ExecutionError, match="a forward of this thread"):
        together(exe.backward)
    assert exe.backward()
    together(lambda: exe.step(batch(1)))
    with pytest.raises(ge.ExecutionError, match="nothing run or set since"):
        exe.backward()


@every_backend
def test_steps_of_several_threads_go_one_at_a_time(backend: str) -> None:
    exe, other = compiled(backend), compiled(backend)
    feeds = batch(0)

    def halves() -> None:
        for _ in range(50):
            exe.gradients(feeds)

    together(*[lambda: [exe.step(feeds) for _ in range(50)]] * 4, halves)
    for _ in range(200):
        other.step(feeds)
    assert all(np.array_equal(exe.parameters[name], other.parameters[name]) for name in exe.parameters)
    assert all(np.array_equal(exe.state[name], other.state[name]) for name in exe.state)


def counting(backend: str) -> ge.Executable:
    """Two parameters that a step raises by one, and that `spread` compares with each other."""
    g = ge.Graph("counting")
    a, b = g.parameter("a", (200,)), g.parameter("b", (200,))
    x = g.input("x", ())
    both = ge.concat([a, b]) * x
    g.output("spread", ge.max(both) - ge.min(both))
    g.output("loss", -ge.sum(a) - ge.sum(b) + 0.0 * x)
    return ge.compile(g, loss="loss", optimizer=ge.SGD(1.0), backend=backend, rewrites=())


@every_backend
def test_a_forward_beside_steps_sees_the_weights_of_one_step(backend: str) -> None:
    exe = counting(backend)
    stepping = threading.Event()

    def steps() -> None:
        for _ in range(1500):
            exe.step({"x": np.float32(1)})
        stepping.set()

    seen = []

    def forwards() -> None:
        while not stepping.is_set():
            seen.append(exe.forward({"x": np.float32(1)}, ["spread"])["spread"])
            assert np.ptp(exe.parameters["a"]) == 0

    together(steps, forwards, forwards)
    assert len(seen) > 10
    assert not np.any(seen)
    assert exe.parameters["a"][0] == exe.parameters["b"][0] == 1500


def test_copies_beside_steps_are_of_one_step() -> None:
    exe = counting("numpy")

    def copies() -> None:
        for _ in range(30):
            twin = exe.__deepcopy__({})
            assert twin.parameters["a"][0] == twin.parameters["b"][0]

    together(lambda: [exe.step({"x": np.float32(1)}) for _ in range(600)], copies)


def test_contexts_are_bounded_and_go_with_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "CONTEXTS", 3)
    exe = compiled("numpy")
    arrived, leave = threading.Barrier(7), threading.Event()
    arenas: list[weakref.ref[object]] = []
    right = compiled("numpy").forward(batch(0))["logits"].tobytes()

    def work() -> None:
        assert exe.forward(batch(0))["logits"].tobytes() == right
        arenas.append(weakref.ref(exe.programs.latest.runnable))
        arrived.wait(60)
        leave.wait(60)
        assert exe.forward(batch(0))["logits"].tobytes() == right

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    arrived.wait(60)
    assert len({id(arena()) for arena in arenas}) == 3
    leave.set()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not any(arena() for arena in arenas)


@needs_signals
@every_backend
def test_a_handler_that_calls_what_it_interrupts_is_told_so(backend: str) -> None:
    exe, feeds = compiled(backend), batch(0)
    right = exe.forward(feeds, ["logits"])["logits"].tobytes()
    counts = {"done": 0, "refused": 0}

    def handler() -> None:
        try:
            assert exe.forward(feeds, ["logits"])["logits"].tobytes() == right
            counts["done"] += 1
        except ge.ExecutionError as error:
            counts["refused"] += "in the middle of a run" in str(error)

    done = threading.Event()

    def beside() -> None:
        while not done.is_set():
            assert exe.forward(feeds, ["logits"])["logits"].tobytes() == right

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        with Ticks(handler, 2e-4):
            end = time.monotonic() + 60
            while min(counts.values()) < 20 and time.monotonic() < end:
                assert exe.forward(feeds, ["logits"])["logits"].tobytes() == right
                sum(range(300))
    finally:
        done.set()
        thread.join()
    assert min(counts.values()) >= 20


def test_a_call_in_the_middle_of_a_run_is_refused_whatever_it_asks_for() -> None:
    exe = compiled("numpy")
    calls = [
        lambda: exe.step(batch(0)),
        lambda: exe.forward(batch(0)),
        lambda: exe.inference.forward(batch(0)),
        lambda: exe.parameters["dense_1.weight"],
        lambda: exe.parameters.update(exe.parameters),
        lambda: exe.__deepcopy__({}),
    ]

    def inside(_: object, call: Callable[[], object]) -> None:
        with pytest.raises(ge.ExecutionError, match="in the middle of a run"):
            call()

    for call in calls:
        exe.programs.run(inside, call)
        exe.programs.change(inside, call)
    assert exe.step(batch(0)) > 0


FORKS = """
    import os, sys, threading, time
    import numpy as np
    import graphengine as ge

    def net(constant):
        g = ge.Graph("net")
        x = g.input("x", ("batch", 4))
        g.output("loss", ge.mean(ge.square(ge.tanh(x @ g.parameter("w", (4, 3))) * constant)))
        return ge.compile(g, loss="loss", optimizer=ge.Adam(0.01), backend=sys.argv[1])

    feeds = {"x": np.ones((6, 4), "float32")}
    shared, numbers = net(1.0), iter(range(10**9))
    steps = net(1.0)
    shared.forward(feeds)
    ended = threading.Event()

    def build():
        while not ended.is_set():
            exe = net(1.0 + 2.0 ** -18 * next(numbers))
            time.sleep(0.01)
            exe.inference.forward(feeds)
            exe.gradients(feeds)

    def run():
        while not ended.is_set():
            shared.forward(feeds)
            steps.step(feeds)

    threads = [threading.Thread(target=work) for work in (build, run, run)]
    [thread.start() for thread in threads]
    failed = 0
    for turn in range(4):
        time.sleep(0.03 + 0.017 * turn)
        child = os.fork()
        if child == 0:
            other = net(1.0)
            right = np.isfinite([shared.step(feeds), steps.step(feeds), other.step(feeds)]).all()
            right = right and shared.forward(feeds)["loss"] > 0
            os._exit(0 if right else 1)
        end = time.monotonic() + 60
        while not (done := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < end:
            time.sleep(0.01)
        if not done[0]:
            os.kill(child, 9)
            os.waitpid(child, 0)
        failed += not done[0] or done[1] != 0
    ended.set()
    [thread.join() for thread in threads]
    sys.exit(failed)
"""


def child(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)


@needs_fork
@every_backend
def test_processes_forked_off_while_others_build_and_run_go_on(backend: str) -> None:
    done = child(FORKS, backend)
    assert done.returncode == 0, done.stderr


WITHOUT = """
    import ctypes, os, sys, threading
    from pathlib import Path
    for name in ("fork", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sched_yield"):
        if hasattr(os, name):
            delattr(os, name)

    read = Path.read_text
    def read_text(path, *arguments, **named):
        if str(path).startswith(("/proc", "/sys")):
            raise FileNotFoundError(path)
        return read(path, *arguments, **named)
    Path.read_text = read_text
    load = ctypes.CDLL.__getattr__
    def lookup(library, name):
        if name.startswith("sched_"):
            raise AttributeError(name)
        return load(library, name)
    ctypes.CDLL.__getattr__ = lookup

    import numpy as np
    import graphengine as ge
    ge.set_threads(3)
    g = ge.Graph("net")
    x = g.input("x", ("batch", 64))
    h = ge.tanh(ge.layers.dense(x, 64))
    g.output("y", h)
    g.output("loss", ge.mean(ge.square(h)))
    exe = ge.compile(g, loss="loss", optimizer=ge.SGD(0.1), backend=sys.argv[1])
    feeds = {"x": np.ones((400, 64), "float32")}
    right, wrong = exe.forward(feeds)["y"], []

    def work():
        for _ in range(20):
            wrong.append(not np.array_equal(exe.forward(feeds)["y"], right))

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    before = exe.step(feeds)
    sys.exit(any(wrong) or len(wrong) != 80 or not exe.step(feeds) < before)
"""


@every_backend
def test_systems_without_fork_proc_and_affinity_do_as_well(backend: str) -> None:
    done = child(WITHOUT, backend)
    assert done.returncode == 0, done.stderr

"""The threads that run programs: jobs done by all of them, by one, from several threads at once, and after a fork."""

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba compiles the kernels")

import graphengine as ge
from graphengine.backends import threads
from graphengine.backends.native.compile.store import addresses
from graphengine.backends.native.kernel import Kernel
from graphengine.backends.native.threads import team as module
from graphengine.backends.native.threads.runtime import ROW
from graphengine.backends.native.threads.team import Job, Team

RANKS = Kernel(
    "ranks",
    "def ranks(x, rank, ranks):\n    x[rank] += ranks\n",
)
"""Notes of each part that it is computed, and of how many there are."""

REFUSAL = Kernel("refusal", "def refusal(fault):\n    fault[0] = 1\n")

SIGNATURE = ("int64*",)
CUT, WHOLE = [3, 3, 3], [1, 0, 0]
"""What a call notes that is cut in three parts, whoever computes them, and one that is computed in one."""


@pytest.fixture(scope="module")
def team() -> Iterator[Team]:
    """A team of three, whose help is taken to pay."""
    before = list(threads._told)
    threads._told[:] = [3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Pace, "note", lambda *_: None)
        yield Team()
    threads._told[:] = before


class Calls:
    """A job, and what keeps its memory."""

    def __init__(self, team: Team, calls: int = 1, parts: int = 3) -> None:
        self.out = np.zeros(3, np.int64)
        self.fault = np.zeros(16, np.int64)
        found = addresses([(RANKS, SIGNATURE), (REFUSAL, SIGNATURE)])
        self.note, self.refusal = found[RANKS, SIGNATURE], found[REFUSAL, SIGNATURE]
        self.words = np.array([self.out.ctypes.data, self.fault.ctypes.data], np.int64)
        self.table = np.array([[self.note, self.words.ctypes.data, parts]] * calls, np.int64)
        assert self.table.shape[1] == ROW
        self.job: Job = team.job(self.table, self.fault)


def test_what_is_cut_is_computed_once_in_every_part(team: Team) -> None:
    task = Calls(team, calls=50)
    for _ in range(200):
        task.out[:] = 0
        team.run(task.job, shared=True)
        assert (task.out == 50 * np.array(CUT)).all()


def test_what_is_not_cut_is_computed_by_one_thread(team: Team) -> None:
    task = Calls(team, parts=1)
    team.run(task.job, shared=True)
    assert task.out.tolist() == WHOLE
    task = Calls(team)
    team.run(task.job, shared=False)
    assert task.out.tolist() == WHOLE


def test_workers_take_parts_while_the_leader_has_its_own(team: Team) -> None:
    """The leader waits in its part until both others have been computed, so it can have computed neither."""
    waiting = Kernel(
        "waiting",
        "def waiting(x, rank, ranks):\n"
        "    x[rank] = 1\n"
        "    while load(x, 0) + load(x, 1) + load(x, 2) < 3:\n"
        "        pause(0, 0)\n",
    )
    task = Calls(team)
    task.table[0, 0] = addresses([(waiting, SIGNATURE)])[waiting, SIGNATURE]
    for _ in range(5):
        time.sleep(0.02)  # the workers sleep, and have to be woken
        task.out[:] = 0
        team.run(task.job, shared=True)
        assert task.out.tolist() == [1, 1, 1]


def test_the_leader_computes_what_nobody_takes(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_call_in", lambda: None)
    time.sleep(0.02)  # the workers are asleep, and stay so
    task = Calls(team, calls=10)
    team.run(task.job, shared=True)
    assert (task.out == 10 * np.array(CUT)).all()


def test_nothing_is_computed_after_a_refusal(team: Team) -> None:
    task = Calls(team, calls=5)
    task.table[2] = task.refusal, task.words[1:].ctypes.data, 1
    for shared in (True, False):
        task.out[:] = 0
        team.run(task.job, shared=shared)
        assert task.fault[8] == 3
        assert (task.out == 2 * np.array(CUT if shared else WHOLE)).all()


def test_several_threads_run_jobs_at_once(team: Team) -> None:
    wrong = []

    def work() -> None:
        task = Calls(team, calls=20)
        for _ in range(200):
            task.out[:] = 0
            team.run(task.job, shared=True)
            if task.out.tolist() not in ([60, 60, 60], [20, 0, 0]):
                wrong.append(task.out.tolist())

    started = [threading.Thread(target=work) for _ in range(4)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_number_of_threads_may_change(team: Team, count: int) -> None:
    task = Calls(team, calls=5)
    before = list(threads._told)
    threads._told[:] = [count]
    try:
        team.run(task.job, shared=True)
    finally:
        threads._told[:] = before
    assert (task.out == 5 * np.array(WHOLE if count == 1 else CUT)).all()


@pytest.mark.parametrize("missing", ["os.sched_setaffinity", "_C"])
def test_systems_without_affinity_have_teams_too(team: Team, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    if missing == "_C":
        monkeypatch.setattr(module, "_C", None)
    else:
        monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    time.sleep(0.02)
    task = Calls(team, calls=5)
    team.run(task.job, shared=True)
    assert (task.out == 5 * np.array(CUT)).all()


def network() -> tuple[ge.Executable, dict[str, np.ndarray]]:
    graph = ge.Graph("large")
    x, y = graph.input("x", (256, 256)), graph.input("y", (256,), dtype="int64")
    hidden = ge.relu(x @ graph.parameter("w", (256, 256), init=ge.init.Normal(std=0.1)))
    graph.output("loss", ge.cross_entropy(hidden @ graph.parameter("v", (256, 10), init=ge.init.Normal(std=0.1)), y))
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1), backend="numba", seed=0)
    random = np.random.default_rng(0)
    return exe, {"x": random.normal(size=(256, 256)).astype("float32"), "y": random.integers(0, 10, 256)}


def test_who_helps_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_told", [2])
    random = np.random.default_rng(0)
    losses = []
    for way in (lambda: True, lambda: False, lambda: bool(random.integers(2))):
        monkeypatch.setattr(module.Pace, "note", lambda pace, _, way=way: setattr(pace, "together", way()))
        exe, feeds = network()
        losses.append([exe.step(feeds) for _ in range(20)])
    assert losses[0] == losses[1] == losses[2]


def test_a_program_goes_on_when_the_number_of_threads_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_told", [2])
    exe, feeds = network()
    expected = [exe.step(feeds) for _ in range(6)]
    exe, feeds = network()
    losses = []
    for count in (2, 1, 3, 2, 1, 5):
        monkeypatch.setattr(threads, "_told", [count])
        losses.append(exe.step(feeds))
    assert losses == expected  # it stays cut for two


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # Python warns of forks beside threads; that is it
def test_a_process_forked_off_has_a_team_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_told", [2])
    exe, feeds = network()
    before = dict(exe.parameters)
    expected = [exe.step(feeds) for _ in range(3)]
    for name, value in before.items():
        exe.parameters[name] = value
    child = os.fork()
    if child == 0:
        os._exit(0 if [exe.step(feeds) for _ in range(3)] == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert [exe.step(feeds) for _ in range(3)] == expected

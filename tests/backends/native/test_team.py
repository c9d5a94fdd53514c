"""The threads that run programs: jobs done by all of them, by one, from several threads at once, and after a fork."""

import os
import threading
import time

import numpy as np
import pytest

pytest.importorskip("numba", reason="numba compiles the kernels")

from graphengine.backends.native.code import addresses
from graphengine.backends.native.team import Team, count_threads
from graphengine.ir.kernel import Kernel

RANKS = Kernel(
    "ranks",
    "def ranks(x, rank, ranks):\n    x[rank] = ranks\n",
)
SIGNATURE = ("int64*",)
TOGETHER, ALONE = [3, 3, 3], [1, 0, 0]
"""What the threads of a team of three note. A run goes alone if a worker falls asleep just then."""


@pytest.fixture(scope="module")
def team() -> Team:
    return Team(3)


def job(team: Team, out: np.ndarray, calls: int = 1, shared: bool = True):
    """A job of so many calls that note which threads ran, and what keeps its memory."""
    arguments = np.array([out.ctypes.data], np.int64)
    function = addresses([(RANKS, SIGNATURE)])[RANKS, SIGNATURE]
    table = np.array([[function, arguments.ctypes.data, shared, shared]] * calls, np.int64)
    sync = np.zeros(24, np.int64)
    words = np.array([table.ctypes.data, calls, sync.ctypes.data, 0], np.int64)
    return team.job(words), (arguments, table, sync)


def test_all_threads_run_what_is_shared(team: Team) -> None:
    out = np.zeros(3, np.int64)
    task, _memory = job(team, out, calls=50)
    seen = []
    for _ in range(200):
        out[:] = 0
        team.run(task, shared=True)
        seen.append(out.tolist())
    assert TOGETHER in seen
    assert all(ranks in (TOGETHER, ALONE) for ranks in seen)


def test_one_thread_runs_what_is_not_shared(team: Team) -> None:
    out = np.zeros(3, np.int64)
    task, _memory = job(team, out, shared=False)
    team.run(task, shared=True)
    assert out.tolist() == ALONE
    task, _memory = job(team, out)
    team.run(task, shared=False)
    assert out.tolist() == ALONE


def test_workers_that_have_gone_to_sleep_are_woken(team: Team) -> None:
    out = np.zeros(3, np.int64)
    task, _memory = job(team, out)
    seen = []
    for _ in range(10):
        time.sleep(0.02)
        out[:] = 0
        team.run(task, shared=True)
        seen.append(out.tolist())
    assert TOGETHER in seen


def test_several_threads_run_jobs_at_once(team: Team) -> None:
    wrong = []

    def work() -> None:
        out = np.zeros(3, np.int64)
        task, _memory = job(team, out, calls=20)
        for _ in range(200):
            out[:] = 0
            team.run(task, shared=True)
            if out.tolist() not in (TOGETHER, ALONE):
                wrong.append(out.tolist())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # Python warns of forks beside threads; that is it
def test_a_process_forked_off_goes_alone() -> None:
    import graphengine as ge

    graph = ge.Graph("forked")
    x = graph.input("x", (256, 256))
    graph.output("y", x @ graph.parameter("w", (256, 256)))
    exe = ge.compile(graph, backend="numba")
    feeds = {"x": np.ones((256, 256), "float32")}
    expected = exe.forward(feeds)["y"]
    child = os.fork()
    if child == 0:
        same = np.allclose(exe.forward(feeds)["y"], expected)
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_number_of_threads_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert count_threads() == 3
    monkeypatch.setenv("GRAPHENGINE_THREADS", "2")
    assert count_threads() == 2
    monkeypatch.setenv("GRAPHENGINE_THREADS", "many")
    assert count_threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delenv("GRAPHENGINE_THREADS")
    assert 1 <= count_threads() <= (os.cpu_count() or 1)

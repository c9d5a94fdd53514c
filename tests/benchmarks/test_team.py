"""Peers in processes of their own, and how they are talked to."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from benchmarks.frame.benchmark import Request
from benchmarks.frame.team import PeerError, Team, Worker
from benchmarks.worker.case import Case, read_case, write_case
from benchmarks.worker.with_graphengine import graph_of
from benchmarks.workloads import lenet, mlp, scalar

SMALL = mlp([5, 4, 3], batch=2)


def team_of(peer: str, pythons: dict[str, str] | None = None, threads: int | None = None) -> Team:
    return Team(Request(rows=(), peers=(peer,), seconds=0.0, threads=threads, pythons=pythons or {}))


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    made = Worker("graphengine-numpy")
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    write_case(tmp_path / "case.npz", SMALL)
    return str(tmp_path / "case.npz")


def test_a_case_is_read_as_it_was_written(tmp_path: Path) -> None:
    for case in (SMALL, scalar(nodes=12, leaves=3)):
        write_case(tmp_path / "case.npz", case)
        again = read_case(tmp_path / "case.npz")
        assert (again.family, again.settings, again.rate) == (case.family, case.settings, case.rate)
        for group, other in ((again.parameters, case.parameters), (again.feeds, case.feeds)):
            assert list(group) == list(other)
            assert all(np.array_equal(value, other[name]) for name, value in group.items())
            assert all(value.dtype == other[name].dtype for name, value in group.items())


def losses_here(case: Case, steps: int) -> list[float]:
    graph = graph_of(case.family, case.settings, case.feeds)
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=case.rate))
    for name, value in case.parameters.items():
        exe.parameters[name] = value
    return [exe.step(case.feeds) for _ in range(steps)]


def test_a_worker_takes_the_steps_that_the_engine_takes_here(worker: Worker, path: str) -> None:
    worker.ask("prepare", path=path)
    assert worker.ask("steps", count=4)["losses"] == losses_here(SMALL, 4)


def test_a_worker_says_who_it_is(worker: Worker) -> None:
    assert worker.facts.versions["numpy"] == np.__version__
    assert worker.facts.threads >= 1
    assert worker.facts.blas
    assert not worker.facts.missing


def test_short_steps_are_timed_several_at_once(worker: Worker, path: str) -> None:
    worker.ask("prepare", path=path)
    worker.ask("warm", seconds=0.01)
    timed = worker.ask("time", seconds=0.01)
    assert timed["repeat"] >= 1
    assert timed["samples"]
    assert all(seconds > 0 for seconds in timed["samples"])


def test_from_a_document_to_the_first_step(worker: Worker, tmp_path: Path) -> None:
    dag = scalar(nodes=12, leaves=3)
    (tmp_path / "graph.json").write_text(graph_of(dag.family, dag.settings, {}).to_json())
    assert worker.ask("first", text=str(tmp_path / "graph.json"))["seconds"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="no other system tells the peak of a part of a process' life")
def test_memory_and_allocations_are_measured(worker: Worker, path: str) -> None:
    grown = worker.ask("memory", path=path, steps=2)
    assert set(grown) == {"first", "steady"}
    assert worker.ask("peak")["bytes"] > 0
    allocated = worker.ask("allocations", steps=3)
    assert allocated["left"] < 10_000


def test_a_peer_that_cannot_do_a_row_says_so_and_goes_on(tmp_path: Path) -> None:
    write_case(tmp_path / "lenet.npz", lenet(batch=1))
    write_case(tmp_path / "mlp.npz", SMALL)
    with team_of("numpy-products") as team:
        with pytest.raises(PeerError, match="products are measured alone for MLPs"):
            team["numpy-products"].ask("prepare", path=str(tmp_path / "lenet.npz"))
        team["numpy-products"].ask("prepare", path=str(tmp_path / "mlp.npz"))
        assert team["numpy-products"].ask("steps", count=1) == {"losses": [0.0]}


def test_a_fault_in_a_peer_is_told_by_its_first_line(worker: Worker) -> None:
    with pytest.raises(PeerError, match=r"^FileNotFoundError: .*none\.npz"):
        worker.ask("prepare", path="none.npz")


def test_what_a_peer_prints_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "autograd").mkdir()
    (tmp_path / "autograd" / "__init__.py").write_text("print('welcome')\nraise ImportError('half a package')")
    with team_of("autograd") as team:
        assert list(team) == []
        assert team.facts["autograd"].missing == "half a package"


def test_an_interpreter_that_is_not_there_is_a_peer_that_is_missing() -> None:
    with team_of("torch", {"torch": "/nowhere/python"}) as team:
        assert "/nowhere/python does not start" in team.facts["torch"].missing


def test_a_process_that_ends_tells_its_last_words_and_another_takes_its_place(path: str) -> None:
    with team_of("graphengine-numpy") as team:
        first = team["graphengine-numpy"]
        first._process.kill()
        with pytest.raises(PeerError, match="the process ended: exit code -9"):
            first.ask("prepare", path=path)
        with pytest.raises(PeerError, match="the process ended"):
            first.ask("steps", count=1)
        first._process.wait()
        second = team["graphengine-numpy"]
        assert second is not first
        second.ask("prepare", path=path)


def test_a_peer_that_takes_too_long_is_ended(path: str) -> None:
    with contextlib.closing(Worker("graphengine-numpy")) as worker:
        worker.ask("prepare", path=path)
        with pytest.raises(PeerError, match=r"not done after 0\.05 s"):
            worker.ask("warm", 0.05, seconds=60)
        worker._process.wait(10)
        assert not worker.alive


@pytest.mark.skipif(sys.platform != "linux", reason="no other system limits a process to some of its cores")
def test_a_limit_of_cores_holds() -> None:
    with team_of("graphengine-numpy", threads=1) as team:
        assert team.facts["graphengine-numpy"].threads == 1

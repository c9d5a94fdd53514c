"""How many threads compute: by the environment, by affinity, by the quotas of control groups, or as told."""

import importlib.util
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.backends import threads

needs_numba = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba compiles the kernels")


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    """The setting is the process's: a test puts it back, and so that of BLAS."""
    before = threads._blas()[0]() if threads._blas() else None
    yield
    threads._told.clear()
    threads._at_first.cache_clear()
    if before is not None:
        threads._blas()[1](before)


def test_the_number_of_threads_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> int:
        threads._at_first.cache_clear()
        return ge.get_threads()

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert count() == 3
    monkeypatch.setenv("GRAPHENGINE_THREADS", "2")
    assert count() == 2
    monkeypatch.setenv("GRAPHENGINE_THREADS", "many")
    assert count() == 3
    monkeypatch.setenv("GRAPHENGINE_THREADS", "100000")
    assert count() == threads.MOST_THREADS
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delenv("GRAPHENGINE_THREADS")
    assert 1 <= count() <= (os.cpu_count() or 1)


def test_what_is_told_stands_above_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHENGINE_THREADS", "5")
    ge.set_threads(3)
    assert ge.get_threads() == 3
    ge.set_threads(1)
    assert ge.get_threads() == 1


def test_blas_is_told_too() -> None:
    if not threads._blas():
        pytest.skip("NumPy's BLAS is none whose threads can be set")
    ge.set_threads(1)
    assert threads._blas()[0]() == 1


@pytest.mark.parametrize("count", [0, -1, 257, 10**9, 2.0, "2", None, True])
def test_another_number_is_refused(count: object) -> None:
    with pytest.raises(ge.ValueRangeError, match=r"an int from 1 to 256, not "):
        ge.set_threads(count)
    assert not threads._told


def test_integers_of_numpy_are_taken() -> None:
    ge.set_threads(np.int64(2))
    assert ge.get_threads() == 2


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": cgroup, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "350000 100000\n"}, 3),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "1600000 100000\n"}, 8),
        ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "400000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 4),
        ("0::/a/b\n", {"sys/fs/cgroup/a/cpu.max": "max 100000\n", "sys/fs/cgroup/a/b/cpu.max": "300000 100000\n"}, 3),
        ("0::/of/the/host\n", {"sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
        (
            "5:cpu,cpuacct:/docker/1\n3:memory:/docker/1\n0::/\n",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        (
            "5:cpu,cpuacct:/\n",
            {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            8,
        ),
        ("0::/\n", {"sys/fs/cgroup/cpu.max": "not what the kernel writes\n"}, 8),
        ("no groups here\n", {}, 8),
        ("0::/\n", {}, 8),
    ],
)
def test_quotas_of_control_groups_limit_the_cores(
    tmp_path: Path, cgroup: str, files: dict[str, str], cores: int
) -> None:
    assert threads.available_cores(system(tmp_path, cgroup, files)) == cores


@pytest.mark.usefixtures("eight_cores")
def test_a_system_without_control_groups_gives_all_its_cores(tmp_path: Path) -> None:
    assert threads.available_cores(tmp_path) == 8


def test_a_system_without_affinity_gives_all_its_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads.available_cores(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert threads.available_cores(tmp_path) == 1


def blas_threads_in(graph: ge.Graph, feeds: dict[str, np.ndarray]) -> int:
    """How many threads BLAS has while a program of the graph runs; it may have four before."""
    if not threads._blas():
        pytest.skip("NumPy's BLAS is none whose threads can be set")
    get, put = threads._blas()
    put(4)
    if get() != 4:
        pytest.skip("this BLAS has fewer threads")
    exe = ge.compile(graph)
    exe.forward(feeds)
    bound = exe.programs.latest.runnable
    seen = []
    bound._make(iter([(lambda: seen.append(get()),)]))
    assert get() == 4
    return seen[0]


@pytest.mark.parametrize(
    ("m", "k", "n", "count"), [(4, 4, 4, 4), (32, 96, 256, 1), (36864, 25, 8, 1), (128, 784, 256, 4)]
)
def test_products_of_numpy_have_threads_where_these_pay(m: int, k: int, n: int, count: int) -> None:
    graph = ge.Graph("product")
    graph.output("y", graph.input("x", (m, k)) @ graph.parameter("w", (k, n)))
    assert blas_threads_in(graph, {"x": np.ones((m, k), "float32")}) == count


def test_threads_of_blas_are_put_back_after_an_error() -> None:
    graph = ge.Graph("refused")
    y = graph.input("x", (64, 96)) @ graph.parameter("w", (96, 128))
    graph.output("loss", ge.cross_entropy(y, graph.input("labels", (64,), dtype="int64")))
    before = threads._blas()[0]() if threads._blas() else None
    exe = ge.compile(graph)
    with pytest.raises(ge.ValueRangeError):
        exe.forward({"x": np.ones((64, 96), "float32"), "labels": np.full(64, 999)})
    assert before is None or threads._blas()[0]() == before


BACKENDS = {"numpy": ("numpy",) * 4, "numba": ("numba",) * 4, "both": ("numpy", "numba") * 2}


@pytest.mark.parametrize(
    "backends", [names if key == "numpy" else pytest.param(names, marks=needs_numba) for key, names in BACKENDS.items()]
)
def test_programs_in_several_threads_give_the_bits_of_one(backends: tuple[str, ...]) -> None:
    if threads._blas():
        threads._blas()[1](4)
    graph = ge.Graph("middling")
    x = graph.input("x", (96, 96))
    graph.output("y", ge.tanh(x @ graph.parameter("w", (96, 80), init=ge.init.Normal(std=0.1))))
    feeds = {"x": np.random.default_rng(0).random((96, 96), "float32")}
    expected = {name: ge.compile(graph, backend=name, seed=0).forward(feeds)["y"] for name in backends}
    wrong: list[int] = []

    def work(backend: str) -> None:
        exe = ge.compile(graph, backend=backend, seed=0)
        wrong.extend(turn for turn in range(100) if not np.array_equal(exe.forward(feeds)["y"], expected[backend]))

    started = [threading.Thread(target=work, args=(name,)) for name in backends]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert not wrong
    if threads._blas():
        assert threads._blas()[0]() == 4

"""How much memory a process can have, and what happens when something takes more."""

import os
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.backends import memory
from tests.backends.test_threads import system

MEMINFO = "MemTotal:        1000 kB\nMemFree:          10 kB\nSwapTotal:         24 kB\nHugePages_Total:       0\n"
HERE = 2**20
"""What the tests below say that this process can have."""


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("", {"proc/meminfo": MEMINFO}, 1024 * 1024),
        ("0::/\n", {"proc/meminfo": MEMINFO, "sys/fs/cgroup/memory.max": "max\n"}, 1024 * 1024),
        ("0::/\n", {"proc/meminfo": MEMINFO, "sys/fs/cgroup/memory.max": "5000\n"}, 5000 + 24 * 1024),
        (
            "0::/a\n",
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory.max": "5000\n",
                "sys/fs/cgroup/memory.swap.max": "7\n",
                "sys/fs/cgroup/a/memory.max": "max\n",
            },
            5007,
        ),
        (
            "4:memory:/docker/1\n3:cpu:/\n",
            {"proc/meminfo": MEMINFO, "sys/fs/cgroup/memory/memory.limit_in_bytes": "300000\n"},
            300000 + 24 * 1024,
        ),
        ("4:memory:/\n", {"proc/meminfo": "MemTotal: none\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9\n"}, 9),
    ],
)
def test_the_machine_and_its_control_groups_say_how_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda _: 2**20)
    assert memory.system_bytes(system(tmp_path, cgroup, files)) == expected


def test_where_nothing_says_how_much_an_address_space_is_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}[name])
    assert memory.system_bytes(tmp_path / "mac") == 4096_000
    monkeypatch.delattr(os, "sysconf")
    assert memory.system_bytes(tmp_path / "windows") == sys.maxsize


def test_a_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.available_bytes()
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (12345 if kind == resource.RLIMIT_AS else -1, -1))
    assert memory.available_bytes() == 12345 < whole


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of one MiB."""
    monkeypatch.setattr(memory, "EVERYWHERE", 0)
    monkeypatch.setattr(memory, "available_bytes", lambda: HERE)


def wide(width: int, batch: int | str = "batch") -> ge.Graph:
    g = ge.Graph("net")
    g.output("loss", ge.mean(ge.tanh(g.input("x", (batch, 4)) @ g.parameter("w", (4, width)))))
    return g


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_a_program_that_the_machine_cannot_hold_is_refused_by_node_and_bytes(backend: str) -> None:
    exe = ge.compile(wide(2**16), backend=backend)
    with pytest.raises(ge.ExecutionError) as error:
        exe.forward({"x": np.zeros((3, 4), np.float32)})
    text = str(error.value)
    assert "program forward (batch=3) takes " in text
    assert f" bytes, and this process can have {HERE:,}" in text
    assert "w, float32[4, 65536], 1,048,576 bytes" in text


@pytest.mark.usefixtures("small")
def test_the_arena_alone_may_be_too_much_and_less_of_it_runs() -> None:
    exe = ge.compile(wide(8), loss="loss", optimizer=ge.SGD(0.1))
    with pytest.raises(
        ge.ExecutionError, match=r"program step \(batch=40000\).*\n.*float32\[40000, 8\], 1,280,000 bytes"
    ):
        exe.step({"x": np.zeros((40000, 4), np.float32)})
    assert np.isfinite(exe.step({"x": np.ones((4, 4), np.float32)}))


@pytest.mark.usefixtures("small")
def test_a_parameter_that_is_too_large_is_refused_when_it_is_read_or_set() -> None:
    exe = ge.compile(wide(2**17))
    said = r"w, float32\[4, 131072\], takes 2,097,152 bytes, and this process can have 1,048,576"
    with pytest.raises(ge.ExecutionError, match=said):
        exe.parameters["w"]
    with pytest.raises(ge.ExecutionError, match=said):
        exe.parameters["w"] = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (4, 2**17), (0, 0))


@pytest.mark.usefixtures("small")
def test_parameters_count_together() -> None:
    g = ge.Graph()
    for name in "abc":
        g.output(name, ge.sum(g.parameter(name, (100_000,))))
    exe = ge.compile(g)
    assert exe.parameters["a"].shape == exe.parameters["b"].shape
    with pytest.raises(ge.ExecutionError, match=r"c, .* takes 400,000 bytes beside the 800,000 that are held"):
        exe.parameters["c"]
    assert exe.forward({}, ["b"])["b"] == 0


@pytest.mark.usefixtures("small")
def test_a_scan_that_is_too_long_is_refused_before_it_is_bound() -> None:
    g = ge.Graph()
    x = g.input("x", (4,))
    last, _ = ge.scan(lambda c, _: (ge.tanh(c), None), x, None, length=10**9)
    g.output("last", last)
    exe = ge.compile(g)
    assert exe.cost().flops["FORWARD"] == 4 * 10**9
    with pytest.raises(ge.ExecutionError, match=r"the calls of scan_1 = scan\(x\).* for each of 1,000,000,000 steps"):
        exe.forward({"x": np.zeros(4, np.float32)})


def test_memory_that_the_system_refuses_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    exe = ge.compile(wide(8))
    monkeypatch.setattr("graphengine.backends.bound.allocate", none_left)
    with pytest.raises(ge.ExecutionError, match=r"program forward \(batch=2\) takes .* the system has no more to give"):
        exe.forward({"x": np.zeros((2, 4), np.float32)})


def test_memory_that_a_kernel_is_refused_is_told_with_its_node() -> None:
    def none_left(*_: object) -> None:
        raise MemoryError

    exe = ge.compile(wide(8), backend="numpy")
    exe.forward({"x": np.zeros((2, 4), np.float32)})
    runnable = exe.programs.latest.runnable
    runnable.calls[1] = (none_left, runnable.calls[1][1])
    runnable._listings.clear()
    with pytest.raises(ge.ExecutionError, match=r"a kernel needs memory(?s:.*)node  mean_1 = fused"):
        exe.forward({"x": np.zeros((2, 4), np.float32)})


@pytest.mark.usefixtures("small")
def test_results_that_are_copied_count() -> None:
    g = ge.Graph()
    g.output("wide", ge.broadcast_to(g.input("x", (4,)), (2**17, 4)))  # a view, which takes nothing in the arena
    with pytest.raises(ge.ExecutionError, match=r"broadcast_to_1, float32\[131072, 4\], 2,097,152 bytes"):
        ge.compile(g).forward({"x": np.zeros(4, np.float32)})


def test_copies_that_the_system_refuses_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoCopy:
        def copy(self) -> None:
            raise MemoryError

    exe = ge.compile(wide(8), loss="loss")
    exe.forward({"x": np.zeros((2, 4), np.float32)})
    results = exe.programs.latest.runnable.results
    for name in results:
        monkeypatch.setitem(results, name, NoCopy())
    with pytest.raises(ge.ExecutionError, match="copies of the gradients take memory, and the system has no more"):
        exe.backward()
    with pytest.raises(ge.ExecutionError, match="copies of loss take memory, and the system has no more to give"):
        exe.forward({"x": np.zeros((2, 4), np.float32)})

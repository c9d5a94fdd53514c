"""Processes that compute meanwhile."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from benchmarks.frame.benchmark import Request
from benchmarks.frame.run import others_computing, result_of
from benchmarks.frame.text import conditions


def test_others_compute_inside_and_are_gone_after(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    with others_computing(2):
        assert [process.poll() for process in started] == [None, None]
    assert all(process.poll() is not None for process in started)


def test_a_result_says_how_busy_the_machine_was() -> None:
    idle, busy = (result_of("peers", Request(("tiny",), (), 1.0, busy=count), {}, []) for count in (0, 1))
    assert (idle.busy, busy.busy) == (0, 1)
    assert "compute without end" in conditions(busy)[0]
    assert "compute without end" not in conditions(idle)[0]

"""Seconds from a graph to its first step, with and without machine code on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import BENCHMARKS, start
from benchmarks.frame.benchmark import Request
from benchmarks.frame.plot import Dots
from benchmarks.frame.result import Record
from benchmarks.over_forward import ZOO
from benchmarks.start import COLD, NUMPY, WARM
from tests.benchmarks.canned import result

START = BENCHMARKS["start"]


@pytest.fixture(autouse=True)
def one_process_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "_LEAST", dict.fromkeys(START.peers, 1))


def started(row: str, peer: str, median: float, samples: int = 5) -> Record:
    return Record(row=row, peer=peer, figures={"minimum": 0.9 * median, "median": median, "samples": samples})


def test_networks_are_started_by_who_is_there() -> None:
    request = Request(
        ("neuron", "digits_network"), START.peers, seconds=0.0, threads=1, pythons={"graphengine-numba": "/nowhere"}
    )
    measured = START.measure(request)
    assert [(record.row, record.peer) for record in measured.records] == [("neuron", NUMPY), ("digits_network", NUMPY)]
    assert all(record.figures["median"] > 0 for record in measured.records)
    assert measured.peers[NUMPY].threads == 1
    assert all("/nowhere does not start" in measured.peers[peer].missing for peer in (COLD, WARM))


def test_machine_code_is_stored_by_a_cold_start_and_left_by_a_warm_one(tmp_path: Path) -> None:
    pytest.importorskip("numba", reason="it is what compiles")
    network = start._Network(Request(("neuron",), START.peers, seconds=0.0), "neuron", tmp_path / "neuron")

    def stored_after(peer: str) -> dict[str, int]:
        record = network.record(peer)
        assert record.figures["samples"] == 1, record.note
        return {path.name: path.stat().st_mtime_ns for path in (tmp_path / "neuron" / "store").iterdir()}

    filled = stored_after(WARM)  # which has none to begin with
    assert filled
    assert stored_after(WARM) == filled
    again = stored_after(COLD)
    assert again.keys() == filled.keys()
    assert all(again[name] > filled[name] for name in filled)


@pytest.mark.parametrize(
    ("script", "note"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("import os; os._exit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "not done after 0.5 s"),
    ],
)
def test_a_start_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, note: str) -> None:
    (tmp_path / "script.py").write_text(script)
    monkeypatch.setattr(start, "_SCRIPT", tmp_path / "script.py")
    if "sleep" in script:
        monkeypatch.setattr(start, "_LIMIT", 0.5)
    network = start._Network(Request(("neuron",), (NUMPY,), seconds=0.0), "neuron", tmp_path / "neuron")
    assert network.record(NUMPY) == Record(row="neuron", peer=NUMPY, note=note)


def test_all_of_the_zoo_is_asked_for() -> None:
    assert START.rows == tuple(ZOO)


@pytest.mark.parametrize(("peer", "most"), [(COLD, 5.0), (WARM, 0.3)])
def test_the_goals_are_seconds_on_each_network(peer: str, most: float) -> None:
    records = [started("lenet", peer, most), started("mlp", peer, 1.1 * most), started("mlp", NUMPY, 10.0)]
    assert [(verdict.subject, verdict.met) for verdict in START.verdicts(result("start", records))] == [
        ("lenet", True),
        ("mlp", False),
    ]


def test_what_was_asked_for_and_not_measured_falls_short_with_the_reason() -> None:
    records = [started("mlp", NUMPY, 0.1), Record(row="mlp", peer=COLD, note="not done after 300 s")]
    verdicts = START.verdicts(result("start", records, missing={WARM: "numba is not installed"}))
    assert [str(verdict) for verdict in verdicts] == [
        f"mlp: {COLD}, first step: not measured: not done after 300 s (at most 5 s)",
        f"mlp: {WARM}, first step: not measured: numba is not installed (at most 0.3 s)",
    ]


def test_the_table_has_medians_and_minima_of_who_is_there() -> None:
    records = [started("mlp", NUMPY, 0.1), started("mlp", COLD, 2.0, samples=1), Record(row="lenet", peer=COLD)]
    (table,) = START.tables(result("start", records, missing={WARM: "numba is not installed"}))
    assert table.columns == ("network", NUMPY, COLD)
    assert table.rows == (("mlp", "100 ms (90.0 ms)", "2.00 s"), ("lenet", "-", "-"))
    assert f"{WARM} was not measured: numba is not installed." in table.notes


def test_the_plot_has_the_medians() -> None:
    measured = result("start", [started("mlp", COLD, 2.0), started("mlp", WARM, 0.1)], missing={NUMPY: "why"})
    (plot,) = START.plots(measured)
    assert isinstance(plot, Dots)
    assert plot.peers == {COLD: {"mlp": 2.0}, WARM: {"mlp": 0.1}}
    assert START.plots(result("start", [Record(row="mlp", peer=COLD, note="no")])) == []

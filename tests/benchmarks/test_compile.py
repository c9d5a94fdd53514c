"""From the text of a graph to its first step, against the number of nodes."""

from __future__ import annotations

import pytest

from benchmarks import BENCHMARKS
from benchmarks.compile import measure_sizes
from benchmarks.frame.benchmark import Request
from benchmarks.frame.plot import Lines
from benchmarks.frame.result import Record
from benchmarks.frame.table import markdown
from tests.benchmarks.canned import result

COMPILE = BENCHMARKS["compile"]
NUMPY = "graphengine-numpy"


def test_every_size_of_every_kind_is_compiled() -> None:
    request = Request(
        ("chain", "layers"), (NUMPY, "torch-compile"), seconds=60.0, pythons={"torch-compile": "/nowhere"}
    )
    measured = measure_sizes(request, [10, 31])
    assert [(record.row, record.peer, record.size) for record in measured.records if not record.note] == [
        ("chain", NUMPY, 10),
        ("chain", NUMPY, 31),
        ("layers", NUMPY, 10),
        ("layers", NUMPY, 31),
    ]
    assert all(record.figures["seconds"] > 0 for record in measured.among(peer=NUMPY))
    assert "/nowhere does not start" in measured.peers["torch-compile"].missing
    assert "| 31 |" in markdown(COMPILE.tables(measured))


def test_what_took_too_long_is_not_tried_at_a_greater_size() -> None:
    measured = measure_sizes(Request(("chain",), (NUMPY,), seconds=1e-3), [10, 20])
    first, second = measured.records
    if first.figures:
        assert second.note.startswith("not tried after 10 nodes took")
    else:  # so slow a machine that the process was ended
        assert first.note == second.note == "not done after 0.003 s at 10 nodes"
    assert not second.figures


def timed(sizes: dict[int, float]) -> list[Record]:
    return [Record(row="chain", peer=NUMPY, size=size, figures={"seconds": took}) for size, took in sizes.items()]


@pytest.mark.parametrize(
    ("seconds", "reached"),
    [
        ({100: 0.015, 1000: 0.12}, [True, True, True]),
        ({100: 0.025, 1000: 0.19}, [False, True, True]),
        ({100: 0.005, 1000: 0.19}, [True, True, False]),
    ],
)
def test_the_goals_are_microseconds_a_node_and_that_they_stay_the_same(
    seconds: dict[int, float], reached: list[bool]
) -> None:
    assert [verdict.met for verdict in COMPILE.verdicts(result("compile", timed(seconds)))] == reached


def test_a_size_that_was_not_done_falls_short_with_the_reason() -> None:
    records = [*timed({100: 0.01}), Record(row="chain", peer=NUMPY, size=1000, note="not done after 60 s")]
    verdicts = COMPILE.verdicts(result("compile", records))
    assert [str(verdict) for verdict in verdicts if not verdict.met] == [
        "chain, 1,000 nodes: graphengine-numpy, a forward node: not measured: not done after 60 s (at most 200 us)"
    ]


def test_the_plot_is_of_seconds_a_node() -> None:
    (plot,) = COMPILE.plots(result("compile", timed({100: 0.01, 1000: 0.2})))
    assert isinstance(plot, Lines)
    assert plot.series[0].points == ((100.0, pytest.approx(1e-4)), (1000.0, pytest.approx(2e-4)))

"""Training steps side by side: the run, its tables and plots, and the goals."""

from __future__ import annotations

import pytest

from benchmarks import BENCHMARKS
from benchmarks.frame.benchmark import Request
from benchmarks.frame.result import Record, Result
from benchmarks.frame.table import markdown
from benchmarks.peers import best_other, mean_speed, measure_cases, speed, spread
from benchmarks.workloads import elementwise, mlp
from tests.benchmarks.canned import result, steps

PEERS = BENCHMARKS["peers"]
NUMPY, NUMBA = "graphengine-numpy", "graphengine-numba"


def test_a_run_has_a_record_for_every_row_and_peer_that_is_there() -> None:
    said: list[str] = []
    peers = (NUMPY, "torch", "numpy-products")
    pythons = {"torch": "/nowhere/python"}
    request = Request(("small", "gemm"), peers, seconds=0.02, pythons=pythons, say=said.append)
    measured = measure_cases(request, {"small": elementwise(10), "gemm": mlp([4, 3, 2], batch=2)})
    assert [(record.row, record.peer) for record in measured.records] == [
        ("small", NUMPY),
        ("gemm", NUMPY),
        ("gemm", "numpy-products"),
    ]
    assert "does not start" in measured.peers["torch"].missing
    for record in measured.records:
        assert 0 < record.figures["minimum"] <= record.figures["median"]
        assert record.figures["samples"] >= 10
    assert measured.figure("gemm", NUMPY, "last_loss") < measured.figure("gemm", NUMPY, "first_loss")
    assert any("round 10 of 10" in line for line in said)
    assert Result.model_validate_json(measured.to_json()) == measured
    text = markdown(PEERS.tables(measured))
    assert "torch was not measured: /nowhere/python does not start" in text


def test_a_peer_that_fails_is_out_and_the_others_go_on() -> None:
    request = Request(("gemm",), (NUMPY, "numpy-products"), seconds=0.02)
    measured = measure_cases(request, {"gemm": elementwise(10)})
    assert measured.find("gemm", "numpy-products").note == "products are measured alone for MLPs"
    assert measured.figure("gemm", NUMPY, "median") is not None


def met(measured: Result) -> dict[tuple[str, str], bool]:
    return {(verdict.subject, verdict.goal): verdict.met for verdict in PEERS.verdicts(measured)}


def fast(**changes: float) -> list[Record]:
    """Two rows on which all goals are reached."""
    tiny = {NUMPY: 2.0, NUMBA: 1.0, "torch": 4.0, "jax": 3.0}
    gemm = {NUMPY: 1.1, NUMBA: 1.0, "torch": 1.2, "jax": 1.5, "numpy-products": 0.95} | changes
    return steps("tiny", tiny) + steps("gemm", gemm)


def test_when_all_goals_are_reached_all_verdicts_say_so() -> None:
    assert all(met(result("peers", fast())).values())
    assert len(met(result("peers", fast()))) == 9


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({NUMBA: 1.25}, ("gemm", f"{NUMBA} against the best peer")),
        ({NUMBA: 1.15, "jax": 1.16}, ("gemm", f"{NUMBA} against its matrix products alone")),
        ({NUMPY: 2.5}, ("gemm", f"{NUMPY} against torch, eager")),
        ({"jax": 0.7}, ("all rows", f"{NUMBA} against the best peer, geometric mean")),
        ({NUMPY: 2.41}, ("all rows", f"{NUMPY} against torch, eager, geometric mean")),
    ],
)
def test_a_goal_that_is_missed_is_found(changes: dict[str, float], missed: tuple[str, str]) -> None:
    assert met(result("peers", fast(**changes)))[missed] is False


def test_a_step_that_takes_longer_with_all_threads_than_with_one_is_found() -> None:
    goal = "all threads against one"
    for alone, reached in ((0.95, True), (0.9, False)):
        verdicts = met(result("peers", steps("wide", {NUMBA: 1.0, "graphengine-numba-alone": alone})))
        assert verdicts["wide", goal] is reached


def test_losses_that_differ_are_found() -> None:
    records = steps("tiny", {NUMPY: 1.0, "torch": 1.0}, losses={NUMPY: 1.0, "torch": 1.01})
    measured = result("peers", records)
    assert spread(measured, "tiny") == pytest.approx(0.005)
    assert met(measured)["tiny", "losses differ by"] is False


def test_a_backend_that_was_asked_for_and_is_missing_falls_short_with_the_reason() -> None:
    records = steps("tiny", {NUMPY: 1.0, "torch": 1.0})
    verdicts = PEERS.verdicts(result("peers", records, missing={NUMBA: "numba is not installed"}))
    short = [str(verdict) for verdict in verdicts if not verdict.met]
    assert len(short) == 2
    assert all("not measured: graphengine-numba: numba is not installed" in line for line in short)


def test_what_was_not_asked_for_is_not_judged() -> None:
    verdicts = PEERS.verdicts(result("peers", steps("tiny", {NUMPY: 1.0})))
    assert verdicts == []


def test_a_row_that_failed_falls_short() -> None:
    records = [*steps("tiny", {"torch": 1.0}), Record(row="tiny", peer=NUMPY, note="ValueError: no")]
    verdicts = PEERS.verdicts(result("peers", records))
    assert "not measured: graphengine-numpy: ValueError: no" in str(verdicts[0])


def test_speeds_are_ratios_of_medians() -> None:
    measured = result("peers", fast())
    assert speed(measured, "tiny", NUMPY, "torch") == 2.0
    assert best_other(measured, "tiny") == "jax"
    assert best_other(measured, "gemm") == "torch"
    assert mean_speed(measured, NUMBA, ["torch", "jax"]) == pytest.approx((3.0 * 1.2) ** 0.5)
    assert speed(measured, "tiny", NUMPY, "autograd") is None


def test_tables_have_every_row_and_the_mean() -> None:
    seconds, late, ratios = PEERS.tables(result("peers", fast()))
    assert ("tiny", "4.00 s", "2.00 s", "8.00 s", "6.00 s", "-") in late.rows
    assert [row[0] for row in seconds.rows] == ["tiny", "gemm"]
    assert seconds.columns == ("row", NUMPY, NUMBA, "torch", "jax", "numpy-products")
    assert seconds.rows[0][1] == "2.00 s (1.80 s)"
    assert [row[0] for row in ratios.rows] == ["tiny", "gemm", "geometric mean"]
    assert ratios.rows[0][1:5] == ("2.00x", "4.00x", "jax", "3.00x")


def test_the_plot_has_the_medians() -> None:
    (plot,) = PEERS.plots(result("peers", fast()))
    assert plot.rows == ("tiny", "gemm")
    assert plot.peers["torch"] == {"tiny": 4.0, "gemm": 1.2}

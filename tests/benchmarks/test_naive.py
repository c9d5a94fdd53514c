"""The naive benchmark: what it measures, how that is shown, and how it is judged."""

from __future__ import annotations

import numpy as np
import pytest

import graphengine as ge
from benchmarks import BENCHMARKS, naive, over_forward
from benchmarks.frame.benchmark import Request
from benchmarks.frame.plot import Panels
from benchmarks.frame.result import Machine, PeerFacts, Record, Result
from benchmarks.frame.table import markdown
from benchmarks.naive import count_text
from benchmarks.networks import by_units, deep_mlp, deep_mlp_feeds, ladder
from graphengine import zoo

NAIVE = BENCHMARKS["naive"]
WAYS = ("backpropagation", "central differences", "forward mode", "chain rule, unshared")


def result(*records: Record) -> Result:
    machine = Machine(processor="a processor", cores=2, memory_bytes=8_000_000_000, system="Linux")
    facts = {"numpy": PeerFacts(versions={"numpy": "2.0"})}
    return Result(benchmark="naive", day="2025-12-31", machine=machine, seconds=1.0, peers=facts, records=records)


def network(name: str, forward: float, gradient: float) -> Record:
    times = {"forward": forward, "gradient": gradient, "forward_minimum": forward, "gradient_minimum": gradient}
    counts = {"forward_flops": 100, "gradient_flops": 250, "parameters": 100_000, "batch": 32, "samples": 20}
    return Record(row=name, peer="numpy", figures={**times, **counts})


def compared(row: str, size: int, way: str, scaled: bool = False) -> Record:
    return Record(row=row, peer=way, size=size, figures={"seconds": 1.5, "flops": 2e9, "sample": 3, "scaled": scaled})


@pytest.mark.parametrize("units", [1, 2, 3])
def test_a_network_unit_by_unit_is_the_network_of_arrays(units: int) -> None:
    arrays, scalars = ge.compile(deep_mlp(units), loss="loss"), ge.compile(by_units(units), loss="loss")
    for layer in range(1, 6):
        weight, bias = (arrays.parameters[f"layer{layer}.{what}"] for what in ("weight", "bias"))
        for unit in range(weight.shape[1]):
            scalars.parameters[f"layer{layer}.unit{unit}.bias"] = bias[unit]
            for place in range(weight.shape[0]):
                scalars.parameters[f"layer{layer}.unit{unit}.weight{place}"] = weight[place, unit]
    feeds = deep_mlp_feeds(units, batch=5)
    assert scalars.forward(feeds)["loss"] == pytest.approx(arrays.forward(feeds)["loss"], rel=1e-13)
    assert len(scalars.parameters) == 4 * units**2 + 5 * units + 1
    expected = arrays.backward()["layer2.weight"][0, units - 1]
    assert scalars.backward()[f"layer2.unit{units - 1}.weight0"] == pytest.approx(expected, rel=1e-12)


def test_a_rung_doubles_the_paths() -> None:
    assert [ge.compile(ladder(rungs), loss="loss").audit().paths for rungs in (1, 2, 5)] == [2, 4, 32]


def test_the_zoo_is_measured_whole() -> None:
    assert set(over_forward.ZOO) == {name for name in zoo.__all__ if name not in ("Activation", "Objective")}


def test_networks_held_to_the_limit_of_large_ones_are_large() -> None:
    for name, large in over_forward.MLPS.items():
        assert sum(node.type.size for node in large.build().parameters) > 99_000, name


def test_a_measured_network_has_its_times_and_counts() -> None:
    record = over_forward.measure("neuron", "numpy", seconds=0.01)
    figures = record.figures
    assert (record.row, record.peer, figures["parameters"], figures["batch"]) == ("neuron", "numpy", 2, 32)
    assert 0 < figures["forward_minimum"] <= figures["forward"]
    assert 0 < figures["gradient_minimum"] <= figures["gradient"]
    assert figures["gradient_flops"] > figures["forward_flops"] > 0
    assert figures["samples"] >= 20


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_random_graphs_stay_within_the_limit_and_are_alike_in_every_run(seed: int) -> None:
    record = over_forward.count(seed)
    assert record == over_forward.count(seed)
    assert record.figures["forward_flops"] < record.figures["gradient_flops"] <= 5 * record.figures["forward_flops"]


def test_the_ladder_is_run_in_all_ways_and_counted_beyond_what_can_be_run() -> None:
    jobs = dict(naive.jobs(Request(rows=("ladder",), peers=NAIVE.peers, seconds=0.01), []))
    measured = result(*(record for rungs in (4, 10, 64) for record in jobs[f"ladder: {rungs} rungs"]()))
    assert {record.peer for record in measured.among(row="ladder", size=4)} == {"forward", *WAYS}
    assert measured.figure("ladder", WAYS[3], "scaled", 4) == 0
    assert measured.figure("ladder", WAYS[3], "scaled", 10) == 1
    (last,) = measured.among(row="ladder", size=64)
    assert (last.peer, set(last.figures)) == (WAYS[3], {"flops"})
    assert last.figures["flops"] > 1e21


def test_only_what_is_asked_for_is_a_job() -> None:
    request = Request(rows=("units", "networks"), peers=("forward mode", "numpy"), seconds=0.01)
    names = [name for name, _ in naive.jobs(request, ["numpy"])]
    assert names == [f"{name}, numpy" for name in over_forward.NETWORKS]


def test_a_run_says_what_it_does_and_tells_where_it_ran() -> None:
    said: list[str] = []
    request = Request(rows=("random",), peers=("numpy",), seconds=0.01, threads=1, say=said.append)
    measured = NAIVE.measure(request)
    assert said == ["random graphs"]
    assert len(measured.records) == len(over_forward.RANDOM)
    assert measured.peers["numpy"].versions["numpy"] == np.__version__
    assert all(verdict.met for verdict in NAIVE.verdicts(measured))


def test_tables_set_ways_side_by_side_and_mark_what_is_scaled() -> None:
    records = [compared("width", size, way, scaled=size > 10 and way != WAYS[0]) for size in (10, 85) for way in WAYS]
    text = markdown(NAIVE.tables(result(*records)))
    assert "| 10 | 1.50 s | 1.50 s | 1.50 s | 1.50 s |" in text
    assert "| 85 | 1.50 s | ~1.50 s | ~1.50 s | ~1.50 s |" in text
    assert "| 85 | 2.00e9 | 2.00e9 | 2.00e9 | 2.00e9 |" in text
    assert "a processor" in text


def test_what_is_only_counted_has_a_line_among_flops_alone() -> None:
    counted = Record(row="ladder", peer=WAYS[3], size=64, figures={"flops": 1e21})
    seconds, flops = NAIVE.tables(result(compared("ladder", 4, WAYS[3]), counted))
    assert [row[0] for row in seconds.rows] == ["4"]
    assert [row[0] for row in flops.rows] == ["4", "64"]


def test_a_picture_has_seconds_beside_flops_and_hollow_points_where_seconds_are_scaled() -> None:
    records = [compared("width", size, way, scaled=size > 10) for size in (10, 85) for way in WAYS]
    (picture,) = NAIVE.plots(result(*records, compared("units", 10, WAYS[3])))
    assert isinstance(picture, Panels)
    seconds, flops = picture.panels
    assert [series.name for series in seconds.series] == [*WAYS, "chain rule, unit by unit"]
    assert seconds.series[1].points == ((10, 1.5), (85, 1.5))
    assert seconds.series[1].scaled == {85}
    assert flops.series[1].scaled == frozenset()


def test_networks_are_judged_by_the_clock_and_in_flops() -> None:
    judged = NAIVE.verdicts(result(network("lenet", 1.0, 3.5), network("MLP 784-256-10", 1.0, 3.5)))
    assert [(verdict.subject, verdict.met) for verdict in judged] == [
        ("MLP 784-256-10, numpy", False),
        ("MLP 784-256-10, numpy", True),
        ("lenet, numpy", True),
        ("lenet, numpy", True),
    ]
    assert str(judged[0]) == "MLP 784-256-10, numpy: value and gradient over the value, time: 3.5x (at most 3x)"


def test_random_graphs_are_judged_by_the_worst() -> None:
    flops = [{"forward_flops": 10, "gradient_flops": total} for total in (20, 51)]
    records = [Record(row="random graphs", peer="counted", size=place, figures=f) for place, f in enumerate(flops)]
    (verdict,) = NAIVE.verdicts(result(*records))
    assert (verdict.value, verdict.met) == (pytest.approx(5.1), False)


def test_a_result_without_records_is_shown_and_judged_as_nothing() -> None:
    assert (NAIVE.tables(result()), NAIVE.plots(result()), NAIVE.verdicts(result())) == ([], [], [])


def test_counts_are_whole_up_to_a_million() -> None:
    assert [count_text(count) for count in (None, 12, 999_999, 1e6, 2.5e21)] == [
        "-",
        "12",
        "999,999",
        "1.00e6",
        "2.50e21",
    ]


def test_the_feeds_of_a_network_are_of_its_types() -> None:
    assert {name: value.shape for name, value in deep_mlp_feeds(3).items()} == {"x": (64, 3), "y": (64, 1)}
    assert all(value.dtype == np.float64 for value in deep_mlp_feeds(3).values())

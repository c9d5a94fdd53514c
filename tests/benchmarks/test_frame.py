"""Results as documents, tables as text, plots as pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.frame.draw import check_can_draw, draw
from benchmarks.frame.plot import Dots, Lines, Plot, Series
from benchmarks.frame.result import Record, Result, read_result
from benchmarks.frame.run import this_machine
from benchmarks.frame.table import Table, markdown
from benchmarks.frame.text import bytes_text, ratio_text, seconds_text
from benchmarks.frame.verdict import Verdict
from graphengine.errors import ExecutionError, SpecError
from tests.benchmarks.canned import result, steps


def test_a_result_is_read_as_it_was_kept(tmp_path: Path) -> None:
    measured = result("peers", steps("tiny", {"torch": 1.0}), missing={"jax": "No module named 'jax'"})
    (tmp_path / "peers.json").write_text(measured.to_json())
    assert read_result(tmp_path / "peers.json") == measured


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "benchmark: Field required"),
        ("not JSON", "Invalid JSON"),
        ('{"format": "other"}', "format: Input should be 'graphengine-bench'"),
    ],
)
def test_a_file_that_is_no_result_is_refused_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(SpecError, match="not the result of a benchmark") as caught:
        read_result(tmp_path / "other.json")
    assert said in str(caught.value)


def test_a_figure_that_is_no_number_is_not_kept() -> None:
    with pytest.raises(ValueError, match="finite"):
        Record(row="tiny", peer="torch", figures={"median": float("nan")})


def test_figures_are_found_by_row_peer_and_size() -> None:
    records = [Record(row="chain", peer="jax", size=size, figures={"seconds": size / 10}) for size in (10, 20)]
    measured: Result = result("compile", records)
    assert measured.figure("chain", "jax", "seconds", 20) == 2.0
    assert measured.figure("chain", "jax", "seconds") is None
    assert measured.figure("chain", "jax", "minimum", 20) is None
    assert len(list(measured.among(peer="jax"))) == 2


def test_the_machine_is_told() -> None:
    machine = this_machine()
    assert machine.processor
    assert machine.cores >= 1
    assert machine.system


def test_numbers_are_three_digits_and_a_unit() -> None:
    assert [seconds_text(value) for value in (None, 1.8e-6, 9.996e-5, 0.0123, 59.96, 123.4)] == [
        "-",
        "1.80 us",
        "100 us",
        "12.3 ms",
        "60.0 s",
        "123 s",
    ]
    assert [bytes_text(value) for value in (12, 1234, 5.6e6, 2.34e9, -2e6)] == [
        "12 B",
        "1.23 kB",
        "5.60 MB",
        "2.34 GB",
        "-2.00 MB",
    ]
    assert [ratio_text(value) for value in (None, 0.5, 12.34, 12345)] == ["-", "0.50x", "12.3x", "12,345x"]


def test_a_table_as_markdown() -> None:
    table = Table("Steps", ("row", "torch"), (("a|b", "1 us"), ("c", "2 us")), ("A note.",))
    assert markdown([table]) == (
        "### Steps\n\n| row | torch |\n| --- | ---: |\n| a\\|b | 1 us |\n| c | 2 us |\n\n- A note.\n"
    )


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(1.5, True, True), (1.0, True, True), (0.9, True, False), (1.0, False, True), (1.1, False, False)],
)
def test_a_verdict_holds_a_value_against_its_bound(value: float, at_least: bool, met: bool) -> None:
    assert Verdict("goal", "tiny", value, 1.0, at_least).met is met


def test_what_was_not_measured_is_not_reached() -> None:
    verdict = Verdict("as fast as torch", "tiny", None, 1.0, at_least=True, why="no torch")
    assert not verdict.met
    assert str(verdict) == "tiny: as fast as torch: not measured: no torch (at least 1x)"


LINES = Lines(
    name="lines",
    title="Seconds by size",
    x="nodes",
    y="seconds",
    series=(
        Series("torch", ((10.0, 1e-3), (100.0, 2e-3)), scaled=frozenset([100.0])),
        Series("a way of its own", ((10.0, 3e-3),)),
    ),
    unit="s",
    limit=("goal", 2e-3),
)
DOTS = Dots("dots", "Seconds by row", "seconds", ("a", "b"), {"torch": {"a": 1.0, "b": 10.0}, "jax": {"a": 2.0}}, "s")


@pytest.mark.parametrize("plot", [LINES, DOTS], ids=["lines", "dots"])
def test_a_plot_is_drawn_and_is_the_same_each_time(plot: Plot, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = draw(plot, tmp_path)
    assert [path.name for path in paths] == [f"{plot.name}.png", f"{plot.name}.svg"]
    first = [path.read_bytes() for path in paths]
    assert first[0].startswith(b"\x89PNG")
    assert b"<svg" in first[1]
    draw(plot, tmp_path)
    assert [path.read_bytes() for path in paths] == first


def test_without_matplotlib_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ExecutionError, match="pip install matplotlib"):
        check_can_draw()

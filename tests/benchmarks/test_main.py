"""`python -m benchmarks`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import Result

from benchmarks import BENCHMARKS
from benchmarks.__main__ import app
from benchmarks.frame.result import read_result
from tests.benchmarks.canned import result, steps
from tests.cli.run import refused, run

NUMPY = "graphengine-numpy"


def kept(folder: Path, **seconds: float) -> Path:
    """The file of a result with one row."""
    named = {name.replace("_", "-"): value for name, value in seconds.items()}
    path = folder / "kept.json"
    path.write_text(result("peers", steps("tiny", named)).to_json())
    return path


def measure(*arguments: object) -> Result:
    return run(*arguments, app=app)


def mistake(*arguments: object) -> str:
    return refused(*arguments, app=app)


def said(*arguments: object) -> str:
    """What is said of a use that is wrong."""
    answer = measure(*arguments)
    assert answer.exit_code == 2
    return " ".join(answer.stderr.replace("│", " ").split())


def test_the_list_has_all_that_can_be_asked_for() -> None:
    text = measure("--list").stdout
    told = json.loads(measure("--list", "--json").stdout)
    assert list(told) == list(BENCHMARKS) == ["naive", "peers", "compile", "start", "memory", "install"]
    for name, benchmark in BENCHMARKS.items():
        assert all(word in text for word in (name, *benchmark.rows, *benchmark.peers))
        assert told[name]["rows"] == list(benchmark.rows)


def test_a_run_is_shown_kept_and_told_as_json(tmp_path: Path) -> None:
    arguments = ("peers", "--rows", "tiny", "--peers", f"{NUMPY},torch", "--seconds", 0.02)
    elsewhere = ("--python", f"torch={sys.executable}", "--threads", 1, "--busy", 1)
    done = measure(*arguments, *elsewhere, "--save", tmp_path / "new" / "folder", "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    measured = read_result(tmp_path / "new" / "folder" / "peers.json")
    assert told["results"] == [measured.model_dump(mode="json")]
    assert measured.rows() == ("tiny",)
    assert (measured.threads, measured.busy) == (1, 1)
    assert measured.figure("tiny", NUMPY, "median") > 0
    assert "One training step" in (tmp_path / "new" / "folder" / "peers.md").read_text()


def test_a_result_that_was_kept_is_shown_again(tmp_path: Path) -> None:
    done = measure(kept(tmp_path, graphengine_numpy=1.0, torch=2.0))
    assert done.exit_code == 0
    assert "2.00 s (1.80 s)" in done.stdout
    assert "2.00x" in done.stdout


def test_check_lists_what_falls_short_and_ends_with_1(tmp_path: Path) -> None:
    slow = measure(kept(tmp_path, graphengine_numpy=3.0, torch=1.0), "--check")
    assert slow.exit_code == 1
    assert "tiny: graphengine-numpy against torch, eager: 0.333x (at least 0.5x)" in slow.stdout
    assert "1 of 3 goals are reached" in slow.stdout


def test_check_ends_well_when_all_is_reached(tmp_path: Path) -> None:
    fast = measure(kept(tmp_path, graphengine_numpy=1.0, torch=2.0), "--check")
    assert fast.exit_code == 0
    assert "3 of 3 goals are reached" in fast.stdout


def test_goals_are_in_the_json(tmp_path: Path) -> None:
    path = kept(tmp_path, graphengine_numpy=3.0, torch=1.0)
    told = json.loads(measure(path, "--json", "--check").stdout)
    assert [goal["met"] for goal in told["goals"]] == [False, False, True]
    assert told["goals"][0]["bound"] == 0.5


def test_check_of_what_has_no_goal_says_so(tmp_path: Path) -> None:
    done = measure(kept(tmp_path, graphengine_numpy=1.0), "--check")
    assert done.exit_code == 1
    assert "no goal" in done.stdout


def test_plots_are_drawn_into_a_folder(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = measure(kept(tmp_path, graphengine_numpy=1.0, torch=2.0), "--plot", tmp_path / "plots")
    assert done.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["peers.png", "peers.svg"]


def test_without_matplotlib_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "pip install matplotlib" in mistake("peers", "--plot", tmp_path)


def test_names_that_are_not_there_are_refused_with_the_nearest() -> None:
    assert "no benchmark 'peer'; did you mean 'peers'?" in said("peer")
    assert "there is no 'tini'; did you mean 'tiny'?" in said("peers", "--rows", "tini")
    assert "there is no 'torh'; did you mean 'torch'?" in said("peers", "--peers", "torh,jax")
    assert "there is no 'toch'; did you mean 'torch'?" in said("--python", "toch=python")
    assert "PEER=PATH is needed" in said("--python", "python")
    assert "none/python is nothing that can be run" in said("--python", "torch=none/python")


def test_a_choice_that_leaves_nothing_is_refused() -> None:
    text = said("peers", "compile", "--rows", "tiny", "--peers", "graphengine-numba-cold")
    assert "no benchmark that was asked for has both these rows and these peers" in text


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    assert "other.json: not the result of a benchmark" in mistake(tmp_path / "other.json")
    assert "none.json" in mistake(tmp_path / "none.json")
    (tmp_path / "old.json").write_text(result("gone", []).to_json())
    assert "a benchmark 'gone', which there is not" in mistake(tmp_path / "old.json")

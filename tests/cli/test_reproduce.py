"""`graphengine reproduce`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from graphengine.zoo.experiments import EXPERIMENTS
from tests.cli.run import refused, run
from tests.data.fashion import write


def test_without_a_name_it_lists_what_there_is() -> None:
    text = run("reproduce").stdout
    assert all(name in text and experiment.about in text for name, experiment in EXPERIMENTS.items())
    assert list(json.loads(run("reproduce", "--json").stdout)) == list(EXPERIMENTS)


def test_a_quick_run_says_so_and_shows_the_figure_beside_the_goal() -> None:
    text = run("reproduce", "gru", "--quick").stdout
    for part in ("test accuracy", "at least 0.9500: a quick run, which says nothing of it", "wall time", "seed 0"):
        assert part in text


def test_as_json_it_is_one_object() -> None:
    told = json.loads(run("reproduce", "lstm", "--quick", "--seed", 3, "--json").stdout)
    assert (told["name"], told["quick"], told["seed"], told["train_examples"]) == ("lstm", True, 3, 1000)
    assert told["reached"] == (told["value"] >= told["goal"])


def test_what_it_keeps_the_other_commands_take_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fashion").mkdir()
    monkeypatch.setenv("GRAPHENGINE_FASHION_MNIST", str(write(tmp_path / "fashion")))
    kept = tmp_path / "kept"
    told = json.loads(run("reproduce", "lenet", "--quick", "--json", "--save", kept).stdout)
    arguments = (kept / "lenet.json", "--weights", kept / "lenet.weights.safetensors", "--data", kept / "test.npz")
    measured = json.loads(run("evaluate", *arguments, "--metric", "accuracy", "--json").stdout)
    assert measured["accuracy"] == pytest.approx(told["value"])
    trained = run("train", kept / "lenet.json", "--data", kept / "train.npz", "--epochs", 1, "--quiet")
    assert trained.exit_code == 0
    again = json.loads(run("evaluate", *arguments, "--metric", "accuracy", "--json").stdout)
    assert again["accuracy"] == pytest.approx(told["value"])


def test_a_name_that_is_not_there_is_refused() -> None:
    result = run("reproduce", "resnet")
    assert result.exit_code == 2
    assert "there is no 'resnet'; there are mlp, lenet" in " ".join(result.stderr.replace("│", " ").split())


def test_data_that_are_not_there_are_an_error_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAPHENGINE_FASHION_MNIST", str(tmp_path))
    assert "install the Debian package dataset-fashion-mnist" in refused("reproduce", "mlp")

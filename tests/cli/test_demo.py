"""The demo: what it claims is so."""

import json
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.cli.demo import rows_to_show
from graphengine.zoo import digits_network
from tests.cli.run import process, run


def test_the_demo_reads_97_of_100_digits_that_it_has_not_seen(tmp_path: Path) -> None:
    result = process("demo", "--json", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    told = json.loads(result.stdout)
    assert told["test_accuracy"] >= 0.97
    assert (told["epochs"], told["parameters"]) == (30, 64 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10)
    assert 0 < told["seconds"] < 20
    assert told["naive_seconds"] > 1000 * told["backprop_seconds"] > 0
    assert told["disagreement"] < 1e-6
    assert np.trace(told["confusion"]) == round(told["test_accuracy"] * 360)


def test_the_demo_shows_accuracy_confusion_digits_and_costs() -> None:
    text = run("demo", "--epochs", 2).stdout
    for part in ("17,226 parameters", "test accuracy", "read as", "backpropagation", "34,452", "200 of them, scaled"):
        assert part in text
    assert "█" in text


def test_the_demo_can_be_drawn_in_ascii(tmp_path: Path) -> None:
    result = process("demo", "--epochs", "1", cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert "@@" in result.stdout


def test_a_digit_that_is_misread_is_shown() -> None:
    is_right = np.array([True, True, False, True, True, False, True])
    assert rows_to_show(is_right, 4).tolist() == [0, 1, 2, 5]
    assert rows_to_show(is_right | True, 4).tolist() == [0, 1, 2, 3]


def test_seed_and_epochs_are_those_asked_for() -> None:
    one, other = (json.loads(run("demo", "--json", "--epochs", 1, "--seed", seed).stdout) for seed in (1, 2))
    assert (one["epochs"], one["seed"], other["seed"]) == (1, 1, 2)
    assert one["train_loss"] != other["train_loss"]


def test_what_the_demo_keeps_the_other_commands_take_up(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    told = json.loads(run("demo", "--json", "--epochs", 3, "--save", kept).stdout)
    arguments = ("--weights", kept / "digits.weights.safetensors", "--data", kept / "test.npz")
    measured = json.loads(run("evaluate", kept / "digits.json", *arguments, "--metric", "accuracy", "--json").stdout)
    assert measured["accuracy"] == pytest.approx(told["test_accuracy"])
    assert ge.load(kept / "digits.json") == digits_network()

"""`graphengine compare`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine import zoo
from graphengine.baselines import WAYS, Unshared
from tests.cli.conftest import classifier, examples
from tests.cli.run import refused, run


def told(*arguments: object) -> dict[str, object]:
    done = run("compare", *arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return json.loads(done.stdout)


def saved(folder: Path, graph: ge.Graph) -> Path:
    graph.save(folder / "other.json")
    return folder / "other.json"


def test_all_ways_give_the_same_gradient_on_the_data_given(folder: Path) -> None:
    found = told(folder / "net.json", "--data", folder / "data.npz", "--batch", 7)
    assert found["data"] == str(folder / "data.npz")
    assert found["shapes"] == {"x": [7, 3], "label": [7]}
    assert (found["parameters"], found["sample"]) == (8, {"w": list(range(6)), "b": [0, 1]})
    assert list(found["ways"]) == ["backpropagation", *WAYS]
    for way in found["ways"].values():
        assert way["seconds"] > 0
        assert (way["flops"] > 0, way["measured_on"], way["scaled"]) == (True, 8, False)
        assert way.get("largest_difference", 0.0) < 1e-8 < found["largest_derivative"]


def test_the_batch_is_that_of_the_document_unless_said_otherwise(folder: Path) -> None:
    assert told(folder / "net.json", "--data", folder / "data.npz")["shapes"]["x"] == [8, 3]
    assert told(folder / "net.json")["shapes"]["x"] == [8, 3]
    assert told(folder / "net.json", "--batch", 3)["shapes"] == {"x": [3, 3], "label": [3]}


def test_random_data_are_the_same_each_time(folder: Path) -> None:
    first, second = (told(folder / "net.json")["largest_derivative"] for _ in range(2))
    assert first == second


def test_a_sample_is_said_with_its_size_and_marked_as_scaled(folder: Path) -> None:
    text = run("compare", folder / "net.json", "--samples", 3).stdout
    for part in ("8 parameters, float64", "random: x [8, 3], label [8]", "One by one: 3 of 8 parameters", "~"):
        assert part in text
    found = told(folder / "net.json", "--samples", 3)
    assert sum(map(len, found["sample"].values())) == 3
    assert found["ways"]["forward mode"]["scaled"]
    assert not found["ways"]["backpropagation"]["scaled"]


def test_what_is_whole_is_not_marked(folder: Path) -> None:
    text = run("compare", folder / "net.json").stdout
    assert "One by one: all 8 parameters." in text
    assert "~" not in text


NETWORKS: dict[str, Callable[[], ge.Graph]] = {
    "linear": lambda: zoo.linear_regression(3, 2),
    "convolutions": zoo.lenet,
    "scan": zoo.digits_lstm,
    "attention": lambda: zoo.character_transformer(9, units=8, heads=2, blocks=1),
    "dropout": lambda: with_dropout(),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_all_kinds_are_compared(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, NETWORKS[name]())
    sizes = ("--size", "time=3") if name == "attention" else ()
    found = told(path, "--batch", 2, "--samples", 4, "--seconds", 0, *sizes)
    assert found["ways"]["forward mode"]["largest_difference"] <= 1e-9 * max(found["largest_derivative"], 1e-3)
    assert found["ways"]["central differences"]["largest_difference"] <= 1e-4


def with_dropout() -> ge.Graph:
    g = ge.Graph("dropped")
    x = g.input("x", ("rows", 3))
    g.output("cost", ge.mean(ge.square(ge.layers.dropout(x @ g.parameter("w", (3, 2)), 0.5, name="drop"))))
    return g


def test_infinities_are_told(folder: Path) -> None:
    np.savez(folder / "inf.npz", **examples() | {"x": np.full((40, 3), np.inf)})
    assert "nan" in run("compare", folder / "net.json", "--data", folder / "inf.npz").stdout
    assert told(folder / "net.json", "--data", folder / "inf.npz")["largest_derivative"] == "NaN"


def test_frozen_parameters_are_left_out(tmp_path: Path) -> None:
    g = ge.Graph("frozen")
    w, v = g.parameter("w", (3,)), g.parameter("v", (2,), trainable=False)
    g.output("loss", ge.sum(w * w) + ge.sum(v))
    assert told(saved(tmp_path, g))["sample"] == {"w": [0, 1, 2]}


def test_more_paths_than_any_float_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {**WAYS, "chain rule, unshared": partial(Unshared, paths=2)}
    monkeypatch.setattr("graphengine.baselines.comparison.WAYS", few)
    g = ge.Graph("ladder", "float64")
    value = g.parameter("v", (), init=ge.init.Constant(value=-1e-3))
    for _ in range(1100):
        value = value * value + value
    g.output("loss", value)
    found = told(saved(tmp_path, g), "--seconds", 0)["ways"]["chain rule, unshared"]
    assert (found["flops"] > 2**1100, found["seconds"], found["scaled"]) == (True, "Infinity", True)
    assert "largest_difference" not in found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "input 'label' is not fed"),
        ({"y": np.zeros(40)}, "no input 'y'"),
        ({"x": np.zeros((40, 4))}, "input 'x' is float32[batch, 3]"),
        ({"x": np.zeros((39, 3))}, "differ in their number of examples"),
        ({"label": np.full(40, 2)}, "label 2"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(folder: Path, changes: dict[str, object], message: str) -> None:
    arrays = {name: array for name, array in (examples() | changes).items() if array is not None}
    np.savez(folder / "bad.npz", **arrays)
    assert message in refused("compare", folder / "net.json", "--data", folder / "bad.npz")


def test_a_loss_that_is_none_is_refused(folder: Path) -> None:
    net = folder / "net.json"
    assert "no output 'lost' to differentiate; its outputs: logits, loss" in refused("compare", net, "--loss", "lost")
    assert "a loss is a scalar" in refused("compare", net, "--loss", "logits")
    assert "none.json" in refused("compare", folder / "none.json")
    g = ge.Graph("fixed")
    g.output("y", ge.sum(g.input("x", (3,))))
    assert "no trainable parameter" in refused("compare", saved(folder, g))


def test_sizes_belong_to_random_data(folder: Path) -> None:
    done = run("compare", folder / "net.json", "--data", folder / "data.npz", "--size", "batch=3")
    assert done.exit_code == 2
    assert "no named dim 'time'" in refused("compare", folder / "net.json", "--size", "time=3")
    assert classifier().training.batch_size == 8

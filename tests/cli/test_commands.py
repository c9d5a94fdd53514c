"""The commands, from documents and files to files and text."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.view import summarize
from tests.cli.conftest import classifier, examples
from tests.cli.run import run


def test_training_writes_weights_that_read_the_data(folder: Path) -> None:
    result = run("train", folder / "net.json", "--data", folder / "data.npz", "--weights", folder / "out.safetensors")
    assert result.exit_code == 0
    assert "out.safetensors" in result.stdout
    exe = ge.compile(ge.load(folder / "net.json"))
    ge.load_parameters(exe, folder / "out.safetensors")
    assert ge.evaluate(exe, examples(), metrics="accuracy")["accuracy"] == 1.0


def test_weights_stand_beside_the_document_unless_said_otherwise(folder: Path) -> None:
    assert run("train", folder / "net.json", "--data", folder / "data.npz").exit_code == 0
    assert (folder / "net.weights.safetensors").is_file()


def test_training_is_as_the_document_says_and_as_options_change_it(folder: Path) -> None:
    def trained(*options: object) -> np.ndarray:
        out = folder / "out.safetensors"
        assert (
            run("train", folder / "net.json", "--data", folder / "data.npz", "--weights", out, *options).exit_code == 0
        )
        exe = ge.compile(classifier())
        ge.load_parameters(exe, out)
        return exe.parameters["w"]

    def fitted(rate: float = 0.5, seed: int = 0, batch_size: int = 8, epochs: int = 5) -> np.ndarray:
        exe = ge.compile(classifier(), loss="loss", optimizer=ge.SGD(learning_rate=rate), seed=seed)
        ge.fit(exe, examples(), epochs=epochs, batch_size=batch_size, progress=False)
        return exe.parameters["w"]

    assert np.array_equal(trained(), fitted())
    assert np.array_equal(trained("--epochs", 2), fitted(epochs=2))
    assert np.array_equal(trained("--batch-size", 5), fitted(batch_size=5))
    assert np.array_equal(trained("--learning-rate", 0.25), fitted(rate=0.25))
    assert np.array_equal(trained("--seed", 7), fitted(seed=7))


@pytest.mark.parametrize("held_out", ["0.25", "data.npz"])
def test_validation_is_a_fraction_or_a_file(folder: Path, held_out: str) -> None:
    held_out = held_out if held_out == "0.25" else str(folder / held_out)
    options = ("--validation", held_out, "--metric", "accuracy")
    result = run("train", folder / "net.json", "--data", folder / "data.npz", *options)
    assert result.exit_code == 0
    assert "validation_accuracy" in result.stdout


def test_quiet_training_says_nothing(folder: Path) -> None:
    assert run("train", folder / "net.json", "--data", folder / "data.npz", "-q").output == ""


def test_predictions_are_those_of_the_library(folder: Path) -> None:
    arguments = (
        "predict",
        folder / "net.json",
        "--weights",
        folder / "weights.safetensors",
        "--data",
        folder / "data.npz",
    )
    assert run(*arguments, "--out", folder / "out.npz").output == ""
    with np.load(folder / "out.npz") as written:
        assert written.files == ["logits"]
        assert np.array_equal(written["logits"], ge.predict(ge.compile(classifier(), seed=3), examples())["logits"])


def test_predictions_without_a_file_are_lines_with_a_header(folder: Path) -> None:
    arguments = (
        "predict",
        folder / "net.json",
        "--weights",
        folder / "weights.safetensors",
        "--data",
        folder / "data.npz",
    )
    header, *lines = run(*arguments, "--output", "logits").stdout.splitlines()
    assert header == "logits[0]\tlogits[1]"
    expected = ge.predict(ge.compile(classifier(), seed=3), examples())["logits"]
    assert np.array_equal(np.array([line.split("\t") for line in lines], np.float32), expected)


def test_prediction_needs_no_labels(folder: Path) -> None:
    np.savez(folder / "bare.npz", x=examples()["x"])
    arguments = (
        "--weights",
        folder / "weights.safetensors",
        "--data",
        folder / "bare.npz",
        "--out",
        folder / "out.npz",
    )
    assert run("predict", folder / "net.json", *arguments).exit_code == 0


def test_evaluation_gives_the_loss_and_metrics_of_the_library(folder: Path) -> None:
    arguments = (
        "evaluate",
        folder / "net.json",
        "--weights",
        folder / "weights.safetensors",
        "--data",
        folder / "data.npz",
    )
    measured = json.loads(run(*arguments, "--metric", "accuracy", "--json").stdout)
    assert measured == ge.evaluate(ge.compile(classifier(), seed=3), examples(), metrics="accuracy")
    text = run(*arguments).stdout
    assert f"{measured['loss']:.6g}" in text


def test_a_loss_that_is_not_a_number_is_still_json(folder: Path) -> None:
    np.savez(folder / "nan.npz", x=np.full((2, 3), np.nan), label=np.zeros(2, int))
    arguments = ("--weights", folder / "weights.safetensors", "--data", folder / "nan.npz", "--json")
    assert json.loads(run("evaluate", folder / "net.json", *arguments).stdout) == {"loss": "NaN"}


def test_a_valid_document_is_described(folder: Path) -> None:
    text = run("validate", folder / "net.json").stdout
    for part in ("classifier", "x float32[batch, 3]", "logits float32[batch, 2]", classifier().hash()):
        assert part in text


def test_a_summary_has_a_line_a_node_and_totals(folder: Path) -> None:
    lines = run("summary", folder / "net.json", "--batch", 4).stdout.splitlines()
    for node in classifier().nodes:
        assert any(node.name in line and node.op.kind in line and str(node.type) in line for line in lines)
    assert any(line.split()[:2] == ["total", "8"] for line in lines)


def test_a_summary_as_json_is_that_of_the_library(folder: Path) -> None:
    document = json.loads(run("summary", folder / "net.json", "--batch", 4, "--json").stdout)
    assert document == summarize(classifier(), batch=4).to_dict()


def test_other_dims_than_the_batch_are_given_by_name(tmp_path: Path) -> None:
    g = ge.Graph("sequence")
    g.output("total", ge.sum(g.input("x", ("time", 2))))
    g.save(tmp_path / "net.json")
    assert json.loads(run("summary", tmp_path / "net.json", "--size", "time=7", "--json").stdout)["sizes"] == {
        "time": 7
    }


def test_the_schema_is_json() -> None:
    assert json.loads(run("schema").stdout)["type"] == "object"


def test_every_command_explains_itself() -> None:
    listing = run("--help").stdout
    for command in ("demo", "train", "predict", "evaluate", "validate", "summary", "schema"):
        assert command in listing
        assert run(command, "--help").exit_code == 0


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"that of {name}")
    assert run("--version").stdout == "graphengine that of graphengine\n"


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", version)
    assert run("--version").stdout == "graphengine, from a checkout that is not installed\n"


@pytest.mark.parametrize("arguments", [(), ("peers", "--check", "--threads", 1)])
def test_bench_says_where_the_benchmarks_are(arguments: tuple[object, ...]) -> None:
    answer = run("bench", *arguments)
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "run `python -m benchmarks` there" in answer.stderr

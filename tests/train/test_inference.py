"""Training with dropout and batch normalization; predictions, evaluation and validation without."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import FeedError, NamingError
from graphengine.executable import Executable
from tests.train.problems import Data, classifier, rings, weights

layers = ge.layers


def network(rate: float = 0.3, seed: int = 0) -> Executable:
    """A classifier of points of the plane, with all that training computes otherwise."""
    g = ge.Graph("network")
    x, label = g.input("x", ("batch", 2)), g.input("label", ("batch",), "int64")
    logits = layers.sequential(
        x,
        partial(layers.dense, units=32, name="hidden"),
        partial(layers.batch_norm, name="norm"),
        ge.tanh,
        partial(layers.dropout, rate=rate),
        partial(layers.dense, units=3, name="top"),
    )
    g.output("logits", logits)
    g.output("loss", ge.cross_entropy(logits, label))
    return ge.compile(g, loss="loss", optimizer=ge.Adam(learning_rate=0.02), seed=seed)


def test_training_with_batch_norm_and_dropout_learns() -> None:
    exe, data, held_out = network(), rings(400), rings(200, seed=1)
    history = ge.fit(exe, data, epochs=40, batch_size=50, validation=held_out, metrics="accuracy", progress=False)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["validation_accuracy"][-1] > 0.9
    assert history["validation_loss"][-1] < history["loss"][-1]  # the loss of training is measured under dropout


def test_digits_are_learned_with_batch_norm_and_dropout() -> None:
    digits = ge.data.digits()
    g = ge.Graph()
    pixels, label = g.input("pixels", ("batch", 64)), g.input("label", ("batch",), "int64")
    h = layers.dropout(ge.relu(layers.batch_norm(layers.dense(pixels, 64))), 0.2)
    g.output("logits", layers.dense(h, 10))
    g.output("loss", ge.cross_entropy(g.outputs["logits"], label))
    exe = ge.compile(g, loss="loss", optimizer=ge.Adam(learning_rate=0.01))
    history = ge.fit(exe, digits.train, epochs=6, batch_size=64, progress=False)
    assert history["loss"][-1] < 0.15
    assert ge.evaluate(exe, digits.test, "accuracy")["accuracy"] > 0.95


def trained(epochs: int = 2) -> tuple[Executable, Data]:
    exe, data = network(), rings(100)
    ge.fit(exe, data, epochs=epochs, batch_size=20, progress=False)
    return exe, data


def test_predictions_are_the_same_every_time_and_in_every_batch() -> None:
    exe, data = trained()
    whole = ge.predict(exe, {"x": data["x"]})["logits"]
    np.testing.assert_array_equal(ge.predict(exe, {"x": data["x"]})["logits"], whole)
    for size in (1, 7, None):
        np.testing.assert_allclose(
            ge.predict(exe, {"x": data["x"]}, batch_size=size)["logits"], whole, rtol=1e-4, atol=1e-5
        )


def test_predictions_are_those_of_the_running_statistics() -> None:
    exe, data = trained()
    w, s = exe.parameters, exe.state
    h = data["x"].astype(np.float32) @ w["hidden.weight"] + w["hidden.bias"]
    h = (h - s["norm.running_mean"]) / np.sqrt(s["norm.running_variance"] + 1e-5) * w["norm.weight"] + w["norm.bias"]
    expected = np.tanh(h) @ w["top.weight"] + w["top.bias"]
    np.testing.assert_allclose(ge.predict(exe, {"x": data["x"]})["logits"], expected, rtol=1e-4, atol=1e-5)


def test_evaluation_and_validation_see_what_prediction_sees() -> None:
    exe, data, held_out = network(), rings(100), rings(60, seed=1)
    history = ge.fit(exe, data, epochs=2, batch_size=20, validation=held_out, metrics="accuracy", progress=False)
    measured = ge.evaluate(exe, held_out, "accuracy")
    assert history["validation_loss"][-1] == measured["loss"]
    assert history["validation_accuracy"][-1] == measured["accuracy"]
    assert history["accuracy"][-1] == ge.evaluate(exe, data, "accuracy")["accuracy"]
    logits = ge.predict(exe, {"x": held_out["x"]})["logits"].astype(np.float64)
    chosen = logits[np.arange(60), held_out["label"]]
    assert measured["loss"] == pytest.approx(np.mean(np.log(np.exp(logits).sum(1)) - chosen), rel=1e-4)


def test_to_measure_leaves_training_as_it_is() -> None:
    plain, measured = network(), network()
    data = rings(100)
    for epoch in range(3):
        ge.fit(plain, data, epochs=1, batch_size=20, epochs_done=epoch, progress=False)
        ge.fit(measured, data, epochs=1, batch_size=20, epochs_done=epoch, metrics="accuracy", progress=False)
        ge.evaluate(measured, data)
        ge.predict(measured, {"x": data["x"]})
    assert weights(plain) == weights(measured)


def test_training_resumed_from_a_checkpoint_drops_what_it_would_have_dropped(tmp_path: Path) -> None:
    data, straight, interrupted = rings(100), network(), network()
    ge.fit(straight, data, epochs=4, batch_size=20, progress=False)
    ge.fit(interrupted, data, epochs=2, batch_size=20, progress=False)
    ge.save_checkpoint(interrupted, tmp_path / "half.safetensors", epochs_done=2)
    resumed = network(seed=7)
    done = ge.load_checkpoint(resumed, tmp_path / "half.safetensors", ignore=["seed"])
    ge.fit(resumed, data, epochs=2, batch_size=20, epochs_done=done, seed=0, progress=False)
    assert weights(resumed) == weights(straight)


def test_both_sides_hold_the_same_arrays() -> None:
    exe, data = network(), rings(20)
    feeds = {"x": data["x"]}
    before = exe.inference.forward(feeds, ["logits"])["logits"]
    exe.parameters["top.bias"] = exe.parameters["top.bias"] + 1.0
    np.testing.assert_allclose(exe.inference.forward(feeds, ["logits"])["logits"], before + 1, rtol=1e-5, atol=1e-5)
    exe.inference.parameters["top.bias"] = np.zeros(3, np.float32)
    assert not exe.parameters["top.bias"].any()
    exe.inference.state["norm.running_mean"] = np.ones(32, np.float32)
    np.testing.assert_array_equal(exe.state["norm.running_mean"], np.ones(32))
    exe.step(data)
    for name in exe.inference.parameters:
        np.testing.assert_array_equal(exe.inference.parameters[name], exe.parameters[name])


def test_an_assignment_on_either_side_needs_a_new_forward() -> None:
    exe, data = network(), rings(20)
    exe.forward(data)
    exe.inference.parameters["top.bias"] = np.ones(3, np.float32)
    with pytest.raises(ge.ExecutionError, match="backward needs a forward"):
        exe.backward()


def test_a_prediction_between_forward_and_backward_does_no_harm() -> None:
    exe, data = network(), rings(20)
    exe.forward(data)
    expected = exe.backward()
    exe.forward(data)
    ge.predict(exe, {"x": data["x"]})
    for name, gradient in exe.backward().items():
        np.testing.assert_array_equal(gradient, expected[name])


def test_it_is_made_once_and_is_its_own_inference() -> None:
    exe = network()
    assert exe.inference is exe.inference
    assert exe.inference is not exe
    assert exe.inference.inference is exe.inference


def test_where_nothing_differs_it_is_the_executable_itself() -> None:
    exe = classifier()
    assert exe.inference is exe


def test_it_asks_for_nothing_that_inference_does_not_read() -> None:
    exe = network()
    assert list(exe.inference.state) == ["norm.running_mean", "norm.running_variance"]
    assert list(exe.inference.needs(["logits"])) == ["x"]
    with pytest.raises(NamingError, match=r"no state 'random\.seed'"):
        exe.inference.state["random.seed"]
    with pytest.raises(ge.ExecutionError, match="step needs"):
        exe.inference.step(rings(5))
    with pytest.raises(FeedError, match="input 'x' is not fed"):
        ge.predict(exe, {"label": np.zeros(3, np.int64)})


def test_inference_costs_less_than_the_forward_pass_of_training() -> None:
    exe = network()
    assert exe.inference.plan("forward", batch=64).flops().total() < exe.plan("forward", batch=64).flops().total()


def test_a_stream_is_measured_without_dropout_too() -> None:
    exe, data = trained()
    batches = [{name: array[start : start + 30] for name, array in data.items()} for start in range(0, 100, 30)]
    assert ge.evaluate(exe, batches, "accuracy") == pytest.approx(ge.evaluate(exe, data, "accuracy"), rel=1e-5)


def test_an_early_stop_restores_running_statistics_and_the_count() -> None:
    exe, data = network(), rings(100)
    stopping = ge.EarlyStopping("validation_loss", patience=1, min_delta=100.0)
    ge.fit(exe, data, epochs=5, batch_size=20, validation=rings(20, seed=1), callbacks=[stopping], progress=False)
    assert stopping.best_epoch == 1
    assert exe.state["random.step"] == 5

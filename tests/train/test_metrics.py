import functools

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import TrainingError
from graphengine.ops.loss import squared_error
from tests.train.problems import classifier, line, points, rings

SCORES = np.array([[0.1, 0.7, 0.2], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4]])


@pytest.mark.parametrize(
    ("predictions", "targets", "expected"),
    [
        (SCORES, [1, 0, 1], 2 / 3),
        (SCORES, [[1], [0], [1]], 2 / 3),
        (SCORES, [1.0, 0.0, 1.0], 2 / 3),
        (SCORES, [[0, 1, 0], [1, 0, 0], [0, 1, 0]], 2 / 3),
        ([1, 0, 2], [1, 0, 1], 2 / 3),
        ([0.9, 0.4, 0.6], [1, 0, 0], 2 / 3),
        ([[0.9], [0.4], [0.6]], [1, 0, 0], 2 / 3),
        ([[0.9], [0.4], [0.6]], [[1.0], [0.0], [0.0]], 2 / 3),
        ([3.0, -2.0, 0.5], [1, -1, -1], 2 / 3),
        ([1.0, 0.0, -1.0], [1, -1, -1], 2 / 3),
        (SCORES[None], [[1, 0, 1]], 2 / 3),
        ([True, False, True], [1, 0, 0], 2 / 3),
    ],
)
def test_accuracy_is_the_fraction_of_classes_found(predictions: object, targets: object, expected: float):
    assert ge.metrics.accuracy(predictions, targets) == pytest.approx(expected)


def test_accuracy_of_logits_needs_a_threshold():
    with pytest.raises(TrainingError, match="no probabilities: give the output after the sigmoid, or a threshold"):
        ge.metrics.accuracy([2.0, -1.0, 0.3], [1, 0, 0])
    assert ge.metrics.accuracy([2.0, -1.0, 0.3], [1, 0, 0], threshold=0) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("predictions", "targets"),
    [(SCORES, [0, 1]), (SCORES, SCORES), (SCORES, [0.5, 1.5, 1.0]), ([0.2, 0.3], [0.1, 0.9])],
)
def test_accuracy_refuses_what_is_no_class(predictions: object, targets: object):
    with pytest.raises(TrainingError, match="not classes"):
        ge.metrics.accuracy(predictions, targets)


def test_mean_errors_are_over_all_elements_and_never_broadcast():
    assert ge.metrics.mean_squared_error([[1.0], [2.0]], [0.0, 4.0]) == 2.5
    assert ge.metrics.mean_absolute_error([[1.0, 2.0]], [[0.0, 4.0]]) == 1.5
    with pytest.raises(TrainingError, match=r"predictions have shape \[2, 2\], and targets \[2\]"):
        ge.metrics.mean_squared_error(np.zeros((2, 2)), np.zeros(2))


def test_a_confusion_matrix_counts_true_rows_and_predicted_columns():
    assert ge.confusion_matrix([0, 1, 1, 2], [0, 0, 1, 1]).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert ge.confusion_matrix(SCORES, [1, 0, 1]).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert ge.confusion_matrix([0.9, 0.2], [1, 1]).tolist() == [[0, 0], [1, 1]]
    assert ge.confusion_matrix([0, 1], [0, 1], classes=3).shape == (3, 3)
    with pytest.raises(TrainingError, match=r"labels of 2 classes lie in \[0, 2\)"):
        ge.confusion_matrix([0, 5], [0, 1], classes=2)


def test_output_and_target_are_found_where_only_one_is_possible():
    exe, data = classifier(), rings(30)
    logits = exe.forward(data)["logits"]
    assert ge.evaluate(exe, data, "accuracy")["accuracy"] == np.mean(logits.argmax(1) == data["label"])


def test_output_and_target_are_asked_for_where_more_are_possible():
    g = ge.Graph(dtype="float64")
    x, y, z = (g.input(name, ("batch", 2)) for name in "xyz")
    g.output("mean", x * 2.0)
    g.output("spread", x * 3.0)
    g.output("loss", squared_error(x * 2.0, y + z))
    exe, data = ge.compile(g), {name: np.ones((3, 2)) for name in "xyz"}
    error = ge.metrics.mean_squared_error
    with pytest.raises(TrainingError, match=r"needs an output: .* one row an example: mean, spread|needs an output"):
        ge.evaluate(exe, data, "mean_squared_error")
    with pytest.raises(TrainingError, match="arrays of the data that output 'mean' does not need: y, z"):
        ge.evaluate(exe, data, ge.Metric("error", error, output="mean"))
    metrics = [ge.Metric(f"of_{name}", error, output=name, target="z") for name in ("mean", "spread")]
    assert ge.evaluate(exe, data, metrics) == {"loss": 0.0, "of_mean": 1.0, "of_spread": 4.0}


def test_metrics_are_names_functions_or_both():
    exe, data = line(), points()
    mse = ge.metrics.mean_squared_error
    measured = ge.evaluate(exe, data, ["mean_squared_error", ge.Metric("again", mse), ge.Metric("y", mse, target="y")])
    assert measured["mean_squared_error"] == measured["again"] == measured["y"] == pytest.approx(measured["loss"])
    assert "mean_squared_error" in ge.evaluate(exe, data, mse)
    assert "partial" in ge.evaluate(exe, data, functools.partial(mse))


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("acuracy", "no metric 'acuracy'; did you mean 'accuracy'"),
        (["mean_squared_error", "mean_squared_error"], "two metrics are named 'mean_squared_error'"),
        ([ge.Metric("loss", ge.metrics.accuracy)], "cannot be named 'loss'"),
        ([ge.Metric("error", ge.metrics.accuracy, target="z")], "the data has no array 'z'"),
    ],
)
def test_metrics_that_make_no_sense_are_refused(metrics: object, message: str):
    with pytest.raises(TrainingError, match=message):
        ge.evaluate(line(), points(), metrics)


def test_a_metric_that_fails_names_its_output_and_its_target():
    with pytest.raises(TrainingError) as caught:
        ge.evaluate(line(), points(), "accuracy")
    assert "metric 'accuracy' of output 'prediction' and target 'y'" in str(caught.value)

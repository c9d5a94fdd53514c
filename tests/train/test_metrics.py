import functools
import math

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


@pytest.mark.parametrize(
    ("predictions", "targets"),
    [([[math.nan] * 2, [0.1, 0.9]], [0, 1]), ([[math.nan, 1.0], [0.1, 0.9]], [[1, 0], [0, 1]])]
    + [([math.nan, 0.9], targets) for targets in ([0, 1], [-1, 1])],
)
def test_a_score_that_is_nan_is_of_no_class(predictions: object, targets: object):
    assert ge.metrics.accuracy(predictions, targets) == 0.5
    with pytest.raises(TrainingError, match="1 of 2 predictions are NaN"):
        ge.metrics.confusion_matrix(predictions, targets)


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
    assert ge.confusion_matrix([0, 1, 1, 2], [0, 0, 1, 1], classes=3).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert ge.confusion_matrix(SCORES, [1, 0, 1]).tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert ge.confusion_matrix([0.9, 0.2], [1, 1], threshold=0.5).tolist() == [[0, 0], [1, 1]]
    assert ge.confusion_matrix([[0.9], [0.2]], [[1], [0]]).tolist() == [[1, 0], [0, 1]]
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


def test_a_metric_is_of_an_output_with_a_row_an_example():
    with pytest.raises(TrainingError, match=r"output 'loss' is float64\[\], which is not one row an example"):
        ge.evaluate(line(), points(), ge.Metric("error", ge.metrics.mean_squared_error, "loss", "y"), batch_size=8)


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


def test_a_confusion_matrix_has_as_many_classes_whatever_part_of_the_data_it_is_of():
    labels = np.array([1, 0, 1])
    for rows in ([0], [1], [0, 1, 2]):
        assert ge.confusion_matrix(SCORES[rows], labels[rows]).shape == (3, 3)
        assert ge.confusion_matrix(SCORES[rows, 0], labels[rows], threshold=0.5).shape == (2, 2)
    with pytest.raises(TrainingError, match=r"the number of classes does not follow from labels: say classes="):
        ge.confusion_matrix([0, 1], [0, 1])
    with pytest.raises(TrainingError, match=r"labels of 3 classes lie in \[0, 3\)"):
        ge.confusion_matrix(SCORES, [0, 1, 3])


def test_targets_that_are_all_1_do_not_tell_where_the_threshold_is():
    with pytest.raises(TrainingError, match=r"all targets are 1, .* give a threshold, 0\.5 for probabilities"):
        ge.metrics.accuracy([0.4, 0.6], [1, 1])
    assert ge.metrics.accuracy([0.4, 0.6], [1, 1], threshold=0.5) == 0.5
    assert ge.metrics.accuracy([0.4, 0.6], [1.0, 1.0], threshold=0) == 1.0


def binary(kind: str) -> tuple[ge.Graph, np.ndarray]:
    """A classifier of two classes, which `kind` says how it is trained, and the two labels."""
    graph = ge.Graph(kind, dtype="float64")
    x, y = graph.input("x", ("batch", 3)), graph.input("y", ("batch", 1))
    z = x @ graph.parameter("w", (3, 1), init=ge.init.Normal())
    if kind == "probability":
        prediction, loss, labels = ge.sigmoid(z), ge.half_squared_error(ge.sigmoid(z), y), (0.0, 1.0)
    elif kind == "logits":
        prediction, loss, labels = z, ge.binary_cross_entropy(z, y), (0.0, 1.0)
    elif kind == "margin":
        prediction, loss, labels = ge.reshape(z, ("batch",)), ge.hinge(z, y), (-1.0, 1.0)
    else:
        prediction, loss, labels = ge.sign(z), ge.perceptron_loss(z, y), (-1.0, 1.0)
    graph.output("prediction", prediction)
    graph.output("loss", loss)
    return graph, np.array(labels)


@pytest.mark.parametrize("kind", ["probability", "logits", "margin", "sign"])
def test_accuracy_is_the_same_in_batches_of_any_size_and_of_parts_with_one_class_only(kind: str):
    graph, labels = binary(kind)
    random = np.random.default_rng(0)
    data = {"x": random.normal(size=(30, 3)), "y": labels[np.sort(random.integers(0, 2, (30, 1)), axis=0)]}
    exe = ge.compile(graph, loss="loss", optimizer=ge.SGD(learning_rate=0.1))
    whole = ge.evaluate(exe, data, "accuracy")
    assert 0 < whole["accuracy"] < 1
    for size in (1, 7, 30):
        parts = [{name: array[start : start + size] for name, array in data.items()} for start in range(0, 30, size)]
        counts = [len(part["x"]) for part in parts]
        for found in (
            ge.evaluate(exe, data, "accuracy", batch_size=size),
            ge.evaluate(exe, parts, "accuracy"),
            {"accuracy": np.average([ge.evaluate(exe, part, "accuracy")["accuracy"] for part in parts], weights=counts)}
            | {"loss": np.average([ge.evaluate(exe, part)["loss"] for part in parts], weights=counts)},
        ):
            assert found == pytest.approx(whole, rel=1e-12)
    folds = ge.cross_validate(
        graph, data, folds=30, epochs=1, optimizer=ge.SGD(learning_rate=0.0), metrics="accuracy", progress=False
    )
    assert folds.mean == pytest.approx(whole, rel=1e-12)

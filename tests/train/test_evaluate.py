import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import FeedError, NamingError, TrainingError
from tests.train.problems import classifier, line, points, rings


def test_the_loss_in_batches_is_the_loss_of_the_whole():
    exe, data = line(), points(50)
    whole = float(exe.forward(data)["loss"])
    for size in (None, 7, 50, 1000):
        assert ge.evaluate(exe, data, batch_size=size) == {"loss": pytest.approx(whole, rel=1e-13)}


def test_predictions_in_batches_are_those_of_the_whole():
    exe, data = line(), points(50)
    whole = exe.forward(data, ["prediction"])["prediction"]
    for size in (None, 7, 50):
        predicted = ge.predict(exe, data, batch_size=size)
        assert list(predicted) == ["prediction"]
        np.testing.assert_allclose(predicted["prediction"], whole, rtol=1e-13)


def test_predict_asks_for_the_feeds_of_its_outputs_only():
    exe, data = line(), points(5)
    predicted = ge.predict(exe, {"x": data["x"]}, "prediction")
    assert list(predicted) == ["prediction"]
    assert predicted["prediction"].shape == (5, 1)
    with pytest.raises(FeedError, match="input 'x' is not fed"):
        ge.predict(exe, {"y": data["y"]})


def test_an_output_without_a_row_an_example_is_no_prediction():
    with pytest.raises(TrainingError, match=r"output 'loss' is float64\[\], which is not one row an example"):
        ge.predict(line(), points(), ["loss"])
    with pytest.raises(NamingError, match="no output 'predictions'; did you mean 'prediction'"):
        ge.predict(line(), points(), ["predictions"])


def test_an_output_whose_rows_depend_on_the_batch_is_no_prediction():
    g = ge.Graph()
    x = g.input("x", ("batch", 3))
    g.output("similarity", x @ x.T)
    g.output("double", x * 2.0)
    exe = ge.compile(g)
    assert list(ge.predict(exe, {"x": np.ones((4, 3))}, batch_size=2)) == ["double"]
    with pytest.raises(TrainingError, match="output 'similarity'"):
        ge.predict(exe, {"x": np.ones((4, 3))}, ["similarity"])


def test_a_graph_of_fixed_sizes_predicts_in_one_run():
    g = ge.Graph()
    g.output("double", g.input("x", (4, 3)) * 2.0)
    assert ge.predict(ge.compile(g), {"x": np.ones((4, 3))}, batch_size=2)["double"].shape == (4, 3)


def test_the_axis_of_examples_is_the_one_named_batch():
    g = ge.Graph()
    where, x = g.input("where", ("time",)), g.input("x", ("batch", "time"))
    g.output("moved", x + where)
    moved = ge.predict(ge.compile(g), {"x": np.zeros((5, 3)), "where": np.arange(3.0)}, batch_size=2)["moved"]
    np.testing.assert_array_equal(moved, np.tile(np.arange(3.0), (5, 1)))


def test_a_forward_only_executable_is_evaluated_by_the_output_named_loss():
    g = ge.Graph()
    x, y = g.input("x", ("batch", 2)), g.input("y", ("batch", 2))
    g.output("prediction", x * 2.0)
    g.output("loss", ge.sum(x * 2.0 - y))
    exe = ge.compile(g)
    assert ge.evaluate(exe, {"x": np.ones((3, 2)), "y": np.ones((3, 2))}, "mean_squared_error") == {
        "loss": 6.0,
        "mean_squared_error": 1.0,
    }


def test_a_target_need_not_be_an_input():
    g = ge.Graph()
    g.output("prediction", g.input("x", ("batch", 2)) * 2.0)
    data = {"x": np.ones((3, 2)), "truth": np.zeros((3, 2))}
    assert ge.evaluate(ge.compile(g), data, "mean_absolute_error", batch_size=2) == {"mean_absolute_error": 2.0}
    with pytest.raises(TrainingError, match="nothing to evaluate"):
        ge.evaluate(ge.compile(g), {"x": np.ones((3, 2))})


def test_a_metric_sees_all_examples_at_once():
    def spread(predictions: np.ndarray, targets: np.ndarray) -> float:
        return float(np.ptp(predictions)) + len(targets)

    exe, data = line(), points(50)
    expected = np.ptp(exe.forward(data)["prediction"]) + 50
    assert ge.evaluate(exe, data, [spread], batch_size=8)["spread"] == pytest.approx(expected)


def test_a_stream_is_evaluated_as_its_examples_together_are():
    exe, data = classifier(), rings(20)
    batches = [{name: array[start : start + 8] for name, array in data.items()} for start in (0, 8, 16)]
    assert ge.evaluate(exe, batches, "accuracy") == pytest.approx(ge.evaluate(exe, data, "accuracy"), rel=1e-6)


def test_a_batch_without_the_target_of_a_metric_is_told():
    g = ge.Graph()
    g.output("prediction", g.input("x", ("batch", 2)) * 2.0)
    g.input("y", ("batch", 2))
    with pytest.raises(TrainingError, match="a batch has no array 'y', which a metric has as target"):
        ge.evaluate(ge.compile(g), [{"x": np.ones((3, 2))}], "mean_squared_error")


LOSSES = {
    "mean": lambda x, y, w: ge.mean(ge.square(x * w - y)),
    "sum": lambda x, y, w: ge.sum(ge.square(x * w - y)),
    "op": lambda x, y, w: ge.squared_error(x * w, y, reduction="sum"),
    "scaled": lambda x, y, w: -(0.5 * ge.sum(ge.square(x * w - y)) / 3.0),
    "rows": lambda x, y, w: ge.mean(ge.sum(ge.square(x * w - y), axis=1)),
    "divided": lambda x, y, w: ge.sum(ge.mean(ge.square(x * w - y), axis=0)),
    "two_sums": lambda x, y, w: ge.sum(ge.square(x * w)) - ge.absolute_error(x, y, reduction="sum"),
    "sum_of_columns": lambda x, y, w: ge.sum(ge.sum(x * w - y, axis=0) * [1.0, 2.0, 3.0]),
    "mean_of_columns": lambda x, y, w: ge.mean(ge.sum(x * w - y, axis=0)),
    "squeezed": lambda x, y, w: ge.squeeze(ge.sum(x * w - y, keepdims=True), (0, 1)),
    "weighted": lambda x, y, w: ge.sum(ge.square(x * w - y)) * ge.sum(w),
    "product": lambda x, y, w: (x * w)[:, 0] @ y[:, 1],
}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_is_that_of_all_examples_whatever_the_batches(kind: str) -> None:
    graph = ge.Graph(kind, dtype="float64")
    x, y = graph.input("x", ("batch", 3)), graph.input("y", ("batch", 3))
    w = graph.parameter("w", (3,), init=ge.init.Ones())
    graph.output("loss", LOSSES[kind](x, y, w))
    random = np.random.default_rng(0)
    data = {"x": random.normal(size=(10, 3)), "y": random.normal(size=(10, 3))}
    exe = ge.compile(graph, loss="loss")
    for size in (1, 3, 10):
        assert ge.evaluate(exe, data, batch_size=size)["loss"] == pytest.approx(exe.forward(data)["loss"], rel=1e-12)

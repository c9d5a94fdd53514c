import math

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import ExecutionError, FeedError, TrainingError
from graphengine.executable import Executable
from tests.train.problems import classifier, line, points, rings, weights


class Watched:
    """Stands in for an executable, and keeps what every step is fed."""

    def __init__(self, exe: Executable) -> None:
        self._exe = exe
        self.fed: list[dict[str, np.ndarray]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._exe, name)

    def step(self, feeds: dict[str, np.ndarray]) -> float:
        self.fed.append({name: np.array(array) for name, array in feeds.items()})
        return self._exe.step(feeds)


def test_gradient_descent_finds_the_plane_that_the_points_lie_on():
    exe = line()
    history = ge.fit(exe, points(), epochs=200)
    np.testing.assert_allclose(exe.parameters["w"], [[1.0], [-2.0], [0.5]], atol=1e-6)
    np.testing.assert_allclose(exe.parameters["b"], [3.0], atol=1e-6)
    assert history["loss"][-1] < 1e-12 < history["loss"][0]


def test_batches_teach_a_network_what_no_line_can_tell_apart():
    exe = classifier()
    history = ge.fit(exe, rings(), epochs=60, batch_size=32, metrics="accuracy", validation=rings(seed=1))
    assert history["accuracy"][-1] > 0.95
    assert history["validation_accuracy"][-1] > 0.9


def test_without_batch_size_an_epoch_is_one_step_on_the_data_as_they_are():
    data, exe, bare = points(), line(), line()
    watched = Watched(exe)
    history = ge.fit(watched, data, epochs=3)
    assert history["loss"] == [bare.step(data) for _ in range(3)]
    assert weights(exe) == weights(bare)
    assert history["steps"] == [1, 1, 1]
    assert all(np.array_equal(fed["x"], data["x"]) for fed in watched.fed)


def test_every_epoch_passes_over_every_example_once_and_the_last_batch_is_short():
    data = points(50)
    watched = Watched(line())
    history = ge.fit(watched, data, epochs=2, batch_size=16)
    assert [len(fed["x"]) for fed in watched.fed] == [16, 16, 16, 2] * 2
    assert history.steps == 8
    for epoch in (watched.fed[:4], watched.fed[4:]):
        seen = np.concatenate([np.hstack([fed["x"], fed["y"]]) for fed in epoch])
        given = np.hstack([data["x"], data["y"]])
        np.testing.assert_array_equal(seen[seen[:, 0].argsort()], given[given[:, 0].argsort()])


def test_epochs_differ_in_their_order_and_repeat_it_under_the_same_seed():
    def orders(**settings: object) -> list[np.ndarray]:
        watched = Watched(line())
        ge.fit(watched, points(20), epochs=2, batch_size=7, **settings)
        x = np.concatenate([fed["x"] for fed in watched.fed])
        return [x[:20], x[20:]]

    first, second = orders()
    assert not np.array_equal(first, second)
    assert np.array_equal(orders(), [first, second])
    assert np.array_equal(orders(seed=0), [first, second])
    assert not np.array_equal(orders(seed=1)[0], first)
    assert np.array_equal(orders(shuffle=False)[0], points(20)["x"])


def test_the_same_training_twice_gives_the_same_bits():
    exes = [classifier(), classifier()]
    histories = [ge.fit(exe, rings(), epochs=3, batch_size=32, metrics="accuracy") for exe in exes]
    assert weights(exes[0]) == weights(exes[1])
    assert histories[0]["loss"] == histories[1]["loss"]


def test_arrays_of_any_layout_and_lists_train_alike():
    data, exes = points(20), [line(), line(), line()]
    forms = [data, {name: np.asfortranarray(a) for name, a in data.items()}, {n: a.tolist() for n, a in data.items()}]
    for exe, form in zip(exes, forms, strict=True):
        ge.fit(exe, form, epochs=2, batch_size=8)
    assert weights(exes[0]) == weights(exes[1]) == weights(exes[2])


def test_the_loss_of_an_epoch_weighs_batches_by_their_examples():
    data, bare = points(10), line()
    losses = [bare.step({name: array[start : start + 8] for name, array in data.items()}) for start in (0, 8)]
    history = ge.fit(line(), data, epochs=1, batch_size=8, shuffle=False)
    assert history["loss"] == [pytest.approx((8 * losses[0] + 2 * losses[1]) / 10, rel=1e-15)]


def test_metrics_are_those_of_the_weights_at_the_end_of_the_epoch():
    data, exe = points(), line()
    history = ge.fit(exe, data, epochs=2, batch_size=8, metrics=["mean_squared_error"], validation=points(seed=1))
    assert history["mean_squared_error"][-1] == ge.evaluate(exe, data, "mean_squared_error")["mean_squared_error"]
    assert history["validation_loss"][-1] == ge.evaluate(exe, points(seed=1))["loss"]


def test_a_fraction_is_held_out_once_and_never_trained_on():
    watched = Watched(line())
    data = points(50)
    history = ge.fit(watched, data, epochs=2, batch_size=10, validation=0.2)
    trained = {row.tobytes() for fed in watched.fed for row in fed["x"]}
    assert len(trained) == 40
    held_out = np.array([row.tobytes() not in trained for row in data["x"]])
    assert history["validation_loss"][-1] == pytest.approx(
        ge.evaluate(watched._exe, {name: array[held_out] for name, array in data.items()})["loss"]
    )


def test_a_stream_trains_as_the_same_batches_of_arrays_do():
    data, exes = points(20), [line(), line()]
    batches = [{name: array[start : start + 8] for name, array in data.items()} for start in (0, 8, 16)]
    streamed = ge.fit(exes[0], batches, epochs=2, metrics="mean_squared_error", validation=batches)
    ge.fit(exes[1], data, epochs=2, batch_size=8, shuffle=False)
    assert weights(exes[0]) == weights(exes[1])
    assert streamed["validation_loss"] == pytest.approx(streamed["mean_squared_error"])


def test_an_iterator_trains_one_epoch_and_is_refused_for_more():
    batches = [points(8)]
    assert ge.fit(line(), iter(batches), epochs=1).steps == 1
    for settings in ({"epochs": 2}, {"epochs": 1, "metrics": "mean_squared_error"}):
        with pytest.raises(TrainingError, match="data is an iterator, which is empty after one pass"):
            ge.fit(line(), iter(batches), **settings)
    with pytest.raises(TrainingError, match="there are no examples"):
        ge.fit(line(), [], epochs=1)


def test_an_input_without_an_axis_of_examples_is_fed_whole():
    g = ge.Graph("scaled", dtype="float64")
    scale, x = g.input("scale", (3,)), g.input("x", ("batch", 3))
    g.output("prediction", (x * scale) @ g.parameter("w", (3, 1)))
    g.output("loss", ge.sum(g.outputs["prediction"] ** 2.0))
    watched = Watched(ge.compile(g, loss="loss", optimizer=ge.SGD(learning_rate=1e-3)))
    ge.fit(watched, {"scale": [1.0, 2.0, 3.0], "x": points(10)["x"]}, epochs=1, batch_size=4)
    assert [fed["x"].shape for fed in watched.fed] == [(4, 3), (4, 3), (2, 3)]
    assert all(fed["scale"].tolist() == [1, 2, 3] for fed in watched.fed)


def test_a_graph_of_fixed_sizes_trains_on_the_full_batch_only():
    g = ge.Graph("fixed", dtype="float64")
    x, y = g.input("x", (10, 3)), g.input("y", (10, 1))
    g.output("prediction", x @ g.parameter("w", (3, 1)))
    g.output("loss", ge.sum((g.outputs["prediction"] - y) ** 2.0))
    exe = ge.compile(g, loss="loss", optimizer=ge.SGD(learning_rate=1e-3))
    history = ge.fit(exe, points(10), epochs=2, metrics="mean_squared_error")
    assert history["loss"][1] == pytest.approx(10 * history["mean_squared_error"][0])
    with pytest.raises(TrainingError, match="has a name instead of a size"):
        ge.fit(exe, points(10), epochs=1, batch_size=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros((49, 1))}, "number of examples .the first axis.: 'x' has 50, 'y' has 49"),
        ({"x": np.zeros((0, 3)), "y": np.zeros((0, 1))}, "there are no examples"),
        ({"x": 1.0}, "array 'x' needs a first axis with one row an example"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_named(change: dict[str, object], message: str):
    with pytest.raises(TrainingError, match=message):
        ge.fit(line(), {**points(), **change}, epochs=1)


def test_feeds_that_are_missing_or_unknown_are_named():
    with pytest.raises(FeedError, match="input 'y' is not fed"):
        ge.fit(line(), {"x": points()["x"]}, epochs=1, batch_size=8)
    with pytest.raises(FeedError, match="no input 'z', and no metric has it as target"):
        ge.fit(line(), {**points(), "z": np.zeros(50)}, epochs=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is an int of at least 1, not 0"),
        ({"batch_size": 0}, "batch_size is an int of at least 1, not 0"),
        ({"batch_size": 2.5}, "batch_size is an int of at least 1, not 2.5"),
        ({"epochs_done": -1}, "epochs_done is at least 0"),
        ({"seed": -1}, "the seed of a shuffle is at least 0"),
        ({"seed": 0.5}, "seed is an int, not 0.5"),
        ({"validation": 1.0}, "a fraction of them between 0 and 1, and not 1.0"),
        ({"validation": math.nan}, "a fraction of them between 0 and 1, and not nan"),
        ({"validation": True}, "a fraction of them between 0 and 1, and not True"),
        ({"validation": 0.001}, "leaves no examples"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str):
    with pytest.raises(TrainingError, match=message):
        ge.fit(line(), points(), **{"epochs": 1, **settings})


def test_data_that_are_no_mapping_are_refused():
    with pytest.raises(TrainingError, match="data must be a dict of arrays by the names of inputs"):
        ge.fit(line(), points()["x"], epochs=1)
    with pytest.raises(TrainingError, match="a stream consists of batches"):
        ge.fit(line(), [points()], epochs=1, batch_size=8)
    with pytest.raises(TrainingError, match="can be held out of arrays only"):
        ge.fit(line(), [points()], epochs=1, validation=0.5)


def test_an_executable_without_an_optimizer_says_so():
    g = ge.Graph()
    g.output("double", g.input("x", ("batch",)) * 2.0)
    with pytest.raises(ExecutionError, match="step needs a loss"):
        ge.fit(ge.compile(g), {"x": np.zeros(3)}, epochs=1)


def test_a_loss_that_is_no_number_ends_training_at_once_and_tells_the_losses_before():
    exe = line(ge.SGD(learning_rate=1e6))
    with pytest.raises(TrainingError, match="a lower learning rate") as caught:
        ge.fit(exe, points(), epochs=100)
    assert "the loss is inf in epoch" in str(caught.value)
    assert len(caught.value.context) == 5
    assert math.isfinite(float(caught.value.context[-1].split()[-1]))


def test_a_bad_learning_rate_leaves_the_best_weights_when_early_stopping_holds_them():
    exe = line(ge.SGD(learning_rate=1e6))
    with pytest.raises(TrainingError):
        ge.fit(exe, points(), epochs=100, callbacks=[ge.EarlyStopping("loss", patience=200)])
    assert np.isfinite(exe.parameters["w"]).all()

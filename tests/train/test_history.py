import json

import pytest

import graphengine as ge
from graphengine.errors import TrainingError
from tests.train.problems import line, points


def test_a_history_holds_what_each_epoch_measured():
    history = ge.fit(line(), points(), epochs=3, batch_size=20, validation=points(seed=1), metrics="mean_squared_error")
    columns = history.to_dict()
    measured = ["loss", "mean_squared_error", "validation_loss", "validation_mean_squared_error"]
    assert list(columns) == ["epoch", *measured, "steps", "seconds"]
    assert columns["epoch"] == [1, 2, 3]
    assert history.steps == sum(columns["steps"]) == 9
    assert history.seconds == sum(columns["seconds"]) > 0
    assert json.loads(json.dumps(columns)) == columns
    assert len(history) == 3
    assert history.stopped is None


def test_a_history_shows_itself_in_a_line_and_in_a_table():
    history = ge.History([ge.Epoch(i + 1, 2, 0.25, {"loss": 1 / (i + 1)}) for i in range(20)], stopped="enough")
    assert repr(history) == "History(20 epochs, 40 steps, 5 s, loss 0.05; enough)"
    lines = str(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "steps", "seconds"]
    assert lines[2].split() == ["2", "0.5", "2", "0.25"]
    assert lines[7].split() == ["..."] * 4
    assert lines[-1] == "enough"
    assert len({len(line) for line in lines[:-1]}) == 1
    assert repr(ge.History()) == "History(0 epochs, 0 steps, 0 s)"


def test_a_name_that_was_not_measured_is_told_with_the_nearest():
    with pytest.raises(TrainingError, match="the history has no 'los'; did you mean 'loss'"):
        ge.History()["los"]


def test_a_value_that_an_epoch_did_not_measure_is_nan() -> None:
    history = ge.History([ge.Epoch(1, 1, 0.0, {"loss": 1.0}), ge.Epoch(2, 1, 0.0, {"loss": 0.5, "accuracy": 1.0})])
    assert str(history["accuracy"]) == "[nan, 1.0]"

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import TrainingError
from graphengine.executable import Executable
from tests.train.problems import line, points, weights


class Script(ge.Callback):
    """Puts scripted values in the place of what an epoch measured, and keeps what `exe` held after it."""

    def __init__(self, *values: float) -> None:
        self.values = values
        self.held: list[dict[str, bytes]] = []

    def on_epoch_end(self, exe: Executable, history: ge.History) -> None:
        history.epochs[-1].values["score"] = self.values[len(self.held)]
        self.held.append(weights(exe))


def stop(*values: float, epochs: int | None = None, **settings: object) -> tuple[Script, ge.EarlyStopping, ge.History]:
    script, stopping = Script(*values), ge.EarlyStopping("score", **{"mode": "min", **settings})
    exe = line(ge.SGD(learning_rate=0.01, momentum=0.9))
    history = ge.fit(exe, points(), epochs=epochs or len(values), callbacks=[script, stopping])
    script.last = weights(exe)
    return script, stopping, history


def test_training_stops_when_nothing_has_become_better_for_long():
    script, stopping, history = stop(5, 3, 4, 4, 4, 1, patience=3)
    assert len(history) == 5
    assert history.stopped == "score is no better since epoch 2, where it was 3"
    assert (stopping.best_epoch, stopping.best) == (2, 3)
    assert script.last == script.held[1] != script.held[4]


def test_the_best_is_restored_also_when_the_epochs_run_out():
    script, _, history = stop(5, 3, 4, patience=10)
    assert history.stopped is None
    assert script.last == script.held[1] != script.held[2]


def test_the_last_weights_stay_where_the_best_are_not_asked_for():
    script, _, _ = stop(5, 3, 4, patience=10, restore_best=False)
    assert script.last == script.held[2]


def test_more_is_better_for_an_accuracy_and_a_gain_must_exceed_min_delta():
    assert len(stop(0.5, 0.6, 0.61, 0.62, 0.7, mode="max", patience=2, min_delta=0.05)[2]) == 4
    assert ge.EarlyStopping("validation_accuracy").mode == "max"
    assert ge.EarlyStopping("validation_mean_squared_error").mode == "min"
    assert ge.EarlyStopping().monitor == "validation_loss"
    with pytest.raises(TrainingError, match='say mode="min" or "max"'):
        ge.EarlyStopping("score")


def test_no_number_is_never_better():
    _, stopping, history = stop(np.nan, 3, np.nan, np.nan, 1, patience=2)
    assert len(history) == 4
    assert stopping.best_epoch == 2


def test_a_stopping_forgets_the_training_before():
    stopping = ge.EarlyStopping("loss", patience=1, min_delta=1e9)
    for _ in range(2):
        assert len(ge.fit(line(), points(), epochs=9, callbacks=[stopping])) == 2


def test_a_monitor_that_is_not_measured_is_an_error_with_the_remedy():
    with pytest.raises(TrainingError, match="monitors 'validation_loss', which is not measured; give fit validation="):
        ge.fit(line(), points(), epochs=1, callbacks=[ge.EarlyStopping()])
    for settings in ({"patience": 0}, {"min_delta": -1.0}):
        with pytest.raises(TrainingError, match="patience is at least 1"):
            ge.EarlyStopping(**settings)


def test_early_stopping_keeps_the_epoch_of_the_least_validation_loss():
    exe, held_out = line(ge.SGD(learning_rate=0.05)), points(10, seed=100, noise=1.0)
    stopping = ge.EarlyStopping(patience=5)
    history = ge.fit(exe, points(6, noise=2.0), epochs=500, validation=held_out, callbacks=[stopping])
    assert history.stopped
    assert ge.evaluate(exe, held_out)["loss"] == min(history["validation_loss"]) == stopping.best


def test_callbacks_end_whatever_ends_training():
    class Interrupted(ge.Callback):
        ended = False

        def on_epoch_end(self, exe: Executable, history: ge.History) -> None:
            raise KeyboardInterrupt

        def on_end(self, exe: Executable, history: ge.History) -> None:
            self.ended = True

    callback = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        ge.fit(line(), points(), epochs=1, callbacks=[callback])
    assert callback.ended

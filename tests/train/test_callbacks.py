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


class Fails(ge.Callback):
    """Fails in the methods of these names."""

    def __init__(self, *names: str) -> None:
        self.ended = 0
        for name in names:
            setattr(self, name, self._fail)

    def _fail(self, exe: Executable, history: ge.History) -> None:
        raise RuntimeError("a plot failed")

    def on_end(self, exe: Executable, history: ge.History) -> None:
        self.ended += 1


class Interrupt(ge.Callback):
    """Is Ctrl-C after so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, exe: Executable, history: ge.History) -> None:
        if len(history) == self.epochs:
            raise KeyboardInterrupt


def test_an_interrupt_leaves_the_best_weights_and_has_the_history():
    script, stopping = Script(5, 3, 4, 4), ge.EarlyStopping("score", mode="min")
    exe = line(ge.SGD(learning_rate=0.01, momentum=0.9))
    with pytest.raises(KeyboardInterrupt) as caught:
        ge.fit(exe, points(), epochs=9, callbacks=[script, stopping, Interrupt(4)], progress=False)
    assert len(caught.value.history) == 4
    assert weights(exe) == script.held[1]


def test_an_error_in_a_metric_and_in_a_callback_has_the_history():
    failing: list[dict[str, object]] = [
        {"metrics": ge.Metric("m", lambda predictions, targets: predictions.no_such_method(targets))},
        {"callbacks": [Fails("on_epoch_end")]},
    ]
    for settings in failing:
        with pytest.raises((AttributeError, RuntimeError)) as caught:
            ge.fit(line(), points(), epochs=2, progress=False, **settings)
        assert isinstance(caught.value.history, ge.History)


def test_every_callback_is_ended_whatever_fails():
    script, stopping = Script(5, 3, 4), ge.EarlyStopping("score", mode="min")
    exe = line(ge.SGD(learning_rate=0.01, momentum=0.9))
    last = Fails()
    with pytest.raises(RuntimeError, match="a plot failed") as caught:
        ge.fit(exe, points(), epochs=3, callbacks=[script, Fails("on_end"), stopping, Fails("on_end"), last])
    assert weights(exe) == script.held[1]
    assert last.ended == 1
    assert caught.value.__notes__ == ["then the end of a callback failed: RuntimeError: a plot failed"]
    assert len(caught.value.history) == 3


def test_callbacks_that_were_started_are_ended_when_another_does_not_start():
    first, last = Fails(), Fails()
    with pytest.raises(RuntimeError, match="a plot failed"):
        ge.fit(line(), points(), epochs=1, callbacks=[first, Fails("on_start"), last])
    assert (first.ended, last.ended) == (1, 0)


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (ge.EarlyStopping(), "callbacks must be a list of ge.Callback, and not "),
        ("early", "callbacks must be a list of ge.Callback, and not 'early'"),
        ([ge.EarlyStopping], r"has the class EarlyStopping: say EarlyStopping\(\.\.\.\)"),
        ([None], "callbacks must be a list of ge.Callback, and has None"),
        ([print], "and has the function print"),
        ([ge.EarlyStopping()], "EarlyStopping monitors 'validation_loss', which is not measured; give fit validation="),
        ([Script(1), ge.EarlyStopping()], "EarlyStopping monitors 'validation_loss', which is not measured"),
        ([ge.EarlyStopping("accuracy")], "EarlyStopping monitors 'accuracy', which is not measured; there are loss"),
    ],
)
def test_callbacks_are_checked_before_the_first_step(callbacks: object, message: str):
    exe = line()
    before = weights(exe)
    with pytest.raises(TrainingError, match=message):
        ge.fit(exe, points(), epochs=1, callbacks=callbacks)
    assert weights(exe) == before


def test_a_name_that_no_callback_gives_is_told_after_the_epoch():
    with pytest.raises(TrainingError, match="monitors 'scor', which is not measured; did you mean 'score'"):
        ge.fit(line(), points(), epochs=2, callbacks=[Script(1, 1), ge.EarlyStopping("scor", mode="min")])


def test_what_a_checkpoint_calls_best_is_checked_before_the_first_step(tmp_path):
    exe = line()
    with pytest.raises(TrainingError, match="Checkpoint monitors 'validation_loss', which is not measured"):
        ge.fit(exe, points(), epochs=1, checkpoint=ge.Checkpoint(tmp_path, best="validation_loss"))
    with pytest.raises(ge.UsageError, match="checkpoint must be a checkpoint or None"):
        ge.fit(exe, points(), epochs=1, checkpoint=tmp_path)


@pytest.mark.parametrize("mode", ["MIN", "minimum", "", 1])
def test_another_mode_is_refused(mode: object):
    for make in (ge.EarlyStopping, lambda name, mode: ge.Checkpoint("folder", best=name, mode=mode)):
        with pytest.raises(TrainingError, match='mode is "min" or "max", not '):
            make("score", mode=mode)

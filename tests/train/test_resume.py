"""Training that is stopped, and goes on from a checkpoint, as if it had never been stopped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.backends.installed import installed_backends
from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.ops.loss import cross_entropy
from tests.train.problems import Kill, Killed, classifier, line, points, rings, weights


def dropping(backend: str = "numpy") -> Executable:
    """A classifier that has random draws and running statistics besides slots."""
    g = ge.Graph("dropping")
    x, label = g.input("x", ("batch", 2)), g.input("label", ("batch",), "int64")
    h = ge.layers.batch_norm(ge.tanh(x @ g.parameter("w1", (2, 8))), name="norm")
    logits = g.output("logits", ge.layers.dropout(h, 0.3) @ g.parameter("w2", (8, 3)))
    g.output("loss", cross_entropy(logits, label))
    return ge.compile(g, loss="loss", optimizer=ge.Adam(ge.CosineDecay(0.1, steps=12)), backend=backend)


def values(history: ge.History) -> list[Any]:
    return [(epoch.number, epoch.steps, repr(epoch.values)) for epoch in history.epochs] + [history.stopped]


FITS: dict[str, dict[str, Any]] = {
    "shuffled": {"batch_size": 8, "validation": 0.25, "metrics": "accuracy"},
    "in order": {"batch_size": 8, "shuffle": False},
    "full batch": {"validation": rings(10, seed=1)},
}


def trained(folder: Path, kill_after: int | None = None, backend: str = "numpy", **settings: Any) -> tuple[Any, ...]:
    """What a job does each time it is started: an executable, and its history."""
    exe, calls = dropping(backend), [ge.EarlyStopping("loss", patience=9), Kill(kill_after)]
    checkpoint = ge.Checkpoint(folder, every_steps=2)
    history = ge.fit(exe, rings(32), epochs=4, callbacks=calls, checkpoint=checkpoint, resume=folder, **settings)
    return exe, history


@pytest.mark.parametrize("backend", installed_backends())
@pytest.mark.parametrize("settings", FITS.values(), ids=FITS)
def test_a_run_killed_after_any_step_goes_on_to_the_same_bits(tmp_path: Path, settings: dict[str, Any], backend: str):
    whole = dropping(backend)
    expected = ge.fit(whole, rings(32), epochs=4, callbacks=[ge.EarlyStopping("loss", patience=9)], **settings)
    for steps in (1, expected.steps // 2 + 1):
        with pytest.raises(Killed):
            trained(tmp_path / str(steps), steps, backend, **settings)
        exe, history = trained(tmp_path / str(steps), None, backend, **settings)
        assert weights(exe) == weights(whole)
        assert values(history) == values(expected)


def resumed(folder: Path, kill_after: int, job: Any) -> tuple[Executable, ge.History]:
    """Run `job(exe, callbacks, settings)`, kill it after so many steps, and run it again."""
    settings = {"checkpoint": ge.Checkpoint(folder, every_steps=3), "resume": folder}
    with pytest.raises(Killed):
        job(line(ge.Adam(0.1)), [Kill(kill_after)], settings)
    exe = line(ge.Adam(0.1))
    return exe, job(exe, [], settings)


def test_early_stopping_decides_as_if_never_stopped(tmp_path: Path):
    def job(exe: Executable, calls: list[ge.Callback], settings: dict[str, Any]) -> ge.History:
        calls = [ge.EarlyStopping(patience=2), *calls]
        data = points(40, noise=2.0)
        return ge.fit(exe, data, epochs=99, batch_size=10, validation=0.5, callbacks=calls, **settings)

    whole = line(ge.Adam(0.1))
    expected = job(whole, [], {})
    assert expected.stopped
    for left in (1, expected.steps - 1):
        exe, history = resumed(tmp_path / str(left), left, job)
        assert values(history) == values(expected)
        assert weights(exe) == weights(whole)


@pytest.mark.parametrize("once", [False, True], ids=["list", "iterator"])
def test_the_batches_of_a_stream_that_were_passed_are_skipped(tmp_path: Path, once: bool):
    batches = [points(10, seed=seed) for seed in range(5)]

    def job(exe: Executable, calls: list[ge.Callback], settings: dict[str, Any]) -> ge.History:
        data = iter(batches) if once else batches
        return ge.fit(exe, data, epochs=1 if once else 3, callbacks=calls, **settings)

    whole = line(ge.Adam(0.1))
    expected = job(whole, [], {})
    exe, history = resumed(tmp_path, 4, job)
    assert values(history) == values(expected)
    assert weights(exe) == weights(whole)
    batches = batches[:1]
    ge.fit(line(), [points(10)] * 5, epochs=1, checkpoint=ge.Checkpoint(tmp_path / "more", every_steps=3, keep=2))
    with pytest.raises(TrainingError, match="the data has 1 batches, and the checkpoint is from after batch 3"):
        ge.fit(line(), batches, epochs=1, resume=tmp_path / "more" / "step-00000003.safetensors")


def test_a_callback_may_end_training_in_the_middle_of_an_epoch(tmp_path: Path):
    class Stop(ge.Callback):
        def on_step_end(self, exe: Executable, history: ge.History) -> str | None:
            steps.append(1)
            return "enough" if len(steps) == 5 else None

    steps: list[int] = []
    whole, exe = line(), line()
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 20, "checkpoint": ge.Checkpoint(tmp_path)}
    expected = ge.fit(whole, points(), epochs=3, batch_size=20)
    history = ge.fit(exe, points(), callbacks=[Stop()], **settings)
    assert (history.stopped, len(history), len(steps)) == ("enough", 1, 5)
    assert [path.name for path in sorted(tmp_path.iterdir())][-1] == "step-00000005.safetensors"
    again = line()
    assert values(ge.fit(again, points(), resume=tmp_path, **settings)) == values(expected)
    assert weights(again) == weights(whole)


DIFFERENT: dict[str, dict[str, Any]] = {
    "optimizer": {"exe": lambda: classifier(ge.Adam(learning_rate=0.5))},
    "graph": {"exe": lambda: classifier(graph=lambda g: g.output("more", g.outputs["logits"] * 2.0))},
    "wrt": {"exe": lambda: classifier(ge.SGD(0.1), wrt=["w1", "w2"]), "from": lambda: classifier(ge.SGD(0.1))},
    "seed": {"exe": lambda: classifier(seed=1), "seed": 0},
    "shuffle_seed": {"seed": 7},
    "batch_size": {"batch_size": 9},
    "shuffle": {"shuffle": False},
    "examples": {"data": rings(31)},
    "validation": {"validation": rings(9)},
    "metrics": {"metrics": ["accuracy"]},
    "callbacks": {"callbacks": [ge.EarlyStopping("loss")]},
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_from_the_checkpoint_is_refused_or_asked_for_by_name(tmp_path: Path, name: str):
    settings: dict[str, Any] = {"batch_size": 8, "validation": rings(10), "callbacks": [], "data": rings(30)}
    other = {**settings, **DIFFERENT[name]}
    make, first = (other.pop(key, classifier) for key in ("exe", "from"))
    ge.fit(first(), epochs=1, checkpoint=ge.Checkpoint(tmp_path), **settings)
    exe = make()
    before = weights(exe)
    with pytest.raises(TrainingError) as caught:
        ge.fit(exe, epochs=2, resume=tmp_path, **other)
    assert f"ignore=['{name}']" in str(caught.value)
    assert name == "callbacks" or weights(exe) == before
    history = ge.fit(exe, epochs=2, resume=tmp_path, ignore=[name], **other)
    assert history["epoch"] == [1, 2]
    assert str(history)


def test_another_optimizer_asked_for_by_name_has_slots_of_its_own(tmp_path: Path):
    exe, other = classifier(), classifier(ge.SGD(0.1, momentum=0.9))
    ge.fit(exe, rings(), epochs=1, checkpoint=ge.Checkpoint(tmp_path))
    with pytest.raises(TrainingError, match="is of another training"):
        ge.load_checkpoint(other, tmp_path)
    assert ge.load_checkpoint(other, tmp_path, ignore=["optimizer"]) == other.epochs_done == 1
    assert all(np.array_equal(exe.parameters[name], other.parameters[name]) for name in exe.parameters)
    assert not any(array.any() for array in other.state.values())


class Sum(ge.Callback):
    """Remembers values of every kind."""

    def on_start(self, exe: Executable, history: ge.History) -> None:
        self.state: dict[str, Any] = {"seen": [], "none": None, "pair": (1, np.float32(2.5)), "empty": np.zeros((0, 2))}

    def on_epoch_end(self, exe: Executable, history: ge.History) -> None:
        self.state["seen"].append({"w": exe.parameters["w"], "yes": True})

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


def test_callbacks_go_on_with_their_states_those_of_a_class_in_their_order(tmp_path: Path):
    def fitted(*callbacks: ge.Callback, epochs: int = 2, resume: Path | None = tmp_path) -> None:
        ge.fit(line(), points(), epochs=epochs, callbacks=callbacks, checkpoint=checkpoint, resume=resume)

    checkpoint = ge.Checkpoint(tmp_path)
    first, second, whole = Sum(), Sum(), Sum()
    fitted(first, ge.EarlyStopping("loss"), epochs=1)
    fitted(ge.EarlyStopping("loss"), second)
    ge.fit(line(), points(), epochs=2, callbacks=[whole])
    assert second.state["pair"] == [1, 2.5]
    assert second.state["none"] is None
    assert (second.state["empty"].shape, second.state["empty"].dtype) == ((0, 2), np.float64)
    assert [each["w"].tobytes() for each in second.state["seen"]] == [
        each["w"].tobytes() for each in whole.state["seen"]
    ]
    with pytest.raises(TrainingError, match="has a state of callback 'Sum', and fit is given no such"):
        fitted(ge.EarlyStopping("loss"))
    with pytest.raises(TrainingError, match="has no state of callback Sum"):
        fitted(ge.EarlyStopping("loss"), Sum(), Sum())
    with pytest.raises(TrainingError, match=r"monitors \('loss', 'min'\), not \('loss', 'max'\)"):
        fitted(ge.EarlyStopping("loss", mode="max"), Sum())


@pytest.mark.parametrize("value", [{1: 2}, {"/array": 3}, np.array(["text"]), {1, 2}, 1j], ids=repr)
def test_a_state_that_no_file_holds_is_an_error(tmp_path: Path, value: Any):
    call = Sum()
    call.state_dict = lambda: {"value": [value]}  # type: ignore[method-assign]
    with pytest.raises(TrainingError, match="state_dict of Sum has"):
        ge.fit(line(), points(), epochs=1, callbacks=[call], checkpoint=ge.Checkpoint(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_numbers_of_epochs_and_the_order_go_on_from_one_fit_to_the_next():
    whole, parts = line(), line()
    ge.fit(whole, points(), epochs=3, batch_size=20)
    numbers = [ge.fit(parts, points(), epochs=1, batch_size=20)["epoch"] for _ in range(3)]
    assert numbers == [[1], [2], [3]]
    assert parts.epochs_done == 3
    assert weights(parts) == weights(whole)


def test_one_file_that_is_replaced_is_a_whole_run_too(tmp_path: Path):
    file = tmp_path / "run.safetensors"

    def job(exe: Executable, calls: list[ge.Callback], _: dict[str, Any]) -> ge.History:
        calls = [ge.Checkpoint(file, every=2), ge.EarlyStopping("loss", patience=2, min_delta=0.5), *calls]
        return ge.fit(exe, points(), epochs=9, batch_size=20, callbacks=calls, resume=file)

    whole = line(ge.Adam(0.1))
    expected = job(whole, [], {})
    file.unlink()
    exe, history = resumed(tmp_path, expected.steps - 1, job)
    assert values(history) == values(expected)
    assert weights(exe) == weights(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_steps_that_are_skipped_are_counted_on(tmp_path: Path):
    data = points()
    data["x"][[3, 25]] = np.inf
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 10, "progress": False}
    whole, first, second = (line(non_finite="skip") for _ in range(3))
    expected = ge.fit(whole, data, **settings)
    with pytest.raises(Killed):
        ge.fit(first, data, callbacks=[Kill(8)], checkpoint=ge.Checkpoint(tmp_path, every_steps=4), **settings)
    history = ge.fit(second, data, resume=tmp_path, **settings)
    assert [epoch.skipped for epoch in history.epochs] == [epoch.skipped for epoch in expected.epochs]
    assert second.skipped == whole.skipped == sum(epoch.skipped for epoch in expected.epochs) > 0
    assert values(history) == values(expected)
    assert weights(second) == weights(whole)

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import TrainingError
from graphengine.executable import Executable
from tests.train.problems import Kill, Killed, line, points, weights


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def steps(folder: Path) -> list[int]:
    return [int(re.sub(r"\D", "", name)) for name in names(folder)]


def train(folder: Path, epochs: int = 4, exe: Executable | None = None, **settings: Any) -> ge.History:
    settings = {"checkpoint": ge.Checkpoint(folder), "resume": folder, "batch_size": 20, **settings}
    return ge.fit(exe or line(), points(), epochs=epochs, **settings)


def test_the_newest_are_kept_and_the_last_step_is_written(tmp_path: Path):
    train(tmp_path, epochs=3, checkpoint=ge.Checkpoint(tmp_path / "steps", every_steps=2, keep=2), resume=None)
    assert names(tmp_path / "steps") == ["step-00000008.safetensors", "step-00000009.safetensors"]
    train(tmp_path, epochs=5, checkpoint=ge.Checkpoint(tmp_path / "a" / "b", every_epochs=2), resume=None)
    assert steps(tmp_path / "a" / "b") == [6, 12, 15]
    train(tmp_path, epochs=5, callbacks=[ge.Checkpoint(tmp_path / "c", every_epochs=3)], checkpoint=None, resume=None)
    assert steps(tmp_path / "c") == [9, 15]


class Scores(ge.Callback):
    """Puts a score in each epoch's values."""

    def __init__(self, *scores: float) -> None:
        self.scores = scores

    def on_epoch_end(self, exe: Executable, history: ge.History) -> None:
        history.epochs[-1].values["score"] = np.float32(self.scores[history.epochs[-1].number - 1])


def test_the_best_is_written_when_it_is_reached_and_stays(tmp_path: Path):
    def checkpoint() -> ge.Checkpoint:
        return ge.Checkpoint(tmp_path, every_epochs=5, keep=1, best="score", mode="max")

    scores, first = Scores(1.0, 3.0, np.nan, 3.0, 2.0, 2.5, 3.5), checkpoint()
    assert first.best_path is None
    train(tmp_path, 6, callbacks=[scores], checkpoint=first)
    assert steps(tmp_path) == [6, 18]
    assert first.best_path == checkpoint().best_path == tmp_path / "step-00000006.safetensors"
    last = checkpoint()
    assert train(tmp_path, 7, callbacks=[scores], checkpoint=last)["score"][-1] == 3.5
    assert steps(tmp_path) == [21]
    assert last.best_path == tmp_path / "step-00000021.safetensors"
    with pytest.raises(TrainingError, match='say mode="min" or "max"'):
        ge.Checkpoint(tmp_path, best="score")


class Remembers(ge.Callback):
    """Has a state of every kind."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def on_start(self, exe: Executable, history: ge.History) -> None:
        self.seen = {"epochs": [], "arrays": [{"w": np.zeros((0, 2))}, np.float32(3)], "none": None, "pair": (1, 2.5)}

    def on_epoch_end(self, exe: Executable, history: ge.History) -> None:
        self.seen["epochs"].append({"w": exe.parameters["w"], "yes": True})

    def state_dict(self) -> dict[str, Any]:
        return self.seen

    def load_state_dict(self, state: Any) -> None:
        self.seen = state


REGIONS = {
    "header": lambda _: 3,
    "manifest": lambda content: content.index(b"batch_size"),
    "state of a callback": lambda content: content.index(b"Remembers"),
    "digest": lambda content: content.index(b"sha256_metadata") + 25,
    "array": lambda content: len(content) - 5,
}


@pytest.mark.parametrize("region", REGIONS.values(), ids=REGIONS)
def test_a_damaged_newest_file_is_told_of_and_the_one_before_it_used(tmp_path: Path, region: Any):
    whole, exe = line(), line()
    expected = ge.fit(whole, points(), epochs=4, batch_size=20)
    train(tmp_path, 3, callbacks=[Remembers()])
    damaged = tmp_path / "step-00000009.safetensors"
    content = bytearray(damaged.read_bytes())
    content[region(content)] ^= 4
    damaged.write_bytes(content)
    with pytest.warns(ge.CheckpointWarning, match=r"step-00000009.*the checkpoint before it is taken: step-00000006"):
        history = train(tmp_path, 4, exe, callbacks=[Remembers()])
    assert weights(exe) == weights(whole)
    assert history["loss"] == expected["loss"]
    assert steps(tmp_path) == [6, 9, 12]


def test_where_all_are_damaged_training_does_not_begin_anew(tmp_path: Path):
    train(tmp_path, 2)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TrainingError, match=r"no checkpoint in .* can be read") as caught:
        train(tmp_path, 2)
    assert len(caught.value.context) == 2


def test_a_damaged_newer_file_does_not_take_the_place_of_a_good_one(tmp_path: Path):
    train(tmp_path, 3, checkpoint=ge.Checkpoint(tmp_path, every_steps=4))
    newest = tmp_path / "step-00000009.safetensors"
    newest.write_bytes(b"")
    with pytest.warns(ge.CheckpointWarning), pytest.raises(Killed):
        train(tmp_path, 3, callbacks=[Kill(0)], checkpoint=ge.Checkpoint(tmp_path, every_steps=1, keep=1))
    assert steps(tmp_path) == [4, 8, 9]


def test_training_begins_only_where_it_also_writes(tmp_path: Path):
    with pytest.raises(TrainingError, match=r"there is no checkpoint in .* to go on from"):
        train(tmp_path / "typo", checkpoint=None)
    with pytest.raises(TrainingError, match=r"there is no checkpoint in .* to go on from"):
        train(tmp_path / "typo", checkpoint=ge.Checkpoint(tmp_path / "other"))
    assert len(train(tmp_path / "new", 2)) == 2


def test_the_checkpoints_of_another_run_are_left_alone(tmp_path: Path):
    train(tmp_path / "run", 3)
    before, exe = names(tmp_path / "run"), line()
    first = weights(exe)
    for resume in (None, tmp_path / "run" / "step-00000006.safetensors"):
        with pytest.raises(TrainingError, match="of another run, or newer ones, up to 'step-00000009"):
            train(tmp_path / "run", 4, exe, resume=resume)
    assert names(tmp_path / "run") == before
    assert weights(exe) == first
    other, earlier = ge.Checkpoint(tmp_path / "other"), tmp_path / "run" / "step-00000006.safetensors"
    train(tmp_path / "run", 3, checkpoint=other, resume=earlier)
    assert steps(tmp_path / "other") == [9]
    train(tmp_path / "run", 4, resume=tmp_path / "run" / "step-00000009.safetensors")
    assert steps(tmp_path / "run") == [6, 9, 12]


def test_what_cannot_be_written_is_said_before_the_first_step(tmp_path: Path):
    (tmp_path / "file").write_text("")
    exe = line()
    first = weights(exe)
    for settings in (
        {"checkpoint": ge.Checkpoint(tmp_path / "file" / "folder")},
        {"checkpoint": ge.Checkpoint(tmp_path / "file")},
        {"callbacks": [ge.Checkpoint(tmp_path / "missing" / "run")]},
        {"callbacks": [ge.Checkpoint(tmp_path, every=2)]},
    ):
        with pytest.raises((OSError, TrainingError), match=re.escape(str(tmp_path))) as caught:
            ge.fit(exe, points(), epochs=2, **settings)
        assert ".tmp" not in str(caught.value)
    assert weights(exe) == first
    assert names(tmp_path) == ["file"]


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path):
    (tmp_path / ".graphengine-0123456789abcdef.tmp").write_bytes(b"half of")
    train(tmp_path, 1)
    assert names(tmp_path) == ["step-00000003.safetensors"]


def test_a_run_that_is_over_returns_its_history_and_writes_nothing(tmp_path: Path):
    exe, again = line(), line()
    calls = [ge.EarlyStopping("loss", patience=1, min_delta=1e9)]
    history = train(tmp_path, 9, exe, callbacks=calls)
    assert len(history) == 2
    before = [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())]
    repeated = train(tmp_path, 9, again, callbacks=calls)
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())] == before
    assert (repeated.to_dict(), repeated.stopped) == (history.to_dict(), history.stopped)
    assert weights(again) == weights(exe)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"checkpoint": "folder"}, "checkpoint must be .*, not 'folder'"),
        ({"resume": True}, "resume must be .*path.*, not True"),
        ({"resume": None, "ignore": ["seed"]}, "give resume=, too"),
        ({"ignore": ["sed"]}, "there is no 'sed'; did you mean 'seed'"),
        ({"ignore": "seed"}, "ignore is a list of names, not 'seed'"),
        ({"ignore": 5}, "ignore must be .*, not 5"),
        ({"epochs_done": 2}, "known from the checkpoint"),
    ],
)
def test_arguments_that_make_no_sense_are_told(tmp_path: Path, settings: dict[str, Any], message: str):
    train(tmp_path, 1)
    with pytest.raises((TrainingError, ge.UsageError), match=message):
        train(tmp_path, 2, **settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"every": 0},
        {"every_steps": 0},
        {"every_epochs": 1.5},
        {"keep": 0},
        {"keep": True},
        {"every": 2, "every_steps": 3},
    ],
)
def test_numbers_of_a_checkpoint_are_checked(settings: dict[str, Any]):
    with pytest.raises(TrainingError, match=r"at least 1|every= replaces one file"):
        ge.Checkpoint("folder", **settings)


def test_no_checkpoint_is_written_of_weights_that_are_not_finite(tmp_path: Path):
    class Spoil(ge.Callback):
        def on_epoch_end(self, exe: Executable, history: ge.History) -> None:
            if len(history) == 2:
                exe.parameters["b"] = [np.inf]

    with pytest.raises(TrainingError, match="parameter 'b' is not finite after step 6, so no checkpoint is written"):
        train(tmp_path, 3, callbacks=[Spoil()])
    assert steps(tmp_path) == [3]

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import graphengine as ge
from graphengine.errors import TrainingError
from graphengine.train.array_file import write_arrays
from tests.train.problems import Kill, Killed, classifier, line, points, rings, weights

OPTIMIZERS = [ge.SGD(learning_rate=0.1, momentum=0.9), ge.Adam(learning_rate=0.02)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer.kind)
def test_training_resumes_from_a_checkpoint_as_if_it_had_never_stopped(tmp_path: Path, optimizer: ge.SGD):
    whole, first, second = (classifier(optimizer) for _ in range(3))
    ge.fit(whole, rings(100), epochs=10, batch_size=16)
    ge.fit(first, rings(100), epochs=5, batch_size=16, callbacks=[ge.Checkpoint(tmp_path / "c", every=5)])
    done = ge.load_checkpoint(second, tmp_path / "c")
    history = ge.fit(second, rings(100), epochs=5, batch_size=16, epochs_done=done)
    assert history["epoch"] == [6, 7, 8, 9, 10]
    assert weights(second) == weights(whole)
    assert set(weights(whole)) > set(whole.parameters)


def test_parameters_are_read_from_a_checkpoint_too_but_no_checkpoint_from_parameters(tmp_path: Path):
    exe, other = classifier(), classifier(ge.SGD(learning_rate=0.1), seed=1)
    ge.save_checkpoint(exe, tmp_path / "c", epochs_done=3)
    ge.load_parameters(other, tmp_path / "c")
    assert all(np.array_equal(exe.parameters[name], other.parameters[name]) for name in exe.parameters)
    ge.save_parameters(exe, tmp_path / "w")
    with pytest.raises(TrainingError, match="is no checkpoint: it holds no state"):
        ge.load_checkpoint(exe, tmp_path / "w")
    with pytest.raises(TrainingError, match="is of another training; nothing was set") as caught:
        ge.load_checkpoint(other, tmp_path / "c")
    assert caught.value.context == (
        'optimizer: {"kind": "adam", "learning_rate": 0.02, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08} there, '
        '{"kind": "sgd", "learning_rate": 0.1, "momentum": 0.0, "nesterov": false, "weight_decay": 0.0} here',
        "seed: 0 there, 1 here",
        "make them the same, or go on all the same with ignore=['optimizer', 'seed']",
    )


def test_a_checkpoint_is_written_every_so_many_epochs(tmp_path: Path):
    exe = line()
    ge.fit(exe, points(), epochs=5, callbacks=[ge.Checkpoint(tmp_path / "c", every=2)])
    assert ge.load_checkpoint(line(), tmp_path / "c") == 4
    with pytest.raises(TrainingError, match="every is an int of at least 1, not 0"):
        ge.Checkpoint(tmp_path / "c", every=0)


def test_the_newest_of_a_folder_is_loaded_and_one_inside_an_epoch_only_if_asked_for(tmp_path: Path):
    exe, other, checkpoint = line(), line(), ge.Checkpoint(tmp_path, every_steps=5, every_epochs=1)
    with pytest.raises(Killed):
        ge.fit(exe, points(), epochs=3, batch_size=20, callbacks=[Kill(5)], checkpoint=checkpoint)
    with pytest.raises(TrainingError, match=r"middle of epoch 2, after step 2: ge.fit\(resume=...\) goes on"):
        ge.load_checkpoint(exe, tmp_path)
    assert ge.load_checkpoint(exe, tmp_path, ignore=["place"]) == 1
    ge.load_parameters(other, tmp_path / "step-00000005.safetensors")
    assert weights(exe) == weights(other)
    assert ge.load_checkpoint(exe, tmp_path / "step-00000003.safetensors") == exe.epochs_done == 1
    with pytest.raises(TrainingError, match="no such file, and no folder with checkpoints"):
        ge.load_checkpoint(exe, tmp_path / "none")


def test_fit_goes_on_from_files_of_save_checkpoint_and_of_version_1(tmp_path: Path):
    whole, first = line(), line()
    ge.fit(whole, points(), epochs=4, batch_size=20)
    ge.fit(first, points(), epochs=3, batch_size=20)
    ge.save_checkpoint(first, tmp_path / "now")
    about = {"writer": "graphengine", "version": "1", "state": "[]", "epochs_done": "3", "graph": "line"}
    save_file(dict(first.parameters), tmp_path / "then", about)
    for name in ("now", "then"):
        exe = line()
        assert ge.fit(exe, points(), epochs=4, batch_size=20, resume=tmp_path / name)["epoch"] == [4]
        assert weights(exe) == weights(whole)


WRONG = {
    "no json": "[",
    "a list": "[]",
    "an epoch": {"place": {"epoch": 0}},
    "steps": {"place": {"steps": -1}},
    "an array that is missing": {"callbacks": [{"name": "EarlyStopping", "state": {"/array": "callbacks/9"}}]},
    "an array without a name": {"callbacks": [{"name": "EarlyStopping", "state": {"/array": []}}]},
    "an empty state": {"callbacks": [{"name": "EarlyStopping", "state": {"monitor": "loss"}}]},
    "history": {"history": {"epochs": [{"number": "x"}]}},
    "depth": "[" * 100_000,
}


@pytest.mark.parametrize("run", WRONG.values(), ids=WRONG)
def test_what_a_file_says_of_its_run_is_checked(tmp_path: Path, run: Any):
    text = run if isinstance(run, str) else json.dumps(run)
    write_arrays(tmp_path / "c", dict(line().parameters), {"writer": "graphengine", "version": "2", "run": text})
    with pytest.raises(TrainingError):
        ge.fit(line(), points(), epochs=2, resume=tmp_path / "c", callbacks=[ge.EarlyStopping("loss")])


def test_the_number_of_epochs_that_were_done_goes_with_a_checkpoint(tmp_path: Path):
    exe, other = line(), line()
    ge.fit(exe, points(), epochs=3)
    ge.save_checkpoint(exe, tmp_path / "w")
    assert ge.load_checkpoint(other, tmp_path / "w") == other.epochs_done == exe.epochs_done == 3
    ge.save_checkpoint(exe, tmp_path / "w", epochs_done=7)
    assert ge.load_checkpoint(other, tmp_path / "w") == other.epochs_done == 7


def test_the_file_of_another_training_is_named(tmp_path: Path):
    ge.fit(line(), points(), epochs=1, checkpoint=ge.Checkpoint(tmp_path))
    with pytest.raises(TrainingError, match=r"step-00000001\.safetensors' is of another training; nothing was set"):
        ge.load_checkpoint(line(ge.SGD(0.5)), tmp_path)

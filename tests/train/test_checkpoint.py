from pathlib import Path

import numpy as np
import pytest

import graphengine as ge
from graphengine.errors import TrainingError
from tests.train.problems import classifier, line, points, rings, weights

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

"""Training that is stopped, and goes on from a checkpoint, as if it had never been stopped."""

from pathlib import Path
from typing import Any

import pytest

import graphengine as ge
from graphengine.backends.installed import installed_backends
from graphengine.executable import Executable
from graphengine.ops.loss import cross_entropy
from tests.train.problems import Kill, Killed, rings, weights


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
    for steps in (0, 1, expected.steps // 2, expected.steps - 1):
        with pytest.raises(Killed):
            trained(tmp_path / str(steps), steps, backend, **settings)
        exe, history = trained(tmp_path / str(steps), None, backend, **settings)
        assert weights(exe) == weights(whole)
        assert values(history) == values(expected)

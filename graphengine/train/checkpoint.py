"""Checkpoints: files of weights that hold all states, too.

These are the slots of the optimizer, its count of steps and that of random draws, so that training goes on as if it had
never stopped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.train.weights_file import StrPath, about_graph, misfit, read_arrays, set_weights, write_arrays


def save_checkpoint(exe: Executable, path: StrPath, *, epochs_done: int = 0) -> None:
    """Write parameters and state to a safetensors file, so that training resumes exactly: see `ge.load_checkpoint`.

    Returns nothing. Raises TrainingError or OSError where `ge.save_parameters` does.
    """
    about = {**about_graph(exe), "state": json.dumps(list(exe.state)), "epochs_done": str(epochs_done)}
    write_arrays(Path(path), {**exe.parameters, **exe.state}, about)


def load_checkpoint(exe: Executable, path: StrPath) -> int:
    """Set parameters and state to those of a checkpoint, and return how many epochs it says were done.

    `ge.fit(exe, data, epochs=5, epochs_done=ge.load_checkpoint(exe, path))` makes the same steps, to the last bit at
    the same thread setting, as the training that wrote the checkpoint would have made next. Raises TrainingError where
    `ge.load_parameters` does, and for a file without state.
    """
    arrays, about = read_arrays(Path(path))
    if "epochs_done" not in about:
        raise TrainingError(f"{os.fspath(path)!r} is no checkpoint: it holds no state; ge.load_parameters reads it")
    set_weights(exe, [*exe.graph.parameters, *exe.graph.states], arrays, misfit(path), strict=True)
    return int(about["epochs_done"])

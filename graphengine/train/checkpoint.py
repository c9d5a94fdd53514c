"""Checkpoints: files of weights that hold the whole run.

Beside the parameters they have all states (the slots of the optimizer, its count of steps, that of random draws), and a
manifest in the metadata: what is trained and how, the place in the epoch, the history, the states of callbacks. So
training goes on as if it had never stopped.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.files import StrPath
from graphengine.ir.names import did_you_mean
from graphengine.ir.node import Phase
from graphengine.ir.types import Array
from graphengine.train.array_file import read_arrays, read_metadata, write_arrays
from graphengine.train.history import History
from graphengine.train.run import Kept, Place, Run, keep
from graphengine.train.weights_file import about_graph, misfit, set_weights
from graphengine.where import warn
from graphengine.wording import cut, shown

_NAME = re.compile(r"step-(\d{1,18})\.safetensors")

IDENTITY = ("graph", "loss", "wrt", "optimizer", "seed")
"""What `load_checkpoint` compares."""
SETTINGS = ("batch_size", "shuffle", "shuffle_seed", "examples", "validation", "metrics")
"""What `fit` compares, too."""


class CheckpointWarning(UserWarning):
    """A checkpoint in a folder cannot be read, and the one before it is taken."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint says of its run."""

    graphengine: str = ""
    backend: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    place: Place = field(default_factory=Place)
    history: History = field(default_factory=History)
    callbacks: list[Kept] = field(default_factory=list)
    skipped: int = 0
    """The steps that changed nothing, as the executable counts them."""
    slots: list[str] = field(default_factory=list)
    """The states that are the optimizer's."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint as it was read."""

    path: Path
    arrays: dict[str, Array]
    """Parameters and states, and those that callbacks keep."""
    manifest: Manifest


def save_checkpoint(exe: Executable, path: StrPath, *, epochs_done: int | None = None) -> None:
    """Write parameters and state to a safetensors file, so that training resumes exactly: see `ge.load_checkpoint`.

    epochs_done: left out, how many epochs `ge.fit` has trained `exe` for. `ge.fit(checkpoint=...)` writes files that
    hold its history and callbacks, too. Returns nothing.
    Raises TrainingError or OSError where `ge.save_parameters` does.
    """
    write(Run(exe, Place(1 + (exe.epochs_done if epochs_done is None else epochs_done))), Path(path))


def load_checkpoint(exe: Executable, path: StrPath, *, ignore: Collection[str] = ()) -> int:
    """Set parameters and state to those of a checkpoint, and return how many epochs were done.

    path: the file, or a folder of `ge.Checkpoint`, whose newest file is taken; one that is damaged gives a
    `CheckpointWarning`, and the one before it is taken.

    A `ge.fit(exe, data, epochs=5)` then makes the same steps, to the last bit at the same thread setting, as the
    training that wrote the checkpoint would have made next: `exe.epochs_done` is set, too.

    The checkpoint must be of the same graph, loss, optimizer and seed, and between two epochs. What may differ is named
    by `ignore`: "graph", "loss", "wrt", "optimizer" (slots that only one of the two has are left out), "seed", "place".
    Raises TrainingError otherwise, and where `ge.load_parameters` does; then `exe` stays as it is.
    """
    saved = find(Path(path))
    if saved is None:
        raise TrainingError(f"no such file, and no folder with checkpoints: {os.fspath(path)!r}")
    place = saved.manifest.place
    check_same(saved, identity(exe), ignore, (*IDENTITY, "place"))
    if place.steps and "place" not in ignore:
        raise TrainingError(
            f"{os.fspath(path)!r} is from the middle of epoch {place.epoch}, after step {place.steps}: "
            'ge.fit(resume=...) goes on from there; ignore=["place"] takes the weights alone'
        )
    take_weights(exe, saved, ignore)
    return exe.epochs_done


def identity(exe: Executable) -> dict[str, Any]:
    """What tells the training of `exe` from others."""
    return {**exe.programs.training.identity, "seed": exe.seed}


def write(run: Run, path: Path) -> None:
    """Write the whole run, all or nothing."""
    exe = run.exe
    callbacks, arrays = keep(run.callbacks)
    manifest = Manifest(
        graphengine=_version(),
        backend=exe.programs.settings.backend.name,
        identity=identity(exe),
        settings=dict(run.settings),
        place=run.place,
        history=run.history,
        callbacks=callbacks,
        skipped=exe.skipped,
        slots=[node.name for node in exe.graph.states if node.phase is Phase.UPDATE],
    )
    text = json.dumps(asdict(manifest), default=_plain)
    about = {**about_graph(exe), "state": json.dumps([*exe.state, *arrays]), "run": text}
    _manifest(path, about)  # raises if it could not be read
    write_arrays(path, {**exe.parameters, **exe.state, **arrays}, about)


def file_of(folder: Path, steps: int) -> Path:
    """The file for a run of so many steps."""
    return folder / f"step-{steps:08d}.safetensors"


def files_in(folder: Path) -> dict[int, Path]:
    """The files of checkpoints in a folder, by their steps, the newest last."""
    names = [each.name for each in folder.iterdir()] if folder.is_dir() else []
    return dict(sorted((int(found[1]), folder / found[0]) for found in map(_NAME.fullmatch, names) if found))


def find(path: Path) -> Saved | None:
    """The checkpoint in a file, or the newest in a folder that can be read; None if there is none.

    Warns of those that cannot; raises TrainingError if that holds for all.
    """
    if path.is_file():
        return read(path)
    faults: list[str] = []
    for file in reversed(files_in(path).values()):
        try:
            saved = read(file)
        except (TrainingError, OSError) as error:
            faults.append(error.message if isinstance(error, TrainingError) else str(error))
            continue
        for fault in faults:
            warn(f"{fault}; the checkpoint before it is taken: {file.name}", CheckpointWarning)
        return saved
    if faults:
        failure = TrainingError(f"no checkpoint in {str(path)!r} can be read")
        failure.quote(*faults)
        raise failure
    return None


def read(path: Path) -> Saved:
    """Read a checkpoint; raises TrainingError for what is none."""
    arrays, about = read_arrays(path)
    return Saved(path, arrays, _manifest(path, about))


def read_manifest(path: Path) -> Manifest:
    """What a checkpoint says of its run, without reading the arrays."""
    return _manifest(path, read_metadata(path))


def _manifest(path: Path, about: Mapping[str, str]) -> Manifest:
    try:
        if "run" in about:
            return TypeAdapter(Manifest).validate_python(json.loads(about["run"]))
        if "epochs_done" in about:  # version 1
            return Manifest(place=Place(1 + int(about["epochs_done"])))
    except (ValueError, RecursionError) as error:
        raise TrainingError(f"{str(path)!r} says of its run what cannot be read: {error!s:.200}") from None
    raise TrainingError(f"{str(path)!r} is no checkpoint: it holds no state; ge.load_parameters reads it")


def check_same(saved: Saved, here: Mapping[str, Any], ignore: Collection[str], known: Collection[str]) -> None:
    """Raise TrainingError with all that differs between a checkpoint and `here`, but for what is ignored.

    What a checkpoint does not say is not compared: version 1 says nothing, `save_checkpoint` nothing of `fit`.
    """
    if isinstance(ignore, str):
        raise TrainingError(f"ignore is a list of names, not {shown(ignore)}")
    for name in ignore:
        if name not in known:
            raise TrainingError(f"ignore: there is no {shown(name)}{did_you_mean(str(name), tuple(known))}")
    there = saved.manifest.identity | saved.manifest.settings
    different = [name for name in here if name in there and there[name] != here[name] and name not in ignore]
    if different:
        error = TrainingError(f"{str(saved.path)!r} is of another training; nothing was set")
        lines = [_difference(name, there[name], here[name]) for name in different]
        error.quote(*lines, f"make them the same, or go on all the same with ignore={different}")
        raise error


def _difference(name: str, there: Any, here: Any) -> str:
    """What differs; of the fields of an optimizer those that do."""
    if isinstance(there, dict) and isinstance(here, dict):
        same = [key for key in there if key in here and there[key] == here[key]]
        there, here = ({key: value for key, value in each.items() if key not in same} for each in (there, here))
    return f"{name}: {cut(json.dumps(there), 200)} there, {cut(json.dumps(here), 200)} here"


def take_weights(exe: Executable, saved: Saved, ignore: Collection[str]) -> None:
    """Set parameters, states and `epochs_done`; raises TrainingError and sets nothing if they do not fit."""
    leaves = [*exe.graph.parameters, *exe.graph.states]
    arrays = {name: array for name, array in saved.arrays.items() if "/" not in name}
    if "optimizer" in ignore:
        leaves = [node for node in leaves if node.phase is not Phase.UPDATE or node.name in arrays]
        others = set(saved.manifest.slots) - set(exe.state)
        arrays = {name: array for name, array in arrays.items() if name not in others}
    set_weights(exe, leaves, arrays, misfit(saved.path), strict=True)
    exe.epochs_done, exe.skipped = saved.manifest.place.epoch - 1, saved.manifest.skipped


def _plain(value: object) -> object:
    """A NumPy number as JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TrainingError(f"the history or the settings of fit have {shown(value)}, and a checkpoint holds JSON values")


@cache
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("graphengine")
    except PackageNotFoundError:  # it is on the path, and not installed
        return "unknown"

"""Weights on disk, in the safetensors format: arrays by the names of their leaves, and nothing that runs when read.

A file of parameters holds the parameters, and the states that outputs are computed from, which are the running
statistics of batch normalization: what a trained network is. A checkpoint (`checkpoint.py`) is read where parameters
are wanted, too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.files import StrPath, replacing
from graphengine.ir.leaf import State
from graphengine.ir.node import Node
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import Array

_VERSION = 2
_DIGEST = "sha256_metadata"


def save_parameters(exe: Executable, path: StrPath) -> None:
    """Write the parameters of `exe`, and the states that inference reads, to a safetensors file.

    The file replaces `path` when it has been read back correctly. Returns nothing.
    Raises TrainingError if it cannot be written so, or the OSError of the system.
    """
    states = {node.name: exe.state[node.name] for node in _states_read(exe)}
    write_arrays(Path(path), {**exe.parameters, **states}, about_graph(exe))


def load_parameters(exe: Executable, path: StrPath, *, strict: bool = True) -> list[str]:
    """Set the parameters of `exe`, and the states that inference reads, to those of a file, and return their names.

    Names, shapes and dtypes must be those of `exe`; otherwise it raises TrainingError, which lists all that is missing,
    unexpected or of another type, and `exe` stays as it is. With `strict=False`, what only one of the two has is
    ignored.
    """
    arrays, about = read_arrays(Path(path))
    leaves = [*exe.graph.parameters, *_states_read(exe)]
    others = set(json.loads(about.get("state", "[]"))) - {node.name for node in leaves}
    given = {name: array for name, array in arrays.items() if name not in others}
    return set_weights(exe, leaves, given, misfit(path), strict)


def set_weights(
    exe: Executable,
    leaves: Sequence[Node],
    arrays: Mapping[str, Array],
    message: str,
    strict: bool,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Set those of `leaves` that `arrays` has, and return their names; with `strict`, both must have the same names.

    Raises TrainingError `message` with all that does not fit and the `notes` on it by name, and sets nothing.
    """
    wanted = {node.name: str(node.type) for node in leaves}
    given = {name: f"{array.dtype}{list(array.shape)}" for name, array in arrays.items()}
    said = {name: type_ + notes.get(name, "") for name, type_ in given.items()}
    names = [name for name in wanted if name in given]
    faults = []
    if strict:
        faults += [f"missing: {name}, {type_}" for name, type_ in wanted.items() if name not in given]
        faults += [f"unexpected: {name}, {text}" for name, text in said.items() if name not in wanted]
    for name in names:
        if wanted[name] != given[name]:
            faults.append(f"of another type: {name} is {wanted[name]}, and {said[name]} is given")
    if faults:
        error = TrainingError(message)
        error.quote(*faults)
        raise error
    for name in names:
        weights = exe.state if name in exe.state else exe.parameters
        weights[name] = arrays[name]
    return names


def _states_read(exe: Executable) -> list[Node]:
    """The states that outputs are computed from when nothing is being trained."""
    nodes = needed_nodes(exe.inference.graph.outputs.values())
    return [node for node in nodes if isinstance(node.op, State)]


def misfit(path: StrPath) -> str:
    """The message for arrays that are not those of the graph."""
    return f"{os.fspath(path)!r} does not fit the graph; nothing was set"


def about_graph(exe: Executable) -> dict[str, str]:
    """What the metadata of every file say."""
    return {"writer": "graphengine", "version": str(_VERSION), "graph": exe.graph.name}


def write_arrays(path: Path, arrays: Mapping[str, Array], about: Mapping[str, str]) -> None:
    """Write arrays and metadata with their SHA-256, all or nothing, once they have been read back as they were."""
    from safetensors.numpy import save

    # safetensors 0.8.0 writes an array of another layout wrongly; np.ascontiguousarray would turn a scalar into a row.
    arrays = {name: np.array(array, order="C") for name, array in arrays.items()}
    said = {**about, "sha256": json.dumps({name: _digest(array) for name, array in arrays.items()})}
    said[_DIGEST] = _digest_of_texts(said)
    with replacing(path) as temporary:
        temporary.write_bytes(save(arrays, said))
        if _damage(*_parsed(temporary)):
            raise TrainingError(
                f"what was written for {str(path)!r} does not read back the same; {str(path)!r} is unchanged"
            )


def read_arrays(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata of a file; raises TrainingError where it cannot be read, or is damaged."""
    arrays, about = _parsed(path)
    _check(path, about, _damage(arrays, about))
    return arrays, about


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, without reading its arrays; raises TrainingError where these are damaged."""
    _, about = _parsed(path, with_arrays=False)
    _check(path, about, _damage_of_texts(about))
    return about


def _parsed(path: Path, *, with_arrays: bool = True) -> tuple[dict[str, Array], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise TrainingError(f"no such file: {str(path)!r}")
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys() if with_arrays else ()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise TrainingError(f"{str(path)!r} is not a safetensors file: {error}") from None


def _check(path: Path, about: Mapping[str, str], damage: str | None) -> None:
    if damage:
        raise TrainingError(f"{str(path)!r} is damaged: {damage}")
    version = about.get("version", "")
    if about.get("writer") == "graphengine" and version not in map(str, range(1, _VERSION + 1)):
        raise TrainingError(f"{str(path)!r} is of version {version!r:.20}; this graphengine reads up to {_VERSION}")


def _damage(arrays: Mapping[str, Array], about: Mapping[str, str]) -> str | None:
    """What is not as it was written; None for a file without SHA-256, as others and version 1 write them."""
    if _DIGEST not in about or _damage_of_texts(about):
        return _damage_of_texts(about)
    written = json.loads(about["sha256"])
    if written.keys() != arrays.keys():
        return f"it should hold {len(written)} arrays of other names than the {len(arrays)} that it holds"
    wrong = [name for name, array in arrays.items() if _digest(array) != written[name]]
    return f"array {wrong[0]!r} is not what was written (another SHA-256)" if wrong else None


def _damage_of_texts(about: Mapping[str, str]) -> str | None:
    if _DIGEST in about:
        return None if about[_DIGEST] == _digest_of_texts(about) else "its metadata are not what was written"
    is_own = about.get("writer") == "graphengine" and about.get("version") == str(_VERSION)
    return "its metadata have no SHA-256" if is_own else None


def _digest(array: Array) -> str:
    """The SHA-256 of dtype, shape and values."""
    digest = hashlib.sha256(f"{array.dtype}{list(array.shape)}".encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _digest_of_texts(about: Mapping[str, str]) -> str:
    """The SHA-256 of the metadata, but for that of this itself."""
    texts = sorted((name, text) for name, text in about.items() if name != _DIGEST)
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()

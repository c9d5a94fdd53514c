"""Weights on disk, in the safetensors format: arrays by the names of their leaves, and nothing that runs when read.

A file of parameters holds the parameters, and the states that outputs are computed from, which are the running
statistics of batch normalization: what a trained network is. A checkpoint (`checkpoint.py`) is read where parameters
are wanted, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from graphengine.errors import DTypeError, TrainingError
from graphengine.executable import Executable
from graphengine.files import StrPath
from graphengine.ir.array import fitted
from graphengine.ir.leaf import State
from graphengine.ir.limits import USUAL, Limits
from graphengine.ir.node import Node
from graphengine.ir.subgraph import needed_nodes
from graphengine.ir.types import Array, DType, check_dtype
from graphengine.train.array_file import VERSION, decoded, dtype_name, parsed, read_arrays, write_arrays
from graphengine.train.renaming import Rename, renamed
from graphengine.where import warn
from graphengine.wording import cut, printable


def save_parameters(exe: Executable, path: StrPath) -> None:
    """Write the parameters of `exe`, and the states that inference reads, to a safetensors file.

    The file replaces `path` when it has been read back correctly. Returns nothing.
    Raises TrainingError if it cannot be written so, or the OSError of the system.
    """
    states = {node.name: exe.state[node.name] for node in _states_read(exe)}
    write_arrays(Path(path), {**exe.parameters, **states}, about_graph(exe))


def load_parameters(
    exe: Executable,
    path: StrPath,
    *,
    strict: bool = True,
    dtype: DType | None = None,
    rename: Rename | None = None,
    limits: Limits = USUAL,
) -> list[str]:
    """Set the parameters of `exe`, and the states that inference reads, to those of a file, and return their names.

    Names, shapes and dtypes must be those of `exe`. With `strict=False`, what only one of the two has is ignored; that
    nothing is in both is a UserWarning. dtype: other floats (float16, float32, float64, bfloat16, float8_e4m3fn,
    float8_e5m2) are converted to parameters of this dtype, by rounding. rename: what a name of the file is in `exe`, as
    in `ge.transfer`: {"module.": ""} takes a prefix away, {"head.": None} leaves arrays out. limits: how long
    the header of the file may be.

    Raises TrainingError, which lists all that is missing, unexpected or of another type, or says what is damaged; then
    `exe` stays as it is. Raises NamingError for a wrong `rename`, DTypeError for a `dtype` that is no float.
    """
    arrays, about = read_arrays(Path(path), limits)
    leaves = [*exe.graph.parameters, *_states_read(exe)]
    if about.get("writer") == "graphengine":
        others = _others(about, path).difference(node.name for node in leaves)
        arrays = {name: array for name, array in arrays.items() if name not in others}
    origins = renamed(list(arrays), rename, os.fspath(path))
    given = {name: arrays[origin] for name, origin in origins.items()}
    message = misfit(path)
    if dtype is not None:
        given |= _converted(leaves, given, _check_float(dtype), path)
    if odd := [n for n in leaves if n.type.is_float and n.name in given and _is_other_float(given[n.name], n.dtype)]:
        message += f"; ge.load_parameters(exe, path, dtype={odd[0].dtype!r}) converts other floats"
    notes = {name: f" (from {cut(origin)})" for name, origin in origins.items() if origin != name}
    return set_weights(exe, leaves, given, message, strict, notes)


def _others(about: Mapping[str, str], path: StrPath) -> set[str]:
    """The names of what a checkpoint holds besides parameters."""
    names = parsed(about, "state", "[]")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TrainingError(f"{os.fspath(path)!r} is damaged: its metadata do not say which arrays are states")
    return set(names)


def _check_float(dtype: DType) -> DType:
    dtype = check_dtype(dtype)
    if np.dtype(dtype).kind != "f":
        raise DTypeError(f"dtype is float32 or float64, and not {dtype!r}: floats alone are converted")
    return dtype


def _converted(leaves: Sequence[Node], arrays: Mapping[str, Array], dtype: DType, path: StrPath) -> dict[str, Array]:
    """The floats among `arrays` that are to be of `dtype`, and are of another one."""
    converted = {}
    for node in leaves:
        if node.name not in arrays or node.dtype != dtype or not _is_other_float(arrays[node.name], dtype):
            continue
        try:
            converted[node.name] = fitted(decoded(arrays[node.name]), dtype)
        except ValueError as error:
            raise TrainingError(f"{os.fspath(path)!r}: {node.name}: {error}; nothing was set") from None
    return converted


def _is_other_float(array: Array, dtype: str) -> bool:
    return array.dtype != dtype and decoded(array[:0] if array.ndim else array).dtype.kind == "f"


def set_weights(
    exe: Executable,
    leaves: Sequence[Node],
    arrays: Mapping[str, Array],
    message: str,
    strict: bool,
    notes: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Set those of `leaves` that `arrays` has, and return their names; with `strict`, both must have the same names.

    Raises TrainingError `message` with all that does not fit and the `notes` on it by name, and sets nothing. Warns
    the caller's caller with that `message` if the two have no name in common.
    """
    wanted = {node.name: str(node.type) for node in leaves}
    given = {name: f"{dtype_name(array.dtype)}{list(array.shape)}" for name, array in arrays.items()}
    said = {name: type_ + notes.get(name, "") for name, type_ in given.items()}
    names = [name for name in wanted if name in given]
    faults = []
    if strict:
        faults += [f"missing: {name}, {type_}" for name, type_ in wanted.items() if name not in given]
        faults += [f"unexpected: {cut(name)}, {text}" for name, text in said.items() if name not in wanted]
    for name in names:
        if wanted[name] != given[name]:
            faults.append(f"of another type: {name} is {wanted[name]}, and {said[name]} is given")
    if faults:
        error = TrainingError(message)
        error.quote(*faults)
        raise error
    if wanted and not names:
        there, own = (", ".join(map(cut, list(some)[:3])) for some in (given, wanted))
        told = f"{message}: given is {there or 'no array'}, wanted {own}; rename= maps names"
        warn(printable(told, lines=False), UserWarning)
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
    return {"writer": "graphengine", "version": str(VERSION), "graph": exe.graph.name}

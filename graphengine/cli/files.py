"""What the commands read and write; whatever is wrong with a file is an error that names it.

`-` is standard input or output. What is no file, such as a pipe, is read to its end first.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np
import typer

from graphengine.data import Split
from graphengine.errors import GraphEngineError, TrainingError
from graphengine.executable import Executable
from graphengine.files import check_writable, is_plain, open_file, replacing
from graphengine.ir.graph import Graph
from graphengine.ir.limits import Limits
from graphengine.ir.spec import from_json, load
from graphengine.ir.types import Array
from graphengine.train.weights_file import load_parameters, save_parameters

STANDARD = Path("-")
"""Standard input or output."""

_MAX_RATIO = 100
"""How many times the size of an .npz file its arrays may take, however many bytes they are."""
_NPY = b"\x93NUMPY"
_ZIP = b"PK"
_PACKED = zipfile.ZIP_DEFLATED


def check_files(inputs: Sequence[Path | None], outputs: Sequence[Path | None]) -> None:
    """Raise before the work if an output cannot be written, or is one of the inputs by whatever path or link."""
    if inputs.count(STANDARD) > 1:
        raise typer.BadParameter("standard input is read once: give the other files by their names")
    for output in outputs:
        if output is None or output == STANDARD:
            continue
        for each in inputs:
            with suppress(OSError):  # what is not there is told of by who reads it
                if each and os.path.samefile(each, output) and is_plain(output):
                    raise TrainingError(f"{output} is read, too, as {each}: give the output another name")
        check_writable(output)


def read_document(path: Path, limits: Limits) -> Graph:
    """The graph of a document. Raises OSError or SpecError."""
    if _is_file(path):
        return load(path, limits=limits)
    return from_json(_content(path, limits.document_bytes), limits=limits, source=str(path))


def read_arrays(path: Path, limits: Limits) -> dict[str, Array]:
    """The arrays of an .npz file, by name. Pickled objects are not read. Raises OSError or TrainingError."""
    with open_file(path) if _is_file(path) else io.BytesIO(_content(path, limits.stream_bytes)) as file:
        start = file.read(len(_NPY))
        if start == _NPY:
            raise TrainingError(f"{path}: one array without a name (.npy); write it by np.savez(path, name=array)")
        if not start.startswith(_ZIP):
            raise TrainingError(f"{path}: not an .npz file, which np.savez writes")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as members:  # given a name, it does not close what is damaged
                _check_unpacked(path, members.zip, limits)
                arrays = {name: members[name] for name in members.files}
        except GraphEngineError:
            raise
        except Exception as error:  # damage shows as errors of NumPy, zipfile, zlib, struct, tokenize, and memory
            reason, *_ = str(error).splitlines() or [type(error).__name__]
            raise TrainingError(f"{path}: not an .npz file of plain arrays: {reason}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise TrainingError(f"{path}: {name!r} is not an array")
    if not arrays:
        raise TrainingError(f"{path}: the file holds no arrays")
    return arrays


def _check_unpacked(path: Path, archive: zipfile.ZipFile, limits: Limits) -> None:
    """Raise TrainingError for a file of some megabytes that would fill the memory."""
    members = archive.infolist()
    size, packed = sum(each.file_size for each in members), sum(each.compress_size for each in members)
    refusal = limits.refusal("unpacked_bytes", size) if size > _MAX_RATIO * packed else None
    if refusal:
        raise TrainingError(f"{path}: {packed:,} bytes that unpack {refusal[0]}; {refusal[1]}")


def read_weights(exe: Executable, path: Path, limits: Limits) -> None:
    """Set the weights of `exe` to those of a file. Raises OSError or TrainingError."""
    if _is_file(path):
        load_parameters(exe, path, limits=limits)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "weights")
        copy.write_bytes(_content(path, limits.stream_bytes))
        try:
            load_parameters(exe, copy, limits=limits)
        except GraphEngineError as error:
            raise type(error)(error.message.replace(str(copy), str(path))) from None


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an .npz file under exactly this name; the same arrays give the same bytes."""
    # np.savez takes names as keywords, so an array could not be called "file".
    with _destination(path) as target, replacing(target) as part, zipfile.ZipFile(part, "w", _PACKED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def write_weights(exe: Executable, path: Path) -> None:
    """Write a file of weights. Raises OSError or TrainingError."""
    with _destination(path) as target:
        save_parameters(exe, target)


def save_trained(folder: Path, name: str, graph: Graph, data: Split, exe: Executable) -> None:
    """Write what the commands `train`, `predict` and `evaluate` read: the document, the data, and the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    graph.save(folder / f"{name}.json")
    write_arrays(folder / "train.npz", data.train)
    write_arrays(folder / "test.npz", data.test)
    write_weights(exe, folder / f"{name}.weights.safetensors")


def _is_file(path: Path) -> bool:
    return path != STANDARD and is_plain(path)


def _content(path: Path, maximum: int) -> bytes:
    """All that standard input, a pipe or a device gives."""
    if path == STANDARD:
        content = _standard("input", sys.stdin).read(maximum + 1)
    else:
        with path.open("rb") as file:
            content = file.read(maximum + 1)
    if len(content) > maximum:
        raise TrainingError(f"{path} gives more than {maximum:,} bytes, the maximum of what is no file; name one")
    return content


@contextmanager
def _destination(path: Path) -> Iterator[Path]:
    """`path`, or for standard output another file, which is copied there at the end."""
    if path != STANDARD:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, "output")
        yield part
        with part.open("rb") as file:
            shutil.copyfileobj(file, _standard("output", sys.stdout))


def _standard(name: str, stream: TextIO | None) -> BinaryIO:
    """The bytes of a standard stream, which is None where it is closed."""
    if stream is None:
        raise OSError(errno.EBADF, "is closed", f"standard {name}")
    return stream.buffer

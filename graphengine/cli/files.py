"""What the commands read and write; whatever is wrong with a file is an error that names it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from graphengine.data import Split
from graphengine.errors import TrainingError
from graphengine.executable import Executable
from graphengine.files import replacing
from graphengine.ir.graph import Graph
from graphengine.ir.types import Array
from graphengine.train.weights_file import save_parameters

_NPY = b"\x93NUMPY"
_ZIP = b"PK"


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an .npz file, by name. Pickled objects are not read. Raises OSError or TrainingError."""
    with path.open("rb") as file:  # np.load, given a name, does not close what it finds to be damaged
        start = file.read(len(_NPY))
        if start == _NPY:
            raise TrainingError(f"{path}: one array without a name (.npy); write it by np.savez(path, name=array)")
        if not start.startswith(_ZIP):
            raise TrainingError(f"{path}: not an .npz file, which np.savez writes")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as members:
                arrays = {name: members[name] for name in members.files}
        except Exception as error:  # damage shows as errors of NumPy, zipfile, zlib, struct, tokenize, and memory
            reason, *_ = str(error).splitlines() or [type(error).__name__]
            raise TrainingError(f"{path}: not an .npz file of plain arrays: {reason}") from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise TrainingError(f"{path}: {name!r} is not an array")
    if not arrays:
        raise TrainingError(f"{path}: the file holds no arrays")
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an .npz file under exactly this name; the same arrays give the same bytes."""
    # np.savez takes names as keywords, so an array could not be called "file".
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def save_trained(folder: Path, name: str, graph: Graph, data: Split, exe: Executable) -> None:
    """Write what the commands `train`, `predict` and `evaluate` read: the document, the data, and the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    graph.save(folder / f"{name}.json")
    write_arrays(folder / "train.npz", data.train)
    write_arrays(folder / "test.npz", data.test)
    save_parameters(exe, folder / f"{name}.weights.safetensors")

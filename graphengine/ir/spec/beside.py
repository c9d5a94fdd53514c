"""Large constants: they are in a safetensors file beside the document, which holds their SHA-256."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from graphengine.errors import SpecError
from graphengine.ir.names import did_you_mean
from graphengine.ir.spec.document import Place
from graphengine.ir.types import Array

_SUFFIX = ".safetensors"
_REMEDY = "save the graph again, which writes the document and this file together"


def path_beside(document: Path) -> Path:
    """The file of a document's large constants: NAME.safetensors beside NAME.json."""
    if document.suffix == _SUFFIX or not document.name:
        raise SpecError(f"a document is a file like net.json, not {str(document)!r}")
    return document.with_name(document.stem + _SUFFIX)


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write the arrays by name, all or nothing, once what has been written reads back as it was."""
    from safetensors.numpy import load_file, save_file  # on first use, like the other that few documents need

    # save_file takes the memory as it lies, and would write a transposed array in the wrong order
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with replacing(path) as temporary:
        save_file(contiguous, temporary)
        written = load_file(temporary)
        for name, array in arrays.items():
            if written[name].dtype != array.dtype or written[name].tobytes() != array.tobytes():
                raise SpecError(f"{path}: {name!r} does not read back as it was written; the file is left as it was")


def read(path: Path, places: Mapping[str, Place]) -> dict[str, Array]:
    """The arrays by name: those that the nodes at `places` ask for, and no others."""
    if not places:
        return {}
    from safetensors import SafetensorError, safe_open

    somewhere = next(iter(places.values()))
    try:
        with safe_open(path, framework="numpy") as file:
            _check_names(path, file.keys(), places)
            return {name: file.get_tensor(name) for name in places}
    except FileNotFoundError:
        message = f"the large constants of this document stand in {path}, and there is no such file"
        raise somewhere.fault(message, f"put {path.name} back beside the document") from None
    except (SafetensorError, OSError, TypeError) as error:
        raise somewhere.fault(f"{path} cannot be read: {error}", _REMEDY) from None


def nothing(places: Mapping[str, Place]) -> dict[str, Array]:
    """Beside a document that is no file there is no array, so the first that is asked for is an error."""
    for name, place in places.items():
        message = f"the constant {name!r} is too large for the document, which has only its SHA-256"
        raise place.fault(message, "ge.load the file that was saved, which has the constants beside it as .safetensors")
    return {}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, whose file takes the place of `path` at the end: nobody ever finds half of it there."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_names(path: Path, names: list[str], places: Mapping[str, Place]) -> None:
    for name, place in places.items():
        if name not in names:
            raise place.fault(f"{path} does not hold the constant {name!r}{did_you_mean(name, names)}", _REMEDY)
    extra = [name for name in names if name not in places]
    if extra:
        place = next(iter(places.values()))
        raise place.fault(f"{path} holds {extra[0]!r}, which is no large constant of this document", _REMEDY)

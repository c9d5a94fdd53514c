"""Large constants: they are in a safetensors file beside the document, which holds their SHA-256."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from graphengine.errors import SpecError
from graphengine.files import replacing, resolved
from graphengine.files import write as write_file
from graphengine.ir.limits import Limits
from graphengine.ir.names import did_you_mean
from graphengine.ir.spec.document import Place, check_limit
from graphengine.ir.types import Array

_SUFFIX = ".safetensors"
_CONTENT = re.compile("[0-9a-f]{16}")
_MARK = {"graphengine": "constants"}
_REMEDY = "save the graph again, which writes the document and this file together"

Digests = Mapping[str, Any]
"""The SHA-256 of large constants, by name."""


def path_beside(document: Path, digests: Digests) -> Path:
    """The file of a document's large constants: net.json.<16 hex digits that follow from them>.safetensors.

    Another graph saved under the document's name has another such file, so that each document finds its own.
    """
    content = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    return document.with_name(f"{document.name}.{content[:16]}{_SUFFIX}")


def find(document: Path, digests: Digests) -> Path:
    """The file of a document that is there; it may have moved with its copy alone, or be one of version 0.1.0."""
    path, old = path_beside(resolved(document), digests), document.with_suffix(_SUFFIX)
    return old if old.is_file() and not path.exists() else path


def remove_others(document: Path, kept: Path) -> None:
    """Remove the constants of what was saved as `document` before, or was not saved, since a process was killed."""
    for path in document.parent.iterdir():
        digits = path.name.removeprefix(f"{document.name}.").removesuffix(_SUFFIX)
        if path.name == f"{document.name}.{digits}{_SUFFIX}" and _CONTENT.fullmatch(digits) and path != kept:
            path.unlink(missing_ok=True)


def copy(document: Path, path: Path | None) -> None:
    """Copy the constants, if there are any, to net.safetensors, where version 0.1.0 looks for those of net.json.

    Deprecated. Only an earlier copy is replaced, and nothing is read from this one while the file itself is there.
    """
    old = document.with_suffix(_SUFFIX)
    if os.path.lexists(old) and not _is_copy(old):
        return
    with suppress(OSError):  # a full disk: what matters has been written
        if path:
            write_file(old, path.read_bytes())
        else:
            old.unlink(missing_ok=True)


def _is_copy(path: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    if path.is_symlink() or not path.is_file():
        return False
    try:
        with safe_open(path, framework="numpy") as file:
            return bool(file.metadata() == _MARK)
    except (SafetensorError, OSError):
        return False


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write the arrays by name, all or nothing, once what has been written reads back as it was."""
    from safetensors.numpy import load_file, save  # on first use, like the other that few documents need

    # save takes the memory as it lies, and would write a transposed array in the wrong order
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(contiguous, _MARK))
        written = load_file(temporary)
        for name, array in arrays.items():
            if written[name].dtype != array.dtype or written[name].tobytes() != array.tobytes():
                raise SpecError(f"{path}: {name!r} does not read back as it was written; the file is left as it was")


def read(document: Path, limits: Limits, places: Mapping[str, Place], digests: Digests) -> dict[str, Array]:
    """The arrays by name: those that the nodes at `places` ask for, and no others."""
    if not places:
        return {}
    from safetensors import SafetensorError, safe_open

    path = find(document, digests)
    somewhere = next(iter(places.values()))
    if not path.is_file():
        message = f"the large constants of this document stand in {path}, and there is no such file"
        raise somewhere.fault(message, f"put {path.name} back beside the document")
    try:
        refusal = limits.refusal_of_header(path)
        if refusal:
            raise somewhere.fault(f"{path}: {refusal[0]}", refusal[1])
        with safe_open(path, framework="numpy") as file:
            _check_names(path, file.keys(), places)
            for name, place in places.items():
                elements = math.prod(file.get_slice(name).get_shape())
                check_limit(limits, "constant_elements", elements, place)
            return {name: file.get_tensor(name) for name in places}
    except (SafetensorError, OSError, TypeError) as error:
        raise somewhere.fault(f"{path} cannot be read: {error}", _REMEDY) from None


def nothing(places: Mapping[str, Place], _: Digests) -> dict[str, Array]:
    """Beside a document that is no file there is no array, so the first that is asked for is an error."""
    for name, place in places.items():
        message = f"the constant {name!r} is too large for the document, which has only its SHA-256"
        raise place.fault(message, "ge.load the file that was saved, which has the constants beside it as .safetensors")
    return {}


def _check_names(path: Path, names: list[str], places: Mapping[str, Place]) -> None:
    for name, place in places.items():
        if name not in names:
            raise place.fault(f"{path} does not hold the constant {name!r}{did_you_mean(name, names)}", _REMEDY)
    extra = [name for name in names if name not in places]
    if extra:
        place = next(iter(places.values()))
        raise place.fault(f"{path} holds {extra[0]!r}, which is no large constant of this document", _REMEDY)

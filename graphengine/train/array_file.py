"""Arrays and texts about them in a safetensors file, with the SHA-256 of both: nothing that runs when read.

An array of a dtype that NumPy lacks, as bfloat16 is, is read as its codes: an array with one field, named as the dtype.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from graphengine.errors import TrainingError
from graphengine.file_kinds import what_it_is
from graphengine.files import replacing
from graphengine.ir.limits import USUAL, Limits
from graphengine.ir.types import Array
from graphengine.wording import shown

VERSION = 2
_DIGEST = "sha256_metadata"
_RANK, _SIZE = 64, 2**59
"""The most axes of an array in NumPy, and about the most elements, also where one axis has none."""
_OF_NUMPY = {"BOOL", "U8", "I8", "U16", "I16", "F16", "U32", "I32", "F32", "U64", "I64", "F64", "C64"}


@dataclass(frozen=True, slots=True)
class Code:
    """A floating dtype that NumPy lacks: its codes, and the float32 that each of them is."""

    name: str
    bits: str
    decoded: Callable[[Array], Array]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of an array of codes."""
        return np.dtype([(self.name, self.bits)])


def _e4m3() -> Array:
    """The numbers that the codes of float8_e4m3fn are: 1 bit of sign, 4 of exponent (bias 7), 3 of mantissa; no inf.

    Source: Micikevicius et al. 2022.
    """
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    size = np.where(exponent == 0, np.ldexp(mantissa, -9), np.ldexp(8 + mantissa, exponent - 10))
    size[(codes & 127) == 127] = np.nan
    numbers: Array = np.where(codes & 128, -size, size).astype(np.float32)
    return numbers


CODES = {
    "BF16": Code("bfloat16", "<u2", lambda codes: (codes.astype(np.uint32) << 16).view(np.float32)),
    "F8_E5M2": Code("float8_e5m2", "u1", lambda codes: (codes.astype(np.uint16) << 8).view(np.float16).astype("f4")),
    "F8_E4M3": Code("float8_e4m3fn", "u1", lambda codes: _e4m3()[codes]),
}
"""By what safetensors calls them."""


@cache
def dtype_name(dtype: np.dtype[Any]) -> str:
    """What the dtype of an array in a file is called."""
    return str((dtype.names or (dtype,))[0])


def decoded(array: Array) -> Array:
    """The floats that the codes of an array in a file are; any other array as it is."""
    for code in CODES.values():
        if array.dtype == code.dtype:
            return code.decoded(np.ascontiguousarray(array[code.name]))
    return array


def write_arrays(path: Path, arrays: Mapping[str, Array], about: Mapping[str, str]) -> None:
    """Write arrays and metadata with their SHA-256, all or nothing, once they have been read back as they were."""
    from safetensors.numpy import save

    # safetensors 0.8.0 writes an array of another layout wrongly; np.ascontiguousarray would turn a scalar into a row.
    arrays = {name: np.array(array, order="C") for name, array in arrays.items()}
    said = {**about, "sha256": json.dumps({name: _digest(array) for name, array in arrays.items()})}
    said[_DIGEST] = _digest_of_texts(said)
    with replacing(path) as temporary:
        temporary.write_bytes(save(arrays, said))
        if _damage(*_parsed(temporary, USUAL)):
            raise TrainingError(
                f"what was written for {str(path)!r} does not read back the same; {str(path)!r} is unchanged"
            )


def read_arrays(path: Path, limits: Limits = USUAL) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and the metadata of a file; raises TrainingError where it cannot be read, or is damaged."""
    arrays, about = _parsed(path, limits)
    _check(path, about, _damage(arrays, about))
    return arrays, about


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a file, without reading its arrays; raises TrainingError where these are damaged."""
    _, about = _parsed(path, USUAL, with_arrays=False)
    _check(path, about, _damage_of_texts(about))
    return about


def _parsed(path: Path, limits: Limits, *, with_arrays: bool = True) -> tuple[dict[str, Array], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise TrainingError(f"{'not a file' if path.exists() else 'no such file'}: {str(path)!r}")
    refusal = limits.refusal_of_header(path)
    if refusal:
        raise TrainingError(f"{str(path)!r}: {refusal[0]}; {refusal[1]}")
    try:
        with safe_open(path, framework="numpy") as file:
            found = {name: file.get_slice(name) for name in (file.keys() if with_arrays else ())}
            _check_shapes(path, {name: each.get_shape() for name, each in found.items()})
            dtypes = {name: each.get_dtype() for name, each in found.items()}
            arrays = {name: file.get_tensor(name) for name, dtype in dtypes.items() if dtype in _OF_NUMPY}
            about = file.metadata() or {}
    except SafetensorError as error:
        with open(path, "rb") as file:
            kind = what_it_is(path.name, file.read(16))
        instead = f"it is {kind}" if kind and "safetensors" not in kind else str(error)
        raise TrainingError(f"{str(path)!r} is not a safetensors file: {instead}") from None
    coded = {name: dtype for name, dtype in dtypes.items() if dtype not in _OF_NUMPY}
    return arrays | (_coded(path, coded) if coded else {}), about


def _check_shapes(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Raise TrainingError for a shape that NumPy has no arrays of, which an array without elements may have."""
    for name, shape in shapes.items():
        if len(shape) > _RANK or math.prod(size or 1 for size in shape) > _SIZE:
            raise TrainingError(f"{str(path)!r}: array {shown(name)} has a shape that NumPy lacks: {shown(shape)}")


def _coded(path: Path, dtypes: Mapping[str, str]) -> dict[str, Array]:
    """The arrays of dtypes that NumPy has not, as they are in the file, by `CODES`; others without their elements."""
    arrays: dict[str, Array] = {}
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        for name, said in dtypes.items():
            code, (start, _), shape = CODES.get(said), header[name]["data_offsets"], header[name]["shape"]
            if code is None:
                arrays[name] = np.broadcast_to(np.zeros((), [(said, "u1")]), shape)
            else:
                file.seek(8 + size + start)
                arrays[name] = np.fromfile(file, code.dtype, math.prod(shape)).reshape(shape)
    return arrays


def _check(path: Path, about: Mapping[str, str], damage: str | None) -> None:
    if damage:
        raise TrainingError(f"{str(path)!r} is damaged: {damage}")
    version = about.get("version", "")
    if about.get("writer") == "graphengine" and version not in map(str, range(1, VERSION + 1)):
        raise TrainingError(f"{str(path)!r} is of version {shown(version)}; this graphengine reads up to {VERSION}")


def _damage(arrays: Mapping[str, Array], about: Mapping[str, str]) -> str | None:
    """What is not as it was written; None for a file without SHA-256, as others and version 1 write them."""
    if _DIGEST not in about or _damage_of_texts(about):
        return _damage_of_texts(about)
    written = parsed(about, "sha256", "{}")
    if not isinstance(written, dict):
        return "its metadata have no SHA-256 of arrays"
    if written.keys() != arrays.keys():
        return f"it should hold {len(written)} arrays of other names than the {len(arrays)} that it holds"
    wrong = [name for name, array in arrays.items() if _digest(array) != written[name]]
    return f"array {shown(wrong[0])} is not what was written (another SHA-256)" if wrong else None


def _damage_of_texts(about: Mapping[str, str]) -> str | None:
    if _DIGEST in about:
        return None if about[_DIGEST] == _digest_of_texts(about) else "its metadata are not what was written"
    is_own = about.get("writer") == "graphengine" and about.get("version") == str(VERSION)
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


def parsed(about: Mapping[str, str], name: str, default: str) -> Any:
    """The JSON value of a text; None for a text that is damaged."""
    try:
        return json.loads(about.get(name, default))
    except (ValueError, RecursionError):
        return None

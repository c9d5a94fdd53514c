"""Files that strangers might give for weights, data and documents."""

import io
import json
import os
import socket
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import graphengine as ge
from graphengine.cli.files import read_arrays

Case = tuple[str, Callable[[], object], str, str]


def network() -> ge.Executable:
    g = ge.Graph("net")
    g.output("y", g.input("x", ("n", 2)) @ g.parameter("w", (2, 3)))
    return ge.compile(g)


def tensors(header: Any, data: bytes = bytes(24), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def weights(folder: Path) -> Iterator[Case]:
    w = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    own = {"writer": "graphengine", "version": "1"}
    contents = {
        "nothing": b"",
        "seven bytes": bytes(7),
        "zeros": bytes(1000),
        "a header of 2^64 bytes": b"\xff" * 100,
        "a header beyond the file": tensors({"w": w}, length=10**6),
        "no JSON": tensors(b"{" * 20),
        "deep JSON": tensors(b'{"w":' * 5000),
        "a list": tensors([]),
        "no end": tensors({"w": {**w, "data_offsets": [0, 10**12]}}),
        "overlapping": tensors({"w": w, "v": w}),
        "negative offsets": tensors({"w": {**w, "data_offsets": [-1, 23]}}),
        "no dtype": tensors({"w": {**w, "dtype": "F31"}}),
        "another shape": tensors({"w": {**w, "shape": [3, 3]}}),
        "a huge shape": tensors({"w": {**w, "shape": [2**62, 2**62]}}),
        "65 axes": tensors({"w": {**w, "shape": [1] * 64 + [2, 3]}}),
        "another name": tensors({"v": w}),
        "an escape": tensors({"\x1b[2J" * 1000: w}),
        "3,000 names": tensors(
            {f"{'ab' * 40}{k}": {**w, "shape": [0], "data_offsets": [0, 0]} for k in range(3000)}, b""
        ),
        "metadata that are no texts": tensors({"w": w, "__metadata__": {"writer": 1}}),
        "states that are no JSON": tensors({"w": w, "__metadata__": {**own, "state": "["}}),
        "states that are deep": tensors({"w": w, "__metadata__": {**own, "state": "[" * 10**5}}),
        "states that are numbers": tensors({"w": w, "__metadata__": {**own, "state": "[[], 1]"}}),
        "another version": tensors({"w": w, "__metadata__": {**own, "version": "9" * 5000}}),
        "a digest that is none": tensors({"w": w, "__metadata__": {**own, "sha256_metadata": "x"}}),
    }
    for name, content in contents.items():
        path = folder / name
        path.write_bytes(content)
        yield name, partial(_load_weights, path), "TrainingError", name


def _load_weights(path: Path) -> None:
    ge.load_parameters(network(), path)


def checkpoints(folder: Path) -> Iterator[Case]:
    w = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    for name, about in {
        "no metadata": {},
        "another writer": {"writer": "x"},
        "no manifest": {"writer": "graphengine", "version": "2"},
        "deep": {"writer": "graphengine", "version": "1", "state": "[" * 10**5},
        "of objects": {"writer": "graphengine", "version": "1", "state": "[{}]", "epochs_done": "{}"},
        "of huge numbers": {"writer": "graphengine", "version": "1", "epochs_done": "9" * 5000, "seed": "1e999"},
        "of another version": {"writer": "graphengine", "version": "x" * 10**5},
    }.items():
        path = folder / name
        path.write_bytes(tensors({"w": w, "__metadata__": about}))
        yield name, partial(_load_checkpoint, path), "TrainingError", name
    for name, content in {"empty": b"", "of zeros": bytes(99), "of JSON": b'{"a": 1}'}.items():
        path = folder / name
        path.write_bytes(content)
        yield name, partial(_load_checkpoint, path), "TrainingError", name


def _load_checkpoint(path: Path) -> None:
    ge.load_checkpoint(network(), path)


def npy(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def packed(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def header(shape: str, dtype: str = "'<f4'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}\n"


def data(folder: Path) -> Iterator[Case]:
    good = packed(x=npy(header("(2,)"), bytes(8)))
    objects = io.BytesIO()
    np.lib.format.write_array(objects, np.array([{}], dtype=object), allow_pickle=True)
    bomb = folder / "bomb"
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as part,
    ):
        for _ in range(40):
            part.write(bytes(2**20))
    content = bomb.read_bytes().replace(struct.pack("<Q", 40 * 2**20), struct.pack("<Q", 2**32))
    contents = {
        "nothing": b"",
        "text": b"a, b\n1, 2\n",
        "one array": npy(header("(2,)"), bytes(8)),
        "PK": b"PK",
        "half": good[: len(good) // 2],
        "no arrays": packed(),
        "objects": packed(x=objects.getvalue()),
        "a huge shape": packed(x=npy(header("(4611686018427387904, 4)"))),
        "more than there is": packed(x=npy(header("(1000000,)"), bytes(8))),
        "a negative shape": packed(x=npy(header("(-1,)"), bytes(8))),
        "no tuple": packed(x=npy(header("7"), bytes(8))),
        "no dtype": packed(x=npy(header("(2,)", "'<z9'"), bytes(8))),
        "code": packed(x=npy(header("(2,)", "__import__('os')"), bytes(8))),
        "deep": packed(x=npy("(" * 5000)),
        "no header": packed(x=b"\x93NUMPY"),
        "4 GB of zeros": content,
    }
    for name, content in contents.items():
        path = folder / name
        path.write_bytes(content)
        yield name, partial(read_arrays, path, ge.Limits()), "TrainingError", name


def places(folder: Path) -> Iterator[Case]:
    fifo, sock, loop, link = (folder / name for name in ("fifo", "socket", "loop", "link"))
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(sock))
    loop.symlink_to(loop)
    link.symlink_to(fifo)
    for path in (fifo, sock, link):
        yield f"a document at {path.name}", partial(ge.load, path), "OSError", "FIFO or a socket"
        yield f"weights at {path.name}", partial(_load_weights, path), "TrainingError", "not a file"
    for path in (folder, loop, folder / "none", folder / "none" / "none"):
        yield f"a document at {path.name}", partial(ge.load, path), "OSError", path.name
        yield f"weights at {path.name}", partial(_load_weights, path), "TrainingError", path.name
    yield (
        "a document at /dev/zero",
        partial(ge.load, "/dev/zero", limits=ge.Limits(document_bytes=999)),
        "SpecError",
        ("document_bytes"),
    )
    yield "weights at /dev/zero", partial(_load_weights, Path("/dev/zero")), "TrainingError", "not a file"


KINDS = {"weights": weights, "checkpoints": checkpoints, "data": data, "places": places}

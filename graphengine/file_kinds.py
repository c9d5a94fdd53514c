"""What a file is that is not what was expected: by its first bytes, or else by its name."""

from __future__ import annotations

from pathlib import PurePath

_BY_START = {
    b"\x93NUMPY": "an array of NumPy, which np.load reads",
    b"PK\x03\x04": "a zip archive, as .npz, .pt and .keras are: np.load reads .npz, torch.load .pt",
    b"\x89HDF": "HDF5, which h5py reads",
    b"\x80": "a pickle, which pickle.load or torch.load reads if you trust its source",
    b"\x89PNG": "an image, PNG",
    b"\xff\xd8\xff": "an image, JPEG",
    b"GIF8": "an image, GIF",
    b"%PDF": "a PDF",
    b"\x1f\x8b": "compressed by gzip, which gzip.open reads",
}
_BY_SUFFIX = {
    ".onnx": "of ONNX, which onnx.load reads",
    ".csv": "a table, which np.loadtxt or pandas.read_csv reads",
    ".yaml": "YAML, and a document is JSON",
    ".yml": "YAML, and a document is JSON",
    ".py": "a program",
}


def what_it_is(name: str, start: bytes) -> str | None:
    """What the file of this name and these first bytes is, and what reads it; None if that is not known."""
    for prefix, kind in _BY_START.items():
        if start.startswith(prefix):
            return kind
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32:
        return "of weights, in the safetensors format, which ge.load_parameters(exe, path) reads"
    if start.lstrip()[:1] == b"{":
        return "JSON, as the document of a graph is, which ge.load(path) reads"
    return _BY_SUFFIX.get(PurePath(name).suffix.lower())

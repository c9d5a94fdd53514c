"""The matrix product of the BLAS that NumPy has loaded, as an address that machine code calls."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

ONE_THREAD_DOES = 2**18
"""Up to how many multiplications OpenBLAS computes a product by one thread, whatever number it may use."""

_NAMES = (("scipy_cblas_{}gemm64_", 64), ("cblas_{}gemm64_", 64), ("scipy_cblas_{}gemm", 32), ("cblas_{}gemm", 32))
"""What a build of BLAS may call its product, and how wide its integers are then."""

_THREADS = (
    "scipy_openblas_{}_num_threads64_",
    "openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads",
)


@dataclass(frozen=True, slots=True)
class Blas:
    """Addresses: of `cblas_sgemm` and `cblas_dgemm`, and of what gets and sets the number of threads (0: unknown)."""

    path: str
    gemm: dict[str, int]
    integer_bits: int
    get_threads: int
    set_threads: int


@cache
def find_blas() -> Blas | None:
    """The BLAS beside NumPy, of which one process should have only one; None if none is found that has CBLAS names."""
    for path in _candidates():
        try:
            library = ctypes.CDLL(None if path is None else str(path))
        except OSError:
            continue
        for pattern, bits in _NAMES:
            names = [pattern.format(letter) for letter in "sd"]
            if all(hasattr(library, name) for name in names):
                single, double = (_address(library, name) for name in names)
                threads = [_address(library, *(name.format(verb) for name in _THREADS)) for verb in ("get", "set")]
                return Blas(str(path), {"float32": single, "float64": double}, bits, *threads)
    return None


def _candidates() -> list[Path | None]:
    """Shared libraries that came with NumPy's wheel; then what the process has loaded already."""
    root = Path(np.__file__).parent
    folders = [root.parent / "numpy.libs", root / ".libs", root / ".dylibs"]
    wheels = [path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir()) if "blas" in path.name]
    loaded = [] if sys.platform == "win32" else [None]
    return [*wheels, *loaded]


def _address(library: ctypes.CDLL, *names: str) -> int:
    """Of the first function of these names that there is; 0 if there is none."""
    found = (getattr(library, name) for name in names if hasattr(library, name))
    return next((ctypes.cast(function, ctypes.c_void_p).value or 0 for function in found), 0)

"""What the peers that stand on NumPy have in common."""

from __future__ import annotations

import os

import numpy as np

__all__ = ["blas", "cores"]


def blas() -> str:
    """The library of NumPy's matrix products, with its version."""
    found = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return f"{found.get('name', 'unknown BLAS')} {found.get('version', '')}".strip()


def cores() -> int:
    """What a library takes that takes a thread for every core it sees, unless told otherwise."""
    told = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    if told:
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0

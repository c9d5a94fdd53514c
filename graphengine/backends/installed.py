"""The backends by name, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from graphengine.backends.backend import Backend
from graphengine.backends.numpy import NumpyBackend
from graphengine.errors import CompileError


def _numba() -> Backend:
    """The backend that needs what the extra `fast` installs, imported on first use."""
    if "numba" not in installed_backends():
        raise CompileError('the backend "numba" needs numba: pip install "graphengine[fast]"')
    from graphengine.backends.numba import NumbaBackend

    return NumbaBackend()


BACKENDS: dict[str, Callable[[], Backend]] = {"numpy": NumpyBackend, "numba": _numba}
"""By name; `compile` takes "auto" as well."""


def installed_backends() -> list[str]:
    """The backends that can be used here: `numba` only where the extra `fast` is installed."""
    return [name for name in BACKENDS if name != "numba" or find_spec("numba") is not None]

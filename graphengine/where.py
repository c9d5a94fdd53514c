"""Where something was written: a line of a program, or a place in a document."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_BETWEEN = frozenset({"contextlib", "copy", "functools", "graphengine", "importlib", "numpy", "pydantic", "runpy"})
"""Packages whose lines are not the user's: this one, and those through which it is called."""


class Where(NamedTuple):
    """A file and a line number, or a document and a JSON pointer into it."""

    file: str
    place: int | str

    def __str__(self) -> str:
        if isinstance(self.place, str):
            return f"{self.file}#{self.place}"
        path = os.path.relpath(self.file) if self.file.startswith(os.getcwd() + os.sep) else self.file
        return f"{path}:{self.place}"


def caller() -> Where:
    """The nearest line, going up the stack, that lies outside this package."""
    frame = _frame()
    return Where(frame.f_code.co_filename, frame.f_lineno)


def warn(message: str, category: type[Warning]) -> None:
    """Warn of the line that `caller` gives: once for each, as Python's own filters have it."""
    frame = _frame()
    names, registry = frame.f_globals, frame.f_globals.setdefault("__warningregistry__", {})
    line = frame.f_code.co_filename, frame.f_lineno
    warnings.warn_explicit(message, category, *line, module=names.get("__name__"), registry=registry)


def _frame() -> FrameType:
    frame = sys._getframe(2)
    while _is_between(frame) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _is_between(frame: FrameType) -> bool:
    if frame.f_code.co_filename.startswith(_PACKAGE):
        return True
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _BETWEEN

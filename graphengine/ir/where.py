"""Where a node was declared: a line of the user's Python, or a place in a JSON document."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


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
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return Where(frame.f_code.co_filename, frame.f_lineno)

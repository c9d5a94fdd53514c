"""Values and names in messages: on one line, printable, and not at length."""

from __future__ import annotations

import reprlib
from typing import Any

LENGTH = 80
"""The usual maximum length of a value in a message, in characters."""


def cut(text: str, length: int = LENGTH) -> str:
    """`text`, of which so many characters are kept."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"


def printable(text: str, *, lines: bool = True) -> str:
    """`text` with what no terminal shows written as escapes, but for the ends of `lines`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    """A value in a message: its literal, or what it is, for people."""
    return _shown.repr(value)


class _Shown(reprlib.Repr):
    """Takes time by the length of what it says, and not by that of the value."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = LENGTH

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, type):
            return f"the class {x.__name__}"
        if type(x).__name__ in ("function", "builtin_function_or_method", "ufunc"):
            return f"the function {x.__name__}"
        if type(x).__module__ == "numpy" and getattr(x, "shape", None):
            return f"an array {x.dtype}[{', '.join(map(str, x.shape))}]"
        return super().repr1(x, level)

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() > 256:  # Python refuses to write out one of 15,000 bits
            return f"an int of about {x.bit_length() * 0.30103:,.0f} digits"
        return repr(x)

    def repr_instance(self, x: object, level: int) -> str:
        return " ".join(printable(super().repr_instance(x, level)).split())


_shown = _Shown()

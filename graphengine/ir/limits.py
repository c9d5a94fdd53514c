"""How much a document, weights or data may ask for, so that what a stranger wrote takes no more than is expected."""

from __future__ import annotations

import os
from typing import Any

from pydantic import Field

from graphengine.ir.tagged import Configuration


def _limit(default: int, what: str) -> Any:
    return Field(default=default, ge=0, description=what)


class Limits(Configuration):
    """What is read of strangers at most; what asks for more is refused before it is read. SECURITY.md has the table.

    Raises AttributeValueError for a limit below 0, or one that there is not.

    >>> ge.Limits(nodes=1000).nodes
    1000
    """

    document_bytes: int = _limit(64 * 2**20, "bytes of a document")
    values: int = _limit(2**21, "values in a document: objects, lists, and what they hold")
    depth: int = _limit(100, "brackets inside each other in a document")
    text_length: int = _limit(1000, "characters of a name, a size or another string in a document")
    number_length: int = _limit(1000, "characters of a number in a document")
    nodes: int = _limit(2**20, "nodes of a graph in a document")
    body_nodes: int = _limit(2**13, "nodes of the graphs inside nodes, each counted as often as it is held")
    constant_elements: int = _limit(2**28, "elements of a constant")
    header_bytes: int = _limit(2**24, "bytes of the header of a .safetensors file")
    stream_bytes: int = _limit(2**30, "bytes of arrays or weights that a command reads from a pipe")
    unpacked_bytes: int = _limit(2**30, "bytes of the arrays of an .npz file that is packed to a hundredth or less")

    def refusal(self, name: str, found: int | None = None) -> tuple[str, str] | None:
        """What is wrong with `found` of what the limit `name` is on, and the remedy; None if it is within the limit."""
        limit = getattr(self, name)
        if found is not None and found <= limit:
            return None
        what = Limits.model_fields[name].description
        there = "more" if found is None else f"{found:,}"
        remedy = f"if you trust the source, raise it: limits=ge.Limits({name}=...), or --limit {name}=... of a command"
        return f"over the limit of {limit:,} {what}: there are {there}", remedy

    def refusal_of_header(self, path: str | os.PathLike[str]) -> tuple[str, str] | None:
        """The refusal of a .safetensors file by its first eight bytes, which are the length of its header.

        A file that is shorter than that is no such file, which is told when it is read.
        """
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return self.refusal("header_bytes", length) if length <= os.fstat(file.fileno()).st_size else None


USUAL = Limits.model_construct()
"""The defaults; pydantic, which takes a millisecond for a class, does nothing for them."""
